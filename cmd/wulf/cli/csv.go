package cli

import (
	"encoding/csv"
	"io"
	"math"
	"strconv"
	"strings"
)

// writeCSV prints rows as CSV. Machines that nobody knows say what they like of themselves, and spreadsheets compute what
// looks like a formula: such a cell begins with an apostrophe, as spreadsheets mark text.
func writeCSV(to io.Writer, rows [][]string) error {
	w := csv.NewWriter(to)
	cells := []string{}
	for _, row := range rows {
		cells = cells[:0]
		for _, cell := range row {
			if formula(cell) {
				cell = "'" + cell
			}
			cells = append(cells, cell)
		}
		if err := w.Write(cells); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// formula tells whether a spreadsheet would compute a cell, or take its apostrophe for the mark of text that writeCSV makes.
func formula(cell string) bool {
	cell = strings.TrimLeft(cell, "'")
	if len(cell) < 2 || !strings.ContainsRune("=+-@", rune(cell[0])) { // - alone stands for nothing
		return false
	}
	n, err := strconv.ParseFloat(cell, 64)
	return err != nil || math.IsInf(n, 0) || math.IsNaN(n)
}

// asText takes the apostrophe from a cell that writeCSV has marked as text.
func asText(cell string) string {
	if strings.HasPrefix(cell, "'") && formula(cell) {
		return cell[1:]
	}
	return cell
}

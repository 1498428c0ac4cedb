package cli

import (
	"encoding/csv"
	"strings"
	"testing"
)

// What a machine says of itself must not be computed by whoever opens a list in a spreadsheet, and comes back as it was.
func TestNoCellOfACSVIsAFormula(t *testing.T) {
	for cell, want := range map[string]string{
		`=HYPERLINK("http://x","y")`: `'=HYPERLINK("http://x","y")`, "+cmd": "'+cmd", "-1+2": "'-1+2", "@SUM(A1)": "'@SUM(A1)", "'=1": "''=1", "-Inf": "'-Inf",
		"-": "-", "": "", "-5": "-5", "+1.5e3": "+1.5e3", "52:54:00:00:00:01": "52:54:00:00:00:01", "'-": "'-", "it's =": "it's =", "n[1-4]": "n[1-4]",
	} {
		var b strings.Builder
		if err := writeCSV(&b, [][]string{{"n1", cell}}); err != nil {
			t.Fatal(err)
		}
		row, err := csv.NewReader(strings.NewReader(b.String())).Read()
		if err != nil || row[1] != want {
			t.Errorf("%q is written as %q, want %q (%v)", cell, row[1], want, err)
		}
		if got := asText(row[1]); got != cell {
			t.Errorf("%q comes back as %q", cell, got)
		}
	}
}

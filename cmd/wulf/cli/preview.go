package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// previewLines says what a change does, once for all that it does the same to.
func previewLines(v *catalog.Preview) []string {
	if !v.Changed {
		return []string{"nothing changes"}
	}
	var out []string
	for _, g := range v.Groups {
		out = append(out, groupLines(g)...)
	}
	if v.More > 0 {
		out = append(out, fmt.Sprintf("… and %s more kinds of change", thousands(v.More)))
	}
	if s := affected(v); s != "" {
		out = append(out, s)
	}
	return out
}

func groupLines(g catalog.PreviewGroup) []string {
	head := g.What + " " + g.Names
	if g.Count > 1 {
		head = fmt.Sprintf("%s %ss %s", thousands(g.Count), g.What, g.Names)
	}
	switch g.Action {
	case "add":
		head = "add " + head
	case "delete":
		return []string{"delete " + head}
	}
	if g.Action == "change" && len(g.Lines) == 1 && g.Lines[0].Other == 0 {
		return []string{head + ": " + previewLine(g.Lines[0], false)}
	}
	if g.Action != "add" {
		head += ":"
	}
	out := []string{head}
	for _, l := range g.Lines {
		out = append(out, "  "+previewLine(l, g.Action == "add"))
	}
	return out
}

func previewLine(l catalog.PreviewLine, added bool) string {
	s := l.Path + "  "
	if !added {
		s += or(l.Before) + " → "
	}
	if s += or(l.After); l.Other > 0 {
		s += "  (others differ: " + thousands(l.Other) + ")"
	}
	return s
}

// affected says how many nodes come out differently, and what is still to do until they do.
func affected(v *catalog.Preview) string {
	if v.Affected == 0 {
		return ""
	}
	s := "affects " + plural(v.Affected, "node")
	if v.Affected != v.Nodes || v.More > 0 {
		s += " " + cut(v.Which.String(), 60)
	}
	if v.Racks > 1 {
		s += fmt.Sprintf(" (%s racks)", thousands(v.Racks))
	}
	if v.Reboot > 0 {
		s += fmt.Sprintf("; %s need reboot to take effect", thousands(v.Reboot))
	}
	return s
}

// plural is a number of things: 1 node, 2 nodes.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return thousands(n) + " " + what + "s"
}

// thousands is a number with commas, so that 9,216 is not read as 92 160.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// counted names things and says how many they are: 96 nodes r[07-08]n[01-48].
func counted(names []string, what string) string {
	if len(names) == 1 {
		return what + " " + names[0]
	}
	return fmt.Sprintf("%s %ss %s", thousands(len(names)), what, nodeset.Fold(names))
}

// words are names on one line.
func words[N ~string](names []N) string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = string(n)
	}
	return strings.Join(all, " ")
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

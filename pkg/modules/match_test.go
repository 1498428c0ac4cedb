package modules

import (
	"strings"
	"testing"
	"time"
)

func TestPatternsMatchAsKmodDoes(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true},
		{"", "a", false},
		{"a", "", false},
		{"*", "", true},
		{"a*", "a", true},
		{"*a", "bbba", true},
		{"a*b*c", "aXbXbXc", true},
		{"a*b*c", "aXbXbX", false},
		{"dmi*:bvn*:pvr[0-9]*:", "dmi:bvnAcme:bd10/16/2026:pvr7:", true}, // a star takes slashes
		{"dmi*:pvr[!0-9]*:", "dmi:pvr7:", false},
		{"dmi*:pvr[^0-9]*:", "dmi:pvrX:", true},
		{"[]x]", "]", true},
		{"[a-]", "-", true},
		{"[a-]", "b", false},
		{"[a", "[a", true}, // never closed
		{"?b", "ab", true},
		{"?b", "b", false},
		{`a\*b`, "a*b", true},
		{`a\*b`, "aXb", false},
		{`a\`, `a\`, true},
		{"pci:v00008086d0000[12]*", "pci:v00008086d000024F3", true},
		{"pci:v00008086d0000[12]*", "pci:v00008086d000034F3", false},
	} {
		if got := match(c.pattern, c.name); got != c.want {
			t.Errorf("match(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func TestMatchingTakesNoTimeThatExplodes(t *testing.T) {
	start := time.Now()
	if match(strings.Repeat("*a", 200)+"b", strings.Repeat("a", 4000)) {
		t.Error("it matches")
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}

package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestOneFlagGivesEveryNodeItsAddress(t *testing.T) {
	for _, tc := range []struct {
		value, names string
		next         func(string) (string, error)
		want         string // "": it is refused
	}{
		{"10.1.0.1", "n1", nextAddress, "10.1.0.1"},
		{"10.1.0.1", "n1 n2", nextAddress, ""},
		{"10.1.0.254+", "n1 n2 n3", nextAddress, "10.1.0.254 10.1.0.255 10.1.1.0"},
		{"10.1.0.9,10.1.0.7", "n1 n2", nextAddress, "10.1.0.9 10.1.0.7"},
		{"10.1.0.9,10.1.0.7", "n1 n2 n3", nextAddress, ""},
		{"10.1.{n1}.{n2}", "r3n12 r10n4", nextAddress, "10.1.3.12 10.1.10.4"},
		{"10.1.0.{(n1-1)*4 + n2 % 3}", "r02n08", nextAddress, "10.1.0.6"},
		{"{-n1+5}", "n7", nextAddress, "-2"},
		{"{7/2*2}", "n7", nextAddress, "6"},
		{"52:54:00:00:{n1:02x}:{n2+16:02x}", "r3n250", nextHardware, "52:54:00:00:03:10a"},
		{"x{n1:3d}y{n1:04d}", "n7", nextAddress, "x7y0007"},
		{"52:54:00:00:00:ff+", "n1 n2", nextHardware, "52:54:00:00:00:ff 52:54:00:00:01:00"},
		{"52-54-00-0f-ff-ff+", "n1 n2", nextHardware, "52-54-00-0f-ff-ff 52:54:00:10:00:00"},
		{"52:54:00:ff:ff:ff+", "n1 n2", nextHardware, ""},
		{"255.255.255.255+", "n1 n2", nextAddress, ""},
		{"nonsense+", "n1 n2", nextAddress, ""},
		{"{n2}", "n1", nextAddress, ""},
		{"{n1/0}", "n1", nextAddress, ""},
		{"{n1%(n1-1)}", "n1", nextAddress, ""},
		{"{2147483647*2147483647*2147483647}", "n1", nextAddress, ""},
		{"{n1", "n1", nextAddress, ""},
		{"{}", "n1", nextAddress, ""},
		{"{(n1}", "n1", nextAddress, ""},
		{"{n1 n1}", "n1", nextAddress, ""},
		{"{n1:}", "n1", nextAddress, "1"},
		{"{n1:q}", "n1", nextAddress, ""},
		{"{n1:99x}", "n1", nextAddress, ""},
		{"{" + strings.Repeat("(", 1000) + "}", "n1", nextAddress, ""},
	} {
		got, err := spread("flag", tc.value, strings.Fields(tc.names), tc.next)
		switch {
		case tc.want == "" && !errors.Is(err, fault.Invalid):
			t.Errorf("%s for %s: %q, %v; want it to be refused", tc.value, tc.names, got, err)
		case tc.want != "" && (err != nil || strings.Join(got, " ") != tc.want):
			t.Errorf("%s for %s: %q, %v; want %s", tc.value, tc.names, got, err, tc.want)
		}
	}
}

func FuzzFormula(f *testing.F) {
	f.Add("10.1.{n1}.{(n2-1)%42+1:02x}", "r3n12")
	f.Add("{n9*-(-4)/2}", "n1n2n3n4n5n6n7n8n9")
	f.Fuzz(func(t *testing.T, template, name string) {
		if _, err := fill(template, name); err != nil && !errors.Is(err, fault.Invalid) {
			t.Fatalf("%q for %q: %v", template, name, err)
		}
	})
}

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
		{"52:54:00:00:00:ff+", "n1 n2", nextHardware, "52:54:00:00:00:ff 52:54:00:00:01:00"},
		{"52-54-00-0f-ff-ff+", "n1 n2", nextHardware, "52-54-00-0f-ff-ff 52:54:00:10:00:00"},
		{"52:54:00:ff:ff:ff+", "n1 n2", nextHardware, ""},
		{"255.255.255.255+", "n1 n2", nextAddress, ""},
		{"nonsense+", "n1 n2", nextAddress, ""},
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

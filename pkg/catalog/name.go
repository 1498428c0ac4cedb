package catalog

import (
	"encoding/hex"
	"net"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Names of things are types, so that the compiler tells a node from a profile.
type (
	NodeName       string
	ProfileName    string
	ImageName      string
	OverlayName    string
	NetworkName    string
	RelayName      string
	ControllerName string
	RuleName       string // of a DiscoverRule
)

// MaxName is the longest name: what RFC 1035 allows for one label of a host name.
const MaxName = 63

// ParseName checks a name of the kind of thing said by what ("node", "profile", …) and returns it.
// Names are letters, digits, '-', '_' and '.', beginning with a letter or digit; anything else is fault.Invalid.
func ParseName[N ~string](what, s string) (N, error) {
	ok := s != "" && len(s) <= MaxName
	for i, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		case i > 0 && (r == '-' || r == '_' || r == '.'):
		default:
			ok = false
		}
	}
	if !ok {
		return "", fault.New(fault.Invalid, "%q is not a name for a %s", clip(s), what).
			WithFix("use 1 to %d letters, digits, '-', '_' or '.', beginning with a letter or digit", MaxName)
	}
	return N(s), nil
}

func clip(s string) string { return clipTo(s, 80) }

func clipTo(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…" // no half of a letter
	}
	return s
}

// HardwareAddr is a MAC address (or an InfiniBand port's 20 bytes) as lower-case hexadecimal with colons.
type HardwareAddr string

// ParseHardwareAddr reads the forms that firmware, switches and people write: with colons, hyphens, dots or none.
func ParseHardwareAddr(s string) (HardwareAddr, error) {
	digits := strings.Map(func(r rune) rune {
		if r == ':' || r == '-' || r == '.' {
			return -1
		}
		return r
	}, s)
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != 6 && len(b) != 20 {
		return "", fault.New(fault.Invalid, "%q is not a hardware address", clip(s)).WithFix("write it as 52:54:00:12:34:56")
	}
	return HardwareAddr(net.HardwareAddr(b).String()), nil
}

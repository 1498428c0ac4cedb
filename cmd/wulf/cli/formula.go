package cli

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// spread makes a value for each of the names from what one flag says:
//
//	10.1.0.1            one value, for one name
//	10.1.0.1,10.1.0.7   one for each name, in the order of the node set
//	10.1.0.1+           counting up from there; next makes the one after
//
// What is computed from the names, as 10.1.{n1}.{n2}, is not spread but sent as it is.
func spread(flag, value string, names []string, next func(string) (string, error)) ([]string, error) {
	out := make([]string, len(names))
	switch {
	case strings.HasSuffix(value, "+"):
		v := strings.TrimSuffix(value, "+")
		for i := range names {
			if i > 0 {
				var err error
				if v, err = next(v); err != nil {
					return nil, fault.Wrap(fault.Invalid, err, "%s %s", flag, value)
				}
			}
			out[i] = v
		}
	default:
		list := strings.Split(value, ",")
		if len(list) == 1 && len(names) > 1 {
			return nil, fault.New(fault.Invalid, "%s gives one value for %d nodes", flag, len(names)).
				WithFix("count up with %s+, list them with commas, or compute them: see wulf help nodesets", value)
		}
		if len(list) != len(names) {
			return nil, fault.New(fault.Invalid, "%s lists %d values for %d nodes", flag, len(list), len(names))
		}
		for i, v := range list {
			out[i] = strings.TrimSpace(v)
		}
	}
	return out, nil
}

// nextAddress is the IP address after s.
func nextAddress(s string) (string, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return "", fault.New(fault.Invalid, "%q is not an IP address", s)
	}
	if a = a.Next(); !a.IsValid() {
		return "", fault.New(fault.Invalid, "no address comes after %s", s)
	}
	return a.String(), nil
}

// nextHardware is the hardware address after s. The first three bytes say who made the device, and stay.
func nextHardware(s string) (string, error) {
	hw, err := catalog.ParseHardwareAddr(s)
	if err != nil {
		return "", err
	}
	b := strings.Split(string(hw), ":")
	for i := len(b) - 1; i >= len(b)-3; i-- {
		n, err := strconv.ParseUint(b[i], 16, 8)
		if err != nil {
			return "", err
		}
		b[i] = fmt.Sprintf("%02x", byte(n+1))
		if n < 0xff {
			return strings.Join(b, ":"), nil
		}
	}
	return "", fault.New(fault.Invalid, "no hardware address of the same maker comes after %s", s)
}

package catalog

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// checkProfiles refuses profiles that do not exist or are named twice.
func (c *Catalog) checkProfiles(what string, names []ProfileName) error {
	if len(names) > MaxProfiles {
		return fault.New(fault.Invalid, "%s: %d profiles are more than %d", what, len(names), MaxProfiles)
	}
	for i, name := range names {
		known := ProfileName(strings.TrimPrefix(string(name), "~"))
		if _, ok := c.Profile(known); !ok {
			return within(what, c.noProfile(known))
		}
		if slices.Contains(names[:i], name) {
			return fault.New(fault.Invalid, "%s: profile %s is named twice", what, name)
		}
	}
	return nil
}

// checkSettings refuses values that cannot be right and names of things that do not exist.
func (c *Catalog) checkSettings(what string, s Settings) error {
	if s.Image != nil {
		name, version := SplitImage(*s.Image)
		i, ok := c.Image(name)
		if !ok {
			return within(what, c.noImage(string(name)))
		}
		if _, ok := i.Version(version); !ok {
			return fault.New(fault.NotFound, "%s: image %s has no version %q", what, name, clip(version)).
				WithFix("it has the tags %s", strings.Join(sortedKeys(i.Tags), ", "))
		}
	}
	if err := oneOf("method", s.Method, MethodTwoStage, MethodOneStage, MethodWarewulf); err != nil {
		return within(what, err)
	}
	if err := checkRoot(s); err != nil {
		return within(what, err)
	}
	if s.Init != nil && !strings.HasPrefix(*s.Init, "/") {
		return fault.New(fault.Invalid, "%s: init %q is not an absolute path", what, clip(*s.Init))
	}
	for _, a := range s.Kernel.Args {
		// The words are joined by spaces in a boot script, line by line: white space in one would change the others.
		if a == "" || a == "~" || strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return fault.New(fault.Invalid, "%s: %q is not one word of a kernel command line", what, clip(a)).WithFix("give each word by itself: -A console=ttyS0,115200 -A quiet")
		}
	}
	if err := s.checkSizes(); err != nil {
		return within(what, err)
	}
	for _, list := range []struct {
		name  string
		lines []string
	}{{"kernel.args", s.Kernel.Args}, {"ssh_keys", s.SSHKeys}, {"overlays.system", s.Overlays.System}, {"overlays.runtime", s.Overlays.Runtime}} {
		if err := checkLines(list.name, list.lines); err != nil {
			return within(what, err)
		}
	}
	for _, list := range [][]string{s.Overlays.System, s.Overlays.Runtime} {
		for _, name := range list {
			name = strings.TrimPrefix(name, "~")
			if _, ok := c.Overlay(OverlayName(name)); !ok {
				return within(what, c.noOverlay(OverlayName(name)))
			}
		}
	}
	for _, check := range []func() error{
		func() error { return checkTags(s.Tags) },
		func() error { return checkKeys("resource", s.Resources) },
		func() error { return checkWords("role", s.Roles) },
		func() error { return checkWords("group", s.Groups) },
		func() error { return checkPlaces(s) },
		func() error { return checkSecrets(s) },
		func() error { return checkWithout(s.Without) },
		func() error { return checkBMC(s.BMC) },
		func() error { return checkDisks(s) },
		func() error { return checkKeyWords("network device", s.Nets) },
	} {
		if err := check(); err != nil {
			return within(what, err)
		}
	}
	for _, name := range sortedKeys(s.Nets) {
		if _, err := ParseName[string]("network device", name); err != nil {
			return within(what, err)
		}
		if err := c.checkNetDev(what+", device "+name, s.Nets[name]); err != nil {
			return err
		}
	}
	return nil
}

// checkNets refuses addresses that lie outside of the device's network, as profiles and node decide it together.
func (c *Catalog) checkNets(n *Node) error {
	if len(n.Settings.Nets) == 0 {
		return nil // a profile holds no address
	}
	nets := c.places(n)
	for _, name := range sortedKeys(nets) {
		d := nets[name]
		if d.Address == nil && d.Address6 == nil {
			continue
		}
		if err := c.checkAddresses(c.resolveNet(name, d)); err != nil {
			return within(fmt.Sprintf("node %s, device %s", n.Name, name), err)
		}
	}
	return nil
}

func (c *Catalog) checkAddresses(d ResolvedNet) error {
	n := d.Network
	for _, address := range []netip.Prefix{d.Address, d.Address6} {
		if !address.IsValid() {
			continue
		}
		addr := address.Addr()
		switch {
		case n == nil && !address.IsSingleIP():
			// In a network that wulfmesh has nothing to do with, such as a storage fabric: its mask says all.
		case n == nil:
			return fault.New(fault.Invalid, "address %s lies in no network", addr).WithFix("declare its network: wulf network add NAME --cidr …; or give its --netmask, if nothing boots there")
		case !n.Holds(addr):
			return fault.New(fault.Invalid, "address %s lies outside of network %s (%s)", addr, n.Name, n.Prefix).WithFix("choose an address in %s", n.Prefix)
		case n.reserved(addr):
			return fault.New(fault.Invalid, "%s is the network's own or broadcast address", addr)
		case n.Pool.Contains(addr):
			return fault.New(fault.Invalid, "address %s lies in the pool of network %s, which is for unknown machines", addr, n.Name).WithFix("choose one outside of %s-%s", n.Pool.First, n.Pool.Last)
		case addr == n.Gateway || addr == n.Gateway6:
			return fault.New(fault.Conflict, "%s is the gateway of network %s", addr, n.Name)
		}
	}
	return nil
}

// usersOf names the first few nodes and profiles that use something, or is "".
func usersOf(c *Catalog, uses func([]ProfileName, Settings) bool) string {
	var names []string
	more := 0
	note := func(s string) {
		if len(names) < 3 {
			names = append(names, s)
		} else {
			more++
		}
	}
	for p := range c.Profiles() {
		if uses(p.Profiles, p.Settings) {
			note("profile " + string(p.Name))
		}
	}
	for n := range c.Nodes() {
		if uses(n.Profiles, n.Settings) {
			note("node " + string(n.Name))
		}
	}
	s := strings.Join(names, ", ")
	if more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

func inUse(what, name, users string) error {
	return fault.New(fault.Conflict, "%s %q is used by %s", what, name, users).WithFix("take it from them first")
}

func within(what string, err error) error {
	if what == "" {
		return err
	}
	return &fault.Error{Kind: fault.KindOf(err), Message: what + ": " + err.Error(), Fix: fault.Fix(err)}
}

// notFound says that a thing does not exist, and which one was perhaps meant.
func notFound(what, name string, known iter.Seq[string]) error {
	err := fault.New(fault.NotFound, "no %s is called %q", what, clip(name))
	if best := Nearest(name, known, 2); best != "" {
		return err.WithFix("did you mean %q?", best)
	}
	return err.WithFix("see all with: wulf %s list", what)
}

// Nearest is the word of known that is most like one which is not known, and at most so many letters away; "" if there
// is none. Of several the first counts.
func Nearest(word string, known iter.Seq[string], most int) string {
	best, distance := "", most+1
	for k := range known {
		if d := editDistance(word, k, distance); d < distance {
			best, distance = k, d
		}
	}
	return best
}

// editDistance counts the letters to change, add or drop to make b of a; it stops at limit.
func editDistance(a, b string, limit int) int {
	if len(a) > MaxName || len(b) > MaxName || max(len(a), len(b))-min(len(a), len(b)) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return min(row[len(b)], limit)
}

func sortedKeys[M ~map[string]V, V any](m M) []string {
	if len(m) == 1 { // as a node has one network device
		for k := range m {
			return []string{k}
		}
	}
	return slices.Sorted(maps.Keys(m))
}

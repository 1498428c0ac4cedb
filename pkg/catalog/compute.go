package catalog

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// Auto, as the value of an address in Compute, is the first free address of the device's network.
const Auto = "auto"

// computing gives nodes the settings that differ from one to the next.
type computing struct {
	edit  *nodeEdit
	paths []string // sorted
	value map[string]computed
	next  map[NetworkName]netip.Addr // where the search for a free address goes on
}

// computed is a value that a formula gives, and where it goes.
type computed struct {
	formula nodeset.Formula
	place   place
}

func (x *nodeEdit) computing(compute map[string]string) (*computing, error) {
	p := &computing{edit: x, paths: sortedKeys(compute), value: map[string]computed{}, next: map[NetworkName]netip.Addr{}}
	if len(p.paths) > maxKeys {
		return nil, fault.New(fault.Invalid, "%d settings to compute are more than %d", len(p.paths), maxKeys)
	}
	// Addresses that are searched for come last: they must not be those that a formula gives to a later node.
	slices.SortStableFunc(p.paths, func(a, b string) int { return strings.Compare(autoLast(compute[a]), autoLast(compute[b])) })
	for _, path := range p.paths {
		if compute[path] == Auto {
			if _, ok := autoDevice(path); !ok {
				return nil, fault.New(fault.Invalid, "%s cannot be found automatically", clip(path)).WithFix("only addresses of network devices can, such as nets.default.address")
			}
			continue
		}
		at, err := placeOf(path)
		if err != nil {
			return nil, err
		}
		f, err := nodeset.ParseFormula(compute[path])
		if err != nil {
			return nil, within(path, err)
		}
		p.value[path] = computed{f, at}
	}
	return p, nil
}

func autoLast(formula string) string {
	if formula == Auto {
		return "1"
	}
	return "0"
}

// apply decides for a node what is computed for it. What it decides by formula it reads from the name alone.
func (p *computing) apply(n *Node) error {
	if len(p.value) == 0 {
		return nil
	}
	var own Settings
	for _, path := range p.paths {
		v, ok := p.value[path]
		if !ok {
			continue
		}
		text, err := v.formula.Eval(string(n.Name))
		if err != nil {
			return within(path, err)
		}
		if err := v.place.set(&own, text); err != nil {
			return within("node "+string(n.Name), err)
		}
	}
	return n.Settings.Patch(own, nil)
}

// allocate gives a node the addresses that are searched for. All other addresses of the change are indexed by then.
func (p *computing) allocate(n *Node) error {
	for _, path := range p.paths {
		if _, ok := p.value[path]; ok {
			continue
		}
		device, _ := autoDevice(path)
		network, err := p.networkOf(n, device)
		if err != nil {
			return err
		}
		addr, err := p.free(network)
		if err != nil {
			return err
		}
		if err := n.Settings.Patch(Settings{Nets: map[string]NetDev{device: {Address: &addr}}}, nil); err != nil {
			return err
		}
	}
	return nil
}

func (p *computing) networkOf(n *Node, device string) (*Network, error) {
	if name := p.edit.c.places(n)[device].Network; name != nil {
		if network, ok := p.edit.c.Network(NetworkName(*name)); ok {
			return network, nil
		}
		return nil, p.edit.c.noNetwork(NetworkName(*name))
	}
	return nil, fault.New(fault.Invalid, "node %s: nothing says in which network device %s is", n.Name, device).WithFix("name it: --network NAME")
}

// free finds the lowest address of a network that nobody has.
func (p *computing) free(n *Network) (netip.Addr, error) {
	at, last := n.allocates()
	if next, ok := p.next[n.Name]; ok {
		at = next
	}
	for ; at.IsValid() && at.Compare(last) <= 0; at = at.Next() {
		if n.Pool.Contains(at) {
			at = n.Pool.Last
			continue
		}
		if at == n.Gateway || n.reserved(at) || p.edit.taken(at) {
			continue
		}
		p.next[n.Name] = at.Next()
		return at, nil
	}
	return netip.Addr{}, fault.New(fault.Full, "network %s has no free address left", n.Name).
		WithFix("make room: wulf network set %s --allocate FIRST-LAST, or delete nodes that are gone", n.Name)
}

// autoDevice is the device whose address a path is.
func autoDevice(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, "nets.")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, ".address")
}

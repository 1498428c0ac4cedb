// Package discover says what becomes of machines that no node claims: which a person has to look at, and which a rule
// makes a node.
//
// Look is a pure function of the catalog, the inbox and the time. It decides nothing: what it finds is shown to people,
// and the leading controller proposes it as claims, of which the log picks one winner each.
package discover

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Machine is an unknown machine, as relays have seen it. It is observed, not declared.
type Machine struct {
	Hardware catalog.HardwareAddr `json:"hardware"`
	First    time.Time            `json:"first"`              // when it was seen first
	Last     time.Time            `json:"last"`               // and last
	Firmware string               `json:"firmware,omitempty"` // a boot.Firmware; "": an operating system, as far as is known
	Relay    catalog.RelayName    `json:"relay"`              // that saw it last
	Address  string               `json:"address,omitempty"`  // that it was given
	Error    string               `json:"error,omitempty"`    // what kept it from being served when it asked last
	Facts    catalog.Facts        `json:"facts,omitzero"`
}

// The states of a machine of the inbox.
const (
	New     = "new"     // somebody has to decide
	Ignored = "ignored" // somebody has decided that it is none of ours
	Claimed = "claimed" // it is a node by now
)

// Found is a machine of the inbox, and what becomes of it.
type Found struct {
	Machine
	Rack  string           `json:"rack,omitempty"` // of the relay that saw it, if it stands in the machine's own network
	State string           `json:"state"`
	Node  catalog.NodeName `json:"node,omitempty"` // that it is; of a new one, the one that Rule would make it
	Rule  catalog.RuleName `json:"rule,omitempty"`
	Due   bool             `json:"due,omitempty"` // the rule claims it now
	Why   string           `json:"why,omitempty"` // it is ignored, or does not wait, or is not claimed by a rule

	// Waits: it is new, asks, boots from the network, and has the UUID of no node. It may become any node.
	Waits bool `json:"waits,omitempty"`
}

// Times of rules.
const (
	// Settle is for how long a machine is known before a rule claims it: relays report in their own time, and who asked
	// earlier is to be first. What its boot loader says of it comes then, too.
	Settle = 3 * time.Second
	// Fresh is for how long a machine that asks no more counts as waiting: its screen asks at least every two minutes.
	Fresh = 10 * time.Minute
)

// Look says what becomes of the machines of an inbox, in the order in which they were seen first. Rules are asked in
// their order, each about all machines, so that one that knows its machine goes before one that takes any.
func Look(c *catalog.Catalog, rules []*catalog.DiscoverRule, inbox []Machine, now time.Time) []Found {
	found := make([]Found, 0, len(inbox))
	for _, m := range inbox {
		f := Found{Machine: m, State: New}
		if r, ok := c.Relay(m.Relay); ok && m.Facts.Agent == "" {
			f.Rack = r.Rack
		}
		if n, ok := c.NodeByHardware(m.Hardware); ok {
			f.State, f.Node = Claimed, n.Name
		} else if i, ok := c.IgnoredMachine(m.Hardware); ok {
			f.State, f.Why = Ignored, i.Why
		}
		found = append(found, f)
	}
	slices.SortStableFunc(found, func(a, b Found) int {
		return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Hardware, b.Hardware))
	})
	x := looking{c: c, now: now, found: found, taken: map[catalog.NodeName]bool{}}
	x.held()
	for _, r := range rules {
		x.ask(r)
	}
	return found
}

// Next picks those that may become nodes one after the other, whichever they are: those that wait, and of one machine with
// several network devices the one that asked first. The others are left, each with a Why.
func Next(found []Found) (next, left []Found) {
	by := map[string]catalog.HardwareAddr{}
	for _, f := range found {
		first, twice := by[f.Facts.UUID]
		switch {
		case !f.Waits:
			left = append(left, f)
		case twice:
			f.Why = sameAs("machine", first)
			left = append(left, f)
		default:
			if f.Facts.UUID != "" {
				by[f.Facts.UUID] = f.Hardware
			}
			next = append(next, f)
		}
	}
	return next, left
}

type looking struct {
	c     *catalog.Catalog
	now   time.Time
	found []Found
	taken map[catalog.NodeName]bool // by machines before
	known map[string]string         // by UUID: why a machine that has it is none of its own
}

// held says of machines that no rule can claim why not, and finds those that are nodes by another address: a machine has
// several network devices, and each asks.
func (x *looking) held() {
	x.known = map[string]string{}
	for i := range x.found {
		if f := &x.found[i]; f.State == Claimed && f.Facts.UUID != "" {
			x.known[f.Facts.UUID] = sameAs("node", f.Node)
		}
	}
	for i := range x.found {
		f := &x.found[i]
		if u := f.Facts.UUID; u != "" && x.known[u] == "" {
			if n, ok := x.c.NodeByUUID(u); ok {
				x.known[u] = sameAs("node", n.Name)
			}
		}
		if f.State == New {
			f.Why = cmp.Or(x.idle(f), x.known[f.Facts.UUID])
			f.Waits = f.Why == ""
		}
	}
}

func sameAs[T ~string](what string, name T) string {
	return "it has the UUID of " + what + " " + string(name)
}

// idle is why a machine waits for nothing; "" if it does.
func (x *looking) idle(f *Found) string {
	switch {
	case f.Firmware == "":
		return "it does not boot from the network"
	case x.now.Sub(f.Last) >= Fresh:
		return "it asks no more"
	}
	return ""
}

// claimable tells whether a rule that knows its machine may claim one. One that takes any asks for more.
func (x *looking) claimable(f *Found) bool {
	return f.State == New && f.Node == "" && x.idle(f) == ""
}

// ask gives a rule's nodes to the machines that it is about.
func (x *looking) ask(r *catalog.DiscoverRule) {
	var about []int
	for i := range x.found {
		if f := &x.found[i]; x.claimable(f) && (r.Network == "" || r.Network == f.Facts.Network) && (r.Rack == "" || r.Rack == f.Rack) {
			about = append(about, i)
		}
	}
	if len(about) == 0 {
		return
	}
	if end := r.Ends(x.now); end != "" {
		for _, i := range about {
			x.found[i].Why = cmp.Or(x.found[i].Why, "rule "+string(r.Name)+" is "+end)
		}
		return
	}
	left, node := r.Limit-r.Claimed, x.matching(r)
	for _, i := range about {
		f := &x.found[i]
		known := x.known[f.Facts.UUID]
		if r.Match == catalog.MatchFirst && known != "" {
			f.Why = known
			continue
		}
		if left == 0 {
			f.Why = cmp.Or(known, "rule "+string(r.Name)+" has given all that it may")
			continue
		}
		to, why := node(f)
		if to == "" {
			f.Why = cmp.Or(known, "rule "+string(r.Name)+": "+why)
			continue
		}
		x.taken[to] = true
		left--
		f.Node, f.Rule, f.Why = to, r.Name, ""
		f.Due = x.now.Sub(f.First) >= Settle
		if u := f.Facts.UUID; u != "" && known == "" {
			x.known[u] = sameAs("machine", f.Hardware)
		}
	}
}

// matching is how a rule finds the node of a machine, or says why there is none.
func (x *looking) matching(r *catalog.DiscoverRule) func(*Found) (catalog.NodeName, string) {
	switch r.Match {
	case catalog.MatchSerial:
		return x.keyed(r, "serial number",
			func(n *catalog.Node) string { return strings.ToLower(n.Settings.Tags[catalog.TagSerial]) },
			func(f *Found) string { return strings.ToLower(f.Facts.Serial) })
	case catalog.MatchUUID:
		return x.keyed(r, "UUID",
			func(n *catalog.Node) string {
				if n.Settings.UUID == nil {
					return ""
				}
				return *n.Settings.UUID
			},
			func(f *Found) string { return f.Facts.UUID })
	case catalog.MatchPort:
		return x.plugged(r)
	}
	next := 0
	return func(*Found) (catalog.NodeName, string) {
		for ; next < len(r.Nodes); next++ {
			if n, ok := x.c.Node(r.Nodes[next]); ok && x.free(n) {
				return n.Name, ""
			}
		}
		return "", "all its nodes have machines"
	}
}

// keyed goes by something that node and machine both say.
func (x *looking) keyed(r *catalog.DiscoverRule, what string, ofNode func(*catalog.Node) string, ofMachine func(*Found) string) func(*Found) (catalog.NodeName, string) {
	by := map[string]*catalog.Node{}
	for _, name := range r.Nodes {
		if n, ok := x.c.Node(name); ok {
			if key := ofNode(n); key != "" && by[key] == nil {
				by[key] = n
			}
		}
	}
	return func(f *Found) (catalog.NodeName, string) {
		key := ofMachine(f)
		if key == "" {
			return "", "its " + what + " is not known"
		}
		n := by[key]
		if n == nil {
			return "", "no node declares its " + what
		}
		return x.freed(n)
	}
}

// plugged goes by where the machine is plugged in: SWITCH/PORT, or the port alone where any switch will do.
func (x *looking) plugged(r *catalog.DiscoverRule) func(*Found) (catalog.NodeName, string) {
	by := map[string]*catalog.Node{}
	for _, name := range r.Nodes {
		if n, ok := x.c.Node(name); ok {
			if at := strings.ToLower(r.PortOf(n)); at != "" && by[at] == nil {
				by[at] = n
			}
		}
	}
	return func(f *Found) (catalog.NodeName, string) {
		if f.Facts.Port == "" {
			return "", "no switch says where it is plugged in"
		}
		n := cmp.Or(by[strings.ToLower(f.Facts.Place())], by["*/"+strings.ToLower(f.Facts.Port)])
		if n == nil {
			return "", "no node is expected at " + f.Facts.Place()
		}
		return x.freed(n)
	}
}

func (x *looking) freed(n *catalog.Node) (catalog.NodeName, string) {
	if !x.free(n) {
		return "", "node " + string(n.Name) + " has a machine already"
	}
	return n.Name, ""
}

func (x *looking) free(n *catalog.Node) bool { return !x.taken[n.Name] && x.c.Machineless(n) }

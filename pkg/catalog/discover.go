package catalog

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// Facts are what a machine, or the switch in front of it, says of it before anybody knows it. Whoever is on the wire may
// say anything: they are hints for people and rules, and prove nothing. Clean bounds them.
type Facts struct {
	Serial  string      `json:"serial,omitempty"`
	UUID    string      `json:"uuid,omitempty"`    // of SMBIOS, as ParseUUID writes it; not one that its maker gave to every machine
	Maker   string      `json:"maker,omitempty"`   // who built it
	Product string      `json:"product,omitempty"` // and what it is called
	Asset   string      `json:"asset,omitempty"`   // key of the inventory
	Switch  string      `json:"switch,omitempty"`  // what the relay agent says of itself (option 82, remote ID)
	Port    string      `json:"port,omitempty"`    // and of the port that the machine is behind (circuit ID)
	Agent   string      `json:"agent,omitempty"`   // address of the relay agent that passed the request on; "": none did
	Network NetworkName `json:"network,omitempty"` // in which it asked
}

// MaxFact bounds the bytes of each of the Facts.
const MaxFact = 128

// FactOf is what a packet says of a machine, as text: printable ASCII as it is, anything else as hexadecimal, cut to MaxFact.
func FactOf(b []byte) string {
	if slices.ContainsFunc(b, func(c byte) bool { return c < ' ' || c > '~' }) {
		return hex.EncodeToString(b[:min(len(b), MaxFact/2)])
	}
	return string(b)
}

// StoredUUID is a UUID whose bytes are as SMBIOS has them in memory, the lowest of each of the first three fields first.
func StoredUUID(u [16]byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(u[:]), binary.LittleEndian.Uint16(u[4:]), binary.LittleEndian.Uint16(u[6:]), u[8:10], u[10:])
}

// worthless are UUIDs that boards have whose maker gave them none: they do not tell machines apart.
var worthless = []string{
	"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
	"03000200-0400-0500-0006-000700080009", "12345678-1234-5678-90ab-cddeefaabbcc",
}

// Clean is the facts as they are kept: printable ASCII on one line, without space around it, each at most MaxFact bytes.
// What makers write where they had nothing to say counts as nothing.
func (f Facts) Clean() Facts {
	for _, text := range []*string{&f.Serial, &f.UUID, &f.Maker, &f.Product, &f.Asset, &f.Switch, &f.Port, &f.Agent, (*string)(&f.Network)} {
		*text = cleanFact(*text)
	}
	if u, err := ParseUUID(f.UUID); err == nil && !slices.Contains(worthless, u) {
		f.UUID = u
	} else {
		f.UUID = ""
	}
	return f
}

func cleanFact(s string) string {
	if len(s) > 4*MaxFact {
		s = s[:4*MaxFact]
	}
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.TrimRight(s, "\x00")))
	s = strings.TrimSpace(s[:min(len(s), MaxFact)])
	switch strings.ToLower(strings.TrimRight(s, ".")) {
	case "to be filled by o.e.m", "default string", "not specified", "none", "n/a", "system serial number", "system product name",
		"system manufacturer", "not available", "unknown", "123456789", "0123456789":
		return ""
	}
	return s
}

// Merge is f with what later says besides, or instead.
func (f Facts) Merge(later Facts) Facts {
	return Facts{
		cmp.Or(later.Serial, f.Serial), cmp.Or(later.UUID, f.UUID), cmp.Or(later.Maker, f.Maker), cmp.Or(later.Product, f.Product), cmp.Or(later.Asset, f.Asset),
		cmp.Or(later.Switch, f.Switch), cmp.Or(later.Port, f.Port), cmp.Or(later.Agent, f.Agent), cmp.Or(later.Network, f.Network),
	}
}

// Place is where the machine is plugged in, as SWITCH/PORT, or PORT where no switch is named; "" if that is not known.
func (f Facts) Place() string {
	switch {
	case f.Port == "":
		return ""
	case f.Switch == "":
		return f.Port
	}
	return f.Switch + "/" + f.Port
}

// By what a DiscoverRule knows which node a machine is to be.
const (
	MatchFirst  = "first"  // the next machine that asks gets the next node that has none
	MatchSerial = "serial" // the node's tag serial says the machine's serial number
	MatchUUID   = "uuid"   // the node declares the machine's UUID
	MatchPort   = "port"   // the machine is plugged in where the rule's formula, or the node's tag port, says
)

// The tags of a node that rules go by.
const (
	TagSerial = "serial"
	TagPort   = "port"
)

// DiscoverRule lets unknown machines become nodes without a person. It ends: by its limit, or by its time.
type DiscoverRule struct {
	Name    RuleName    `json:"name"`
	Match   string      `json:"match"`             // MatchFirst, MatchSerial, MatchUUID or MatchPort
	Network NetworkName `json:"network,omitempty"` // only machines that ask in it; none: in any
	Rack    string      `json:"rack,omitempty"`    // only machines that a relay of the rack saw, with no relay agent between; none: anywhere
	Nodes   NodeSet     `json:"nodes"`             // to be filled, in this order
	Port    string      `json:"port,omitempty"`    // for MatchPort: a formula of the node's name, such as sw{n1}/Ethernet{n2}; */ before it stands for any switch
	Order   int         `json:"order,omitempty"`   // rules are asked from the lowest on, equals by name
	Limit   int         `json:"limit"`             // how many machines it may claim in all
	Claimed int         `json:"claimed,omitempty"` // how many it has
	Expires time.Time   `json:"expires"`
	Created time.Time   `json:"created,omitzero"`
	By      string      `json:"by,omitempty"` // who made it
}

// Ends says why a rule claims nothing more; "" while it does.
func (r *DiscoverRule) Ends(at time.Time) string {
	switch {
	case !at.Before(r.Expires):
		return "expired"
	case r.Claimed >= r.Limit:
		return "used up"
	}
	return ""
}

// PortOf is where the rule expects a node's machine, as Facts.Place writes it; "" if nothing says that.
func (r *DiscoverRule) PortOf(n *Node) string {
	if r.Port == "" {
		return n.Settings.Tags[TagPort]
	}
	f, err := nodeset.ParseFormula(r.Port)
	if err != nil {
		return "" // cannot be: it was checked when the rule was made
	}
	at, err := f.Eval(string(n.Name))
	if err != nil {
		return ""
	}
	return at
}

// Ignored is an unknown machine that nobody wants to hear of.
type Ignored struct {
	Hardware HardwareAddr `json:"hardware"`
	Why      string       `json:"why,omitempty"`
	By       string       `json:"by,omitempty"`
	At       time.Time    `json:"at,omitzero"`
}

// DiscoverRule returns the rule of that name.
func (c *Catalog) DiscoverRule(name RuleName) (*DiscoverRule, bool) { return c.rules.get(string(name)) }

// DiscoverRules yields all rules by name.
func (c *Catalog) DiscoverRules() iter.Seq[*DiscoverRule] { return c.rules.values() }

// OrderedRules are all rules in the order in which they are asked.
func (c *Catalog) OrderedRules() []*DiscoverRule {
	return slices.SortedStableFunc(c.DiscoverRules(), func(a, b *DiscoverRule) int { return cmp.Compare(a.Order, b.Order) })
}

// IgnoredMachine returns what is said of a machine that is ignored.
func (c *Catalog) IgnoredMachine(hw HardwareAddr) (*Ignored, bool) { return c.ignored.get(string(hw)) }

// IgnoredMachines yields the machines that are ignored, by address.
func (c *Catalog) IgnoredMachines() iter.Seq[*Ignored] { return c.ignored.values() }

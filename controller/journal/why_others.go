package journal

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/discover"
)

// Bounds of a comparison.
const (
	maxBeside    = 512  // nodes that one is compared with
	maxLooked    = 4096 // nodes that are looked at to find them, the next by name first
	maxMisplaced = 1024 // nodes that ask where they should not
	maxStrangers = 5
	atOnce       = 256       // nodes that are looked at while events wait
	lately       = time.Hour // a machine that asked so long ago may still be meant
)

// others are the nodes and machines that those are compared with that are explained together. Which nodes are beside which
// the catalog says, so that the journal is asked about few, each once, and the same question has the same answer.
type others struct {
	journal *Journal
	catalog *catalog.Catalog
	now     time.Time

	names []catalog.NodeName            // of all nodes, in their order
	racks map[string][]catalog.NodeName // likewise
	known map[catalog.NodeName]*neighbour

	strangers func() []discover.Machine // asked once, as are
	misplaced func() []misplaced
}

// neighbour is what of a node's newest boot others are compared with.
type neighbour struct {
	address        netip.Addr
	firmware       boot.Firmware
	last           time.Time
	stage, reached boot.Stage
	took           []step
}

type step struct {
	stage boot.Stage
	took  time.Duration
}

// misplaced is a node that asks in another network than it is declared in.
type misplaced struct {
	node catalog.NodeName
	err  string
}

func newOthers(j *Journal, c *catalog.Catalog, now time.Time) *others {
	o := &others{journal: j, catalog: c, now: now, racks: map[string][]catalog.NodeName{}, known: map[catalog.NodeName]*neighbour{}}
	o.strangers, o.misplaced = sync.OnceValue(o.findStrangers), sync.OnceValue(o.findMisplaced)
	o.names = make([]catalog.NodeName, 0, c.NodeCount())
	for n := range c.Nodes() {
		o.names = append(o.names, n.Name)
		if rack := c.Scalar(n, func(s *catalog.Settings) *string { return s.Rack }); rack != "" {
			o.racks[rack] = append(o.racks[rack], n.Name)
		}
	}
	return o
}

// compare looks at the boots of others: those beside the node, and those of machines that nobody claims.
func (o *others) compare(f *facts) {
	if f.node.Primary != nil && f.node.Primary.Network != nil {
		o.neighbours(f)
	}
	if f.about == nil {
		f.strangers = o.strangers()
	} else if strings.Contains(f.about.Error, asksElsewhere) {
		f.mirror = o.exchanged(f)
	}
}

// neighbours counts the nodes in the node's network and rack, or network if it has no rack, that came further than it since
// it began, and notes how long stages take there.
func (o *others) neighbours(f *facts) {
	among, network := o.names, f.node.Primary.Network
	f.beside = "in network " + string(network.Name)
	if rack := f.node.Settings.Rack; rack != nil {
		among, f.beside = o.racks[*rack], "in rack "+*rack
	}
	took := map[boot.Stage][]time.Duration{}
	left := maxBeside
	for names := range slices.Chunk(around(among, f.node.Node.Name), atOnce) {
		o.learn(names)
		for _, name := range names {
			n := o.known[name]
			if n == nil || !network.Prefix.Contains(n.address) || left == 0 {
				continue
			}
			left--
			for _, s := range n.took {
				took[s.stage] = append(took[s.stage], s.took)
			}
			alike := f.about != nil && (n.firmware == f.about.Firmware || f.about.Firmware == "") // another firmware goes other ways
			if alike && n.last.After(f.since.Add(-patience)) && n.stage != boot.StageFailed && n.reached.Index() > reached(f.about).Index() {
				f.others++
			}
		}
		if left == 0 {
			break
		}
	}
	for stage, all := range took {
		slices.Sort(all)
		if f.typical == nil {
			f.typical = map[boot.Stage]time.Duration{}
		}
		f.typical[stage] = all[len(all)/2]
	}
}

// around are the names next to one in a list, the nearest first, without it.
func around(names []catalog.NodeName, name catalog.NodeName) []catalog.NodeName {
	at, found := slices.BinarySearch(names, name)
	before, after := names[:at], names[at:]
	if found {
		after = after[1:]
	}
	next := make([]catalog.NodeName, 0, min(len(names), maxLooked))
	for i := 0; len(next)+1 < maxLooked && (i < len(before) || i < len(after)); i++ {
		if i < len(before) {
			next = append(next, before[len(before)-1-i])
		}
		if i < len(after) {
			next = append(next, after[i])
		}
	}
	return next
}

// learn asks the journal about the nodes of which it is not known yet how they boot.
func (o *others) learn(names []catalog.NodeName) {
	j := o.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, name := range names {
		if _, ok := o.known[name]; ok {
			continue
		}
		o.known[name] = nil
		b := j.newest(name)
		if b == nil {
			continue
		}
		n := &neighbour{firmware: b.Firmware, last: b.Last, stage: b.Stage, reached: reached(b)}
		n.address, _ = netip.ParseAddr(b.Address)
		for i := range b.Events {
			if e := &b.Events[i]; e.Took > 0 && e.Stage.Index() >= 0 {
				n.took = append(n.took, step{e.Stage, e.Took})
			}
		}
		o.known[name] = n
	}
}

// newest is a node's newest boot, nil if there is none. It changes when the lock is given back.
func (j *Journal) newest(node catalog.NodeName) *api.Boot {
	m := j.machines[j.nodes[node]]
	if m == nil || m.boots[0].Node != "" && m.boots[0].Node != node { // firmware bears no name
		return nil
	}
	return m.boots[0]
}

// findStrangers lists the machines that asked lately and that no node claims nor anybody ignores, the last first.
func (o *others) findStrangers() (all []discover.Machine) {
	for _, m := range o.journal.inbox.since(o.now.Add(-lately)) {
		_, claimed := o.catalog.NodeByHardware(m.Hardware)
		if _, ignored := o.catalog.IgnoredMachine(m.Hardware); claimed || ignored {
			continue
		}
		if all = append(all, m); len(all) == maxStrangers {
			break
		}
	}
	return all
}

// asksElsewhere is in the error of a node that asks in another network than it is declared in.
const asksElsewhere = " asks in network "

// exchanged finds a node that asks where this one should, while this one asks where that one should; "" if there is none.
func (o *others) exchanged(f *facts) catalog.NodeName {
	asks := func(err string, in *catalog.Network) bool {
		return strings.Contains(err, asksElsewhere+string(in.Name)+" ")
	}
	mine := f.node.Primary
	if mine == nil || mine.Network == nil {
		return ""
	}
	for _, s := range o.misplaced() {
		if s.node == f.node.Node.Name || !asks(s.err, mine.Network) {
			continue
		}
		r, err := o.catalog.Resolve(s.node)
		if err == nil && r.Primary != nil && r.Primary.Network != nil && asks(f.about.Error, r.Primary.Network) {
			return s.node
		}
	}
	return ""
}

// findMisplaced lists the nodes that ask in another network than they are declared in.
func (o *others) findMisplaced() (all []misplaced) {
	j := o.journal
	for names := range slices.Chunk(o.names, atOnce) {
		j.mu.Lock()
		for _, name := range names {
			if b := j.newest(name); b != nil && len(all) < maxMisplaced && strings.Contains(b.Error, asksElsewhere) {
				all = append(all, misplaced{name, b.Error})
			}
		}
		j.mu.Unlock()
		if len(all) == maxMisplaced {
			break
		}
	}
	return all
}

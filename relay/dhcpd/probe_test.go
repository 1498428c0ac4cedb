package dhcpd

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// neighbours are the machines that answer ARP on a link.
type neighbours struct {
	at     map[netip.Addr]net.HardwareAddr
	found  chan netip.Addr
	closed sync.Once
	mu     sync.Mutex
	asked  []netip.Addr
}

func (n *neighbours) Probe(a netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, a)
	if n.at[a] != nil {
		n.found <- a
	}
	return nil
}

func (n *neighbours) questions() []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.asked)
}

func (n *neighbours) Hear(heard func(netip.Addr, net.HardwareAddr)) {
	for a := range n.found {
		heard(a, n.at[a])
	}
}

func (n *neighbours) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed.Do(func() { close(n.found) })
	return nil
}

func TestAddressesInUseAreNotOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rack{t: t, net: memnet.New(memnet.Config{}), k: newCluster(t, time.Now()), relays: map[catalog.RelayName]*running{}}
		defer r.net.Close()
		r.net.Segment("rack1", "10.1.0.0/24")
		r.live = []catalog.RelayName{"r1"}
		n, _ := r.k.catalog().Network("rack1")
		probing := *n
		probing.Probe = true
		r.k.do(time.Now(), catalog.SetNetwork{Network: probing})
		squatter, own := net.HardwareAddr{2, 0, 0, 0, 0, 9}, net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0x98}
		arp := &neighbours{at: map[netip.Addr]net.HardwareAddr{}, found: make(chan netip.Addr, 64)}
		for a := n.Pool.First; n.Pool.Contains(a); a = a.Next() {
			if a != n.Pool.Last {
				arp.at[a] = squatter
			}
		}
		arp.at[n.Pool.Last.Prev()] = own
		s := r.start("r1", func(l *Link) { l.ARP = arp })
		time.Sleep(time.Minute)

		// A node has its address whoever else uses it, at once.
		known := r.machine("m1", hwKnown)
		if got := known.ask(short, message(discover, hwKnown)); len(got) != 1 || len(arp.questions()) != 0 {
			t.Errorf("%d offers to a node, and %v was asked for", len(got), arp.questions())
		}
		// Somebody uses nearly all addresses of the pool: each is found out once, and told.
		c := r.machine("m2", hwUnknown)
		for range 20 {
			if got := c.ask(4*time.Second, message(discover, hwUnknown)); len(got) > 0 {
				if at := got[0].YourIPAddr.String(); at != n.Pool.Last.String() {
					t.Errorf("%s is offered, which is in use", at)
				}
				break
			}
		}
		if st := s.Stats(); st.Offers != 2 {
			t.Errorf("%d offers, want one to each machine", st.Offers)
		}
		events := r.journal.take()
		if len(events) == 0 || !strings.Contains(events[0].Error, "is used by another machine") {
			t.Errorf("events %+v, want those of addresses in use", events)
		}
		// A machine that answers for the address that it is about to get is no conflict.
		o := r.machine("m3", own.String())
		o.ask(4*time.Second, message(discover, own.String(), requested(n.Pool.Last.Prev().String())))
		r.relays["r1"].stop()
	})
}

func TestProbesAreBounded(t *testing.T) {
	var p probes
	now := time.Now()
	a := netip.MustParseAddr("10.0.0.1")
	for range probesLen {
		if p.look(now, a, hwUnknown) != probeUnknown {
			t.Fatal("the table is full too early")
		}
		p.begin(now, a, hwUnknown)
		a = a.Next()
	}
	if got := p.look(now, a, hwUnknown); got != probeUnable {
		t.Errorf("one more is %d, want that it cannot be asked for", got)
	}
	if got := p.look(now.Add(2*probeKeep), a, hwUnknown); got != probeUnknown {
		t.Errorf("later it is %d, want that it can", got)
	}
}

func TestARPIsReadAndWritten(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	b := arpProbe(mac, netip.MustParseAddr("10.1.0.200"))
	if _, _, ok := arpOwner(b); ok {
		t.Error("a question is taken for an answer")
	}
	b[offARPOp+1] = arpReply
	copy(b[offARPFrom+6:], []byte{10, 1, 0, 200})
	if a, owner, ok := arpOwner(b); !ok || a.String() != "10.1.0.200" || owner.String() != mac.String() {
		t.Errorf("the answer says %s at %s, %t", a, owner, ok)
	}
}

func FuzzARP(f *testing.F) {
	f.Add(arpProbe(net.HardwareAddr{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("10.1.0.200")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, owner, ok := arpOwner(b); ok && (!a.Is4() || len(owner) != 6) {
			t.Errorf("%s at %s", a, owner)
		}
	})
}

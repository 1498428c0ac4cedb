package dhcpd

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/relay/lease"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// rack is a segment with relays and machines, in virtual time.
type rack struct {
	t       *testing.T
	net     *memnet.Network
	k       *cluster
	live    []catalog.RelayName // nil: all
	relays  map[catalog.RelayName]*running
	journal journal
}

type running struct {
	*Server
	stop func()
}

// inRack runs a test on the segment of network rack1.
func inRack(t *testing.T, f func(*rack)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rack{t: t, net: memnet.New(memnet.Config{}), k: newCluster(t, time.Now()), relays: map[catalog.RelayName]*running{}}
		r.net.Segment("rack1", "10.1.0.0/24")
		f(r)
		for _, run := range r.relays {
			run.stop()
		}
		if open := r.net.Open(); slices.ContainsFunc(open, func(s string) bool { return s[0] == 'r' && s[1] <= '9' }) {
			t.Errorf("relays left open: %q", open)
		}
		r.net.Close()
	})
}

// start runs a relay; its address is that of the catalog.
func (r *rack) start(name catalog.RelayName, more ...func(*Link)) *Server {
	r.t.Helper()
	c, _ := r.k.catalog().Relay(name)
	at := c.Addresses[0]
	h := r.net.Host(string(name), at.String()).Join("rack1")
	listen := func(port string) net.PacketConn {
		conn, err := h.ListenPacketOn("rack1", port)
		if err != nil {
			r.t.Fatal(err)
		}
		return conn
	}
	cfg := r.k.config(name, &r.journal, func() []catalog.RelayName { return r.live })
	cfg.Links = []Link{{Name: "eth0", Addrs: []netip.Addr{at}, Conn: listen(":67"), Snoop: listen(":68")}}
	for _, f := range more {
		f(&cfg.Links[0])
	}
	s := New(cfg)
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 2)
	go func() { done <- s.Run(ctx) }()
	go func() { done <- cfg.Leases.Run(ctx) }()
	r.relays[name] = &running{s, func() {
		cancel()
		if err := errors.Join(<-done, <-done); err != nil {
			r.t.Error(err)
		}
	}}
	return s
}

// client is a machine without an address.
type client struct {
	t    *testing.T
	conn net.PacketConn
	hw   string
}

func (r *rack) machine(name, hw string) *client {
	r.t.Helper()
	conn, err := r.net.Host(name).Join("rack1").ListenPacketOn("rack1", ":68")
	if err != nil {
		r.t.Fatal(err)
	}
	return &client{r.t, conn, hw}
}

func (c *client) say(p *dhcpv4.DHCPv4) {
	c.t.Helper()
	p.SetBroadcast()
	if _, err := c.conn.WriteTo(p.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 67}); err != nil {
		c.t.Fatal(err)
	}
}

// hear collects the answers to this machine that come within the time.
func (c *client) hear(within time.Duration) []*dhcpv4.DHCPv4 {
	c.t.Helper()
	if err := c.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		c.t.Fatal(err)
	}
	var all []*dhcpv4.DHCPv4
	var buf [1500]byte
	for {
		n, _, err := c.conn.ReadFrom(buf[:])
		if err != nil {
			return all
		}
		p, err := dhcpv4.FromBytes(buf[:n])
		if err != nil {
			c.t.Fatal(err)
		}
		if p.OpCode == dhcpv4.OpcodeBootReply && p.ClientHWAddr.String() == c.hw {
			all = append(all, p)
		}
	}
}

// sent asks and returns the answers within the time.
func (c *client) ask(within time.Duration, p *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 {
	c.t.Helper()
	c.say(p)
	return c.hear(within)
}

// takes takes an offer and returns the answer.
func (c *client) takes(offer *dhcpv4.DHCPv4, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	c.t.Helper()
	mods = append(mods, serverID(offer.ServerIdentifier().String()), requested(offer.YourIPAddr.String()))
	acks := c.ask(50*time.Millisecond, message(request, c.hw, mods...))
	if len(acks) != 1 {
		c.t.Fatalf("%d answers to the request, want one", len(acks))
	}
	return acks[0]
}

const short, long = 50 * time.Millisecond, 2 * time.Second

func TestThePreferredRelayAnswersAlone(t *testing.T) {
	inRack(t, func(r *rack) {
		r.start("r1")
		r.start("r2")
		c := r.machine("m", hwKnown)
		offers := c.ask(short, message(discover, hwKnown, pxe(classPXE, 7)))
		if len(offers) != 1 || offers[0].YourIPAddr.String() != "10.1.0.1" {
			t.Fatalf("offers %v, want one of 10.1.0.1", offers)
		}
		if ack := c.takes(offers[0], pxe(classPXE, 7)); ack.MessageType() != dhcpv4.MessageTypeAck || ack.YourIPAddr.String() != "10.1.0.1" {
			t.Errorf("answer %v, want the address", ack)
		}
		if late := c.hear(long); len(late) != 0 {
			t.Errorf("the other relay speaks up though it heard the choice: %v", late)
		}
		if events := r.journal.take(); len(events) != 1 || events[0].Node != "n001" || events[0].Firmware != boot.FirmwareEFI64 || events[0].Address != "10.1.0.1" {
			t.Errorf("events %+v, want one of n001", events)
		}
	})
}

func TestTheNextRelayStepsIn(t *testing.T) {
	for name, tc := range map[string]struct {
		live  bool // the dead relay is still held for alive
		secs  uint16
		after time.Duration
	}{
		"after its patience, where nobody knows yet": {true, 0, Patience},
		"at once, where gossip knows":                {false, 0, 0},
		"at once, where the client waits for long":   {true, 8, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inRack(t, func(r *rack) {
				plan, err := planner{r.k, nil}.Plan(boot.Request{Hardware: hwKnown, Network: "rack1", Relay: "r1"})
				if err != nil {
					t.Fatal(err)
				}
				second := plan.Relays[1].Name
				if !tc.live {
					r.live = []catalog.RelayName{second}
				}
				r.start(second)
				c := r.machine("m", hwKnown)
				start := time.Now()
				p := message(discover, hwKnown)
				p.NumSeconds = tc.secs
				c.say(p)
				if tc.after > 0 && len(c.hear(tc.after)) > 0 {
					t.Errorf("answered before its time")
				}
				offers := c.hear(short)
				if len(offers) != 1 || offers[0].YourIPAddr.String() != "10.1.0.1" {
					t.Errorf("after %s: %v, want an offer of 10.1.0.1", time.Since(start), offers)
				}
			})
		})
	}
}

func TestAHeldAnswerIsDroppedWhenTheMachineIsServed(t *testing.T) {
	inRack(t, func(r *rack) {
		plan, _ := planner{r.k, nil}.Plan(boot.Request{Hardware: hwKnown, Network: "rack1", Relay: "r1"})
		first, second := plan.Relays[0], plan.Relays[1]
		r.start(second.Name)
		c := r.machine("m", hwKnown)
		c.say(message(discover, hwKnown))
		time.Sleep(time.Millisecond)
		// The first relay is played here: its offer, broadcast, is heard by the second.
		h, err := r.net.Host("first", first.Addr.String()).Join("rack1").ListenPacketOn("rack1", ":67")
		if err != nil {
			t.Fatal(err)
		}
		offer := message(discover, hwKnown, serverID(first.Addr.String()), broadcast)
		offer.OpCode = dhcpv4.OpcodeBootReply
		offer.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeOffer))
		if _, err := h.WriteTo(offer.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68}); err != nil {
			t.Fatal(err)
		}
		if got := c.hear(long); len(got) != 1 {
			t.Errorf("%d answers, want the one of the first relay alone", len(got))
		}
	})
}

func TestUnknownMachinesGetAnAddressOfThePoolAndAreTold(t *testing.T) {
	inRack(t, func(r *rack) {
		r.start("r1")
		r.start("r2")
		c := r.machine("m", hwUnknown)
		offers := c.ask(long, message(discover, hwUnknown, ipxe(featureHTTP)))
		if len(offers) != 1 { // r2 joined later and gives nothing yet
			t.Fatalf("offers %v, want one", offers)
		}
		ack := c.takes(offers[0], ipxe(featureHTTP))
		at, _ := netip.AddrFromSlice(ack.YourIPAddr)
		n, _ := r.k.catalog().Network("rack1")
		if ack.MessageType() != dhcpv4.MessageTypeAck || !n.Pool.Contains(at) || ack.IPAddressLeaseTime(0) != lease.Lease {
			t.Errorf("answer %s", ack.Summary())
		}
		events := r.journal.take()
		if len(events) != 1 || events[0].Node != "" || events[0].Hardware != hwUnknown || !strings.Contains(events[0].Message, "no node has") {
			t.Fatalf("events %+v, want one that says that nobody claims it", events)
		}
		if node, hw, ok := r.relays["r1"].Machine(at); !ok || node != "" || hw != hwUnknown {
			t.Errorf("machine at %s: %q %q %t", at, node, hw, ok)
		}
		if _, _, ok := r.relays["r1"].Machine(netip.MustParseAddr("10.1.0.7")); ok {
			t.Error("somebody is said to have 10.1.0.7")
		}
		if _, _, ok := r.relays["r1"].Machine(netip.MustParseAddr("10.3.0.7")); !ok {
			t.Error("in a network of mode proxy nobody may be")
		}
		// It is claimed: at its next renewal it learns that the address is not its own any more.
		r.k.do(time.Now(), catalog.AddNodes{Nodes: []catalog.Node{{Name: "n009", Settings: catalog.Settings{Nets: map[string]catalog.NetDev{"default": {
			Hardware: new(catalog.HardwareAddr(hwUnknown)), Address: new(netip.MustParseAddr("10.1.0.9"))}}}}}})
		if got := c.ask(long, message(request, hwUnknown, linux, ciaddr(at.String()))); len(got) == 0 || got[0].MessageType() != dhcpv4.MessageTypeNak {
			t.Errorf("renewing after the claim: %v, want NAK", got)
		}
		if got := c.ask(long, message(discover, hwUnknown)); len(got) == 0 || got[0].YourIPAddr.String() != "10.1.0.9" {
			t.Errorf("then it is offered %v, want 10.1.0.9", got)
		}
	})
}

func TestBothRelaysGiveTheSameAddress(t *testing.T) {
	k := newCluster(t, time.Now())
	var options [][]byte
	for _, relay := range []catalog.RelayName{"r1", "r2"} {
		s := New(k.config(relay, &journal{}, nil))
		replies := ask(s, message(discover, hwKnown, pxe(classPXE, 7)))
		if len(replies) != 1 {
			t.Fatalf("%s: %d replies", relay, len(replies))
		}
		p, err := dhcpv4.FromBytes(replies[0].b)
		if err != nil {
			t.Fatal(err)
		}
		// What names the relay itself may differ, nothing else.
		p.DeleteOption(dhcpv4.OptionServerIdentifier)
		p.DeleteOption(dhcpv4.OptionTFTPServerName)
		p.ServerIPAddr = nil
		options = append(options, p.ToBytes())
	}
	if !bytes.Equal(options[0], options[1]) {
		t.Errorf("r1 says\n%x\nr2 says\n%x", options[0], options[1])
	}
}

func TestStrangeServersAreNoticed(t *testing.T) {
	inRack(t, func(r *rack) {
		s := r.start("r1")
		rogue, err := r.net.Host("rogue", "10.1.0.66").Join("rack1").ListenPacketOn("rack1", ":67")
		if err != nil {
			t.Fatal(err)
		}
		offer := message(discover, hwKnown, serverID("10.1.0.66"), broadcast)
		offer.OpCode = dhcpv4.OpcodeBootReply
		offer.YourIPAddr = net.IPv4(10, 1, 0, 77).To4()
		offer.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeOffer))
		for range 10 {
			if _, err := rogue.WriteTo(offer.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		events := r.journal.take()
		if len(events) != 1 || !strings.Contains(events[0].Error, "10.1.0.66") {
			t.Errorf("events %+v, want one about 10.1.0.66", events)
		}
		// A machine that chose it tells so itself, even where its offer was not heard.
		c := r.machine("m", hwUnknown)
		c.say(message(request, hwUnknown, serverID("10.1.0.67"), requested("10.1.0.88")))
		time.Sleep(time.Second)
		if lines := s.Problems(); len(lines) != 2 || !strings.Contains(lines[1], "10.1.0.67") {
			t.Errorf("problems %q, want both strangers", lines)
		}
		time.Sleep(strangerFor)
		if lines := s.Problems(); len(lines) != 0 {
			t.Errorf("problems %q long after", lines)
		}
	})
}

func TestMalformedPacketsHurtNobody(t *testing.T) {
	inRack(t, func(r *rack) {
		s := r.start("r1")
		r.live = []catalog.RelayName{"r1"}
		c := r.machine("m", hwKnown)
		good := message(discover, hwUnknown, pxe(classPXE, 7)).ToBytes()
		bad := [][]byte{nil, {1}, good[:239], good[:250], bytes.Repeat([]byte{1}, 1400), bytes.Repeat([]byte{255}, 600)}
		for _, at := range []int{0, 1, 2, 28, 236} {
			b := bytes.Clone(good)
			b[at] ^= 0xff
			bad = append(bad, b)
		}
		for _, b := range bad {
			if _, err := c.conn.WriteTo(b, &net.UDPAddr{IP: net.IPv4bcast, Port: 67}); err != nil {
				t.Fatal(err)
			}
		}
		if got := c.ask(short, message(discover, hwKnown)); len(got) != 1 {
			t.Errorf("%d answers to a good packet among bad ones, want 1", len(got))
		}
		if st := s.Stats(); st.Malformed != uint64(len(bad)) || st.Panics != 0 || st.Offers != 1 {
			t.Errorf("stats %+v, want %d malformed and one offer", st, len(bad))
		}
	})
}

func TestTheSameIsToldOnce(t *testing.T) {
	inRack(t, func(r *rack) {
		r.start("r1")
		r.live = []catalog.RelayName{"r1"}
		c := r.machine("m", hwKnown)
		for range 5 {
			c.ask(short, message(request, hwKnown, pxe(classPXE, 7), serverID("10.1.0.250"), requested("10.1.0.1")))
		}
		if events := r.journal.take(); len(events) != 1 {
			t.Errorf("%d events of one firmware that repeats itself, want 1", len(events))
		}
		c.ask(short, message(request, hwKnown, ipxe(featureHTTP), serverID("10.1.0.250"), requested("10.1.0.1")))
		c.ask(short, message(request, hwKnown, linux, serverID("10.1.0.250"), requested("10.1.0.1")))
		if events := r.journal.take(); len(events) != 1 || events[0].Firmware != boot.FirmwareIPXE {
			t.Errorf("events %+v, want one of iPXE and none of the system", events)
		}
	})
}

func TestDeclinesAreTold(t *testing.T) {
	inRack(t, func(r *rack) {
		r.start("r1")
		r.live = []catalog.RelayName{"r1"}
		known := r.machine("m1", hwKnown)
		known.ask(short, message(decline, hwKnown, serverID("10.1.0.250"), requested("10.1.0.1")))
		if events := r.journal.take(); len(events) != 1 || events[0].Node != "n001" || !strings.Contains(events[0].Error, "used by another machine") {
			t.Errorf("events %+v, want the conflict of n001", events)
		}
		c := r.machine("m2", hwUnknown)
		ack := c.takes(c.ask(short, message(discover, hwUnknown))[0])
		first := ack.YourIPAddr
		c.ask(short, message(decline, hwUnknown, serverID("10.1.0.250"), requested(first.String())))
		if events := r.journal.take(); len(events) != 1 || !strings.Contains(events[0].Error, first.String()) {
			t.Errorf("events %+v, want the conflict of %s", events, first)
		}
		if again := c.ask(short, message(discover, hwUnknown))[0]; again.YourIPAddr.Equal(first) {
			t.Errorf("the declined address %s is offered again", first)
		}
	})
}

func TestReleasedAddressesAreFree(t *testing.T) {
	inRack(t, func(r *rack) {
		r.start("r1")
		r.live = []catalog.RelayName{"r1"}
		n, _ := r.k.catalog().Network("rack1")
		small := *n
		small.Pool.Last = small.Pool.First
		r.k.do(time.Now(), catalog.SetNetwork{Network: small})
		time.Sleep(10 * time.Minute) // r2 may have used it once
		a, b := r.machine("m1", "52:54:00:00:00:a1"), r.machine("m2", "52:54:00:00:00:a2")
		at := a.takes(a.ask(short, message(discover, a.hw))[0]).YourIPAddr
		if got := b.ask(short, message(discover, b.hw)); len(got) != 0 {
			t.Fatalf("the only address is offered twice: %v", got)
		}
		if events := r.journal.take(); len(events) != 1 || !strings.Contains(events[0].Error, "in use") {
			t.Errorf("events %+v, want the full pool", events)
		}
		a.ask(short, message(release, a.hw, serverID("10.1.0.250"), ciaddr(at.String())))
		if got := b.ask(short, message(discover, b.hw)); len(got) != 1 {
			t.Errorf("%d offers after the release, want one", len(got))
		}
	})
}

func TestNothingToServeIsNoFailure(t *testing.T) {
	s := New(newCluster(t, time.Now()).config("r1", &journal{}, nil))
	s.cfg.Scope = func() Scope { return Scope{} }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Run(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with nothing to serve: %v", err)
	}
}

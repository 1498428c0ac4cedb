package dhcp6d

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// order is in which order the relays of the segment serve n1.
func order(t *testing.T) (first, second catalog.RelayName) {
	t.Helper()
	p, err := boot.Resolve(lab(t), boot.Request{Hardware: "52:54:00:00:00:01", Network: "open", Relay: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	return p.Relays[0].Name, p.Relays[1].Name
}

const n1 = "fe80::5054:ff:fe00:1"

func efi(m *dhcpv6.Message) { firmware(classPXE, iana.EFI_X86_64)(m) }

func names(all map[catalog.RelayName][]packet) string {
	var s []string
	for name := range all {
		s = append(s, string(name))
	}
	slices.Sort(s)
	return strings.Join(s, " ")
}

func TestTheRelayThatComesFirstAnswersAtOnceAndTheOtherAfterAWhile(t *testing.T) {
	first, second := order(t)
	onSegment(t, addrs, nil, func(s *segment) {
		ll := duidLL("52:54:00:00:00:01")
		if got := names(s.ask(message(dhcpv6.MessageTypeSolicit, ll, ia(), efi), n1, 10*time.Millisecond)); got != string(first) {
			t.Errorf("answered at once: %q, want %s", got, first)
		}
		// The machine chooses: the other one need not step in.
		if got := names(s.ask(message(dhcpv6.MessageTypeRequest, ll, to(duidOf("lab", first)), ia("fd00:1::1"), efi), n1, 2*Patience)); got != string(first) {
			t.Errorf("answered the request: %q, want %s", got, first)
		}
		// One that asks for long was not served.
		if got := names(s.ask(message(dhcpv6.MessageTypeSolicit, ll, ia(), efi, elapsed(5*time.Second)), n1, 10*time.Millisecond)); got != "r1 r2" {
			t.Errorf("answered one that asks for long: %q", got)
		}
	}, "r1", "r2")
	onSegment(t, addrs, nil, func(s *segment) { // the first one is not there
		m := message(dhcpv6.MessageTypeSolicit, duidLL("52:54:00:00:00:01"), ia(), efi)
		if got := s.ask(m, n1, Patience/2); len(got) > 0 {
			t.Errorf("%v did not wait", got)
		}
		if got := s.ask(m, n1, 2*Patience); len(got[second]) != 1 { // asked again, it answers once
			t.Errorf("stepped in: %v", got)
		}
	}, second)
}

func TestARelayThatIsUnwellStepsBack(t *testing.T) {
	onSegment(t, addrs, func() bool { return true }, func(s *segment) {
		if got := s.ask(message(dhcpv6.MessageTypeSolicit, duidLL("52:54:00:00:00:01"), ia(), efi), n1, Patience/2); len(got["r1"]) > 0 {
			t.Error("it answered at once")
		}
		if got := s.ask(message(dhcpv6.MessageTypeSolicit, duidLL("52:54:00:00:00:01"), ia(), efi), n1, 2*Patience); len(got["r1"]) != 1 {
			t.Errorf("it does not step in: %v", got)
		}
	}, "r1")
}

func TestABootIsToldOnceAndAtItsRequest(t *testing.T) {
	onSegment(t, addrs, nil, func(s *segment) {
		ll, me := duidLL("52:54:00:00:00:01"), to(duidOf("lab", "r1"))
		s.ask(message(dhcpv6.MessageTypeSolicit, ll, ia(), efi), n1, time.Second)
		if got := s.recorded(); len(got) > 0 {
			t.Errorf("an offer is told: %+v", got)
		}
		for range 3 {
			s.ask(message(dhcpv6.MessageTypeRequest, ll, me, ia(), efi), n1, time.Second)
		}
		if got := s.recorded(); len(got) != 1 || got[0].Node != "n1" || got[0].Address != "fd00:1::1" || got[0].Stage != boot.StageDHCP || got[0].Firmware != boot.FirmwareEFI64 {
			t.Errorf("told %+v", got)
		}
		s.ask(message(dhcpv6.MessageTypeRenew, ll, me, ia("fd00:1::1")), n1, time.Second)
		if got := s.recorded(); len(got) > 0 {
			t.Errorf("a renewal is told: %+v", got)
		}
	}, "r1")
}

func TestWhoAsksTooOftenIsNotAnswered(t *testing.T) {
	onSegment(t, addrs, nil, func(s *segment) {
		answers := 0
		for range 10 * machineBurst {
			answers += len(s.ask(message(dhcpv6.MessageTypeSolicit, duidLL("52:54:00:00:00:01"), ia(), efi, elapsed(time.Minute)), n1, 0)["r1"])
		}
		if answers != machineBurst {
			t.Errorf("%d answers, want %d", answers, machineBurst)
		}
		if got := len(s.ask(message(dhcpv6.MessageTypeSolicit, duidLL("52:54:00:00:00:02"), ia(), efi, elapsed(time.Minute)), "fe80::5054:ff:fe00:2", 0)["r1"]); got != 1 {
			t.Errorf("another machine has %d answers", got)
		}
		known := 0
		for i := range 2 * strangerBurst {
			s.ask(message(dhcpv6.MessageTypeSolicit, duidLL(fmt.Sprintf("52:54:01:00:%02x:%02x", i>>8, i&0xff)), ia(), efi), "fe80::1", 0)
		}
		known = len(s.ask(message(dhcpv6.MessageTypeSolicit, duidLL("52:54:00:00:00:03"), ia(), efi, elapsed(time.Minute)), "fe80::5054:ff:fe00:3", 0)["r1"])
		if st := s.servers["r1"].Stats(); known != 1 || st.Limited < strangerBurst {
			t.Errorf("beside a flood a node has %d answers, %+v", known, st)
		}
	}, "r1")
}

func TestTheAgentsWordOfTheHardwareAddressComesFirst(t *testing.T) {
	onSegment(t, addrs, nil, func(s *segment) {
		m := through(message(dhcpv6.MessageTypeSolicit, duidLL("52:54:00:00:00:77"), ia(), efi), "fe80::1", "fd00:3::fe").(*dhcpv6.RelayMessage)
		m.AddOption(dhcpv6.OptClientLinkLayerAddress(iana.HWTypeEthernet, []byte{0x52, 0x54, 0, 0, 0, 4}))
		out := s.ask(m, "fd00:3::fe", time.Second)["r1"]
		if len(out) != 1 {
			t.Fatalf("%d answers", len(out))
		}
		r, err := dhcpv6.FromBytes(out[0].b)
		if err != nil {
			t.Fatal(err)
		}
		inner, err := r.GetInnerMessage()
		if err != nil {
			t.Fatal(err)
		}
		if a := inner.Options.OneIANA().Options.OneAddress(); a == nil || a.IPv6Addr.String() != "fd00:3::4" {
			t.Errorf("was given %v", a)
		}
	}, "r1")
}

// Whatever comes, the server goes on, and what it says can be read.
func FuzzAnswersCanBeRead(f *testing.F) {
	f.Add(message(dhcpv6.MessageTypeSolicit, duidLL("52:54:00:00:00:01"), ia(), efi).ToBytes())
	f.Add(message(dhcpv6.MessageTypeRenew, duidUUID([16]byte{1}), to(duidOf("lab", "r1")), ia("fd00:1::1", "fd00:9::1")).ToBytes())
	f.Add(through(message(dhcpv6.MessageTypeSolicit, duidLL("52:54:00:00:00:04"), ia(), iPXE, rapid), "fe80::1", "::", "fd00:3::fe").ToBytes())
	f.Add(message(dhcpv6.MessageTypeInformationRequest, iPXE).ToBytes())
	c := lab(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := New(Config{Relay: "r1", Cluster: "lab", Planner: planner{c: c}, Catalog: planner{c: c}.catalog, HasLoader: func(string) bool { return true }})
		q, err := parse(b, netip.MustParseAddr("fe80::5054:ff:fe00:1"))
		if err != nil {
			return
		}
		l := &Link{Name: "eth0", Addrs: addrs}
		seat := s.sit(q, l)
		if seat == nil {
			return
		}
		q.facts(seat)
		r := answer(q, seat, s.duid)
		if r == nil {
			return
		}
		out := wrap(r, q).ToBytes()
		if len(out) > 2*maxPacket {
			t.Errorf("%d bytes were asked, %d answered", len(b), len(out))
		}
		if _, err := dhcpv6.FromBytes(out); err != nil {
			t.Errorf("the answer cannot be read: %v", err)
		}
	})
}

package dhcpd

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

// offered is what some server offers to some machine, as it is heard on the link.
func offered(hw, server, at string) []byte {
	p := message(discover, hw, serverID(server), broadcast)
	p.OpCode = dhcpv4.OpcodeBootReply
	p.YourIPAddr = net.ParseIP(at).To4()
	p.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeOffer))
	return p.ToBytes()
}

// counting counts the plans that are made.
type counting struct {
	planner
	plans atomic.Int64
}

func (c *counting) Plan(q boot.Request) (boot.Plan, error) {
	c.plans.Add(1)
	return c.planner.Plan(q)
}

// Who can forge one answer can forge a thousand a second, each of another server to another machine.
func TestForgedAnswersAreFewEventsAndNoPlans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events journal
		cfg := newCluster(t, time.Now()).config("r1", &events, nil)
		plans := &counting{planner: cfg.Planner.(planner)}
		cfg.Planner = plans
		s := New(cfg)
		l := &Link{Name: "eth0", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.250")}}
		var q query
		const seconds, each = 60, 1000
		for i := range seconds * each {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], uint32(i)*2654435761)
			s.overhear(&q, l, offered(fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3]), netip.AddrFrom4([4]byte{172, b[1], b[2], b[3]}).String(), "10.1.0.77"))
			time.Sleep(time.Second / each)
		}
		if n := plans.plans.Load(); n != 0 {
			t.Errorf("%d plans were made", n)
		}
		if st := s.Stats(); st.Strangers > seconds*foreignRate+foreignBurst || st.Limited == 0 {
			t.Errorf("stats %+v, want at most %d strangers a second", st, foreignRate)
		}
		if n := len(events.take()); n < reportBurst || n > reportBurst+seconds*reportRate+1 {
			t.Errorf("%d events within a minute", n)
		}
		if lines := s.Problems(); len(lines) != strangersTold+1 || !strings.Contains(strings.Join(lines, "\n"), "56 more DHCP servers") {
			t.Errorf("problems %q", lines)
		}
	})
}

// The answers of other relays are heard however many are forged.
func TestAHeldAnswerIsDroppedAmongForgedOnes(t *testing.T) {
	inRack(t, func(r *rack) {
		plan, _ := planner{r.k, nil}.Plan(boot.Request{Hardware: hwKnown, Network: "rack1", Relay: "r1"})
		first, second := plan.Relays[0], plan.Relays[1]
		s := r.start(second.Name)
		r.machine("m", hwKnown).say(message(discover, hwKnown))
		time.Sleep(time.Millisecond)
		l := &Link{Name: "eth0", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.250")}}
		var q query
		for range 1000 {
			s.overhear(&q, l, offered(hwUnknown, "10.1.0.66", "10.1.0.77"))
		}
		s.overhear(&q, l, offered(hwKnown, first.Addr.String(), "10.1.0.1"))
		time.Sleep(long)
		if st := s.Stats(); st.Offers != 0 {
			t.Errorf("%d offers of a machine that the first relay serves", st.Offers)
		}
	})
}

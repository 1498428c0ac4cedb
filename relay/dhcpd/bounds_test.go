package dhcpd

import (
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// The queue drops the oldest when it is full, and keeps one of packets that ask the same.
func TestTheQueueIsBounded(t *testing.T) {
	q, o := newQueue(4), &pool{}
	push := func(i byte, kind dhcpv4.MessageType, id byte) pushed {
		d := o.get(nil, false)
		m := message(kind, net.HardwareAddr{2, 0, 0, 0, 0, i}.String())
		m.TransactionID = dhcpv4.TransactionID{0, 0, 0, id}
		d.n = copy(d.buf[:], m.ToBytes())
		d.key, _ = peek(d.bytes())
		return q.push(d)
	}
	for i := range byte(4) {
		if got := push(i, discover, 0); got != pushQueued {
			t.Errorf("packet %d: %v", i, got)
		}
	}
	if got := push(2, discover, 7); got != pushReplaced {
		t.Errorf("the same again: %v, want replaced", got)
	}
	if got := push(2, request, 8); got != pushDropped {
		t.Errorf("a fifth: %v, want one dropped", got)
	}
	type seen struct {
		machine byte
		xid     uint32
	}
	var order []seen
	for range 4 {
		d, ok := q.pop()
		if !ok {
			t.Fatal("closed")
		}
		order = append(order, seen{d.buf[offChaddr+5], xid(d.bytes()) & 0xff})
	}
	// Machine 0 was the oldest; of machine 2 the second packet stands where the first was.
	if want := []seen{{1, 0}, {2, 7}, {3, 0}, {2, 8}}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	q.close()
	if _, ok := q.pop(); ok {
		t.Error("a closed queue gives packets")
	}
}

func TestAFloodOfMachinesIsBoundedAndServedByPatienceToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h patience
		var out atomic.Int64
		h.expired = func(p *datagram) { out.Add(1); p.free() }
		o := &pool{}
		k := newCluster(t, time.Now())
		hold := func(i int) bool {
			d := o.get(nil, false)
			hw := net.HardwareAddr{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)}
			m := message(discover, hw.String())
			d.n = copy(d.buf[:], m.ToBytes())
			q := new(query)
			if err := q.parse(d.bytes()); err != nil {
				t.Fatal(err)
			}
			n, _ := k.catalog().Network("rack1")
			return h.holds(d, &situation{q: q, seat: &seat{hw: catalog.HardwareAddr(hw.String()), net: n, rank: 1}})
		}
		held, passed := 0, 0
		for i := range 2 * 4096 {
			if hold(i) {
				held++
			} else {
				passed++
			}
		}
		if held != 4096 || passed != 4096 {
			t.Errorf("%d held, %d passed; want 4096 each", held, passed)
		}
		time.Sleep(Patience)
		synctest.Wait()
		if out.Load() != int64(held) {
			t.Errorf("%d came out, want %d", out.Load(), held)
		}
		time.Sleep(2 * forgetTries)
		if !hold(99999) {
			t.Error("nothing is held after the flood")
		}
		h.stop()
	})
}

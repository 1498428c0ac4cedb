package httpd

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

const busySlots = 16

// busyRelay is a catalog with a relay of so many slots and one in reserve, and a node n1 at 10.1.0.2 that goes before others.
func busyRelay(t *testing.T) *catalog.Catalog {
	t.Helper()
	c := &catalog.Catalog{}
	hw, at, key := catalog.HardwareAddr("52:54:00:00:00:01"), netip.MustParseAddr("10.1.0.2"), []byte("k")
	for i, change := range []catalog.Change{
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "demo"}, Controller: catalog.Controller{Name: "c1"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/16")}},
		catalog.AddNodes{Nodes: []catalog.Node{{Name: "n1", Settings: catalog.Settings{
			Nets: map[string]catalog.NetDev{catalog.DefaultNet: {Hardware: &hw, Address: &at}}, Tags: map[string]string{catalog.TagPriority: catalog.PriorityUrgent},
		}}}},
		catalog.AddToken{Token: catalog.Token{ID: "t", Hash: key, Role: catalog.TokenRelay, Networks: []catalog.NetworkName{"rack"}, Uses: 1, Expires: time.Unix(1e10, 0)}},
		catalog.AdmitRelay{Token: "t", Hash: key, Relay: catalog.Relay{Name: "r1", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.1")}, BootPort: 4480, MeshPort: 4481, Mesh: "10.1.0.1:4481", Gossip: "10.1.0.1:4482", Key: key}},
		catalog.SetRelay{Name: "r1", Slots: new(uint16(busySlots)), Reserve: new(uint16(1))},
	} {
		entry, err := catalog.Entry{At: time.Now(), Change: change}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if c, _, err = c.Apply(catalog.Revision(i+1), entry); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// occupy has others ask first, and those of them whose turn it is take what they are sent.
func (t *turns) occupy(ctx context.Context, n int) {
	tick := time.NewTicker(time.Second)
	t.mu.Lock()
	defer t.mu.Unlock()
	var in []string
	for i := range n {
		who := fmt.Sprint("occupant ", i)
		if t.gate.Ask(time.Now(), who, false).Admitted {
			in = append(in, who)
		}
	}
	go func() {
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			t.mu.Lock()
			for _, who := range in {
				t.gate.Sent(time.Now(), who, 1<<20)
			}
			t.mu.Unlock()
		}
	}()
}

func (t *turns) vacate(i int) {
	t.mu.Lock()
	t.gate.End(time.Now(), fmt.Sprint("occupant ", i))
	t.gate.Done(time.Now(), fmt.Sprint("occupant ", i))
	t.next(time.Now())
	t.mu.Unlock()
}

func TestFirmwareWaitsForItsTurnAndAgentsAreToldToComeBack(t *testing.T) {
	chunks := newShelf(t, []byte("hello"))
	served(t, chunks, func(t *testing.T, s *Server, n *memnet.Network) {
		h, other := n.Host("node", "10.1.0.5"), n.Host("other", "10.1.0.3")
		s.cfg.Feed = still{busyRelay(t)}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s.turns.occupy(ctx, s.Load().Slots)
		for i := range 100 { // far more than would have their turn while an agent waits
			s.turns.mu.Lock()
			s.turns.gate.Ask(time.Now(), fmt.Sprint("line ", i), false)
			s.turns.mu.Unlock()
		}
		path := "/chunk/" + chunks.image.Segments[0].ID.String()
		began := time.Now()
		status, body, header, err := get(h, "http://10.1.0.1:4481"+path)
		after, _ := strconv.Atoi(header.Get("Retry-After"))
		if status != 503 || after < 5 || header.Get(api.HeaderPlace) != "100" || err != nil || time.Since(began) > time.Second {
			t.Errorf("an agent: %d, %v, %v, after %v", status, header, err, time.Since(began))
		}
		if !strings.Contains(string(body), "100 are before") {
			t.Errorf("an agent is told %s", body)
		}
		var wg sync.WaitGroup
		began = time.Now()
		wg.Go(func() {
			if status, _, _, err := get(other, "http://10.1.0.1:4480"+path); status != 200 || time.Since(began) < 5*time.Second {
				t.Errorf("firmware: %d after %v, %v", status, time.Since(began), err)
			}
		})
		time.Sleep(5 * time.Second)
		s.turns.vacate(0)
		wg.Wait()
		s.turns.over(netip.MustParseAddr("10.1.0.3"), true)
		s.turns.occupy(ctx, s.Load().Slots) // again the one that was vacated
		began = time.Now()
		if status, _, header, _ := get(n.Host("late", "10.1.0.4"), "http://10.1.0.1:4480"+path); status != 503 || header.Get("Retry-After") == "" || time.Since(began) < firmwareTime {
			t.Errorf("firmware that waited in vain: %d, %v after %v", status, header, time.Since(began))
		}
		if l := s.Load(); l.Busy != busySlots || l.Refused != 2 || l.Auto || l.Queued == 0 {
			t.Errorf("the load is %+v", l)
		}
		_, text, _, _ := get(h, "http://10.1.0.1:4480/metrics")
		if !strings.Contains(string(text), fmt.Sprintf("wulf_relay_transfer_busy %d\n", busySlots)) {
			t.Errorf("the metrics are\n%s", text)
		}
	})
}

// The machines that an operator marks are served while a storm has all slots.
func TestReserveServesUrgentMachinesInAStorm(t *testing.T) {
	chunks := newShelf(t, []byte("hello"))
	served(t, chunks, func(t *testing.T, s *Server, n *memnet.Network) {
		s.cfg.Feed = still{busyRelay(t)}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s.turns.occupy(ctx, s.Load().Slots+50)
		path := "/chunk/" + chunks.image.Segments[0].ID.String()
		began := time.Now()
		if !s.urgent(netip.MustParseAddr("10.1.0.2")) || s.urgent(netip.MustParseAddr("10.1.0.3")) {
			t.Fatal("urgent is not who is marked")
		}
		status, _, _, err := get(n.Host("n1", "10.1.0.2"), "http://10.1.0.1:4480"+path)
		if status != 200 || err != nil || time.Since(began) > time.Second {
			t.Errorf("%d after %v, %v", status, time.Since(began), err)
		}
	})
}

// A node is admitted once for all chunks that it fetches, and gives its slot back when it says that it has its image.
func TestNodeHasOneTurnForAllItsChunks(t *testing.T) {
	bodies := make([][]byte, 40)
	for i := range bodies {
		bodies[i] = bytes.Repeat([]byte{byte(i)}, 10_000)
	}
	chunks := newShelf(t, bodies...)
	served(t, chunks, func(t *testing.T, s *Server, n *memnet.Network) {
		h := n.Host("node", "10.1.0.2")
		open := dialTo(t, h)
		defer open.Close()
		time.Sleep(time.Millisecond)
		var wg sync.WaitGroup
		for _, seg := range chunks.image.Segments {
			wg.Go(func() {
				if status, _, _, err := get(h, "http://10.1.0.1:4481/chunk/"+seg.ID.String()); status != 200 || err != nil {
					t.Errorf("%d, %v", status, err)
				}
			})
		}
		wg.Wait()
		if l := s.Load(); l.Busy != 1 || l.Queued != 0 {
			t.Errorf("the load is %+v", l)
		}
		s.turns.over(netip.MustParseAddr("10.1.0.2"), true)
		if l := s.Load(); l.Busy != 0 {
			t.Errorf("after its image the load is %+v", l)
		}
		path := "/chunk/" + chunks.image.Segments[0].ID.String()
		get(h, "http://10.1.0.1:4481"+path)
		time.Sleep(time.Second)
		if l := s.Load(); l.Busy != 1 {
			t.Errorf("an agent that has a connection left lost its turn: %+v", l)
		}
		open.Close()
		time.Sleep(time.Millisecond)
		if l := s.Load(); l.Busy != 0 {
			t.Errorf("an agent that is gone has its turn: %+v", l)
		}
	})
}

// Who goes away while it waits leaves nothing behind.
func TestWaitingIsGivenUpWithTheConnection(t *testing.T) {
	chunks := newShelf(t, []byte("hello"))
	served(t, chunks, func(t *testing.T, s *Server, n *memnet.Network) {
		s.cfg.Feed = still{busyRelay(t)}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s.turns.occupy(ctx, s.Load().Slots)
		short, give := context.WithTimeout(ctx, 2*time.Second)
		defer give()
		h := n.Host("node", "10.1.0.5")
		tr := &http.Transport{DialContext: h.Dial}
		defer tr.CloseIdleConnections()
		r, err := http.NewRequestWithContext(short, http.MethodGet, "http://10.1.0.1:4480/chunk/"+chunks.image.Segments[0].ID.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := (&http.Client{Transport: tr}).Do(r); err == nil {
			a.Body.Close()
			t.Errorf("%d", a.StatusCode)
		}
		time.Sleep(time.Second)
		s.turns.mu.Lock()
		if s.turns.held != 0 || len(s.turns.calls) != 0 {
			t.Errorf("%d are held, %d would be called", s.turns.held, len(s.turns.calls))
		}
		s.turns.mu.Unlock()
		s.turns.vacate(0)
		if l := s.Load(); l.Busy != busySlots-1 {
			t.Errorf("a slot is lent to one who is gone: %+v", l)
		}
	})
}

package httpd

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/relay/feed"
)

// hall is a relay in whose network are machines that no node claims.
type hall struct {
	*Server

	mu      sync.Mutex
	c       *catalog.Catalog
	changed chan struct{}
	events  []boot.Event
}

func (h *hall) Catalog() *catalog.Catalog {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.c
}

func (h *hall) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

func (h *hall) Admitted() error                          { return nil }
func (h *hall) Secrets() *feed.Secrets                   { return &feed.Secrets{} }
func (h *hall) SecretsChanged() <-chan struct{}          { return nil }
func (h *hall) Plan(req boot.Request) (boot.Plan, error) { return boot.Resolve(h.Catalog(), req) }

func newHall(t *testing.T) *hall {
	h := &hall{c: &catalog.Catalog{}, changed: make(chan struct{})}
	h.do(t,
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/16")}},
		catalog.AddNodes{Names: catalog.NodeSetOf("n1", "n2")},
		catalog.AddToken{Token: catalog.Token{ID: "t", Hash: []byte("h"), Role: "relay", Uses: 1, Networks: []catalog.NetworkName{"rack"}, Expires: time.Now().Add(time.Hour)}},
		catalog.AdmitRelay{Token: "t", Hash: []byte("h"), Relay: catalog.Relay{Name: "r1", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.254")}, BootPort: 1, MeshPort: 2, Mesh: "a", Gossip: "b", Key: []byte("k")}})
	h.Server = New(Config{
		Name: "r1", Feed: h, Chunks: newShelf(t), Live: func() []catalog.RelayName { return nil }, Log: slog.New(slog.DiscardHandler),
		Record: func(e boot.Event) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.events = append(h.events, e)
		},
		Machine: func(a netip.Addr) (catalog.NodeName, catalog.HardwareAddr, bool) {
			return "", address(int(a.As4()[3])), a.As4()[2] == 9 // the others were given their addresses elsewhere
		},
	})
	return h
}

func (h *hall) do(t *testing.T, changes ...catalog.Change) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, change := range changes {
		b, err := catalog.Entry{At: time.Now(), Change: change}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		next, out, err := h.c.Apply(h.c.Revision+1, b)
		if err != nil || out.Err != nil {
			t.Fatal(err, out.Err)
		}
		h.c = next
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// address is the hardware address of the machine at 10.1.9.n.
func address(n int) catalog.HardwareAddr {
	return catalog.HardwareAddr(fmt.Sprintf("52:54:00:00:%02x:%02x", n>>8, n&255))
}

// ask asks for the n-th machine's script, and returns the answer and how long it took.
func (h *hall) ask(n int, query, from string) (string, time.Duration) {
	began := time.Now()
	r := httptest.NewRequest(http.MethodGet, "/boot/"+string(address(n))+"/script"+query, nil)
	r.RemoteAddr = from
	w := httptest.NewRecorder()
	h.plain().ServeHTTP(w, r)
	body, _ := io.ReadAll(w.Result().Body)
	return string(body), time.Since(began)
}

func TestTheScreenOfAnUnknownMachineIsHeldUntilANodeClaimsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t)
		if text, took := h.ask(1, "", "10.1.9.1:9"); took != 0 || !strings.Contains(text, "wulf discover claim "+string(address(1))+" NODE") {
			t.Errorf("after %s it shows\n%s", took, text)
		}
		if text, took := h.ask(1, "?tries=1&serial=AB;%201", "10.1.9.1:9"); took != boot.HoldUnknown || strings.Contains(text, "sleep 1\n") || !strings.Contains(text, "tries=2") {
			t.Errorf("after %s the next question is answered by\n%s", took, text)
		}
		time.AfterFunc(20*time.Second, func() {
			h.do(t, catalog.AddNodes{Names: catalog.NodeSetOf("n9")}) // which is none of its
			h.do(t, catalog.ClaimNode{Node: "n2", Hardware: address(1)})
		})
		if text, took := h.ask(1, "?tries=2", "10.1.9.1:9"); took != 20*time.Second || !strings.Contains(text, "node n2 has no image") {
			t.Errorf("after %s the machine that is claimed gets\n%s", took, text)
		}
		var serials []string
		for _, e := range h.events {
			if e.Machine != nil {
				serials = append(serials, e.Machine.Serial+"@"+string(e.Machine.Network))
			}
		}
		if got := strings.Join(serials, " "); got != "@rack AB; 1@rack @rack" {
			t.Errorf("it was told of as %q", got)
		}
	})
}

func TestOnlySoManyQuestionsAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t)
		for n := range maxUnknown {
			go h.ask(n, "?tries=1", "10.1.8.1:9")
		}
		synctest.Wait()
		if text, took := h.ask(maxUnknown, "?tries=3", "10.1.8.1:9"); took != 0 || !strings.Contains(text, "\nsleep ") {
			t.Errorf("after %s the one that is too many gets\n%s", took, text)
		}
		go h.ask(5, "?tries=2", "10.1.8.1:9") // takes the place of its own
		synctest.Wait()
		if n := len(h.strangers.of); n != maxUnknown {
			t.Errorf("%d are held", n)
		}
		h.waits.end() // the relay ends
		synctest.Wait()
		if n := len(h.strangers.of); n != 0 {
			t.Errorf("%d are held by a relay that has ended", n)
		}
	})
}

func TestNobodySpeaksForAnotherMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t)
		h.do(t, catalog.SetNodes{Nodes: catalog.NodeSetOf("n1"), Set: catalog.Settings{Nets: map[string]catalog.NetDev{"default": {Address: new(netip.MustParseAddr("10.1.0.7"))}}}})
		h.ask(1, "?serial=forged", "10.1.9.2:9") // the address of the second machine
		h.ask(1, "?serial=forged", "10.1.0.7:9") // a node's
		for n := range 1000 {
			h.ask(n, "?serial=x", "10.1.8.1:9")
			h.ask(1, fmt.Sprintf("?serial=%d", n), "10.1.9.1:9")
		}
		if n := len(h.events); n != tellRate || h.events[0].Machine.Serial == "forged" {
			t.Errorf("%d events, the first %+v", n, h.events[0])
		}
	})
}

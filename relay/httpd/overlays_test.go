package httpd

import (
	"bytes"
	"context"
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
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
	"github.com/wulfmesh/wulfmesh/relay/feed"
)

const munge = catalog.Secret(catalog.SealedPrefix + "munge")

// armory is a feed whose secrets change.
type armory struct {
	still
	mu      sync.Mutex
	secrets *feed.Secrets
	changed chan struct{}
	moved   chan struct{} // closes when the catalog changes
}

func (a *armory) Catalog() *catalog.Catalog {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.c
}

func (a *armory) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.moved
}

// declare makes a change of the catalog.
func (a *armory) declare(t *testing.T, x catalog.Change) {
	t.Helper()
	b, err := catalog.Entry{At: time.Now(), Change: x}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	next, out, err := a.c.Apply(a.c.Revision+1, b)
	if err != nil || out.Err != nil {
		t.Fatal(catalog.KindOf(x), err, out.Err)
	}
	a.c = next
	close(a.moved)
	a.moved = make(chan struct{})
}

func (a *armory) Secrets() *feed.Secrets {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.secrets
}

func (a *armory) SecretsChanged() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// give makes a value that of munge, "" makes it unknown; the relay has the keys of all networks, as if it served them.
func (a *armory) give(value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &feed.Secrets{Networks: map[catalog.NetworkName]pki.NetworkKey{}, Values: map[string]pki.Secret{}}
	for n := range a.c.Networks() {
		s.Networks[n.Name] = pki.NewNetworkKey(bytes.Repeat([]byte{1}, 32))
	}
	if value != "" {
		s.Values[munge.ID()] = pki.NewSecret([]byte(value))
	}
	if a.changed != nil {
		close(a.changed)
	}
	a.secrets, a.changed = s, make(chan struct{})
}

// armed is a server of relay r1, which serves the networks open and closed, and not far. A node in each has the secret,
// which its overlays of both kinds ask for.
func armed(t *testing.T) (*Server, *armory, *[]boot.Event) {
	t.Helper()
	b, err := overlay.NewBundle([]overlay.File{
		{Path: "etc/munge.key", Type: overlay.TypeFile, Mode: 0o400, Template: true, Content: []byte(`{{.Secret "munge"}}`)},
		{Path: "etc/motd", Type: overlay.TypeFile, Mode: 0o644, Template: true, Content: []byte(`welcome to {{.Id}}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	key := []byte("token")
	changes := []catalog.Change{
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1"}},
		catalog.PutOverlay{Overlay: catalog.Overlay{Name: "slurm", Content: chunk.RefOf(raw)}},
		catalog.SetProfiles{Names: []catalog.ProfileName{catalog.DefaultProfile}, Set: catalog.Settings{
			Secrets: map[string]catalog.Secret{"munge": munge}, Overlays: catalog.OverlaySettings{System: []string{"slurm"}, Runtime: []string{"slurm"}},
		}},
	}
	for i, n := range []catalog.Network{{Name: "open"}, {Name: "closed", Secrets: catalog.SecretsRefuse}, {Name: "far"}} {
		ip := netip.AddrFrom4([4]byte{10, byte(i), 0, 9})
		n.Prefix = netip.PrefixFrom(ip, 16).Masked()
		changes = append(changes, catalog.AddNetwork{Network: n}, catalog.AddNodes{Nodes: []catalog.Node{{Name: catalog.NodeName("n-" + n.Name), Settings: catalog.Settings{
			Nets: map[string]catalog.NetDev{catalog.DefaultNet: {Address: &ip}}}}}})
	}
	changes = append(changes,
		catalog.AddToken{Token: catalog.Token{ID: "t", Hash: key, Role: catalog.TokenRelay, Networks: []catalog.NetworkName{"open", "closed"}, Uses: 1, Expires: time.Unix(1e10, 0)}},
		catalog.AdmitRelay{Token: "t", Hash: key, Relay: catalog.Relay{Name: "r1", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, BootPort: 4480, MeshPort: 4481, Mesh: "10.0.0.1:4481", Gossip: "10.0.0.1:4482", Key: key}})
	a := &armory{still: still{&catalog.Catalog{}}, moved: make(chan struct{})}
	for _, x := range changes {
		a.declare(t, x)
	}
	a.give("")
	events := new([]boot.Event)
	return New(Config{
		Name: "r1", Feed: a, Chunks: newShelf(t, raw), Record: func(e boot.Event) { *events = append(*events, e) }, Live: func() []catalog.RelayName { return nil },
		Log: slog.New(slog.DiscardHandler),
	}), a, events
}

// fetch asks for a node's overlays with its session. It has those that has names, if any.
func fetch(s *Server, node, kind, has string) *httptest.ResponseRecorder {
	return await(s, node, kind, has, "")
}

// await is fetch with what the node prefers.
func await(s *Server, node, kind, has, prefer string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Prefer", prefer)
	r.SetPathValue("node", node)
	r.SetPathValue("kind", kind)
	if has != "" {
		r.Header.Set("If-None-Match", has)
	}
	w := httptest.NewRecorder()
	if err := s.nodeOverlay(w, r.WithContext(contextWith(r, holder{Session: pki.Session{Node: node}}))); err != nil {
		w.Code = 0
		w.Body = bytes.NewBufferString(err.Error())
	}
	if w.Code == http.StatusOK {
		w.Body = bytes.NewBufferString(told(w.Body))
	}
	return w
}

// told is a listing in plain text: each file's path and content.
func told(listing io.Reader) string {
	plain, _, err := segment.Decompress(listing)
	if err != nil {
		return err.Error()
	}
	defer plain.Close()
	raw, err := io.ReadAll(plain)
	if err != nil {
		return err.Error()
	}
	l, err := overlay.DecodeListing(raw)
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	for _, f := range l.Files {
		fmt.Fprintf(&text, "%s: %s\n", f.Path, f.Content)
	}
	return text.String()
}

// A node that went while its overlays were made comes back, and then they are there.
func TestOverlaysAreBroughtToTheirEndForANodeThatWent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := armed(t)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		made, err := s.overlays.now(gone, "n-open", overlay.KindSystem)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := s.overlays.now(t.Context(), "n-open", overlay.KindSystem); err != nil || again != made {
			t.Errorf("they were made again: %v", err)
		}
	})
}

func TestNodesGetTheirSecretsWhereTheCatalogLetsTheRelayHoldThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, _ := armed(t)
		a.give("open sesame") // and still is, although the policy of closed may have been another, and far was served
		for node, want := range map[string]bool{"n-open": true, "n-closed": false, "n-far": false} {
			for _, kind := range []string{overlay.KindSystem, overlay.KindRuntime} {
				w := fetch(s, node, kind, "")
				if got := strings.Contains(w.Body.String(), "open sesame"); w.Code != http.StatusOK || got != want || strings.Contains(w.Body.String(), "munge.key") != want {
					t.Errorf("%s %s: status %d, secret %v, want %v", node, kind, w.Code, got, want)
				}
				if !strings.Contains(w.Body.String(), "welcome to "+node) {
					t.Errorf("%s %s lacks its other file", node, kind)
				}
			}
		}
		a.give("")
		if _, err := s.overlays.now(context.Background(), "n-closed", overlay.KindSystem); err != nil {
			t.Fatal(err)
		}
		for key, made := range s.overlays.listings {
			for _, f := range made.result.Files {
				if bytes.Contains(f.Content, []byte("open sesame")) {
					t.Errorf("the relay has forgotten the secret, but not the overlays of %s", key.node)
				}
			}
		}
	})
}

// A secret that was just set reaches a relay a moment after the catalog that names it.
func TestANodeWaitsForASecretThatIsOnItsWayAndARunningOneKeepsItsFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, events := armed(t)
		go func() {
			time.Sleep(2 * time.Second)
			a.give("open sesame")
		}()
		start := time.Now()
		w := fetch(s, "n-open", overlay.KindRuntime, "")
		if took := time.Since(start); took != 2*time.Second || !strings.Contains(w.Body.String(), "open sesame") || len(*events) > 0 {
			t.Errorf("after %s: %q, events %v", took, w.Body, *events)
		}
		tag := w.Header().Get("ETag")
		a.give("")
		start = time.Now()
		if w := fetch(s, "n-open", overlay.KindRuntime, tag); w.Code != http.StatusNotModified || w.Header().Get("ETag") != tag || time.Since(start) > 0 {
			t.Errorf("a running node gets status %d after %s", w.Code, time.Since(start))
		}
		a.give("another")
		if w := fetch(s, "n-open", overlay.KindRuntime, tag); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "another") {
			t.Errorf("with another value it gets status %d: %q", w.Code, w.Body)
		}
		a.give("")
		start = time.Now()
		w = fetch(s, "n-open", overlay.KindSystem, "")
		if took := time.Since(start); took != secretsWait || w.Code != http.StatusOK || strings.Contains(w.Body.String(), "munge.key") {
			t.Errorf("after %s: status %d, %q", took, w.Code, w.Body)
		}
		if len(*events) != 1 || !strings.Contains((*events)[0].Message, "not held by relay r1") {
			t.Errorf("events %+v", *events)
		}
		start = time.Now()
		if w := fetch(s, "n-closed", overlay.KindRuntime, tag); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "munge.key") || time.Since(start) > 0 {
			t.Errorf("where the policy is refuse: status %d, %q", w.Code, w.Body)
		}
	})
}

func TestWhoAsksWhyANodeDoesNotBootIsToldOfTheTemplate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, events := armed(t)
		b, err := overlay.NewBundle([]overlay.File{{Path: "etc/issue", Type: overlay.TypeFile, Mode: 0o644, Template: true, Content: []byte("\n{{index .Groups 3}}")}})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		s.cfg.Chunks = newShelf(t, raw)
		s.overlays = newOverlays(s.cfg)
		e, err := catalog.Entry{At: time.Unix(1, 0), Change: catalog.PutOverlay{Overlay: catalog.Overlay{Name: "slurm", Content: chunk.RefOf(raw)}}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		next, out, err := a.c.Apply(a.c.Revision+1, e)
		if err != nil || out.Err != nil {
			t.Fatal(err, out.Err)
		}
		a.c = next
		fetch(s, "n-open", overlay.KindSystem, "")
		if len(*events) != 1 {
			t.Fatalf("%d events", len(*events))
		}
		got := (*events)[0]
		for _, part := range []string{"overlay slurm", "etc/issue.ww", "n-open", ":2:", "out of range"} {
			if !strings.Contains(got.Error, part) {
				t.Errorf("it says nothing of %q: %s", part, got.Error)
			}
		}
		if !strings.Contains(got.Fix, "wulf overlay check --node n-open") {
			t.Errorf("it says %q of what to do", got.Fix)
		}
	})
}

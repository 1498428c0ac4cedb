package service_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/service"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/session"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// lab is a node with its root file system, and a relay that serves it.
type lab struct {
	t    *testing.T
	net  *memnet.Network
	ca   *pki.CA
	node *memnet.Host
	root string

	systemctl string // the program that is run

	mu       sync.Mutex
	deny     bool
	claims   []api.SessionRequest
	revision catalog.Revision
	files    map[string]string // of the runtime overlays
	hooks    []overlay.Hook
	inline   int           // bytes of a file that are in the listing
	changed  chan struct{} // closes when something of that does
	askedAt  time.Time     // when somebody asked the node
	full     bool          // the relay holds back no answer
	lost     bool          // it knows contents no more
	asked    int           // how often somebody has asked
	sent     int           // how often the listing was sent
	fetched  int           // contents
	events   []boot.Event
	interval time.Duration
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, f func(l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ca, err := pki.NewCA("lab", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		l := &lab{t: t, net: memnet.New(memnet.Config{}), ca: ca, root: t.TempDir(), interval: time.Minute, revision: 7, inline: overlay.MaxInline, changed: make(chan struct{})}
		l.net.Host("r1", "10.0.0.1")
		l.node = l.net.Host("n1", "10.0.0.2")
		l.serve(l.net.Host("relay", "10.0.0.3"))
		f(l)
		l.net.Close()
		time.Sleep(time.Minute) // until the last handler has noticed
	})
}

// serve starts the relay at 10.0.0.3:4481; at 10.0.0.1 is nobody.
func (l *lab) serve(host *memnet.Host) {
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		l.t.Fatal(err)
	}
	cert, err := l.ca.Sign(csr, pki.Identity{Role: pki.Relay, Name: "r1"}, nil, 30*24*time.Hour, time.Now())
	if err != nil {
		l.t.Fatal(err)
	}
	c, err := pki.NewCredentials(key, cert, l.ca.Trust().PEM())
	if err != nil {
		l.t.Fatal(err)
	}
	listener, err := host.Listen(":4481")
	if err != nil {
		l.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.PathSessions, l.session)
	mux.HandleFunc("GET "+api.PathNodeOverlay, l.overlay)
	mux.HandleFunc("GET "+api.PathNodeOverlay+"/{digest}", l.serveContent)
	mux.HandleFunc("POST "+api.PathNodeEvents, l.take)
	s := &http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0)}
	go s.Serve(tls.NewListener(listener, pki.ServerTLS(pki.NewKeeper(c), pki.Access{Protocols: []string{api.ALPNHTTP}, Anonymous: true})))
	l.t.Cleanup(func() { s.Close() })
}

// session hands out a session for a ticket, or for the one before.
func (l *lab) session(w http.ResponseWriter, r *http.Request) {
	var q api.SessionRequest
	if err := api.ReadJSON(w, r, &q); err != nil {
		api.WriteError(w, err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deny || q.Ticket != "ticket" && (q.Ticket != "" || r.Header.Get("Authorization") == "") {
		api.WriteError(w, fault.New(fault.Denied, "no ticket and no session"))
		return
	}
	l.claims = append(l.claims, q)
	api.WriteJSON(w, l.granted())
}

// granted is the next session.
func (l *lab) granted() api.Session {
	return api.Session{Token: fmt.Sprintf("session %d", len(l.claims)), Node: "n1", Expires: time.Now().Add(24 * time.Hour), Interval: l.interval, Relays: []string{"10.0.0.1:4481", "10.0.0.3:4481"}}
}

// overlay answers as a relay does: at once if there is something new, and else when there is, or the time is over.
func (l *lab) overlay(w http.ResponseWriter, r *http.Request) {
	wait, _ := strconv.Atoi(strings.TrimPrefix(r.Header.Get("Prefer"), "wait="))
	over := time.After(time.Duration(wait) * time.Second)
	for {
		l.mu.Lock()
		if want := fmt.Sprintf("Bearer session %d", len(l.claims)); r.Header.Get("Authorization") != want || r.URL.Path != "/overlay/n1/runtime" {
			api.WriteError(w, fault.New(fault.Denied, "%s asked for %s", r.Header.Get("Authorization"), r.URL.Path))
			l.mu.Unlock()
			return
		}
		raw, err := json.Marshal(l.listing())
		if err != nil {
			l.t.Error(err)
		}
		tag, changed, full := fmt.Sprintf(`"%x"`, sha256.Sum256(raw)), l.changed, l.full
		w.Header().Set("ETag", tag)
		w.Header().Set(api.HeaderRevision, fmt.Sprint(l.revision))
		l.asked++
		if r.Header.Get("If-None-Match") != tag {
			l.sent++
			_, _ = w.Write(raw)
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		if !full {
			select {
			case <-changed:
				continue
			case <-over:
			case <-r.Context().Done():
			}
		}
		w.WriteHeader(http.StatusNotModified)
		return
	}
}

// listing is what the node has to have now.
func (l *lab) listing() *overlay.Listing {
	var files []overlay.Rendered
	for _, path := range slices.Sorted(maps.Keys(l.files)) {
		files = append(files, overlay.Rendered{Path: path, Type: overlay.TypeFile, Mode: 0o644, UID: os.Getuid(), GID: os.Getgid(), Content: []byte(l.files[path])})
	}
	list := overlay.List(overlay.KindRuntime, files, l.hooks, l.inline)
	list.Asked = l.askedAt
	return list
}

// content serves what is not in the listing.
func (l *lab) serveContent(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fetched++
	for _, body := range l.files {
		if chunk.Of([]byte(body)).String() == r.PathValue("digest") && !l.lost {
			_, _ = io.WriteString(w, body)
			return
		}
	}
	api.WriteError(w, fault.New(fault.NotFound, "no file has that content"))
}

func (l *lab) take(w http.ResponseWriter, r *http.Request) {
	var batch api.EventBatch
	if err := api.ReadJSON(w, r, &batch); err != nil {
		api.WriteError(w, err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, batch.Events...)
	w.WriteHeader(http.StatusNoContent)
}

// declare changes the runtime overlays.
func (l *lab) declare(files map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = files
	l.revision++
	close(l.changed)
	l.changed = make(chan struct{})
}

// ask is what an operator does.
func (l *lab) ask() {
	l.with(func() { l.askedAt = time.Now() })
	l.declare(l.files)
}

// with changes how the relay behaves.
func (l *lab) with(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// count reads one of the lab's counters.
func (l *lab) count(n *int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return *n
}

func (l *lab) refuse(deny bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deny = deny
}

func (l *lab) claimed() []api.SessionRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.claims)
}

func (l *lab) told() []boot.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// stages are the events that came since it was asked last, but for those of refreshes.
func (l *lab) stages() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, e := range l.events {
		if e.Stage != boot.StageRefresh {
			all = append(all, string(e.Stage))
		}
	}
	l.events = nil
	return strings.Join(all, " ")
}

// refreshes are what was told of refreshes since it was asked last.
func (l *lab) refreshes() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, e := range l.events {
		if e.Stage == boot.StageRefresh {
			text := fmt.Sprintf("%d %s", e.Revision, e.Message)
			if e.Error != "" {
				text += " ERROR " + e.Error
			}
			all = append(all, text)
		}
	}
	l.events = nil
	return strings.Join(all, " | ")
}

func (l *lab) wantRefreshes(want string) {
	l.t.Helper()
	if got := l.refreshes(); got != want {
		l.t.Errorf("told of %q, want %q", got, want)
	}
}

// beat is the last heart-beat.
func (l *lab) beat() boot.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range slices.Backward(l.events) {
		if e.Stage == boot.StageAlive {
			return e
		}
	}
	return boot.Event{}
}

// write is what somebody does on the node.
func (l *lab) write(path, content string) {
	l.t.Helper()
	at := filepath.Join(l.root, path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(content), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) wantStages(want string) {
	l.t.Helper()
	if got := l.stages(); got != want {
		l.t.Errorf("told of %q, want %q", got, want)
	}
}

// booted leaves behind what stage one does: of a two-stage boot a session, of a one-stage boot the ticket.
func (l *lab) booted(method string) {
	l.t.Helper()
	s := &session.State{Node: "n1", Hardware: "52:54:00:00:00:01", Boot: "b1", Method: method, Relays: []string{"10.0.0.1:4481", "10.0.0.3:4481"},
		Trust: api.NodeTrust{Cluster: "lab", CA: string(l.ca.Trust().PEM())}}
	if method == catalog.MethodOneStage {
		s.Ticket = "ticket"
	} else {
		s.Session = new(l.granted())
	}
	if err := session.Save(l.root, s); err != nil {
		l.t.Fatal(err)
	}
}

// run runs the service while f does, and returns what the service returns.
func (l *lab) run(f func()) error { return l.runUntil(func(context.Context) error { return nil }, f) }

func (l *lab) runUntil(reached func(context.Context) error, f func()) error {
	ctx, cancel := context.WithCancel(l.t.Context())
	result := make(chan error, 1)
	go func() {
		result <- service.Run(ctx, service.Config{Root: l.root, Dial: l.node.Dial, Log: slog.New(slog.DiscardHandler), Reached: reached, Systemctl: l.systemctl})
	}()
	f()
	cancel()
	return <-result
}

func (l *lab) state() *session.State {
	l.t.Helper()
	s, err := session.Load(l.root)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// content is the files below the root, but for the session.
func (l *lab) content() map[string]string {
	l.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(l.root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(path, filepath.Join(l.root, session.Dir)) {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(l.root, path)
		all[name] = string(b)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return all
}

func (l *lab) wantContent(want map[string]string) {
	l.t.Helper()
	if got := l.content(); !maps.Equal(got, want) {
		l.t.Errorf("the files are %v, want %v", got, want)
	}
}

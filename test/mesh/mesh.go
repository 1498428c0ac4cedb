// Package mesh runs a whole wulfmesh in one testing/synctest bubble: real controllers and real relays, simulated
// machines, and an operator, on a network in memory and in virtual time. Data directories are real ones.
//
// New makes a mesh that has settled: all controllers have a vote, all relays have joined by token through the API, an
// image is published, a node is declared for every machine. A test then kills, cuts, writes and boots. Whatever it
// leaves running ends with the test, and a goroutine or a socket that stays behind fails it.
package mesh

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/controller"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/test/firmware"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// Size says how large a mesh is, and which story it is: another seed, other dice of the network.
type Size struct {
	Controllers int // at least one
	Relays      int
	Nodes       int
	Seed        uint64
	Loss        float64 // share of packets lost, 0 to 1; streams lose nothing
	Image       int     // bytes of the image's files, about; 0: ImageBytes
}

// Where things are. Controllers and the operator are in one network, relays and machines in a rack's.
const (
	Network   = "rack"
	Segment   = "rack"
	Prefix    = "10.1.0.0/16"
	PoolFirst = "10.1.250.1" // for machines that no node claims
	PoolLast  = "10.1.250.200"
	Image     = "demo"

	ImageBytes = 1500 << 10
)

// Mesh is the whole. Its methods are for the test's goroutine, but those of Client may be called by any.
type Mesh struct {
	Net         *memnet.Network
	Client      *api.Client // an operator's, of all controllers
	Controllers []*Controller
	Relays      []*Relay
	Nodes       []*firmware.Machine

	addrs    atomic.Pointer[[]string] // of Controllers
	t        *testing.T
	size     Size
	dir      string
	operator *memnet.Host
	visitor  *memnet.Host
	clients  []*api.Client
	racks    int // by AddRack

	mu    sync.Mutex
	lines []firmware.Step // logs of controllers and relays
}

// Run makes a mesh in a bubble of its own, tells the story, and ends it.
func Run(t *testing.T, size Size, story func(t *testing.T, m *Mesh)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { story(t, New(t, size)) })
}

// New makes a mesh of that size in the bubble that it is called in. It ends when the test does.
func New(t *testing.T, size Size) *Mesh {
	t.Helper()
	n := memnet.New(memnet.Config{Seed: size.Seed, Loss: size.Loss})
	n.Segment(Segment, Prefix)
	m := &Mesh{Net: n, t: t, size: size, dir: dataDir(t), operator: n.Host("operator", "10.0.0.100")}
	t.Cleanup(m.stop)
	m.found()
	for len(m.Controllers) < size.Controllers {
		m.AddController()
	}
	m.declare()
	for len(m.Relays) < size.Relays {
		m.AddRelay()
	}
	m.AddNodes(size.Nodes)
	m.Settle()
	return m
}

// dataDir is where the data directories are: in memory, where that is possible, for every write is flushed.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "wulfmesh-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// stop ends everything and looks for what stays behind.
func (m *Mesh) stop() {
	for _, n := range m.Nodes {
		n.PowerOff()
	}
	for _, r := range m.Relays {
		m.end(r.process)
	}
	for _, c := range m.Controllers {
		m.end(c.process)
	}
	for _, c := range m.clients {
		c.Close()
	}
	time.Sleep(time.Minute) // net/http lets dials that nobody waits for any more go on until they time out
	synctest.Wait()
	if open := m.Net.Open(); len(open) != 0 {
		m.t.Errorf("left open:\n%s", strings.Join(open, "\n"))
	}
	for _, n := range m.Nodes {
		if c := n.Counts(); c.Wrong > 0 {
			m.t.Errorf("%s was sent %d files with wrong bytes", n.Name(), c.Wrong)
		}
	}
	if m.t.Failed() {
		m.t.Log("\n" + m.Trace(300))
	}
}

// declare makes the network, the image, and what all nodes have in common.
func (m *Mesh) declare() {
	m.t.Helper()
	m.Change(catalog.AddNetwork{Network: catalog.Network{
		Name: Network, Prefix: prefix(Prefix), Pool: catalog.Range{First: addr(PoolFirst), Last: addr(PoolLast)},
	}})
	m.Publish(Image, m.size.Seed)
	m.Change(catalog.SetProfiles{Names: []catalog.ProfileName{catalog.DefaultProfile}, Set: catalog.Settings{Image: new(Image)}})
}

// Seed is that of the mesh's Size.
func (m *Mesh) Seed() uint64 { return m.size.Seed }

// Ctx is a context for a request that has to be answered in good time.
func (m *Mesh) Ctx() context.Context {
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Minute)
	m.t.Cleanup(cancel)
	return ctx
}

// ClientOf is an operator's client of some controllers only.
func (m *Mesh) ClientOf(controllers ...*Controller) *api.Client {
	m.t.Helper()
	own, err := controller.OperatorCredentials(m.Controllers[0].dir, "alice")
	if err != nil {
		m.t.Fatal(err)
	}
	c := api.NewClient(api.ClientConfig{
		Endpoints: func() []string {
			if len(controllers) == 0 {
				return *m.addrs.Load()
			}
			return addrs(controllers)
		},
		TLS:  pki.ClientTLS(pki.NewKeeper(own), []string{api.ALPNHTTP}, pki.Controller),
		Dial: m.operator.Dial,
	})
	m.clients = append(m.clients, c)
	return c
}

// Change makes a change as the operator; it must succeed.
func (m *Mesh) Change(change catalog.Change) catalog.Revision {
	m.t.Helper()
	rev, err := m.Client.Change(m.Ctx(), change, api.ChangeOptions{})
	if err != nil {
		m.t.Fatalf("%s: %v", catalog.KindOf(change), err)
	}
	return rev
}

// Eventually waits until ok, for ten virtual minutes at most.
func (m *Mesh) Eventually(what string, ok func() bool) {
	m.t.Helper()
	for start := time.Now(); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Since(start) > 10*time.Minute {
			m.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// PowerOn switches machines on.
func (m *Mesh) PowerOn(nodes ...*firmware.Machine) {
	for _, n := range nodes {
		n.PowerOn()
	}
}

// WaitUp waits until all these nodes are up; within that time, or the test fails and says who is not.
func (m *Mesh) WaitUp(within time.Duration, nodes ...*firmware.Machine) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), within)
	defer cancel()
	var missing []string
	for _, n := range nodes {
		if n.WaitUp(ctx) != nil {
			missing = append(missing, fmt.Sprintf("%s at %q, %v", n.Name(), n.Stage(), n.Failed()))
		}
	}
	if len(missing) > 0 {
		m.t.Fatalf("%d of %d nodes are not up after %s: %s", len(missing), len(nodes), within, strings.Join(missing, "; "))
	}
}

// Up counts the nodes that are up.
func (m *Mesh) Up() int {
	up := 0
	for _, n := range m.Nodes {
		if n.Up() {
			up++
		}
	}
	return up
}

// Trace is what happened, by time: the machines' stories and the logs of controllers and relays, the last lines of all.
func (m *Mesh) Trace(last int) string {
	var all []firmware.Step
	for _, n := range m.Nodes {
		for _, s := range n.Steps() {
			all = append(all, firmware.Step{At: s.At, Text: n.Name() + " " + s.Text})
		}
	}
	m.mu.Lock()
	all = append(all, m.lines...)
	m.mu.Unlock()
	slices.SortStableFunc(all, func(a, b firmware.Step) int { return a.At.Compare(b.At) })
	var b strings.Builder
	for _, s := range all[max(0, len(all)-last):] {
		fmt.Fprintf(&b, "%s %s\n", s.At.UTC().Format("15:04:05.000"), s.Text)
	}
	return b.String()
}

// maxLines bounds the logs that are kept.
const maxLines = 20_000

// logger is the log of a program of the mesh. With WULF_TEST_LOG set it is printed, too, with what is below Info.
func (m *Mesh) logger(name string) *slog.Logger {
	level, out := slog.LevelInfo, io.Writer(&lines{m: m, name: name})
	if os.Getenv("WULF_TEST_LOG") != "" {
		level, out = slog.LevelDebug, io.MultiWriter(out, os.Stderr)
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.String("at", name)
		}
		return a
	}}))
}

// lines takes a log's lines into the mesh's.
type lines struct {
	m    *Mesh
	name string
}

// Write takes one line.
func (l *lines) Write(b []byte) (int, error) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.m.lines = append(l.m.lines, firmware.Step{At: time.Now(), Text: strings.TrimSpace(string(b))})
	l.m.lines = l.m.lines[max(0, len(l.m.lines)-maxLines):]
	return len(b), nil
}

// Logged counts the lines of a program's log that hold a text.
func (m *Mesh) Logged(name, text string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, l := range m.lines {
		if strings.HasPrefix(l.Text, "at="+name+" ") && strings.Contains(l.Text, text) {
			n++
		}
	}
	return n
}

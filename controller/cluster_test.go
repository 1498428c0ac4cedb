package controller_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/controller"
	"github.com/wulfmesh/wulfmesh/controller/chunks"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// cluster is real controllers on a network in memory, in one bubble. Everything below net.Listener is theirs.
type cluster struct {
	t     *testing.T
	net   *memnet.Network
	admin *memnet.Host
	dir   string
	ctls  []*member
}

type member struct {
	name string
	ip   string
	dir  string
	host *memnet.Host
	*controller.Controller
	cancel context.CancelFunc
	done   chan error
}

func (m *member) addr() string { return m.ip + ":4400" }

// bubble runs a story in virtual time with a cluster of n controllers that all have a vote.
func bubble(t *testing.T, n int, story func(t *testing.T, c *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.stop()
		c.found()
		for len(c.ctls) < n {
			c.join()
		}
		story(t, c)
	})
}

func newCluster(t *testing.T) *cluster {
	n := memnet.New(memnet.Config{})
	return &cluster{t: t, net: n, admin: n.Host("admin", "10.0.0.100"), dir: t.TempDir()}
}

func testLog(name string) *slog.Logger {
	if os.Getenv("WULF_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil)).With("at", name)
}

// member makes a machine for another controller.
func (c *cluster) member() *member {
	i := len(c.ctls) + 1
	m := &member{name: fmt.Sprintf("c%d", i), ip: fmt.Sprintf("10.0.0.%d", i)}
	m.dir = filepath.Join(c.dir, m.name)
	m.host = c.net.Host(m.name, m.ip)
	return m
}

func (m *member) settings() controller.Settings {
	return controller.Settings{Cluster: "demo", Name: catalog.ControllerName(m.name), Listen: m.addr(), Advertise: m.addr()}
}

func (c *cluster) found() *member {
	c.t.Helper()
	m := c.member()
	if _, err := controller.Init(m.dir, m.settings()); err != nil {
		c.t.Fatal(err)
	}
	c.ctls = append(c.ctls, m)
	c.start(m)
	c.eventually("the cluster to begin", func() bool {
		p, ok := m.Catalog().Profile(catalog.DefaultProfile)
		return ok && len(p.Settings.Overlays.System) > 0
	})
	return m
}

// join lets another controller join with a token and waits until it has a vote.
func (c *cluster) join() *member {
	c.t.Helper()
	m := c.member()
	if _, err := controller.Join(c.t.Context(), m.dir, controller.JoinConfig{
		Token: c.token(api.TokenRequest{Role: catalog.TokenController, Name: m.name}), Endpoints: []string{c.ctls[0].addr()},
		Settings: m.settings(), Dial: m.host.Dial,
	}); err != nil {
		c.t.Fatal(err)
	}
	c.ctls = append(c.ctls, m)
	c.start(m)
	c.eventually(m.name+" to get its vote", func() bool {
		st := m.Status()
		return st.State == "follower" && m.Catalog().Cluster.Name != ""
	})
	return m
}

// start runs a controller whose data directory is there.
func (c *cluster) start(m *member) {
	c.t.Helper()
	l, err := m.host.Listen(":4400")
	if err != nil {
		c.t.Fatal(err)
	}
	m.Controller, err = controller.New(controller.Config{
		Dir: m.dir, Listener: l, Dial: m.host.Dial, Log: testLog(m.name), Version: "test",
		Agents: func(string) ([]byte, error) { return []byte("agent"), nil },
		Chunks: chunks.Config{Reserve: 1},
		// Less than in production: an idle log exchanges hundreds of messages a second, and virtual ones take real work.
		Heartbeat: time.Second, StableAfter: time.Second,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel, m.done = cancel, make(chan error, 1)
	go func() { m.done <- m.Run(ctx) }()
}

// end stops a controller and waits for it.
func (c *cluster) end(m *member) {
	c.t.Helper()
	if m.cancel == nil {
		return
	}
	m.cancel()
	m.cancel = nil
	if err := <-m.done; err != nil {
		c.t.Errorf("controller %s ended with %v", m.name, err)
	}
}

func (c *cluster) stop() {
	for _, m := range c.ctls {
		c.end(m)
	}
	synctest.Wait()
	if open := c.net.Open(); len(open) != 0 {
		c.t.Errorf("left open: %q", open)
	}
}

// crash cuts a controller off for good, as a machine that loses its power; its goroutines end unseen by the others.
func (c *cluster) crash(m *member) {
	c.t.Helper()
	c.net.Stall(m.name)
	c.end(m)
	c.net.Heal(m.name)
}

func (c *cluster) eventually(what string, ok func() bool) {
	c.t.Helper()
	for start := time.Now(); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > 3*time.Minute {
			c.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// leader waits for a controller that runs and leads.
func (c *cluster) leader() *member {
	c.t.Helper()
	var found *member
	c.eventually("a leader", func() bool {
		for _, m := range c.ctls {
			if m.cancel != nil && m.Status().State == "leader" {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

func (c *cluster) follower() *member {
	l := c.leader()
	for _, m := range c.ctls {
		if m != l && m.cancel != nil {
			return m
		}
	}
	c.t.Fatal("there is no follower")
	return nil
}

// operator is a client with an operator's certificate, of those controllers, or of all.
func (c *cluster) operator(of ...*member) *api.Client {
	c.t.Helper()
	own, err := controller.OperatorCredentials(c.ctls[0].dir, "alice")
	if err != nil {
		c.t.Fatal(err)
	}
	return c.client(own, of...)
}

func (c *cluster) client(own *pki.Credentials, of ...*member) *api.Client {
	if len(of) == 0 {
		of = c.ctls
	}
	client := api.NewClient(api.ClientConfig{
		Endpoints: func() (all []string) {
			for _, m := range of {
				all = append(all, m.addr())
			}
			return all
		},
		TLS:  pki.ClientTLS(pki.NewKeeper(own), []string{api.ALPNHTTP}, pki.Controller),
		Dial: c.admin.Dial,
	})
	c.t.Cleanup(client.Close)
	return client
}

func (c *cluster) token(q api.TokenRequest) string {
	c.t.Helper()
	client := c.operator()
	defer client.Close()
	var out api.TokenResult
	if err := client.Post(c.t.Context(), api.PathTokens, q, &out); err != nil {
		c.t.Fatal(err)
	}
	return out.Token
}

// change makes a change at some controllers and returns its revision.
func (c *cluster) change(change catalog.Change, at ...*member) catalog.Revision {
	c.t.Helper()
	client := c.operator(at...)
	defer client.Close()
	rev, err := client.Change(c.t.Context(), change, api.ChangeOptions{})
	if err != nil || rev == 0 {
		c.t.Fatalf("revision %d, %v", rev, err)
	}
	return rev
}

func addNode(name string) catalog.Change {
	return catalog.AddNodes{Nodes: []catalog.Node{{Name: catalog.NodeName(name)}}}
}

// get reads JSON from one controller.
func get[T any](c *cluster, m *member, path string) (T, error) {
	client := c.operator(m)
	defer client.Close()
	var out T
	err := client.Get(c.t.Context(), path, &out)
	return out, err
}

func is(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func discard(r io.ReadCloser) {
	io.Copy(io.Discard, r)
	r.Close()
}

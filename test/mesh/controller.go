package mesh

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/controller"
	"github.com/wulfmesh/wulfmesh/controller/chunks"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// Controller is a real controller on a host of its own: c1 at 10.0.0.1, and so on.
type Controller struct {
	*process
	*controller.Controller // of the last start
}

// ChunkFile is the file in which a controller keeps a chunk.
func (c *Controller) ChunkFile(id chunk.ID) string {
	name := id.String()
	return filepath.Join(c.dir, "chunks", name[:2], name)
}

func (c *Controller) addr() string { return fmt.Sprintf("%s:%d", c.host.Addr(), api.PortController) }

// newController makes the host of the next controller.
func (m *Mesh) newController() *Controller {
	i := len(m.Controllers) + 1
	name := fmt.Sprintf("c%d", i)
	c := &Controller{process: &process{Name: name, host: m.Net.Host(name, fmt.Sprintf("10.0.0.%d", i)), dir: filepath.Join(m.dir, name)}}
	c.make = func() (_ runner, err error) {
		l, err := c.host.Listen(fmt.Sprintf(":%d", api.PortController))
		if err != nil {
			return nil, err
		}
		c.Controller, err = controller.New(controller.Config{
			Dir: c.dir, Listener: l, Dial: c.host.Dial, Log: m.logger(name), Version: "test",
			Agents: func(arch string) ([]byte, error) { return []byte("wulf-agent for " + arch), nil },
			// A test's disk may be small, and what is small there is of no interest here.
			Chunks:      chunks.Config{Reserve: 1},
			StableAfter: 2 * time.Second,
			// Half of what happens in a quiet mesh would be leaders telling followers that nothing happens.
			CommitEvery: 50 * time.Millisecond,
		})
		return c.Controller, err
	}
	return c
}

func (c *Controller) settings() controller.Settings {
	return controller.Settings{Cluster: "demo", Name: catalog.ControllerName(c.Name), Listen: c.addr(), Advertise: c.addr()}
}

// found begins the cluster with its first controller.
func (m *Mesh) found() {
	m.t.Helper()
	c := m.newController()
	if _, err := controller.Init(c.dir, c.settings()); err != nil {
		m.t.Fatal(err)
	}
	m.know(append(m.Controllers, c))
	m.start(c.process)
	m.Client = m.ClientOf()
	m.Eventually("the cluster to begin", func() bool {
		p, ok := c.Catalog().Profile(catalog.DefaultProfile)
		return ok && len(p.Settings.Overlays.System) > 0
	})
}

// AddController lets one more controller join by token, and waits until it has a vote.
func (m *Mesh) AddController() *Controller {
	m.t.Helper()
	c := m.newController()
	s, err := controller.Join(m.Ctx(), c.dir, controller.JoinConfig{
		Token:     m.Token(api.TokenRequest{Role: catalog.TokenController, Name: c.Name}),
		Endpoints: m.endpoints(), Settings: c.settings(), Dial: c.host.Dial,
	})
	if err != nil {
		m.t.Fatalf("%s joins: %v", c.Name, err)
	}
	if string(s.Name) != c.Name {
		m.t.Fatalf("%s joined as %s", c.Name, s.Name)
	}
	m.know(append(m.Controllers, c))
	m.start(c.process)
	m.Eventually(c.Name+" to get its vote", func() bool { return c.Status().State == "follower" || c.Status().State == "leader" })
	return c
}

// Forget takes a controller that was removed off the lists, so that no client asks it any more. It must not run.
func (m *Mesh) Forget(gone *Controller) {
	m.know(slices.DeleteFunc(slices.Clone(m.Controllers), func(c *Controller) bool { return c == gone }))
}

// know makes these the controllers of the mesh.
func (m *Mesh) know(all []*Controller) {
	m.Controllers = all
	m.addrs.Store(new(addrs(all)))
}

func addrs(of []*Controller) (all []string) {
	for _, c := range of {
		all = append(all, c.addr())
	}
	return all
}

// Token makes a join token as the operator.
func (m *Mesh) Token(q api.TokenRequest) string {
	m.t.Helper()
	var out api.TokenResult
	for { // it is not asked for again by the client, for it cannot know whether there is one already
		err := m.Client.Post(m.Ctx(), api.PathTokens, q, &out)
		if err == nil {
			return out.Token
		}
		if !again(err) {
			m.t.Fatalf("making a token: %v", err)
		}
		time.Sleep(time.Second)
	}
}

// endpoints are the controllers that run.
func (m *Mesh) endpoints() (all []string) {
	for _, c := range m.Controllers {
		if c.Running() {
			all = append(all, c.addr())
		}
	}
	return all
}

// Leader waits for a controller that leads and runs.
func (m *Mesh) Leader() *Controller {
	m.t.Helper()
	var leader *Controller
	m.Eventually("a leader", func() bool {
		for _, c := range m.Controllers {
			if c.Running() && c.Status().State == "leader" && (leader == nil || c.Status().Term > leader.Status().Term) {
				leader = c
			}
		}
		return leader != nil
	})
	return leader
}

// Followers are the controllers that run and do not lead.
func (m *Mesh) Followers() (all []*Controller) {
	leader := m.Leader()
	for _, c := range m.Controllers {
		if c.Running() && c != leader {
			all = append(all, c)
		}
	}
	return all
}

// Names are the names of controllers, for Kill, Restart and the network.
func Names(controllers ...*Controller) (names []string) {
	for _, c := range controllers {
		names = append(names, c.Name)
	}
	return names
}

// CutControllers takes all controllers off the network, with everybody's connections to them.
func (m *Mesh) CutControllers() { m.Net.Cut(Names(m.Controllers...)...) }

// SetBandwidth limits what the controller's host sends and receives, each to so many bytes a second; 0 is no limit.
func (c *Controller) SetBandwidth(bytesPerSecond int64) { c.host.SetBandwidth(bytesPerSecond) }

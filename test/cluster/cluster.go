// Package cluster runs the real programs of a small cluster in a machine room of test/rig: three controllers, two relays
// and machines that boot from them. End-to-end tests and the demo both stand on it. It tells the programs what to do
// through the command line alone, as an operator would; every command is in cli.go.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/test/rig"
)

// pollEvery is how often a condition that only a command can tell is looked at.
const pollEvery = 500 * time.Millisecond

// A Cluster is the programs of one cluster. Its methods may be called concurrently.
type Cluster struct {
	Room  *rig.Room
	state string // directory of all data directories and sockets
	wulf  string // the program
	log   *slog.Logger

	mu      sync.Mutex
	running map[string]*rig.Process // controllers and relays by name
}

// New prepares a cluster of the room's hosts with the programs in bin/ of the source tree. Its data is kept under state,
// whose path must be short: sockets are in it. Nothing runs yet.
func New(room *rig.Room, state string, log *slog.Logger) (*Cluster, error) {
	root, err := rig.Repository()
	if err != nil {
		return nil, err
	}
	wulf := filepath.Join(root, "bin", "wulf")
	if _, err := os.Stat(wulf); err != nil {
		return nil, errors.New("bin/wulf is not built: run make build")
	}
	return &Cluster{Room: room, state: state, wulf: wulf, log: log, running: make(map[string]*rig.Process)}, nil
}

// Up founds the cluster on the first controller, joins the others and the relays, and returns when all know each other.
func (c *Cluster) Up(ctx context.Context) error {
	if err := c.found(ctx); err != nil {
		return fmt.Errorf("founding the cluster: %w", err)
	}
	for _, place := range c.Room.Controllers[1:] {
		if err := c.joinController(ctx, place); err != nil {
			return fmt.Errorf("joining controller %s: %w", place.Name(), err)
		}
	}
	if err := c.WaitControllers(ctx, len(c.Room.Controllers)); err != nil {
		return err
	}
	if err := c.addNetwork(ctx); err != nil {
		return err
	}
	for i, place := range c.Room.Relays {
		if err := c.joinRelay(ctx, place, fmt.Sprintf("rack%d", i+1)); err != nil {
			return fmt.Errorf("joining relay %s: %w", place.Name(), err)
		}
	}
	return c.WaitRelays(ctx)
}

// Start starts a controller or a relay that has joined; it must not be running.
func (c *Cluster) Start(name string) error {
	for _, place := range c.Room.Controllers {
		if place.Name() == name {
			return c.start(place, "controller")
		}
	}
	for _, place := range c.Room.Relays {
		if place.Name() == name {
			return c.start(place, "relay")
		}
	}
	return fmt.Errorf("no controller or relay %s", name)
}

func (c *Cluster) start(place rig.Place, role string) error {
	p, err := place.Start(place.Name(), c.runCommand(place, role)...)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running[place.Name()] = p
	return nil
}

// Process is the present or the last run of a controller or relay; nil before the first.
func (c *Cluster) Process(name string) *rig.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running[name]
}

// Kill ends a controller or a relay with SIGKILL.
func (c *Cluster) Kill(name string) { c.Process(name).Kill() }

// Stop asks a controller or a relay to end and waits for it.
func (c *Cluster) Stop(ctx context.Context, name string) error { return c.Process(name).Stop(ctx) }

// ControllersRunning lists the names of the controllers whose programs run, in order.
func (c *Cluster) ControllersRunning() []string {
	var names []string
	for _, place := range c.Room.Controllers {
		if p := c.Process(place.Name()); p != nil && p.Running() {
			names = append(names, place.Name())
		}
	}
	return names
}

// WaitControllers returns when n controllers are alive and vote, and one of them leads.
func (c *Cluster) WaitControllers(ctx context.Context, n int) error {
	return c.poll(ctx, fmt.Sprintf("%d living controllers with a leader", n), func() (bool, string) {
		views, err := c.Controllers(ctx)
		if err != nil {
			return false, err.Error()
		}
		alive, leader := 0, false
		for _, v := range views {
			if v.Alive && v.Voter {
				alive++
			}
			leader = leader || v.Alive && v.Leader
		}
		return alive >= n && leader, fmt.Sprintf("%d alive, leader %v", alive, leader)
	})
}

// Leader waits for a living leader and returns its name.
func (c *Cluster) Leader(ctx context.Context) (string, error) {
	var leader string
	err := c.poll(ctx, "a leader", func() (bool, string) {
		views, err := c.Controllers(ctx)
		if err != nil {
			return false, err.Error()
		}
		for _, v := range views {
			// A leader that was just killed may still be named.
			if p := c.Process(string(v.Name)); v.Leader && p != nil && p.Running() {
				leader = string(v.Name)
			}
		}
		return leader != "", "none"
	})
	return leader, err
}

// WaitRelays returns when every relay that runs is alive and serves the controllers' latest revision.
func (c *Cluster) WaitRelays(ctx context.Context) error {
	return c.poll(ctx, "every relay at the latest revision", func() (bool, string) {
		list, err := c.Relays(ctx)
		if err != nil {
			return false, err.Error()
		}
		current := make(map[string]bool)
		for _, v := range list.Items {
			current[string(v.Name)] = v.Alive && v.Status != nil && v.Status.Revision >= list.Revision
		}
		for _, place := range c.Room.Relays {
			if p := c.Process(place.Name()); p != nil && p.Running() && !current[place.Name()] {
				return false, place.Name() + " is behind"
			}
		}
		return true, ""
	})
}

// WaitDamage returns when a relay has told that it found damaged chunks: it tells of itself every few seconds.
func (c *Cluster) WaitDamage(ctx context.Context, relay string) error {
	return c.poll(ctx, relay+" to report damaged chunks", func() (bool, string) {
		list, err := c.Relays(ctx)
		if err != nil {
			return false, err.Error()
		}
		for _, v := range list.Items {
			if string(v.Name) == relay && v.Status != nil && v.Status.Cache.Corrupt > 0 {
				return true, ""
			}
		}
		return false, "it reports none"
	})
}

// WaitResident returns when every relay that runs holds every chunk of the images that its nodes boot.
func (c *Cluster) WaitResident(ctx context.Context) error {
	return c.poll(ctx, "every chunk on every relay", func() (bool, string) {
		list, err := c.Relays(ctx)
		if err != nil {
			return false, err.Error()
		}
		for _, v := range list.Items {
			p := c.Process(string(v.Name))
			if p == nil || !p.Running() {
				continue
			}
			if v.Status == nil || v.Status.Revision < list.Revision {
				return false, string(v.Name) + " is behind"
			}
			if n := v.Status.Cache.Missing; n > 0 || v.Status.Cache.Chunks == 0 {
				return false, fmt.Sprintf("%s has %d chunks and misses %d", v.Name, v.Status.Cache.Chunks, n)
			}
		}
		return true, ""
	})
}

// Chunks lists the files of the chunks that a controller or a relay keeps on its disk, by ID.
func (c *Cluster) Chunks(name string) (map[chunk.ID]string, error) {
	files := make(map[chunk.ID]string)
	err := filepath.WalkDir(c.Data(name), func(path string, d fs.DirEntry, err error) error {
		if id, bad := chunk.ParseID(filepath.Base(path)); err == nil && bad == nil && d.Type().IsRegular() {
			files[id] = path
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was replaced while we looked
		}
		return err
	})
	return files, err
}

// WaitWhy returns when the product says a text of a node's state.
func (c *Cluster) WaitWhy(ctx context.Context, node, text string) error {
	return c.poll(ctx, fmt.Sprintf("node why to tell of %s: %s", node, text), func() (bool, string) {
		why, err := c.Why(ctx, node)
		return err == nil && strings.Contains(why, text), fmt.Sprintf("%s, %v", why, err)
	})
}

// WaitBoot returns the first boot of a node that started after since and reached up, with its events. A boot that failed
// is not the end: machines try again, as they do in a rack.
func (c *Cluster) WaitBoot(ctx context.Context, node string, since time.Time) (api.Boot, error) {
	var result api.Boot
	err := c.poll(ctx, node+" up", func() (bool, string) {
		boots, err := c.Boots(ctx, node)
		if err != nil {
			return false, err.Error()
		}
		last := "no boot seen"
		for _, b := range boots {
			if b.Started.Before(since) {
				continue
			}
			last = fmt.Sprintf("boot %s is at %s %s", b.Boot, b.Stage, b.Error)
			if b.Stage == boot.StageUp {
				result = b
				return true, ""
			}
		}
		return false, last
	})
	return result, err
}

// poll calls done until it is true; its second result says how far things are, for the error.
func (c *Cluster) poll(ctx context.Context, what string, done func() (bool, string)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ok, state := done()
		if ok {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w (at last: %s)", what, context.Cause(ctx), state)
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/test/cluster"
	"github.com/wulfmesh/wulfmesh/test/rig"
)

// tiny is the name of the busybox image. It has no SSH server.
const tiny = "tiny"

// A machine is a node of the demo: what is declared of it, and the virtual machine that is it.
type machine struct {
	*rig.Machine
	firmware rig.Firmware
	image    string
	address  string
	hostKey  string // that the node must show, as the controllers say it; "" for an image without SSH

	on   time.Time // when it was switched on last
	last api.Boot  // its last boot
}

// A demo is one run.
type demo struct {
	out      io.Writer
	start    time.Time
	room     *rig.Room
	cluster  *cluster.Cluster
	machines []*machine
}

// run tells the whole story and cleans up after it.
func run(ctx context.Context, out io.Writer, stay bool) (err error) {
	root, err := rig.Repository()
	if err != nil {
		return err
	}
	logs := filepath.Join(root, ".cache", "demo")
	if err := os.RemoveAll(logs); err != nil {
		return err
	}
	// A short path: there are sockets in it.
	state, err := os.MkdirTemp("", "wulf-demo-")
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	r, err := rig.New(logs, log)
	if err != nil {
		return err
	}
	d := &demo{out: out, start: time.Now()}
	defer func() {
		if err != nil {
			d.explain()
			err = fmt.Errorf("%w\nconsoles and logs: %s", err, logs)
		}
		err = errors.Join(err, r.Close(), os.RemoveAll(state))
	}()
	if d.room, err = rig.NewRoom(r); err != nil {
		return err
	}
	if d.cluster, err = cluster.New(d.room, state, log); err != nil {
		return err
	}

	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := d.prepare(bounded); err != nil {
		return err
	}
	if err := d.boot(bounded, "every machine is switched on", d.machines...); err != nil {
		return err
	}
	if stay {
		return d.stay(ctx, state)
	}
	if err := d.loseLeaderAndRelay(bounded); err != nil {
		return err
	}
	if err := d.loseControllers(bounded); err != nil {
		return err
	}
	d.say("all of it held")
	return nil
}

// prepare founds the cluster, publishes the images and declares the nodes.
func (d *demo) prepare(ctx context.Context) error {
	d.say("making the test images (from the cache, if they were made before)")
	root, err := rig.Script(ctx, "make-image")
	if err != nil {
		return err
	}
	small, err := rig.Script(ctx, "make-image-busybox")
	if err != nil {
		return err
	}
	system, err := distribution(root)
	if err != nil {
		return err
	}

	d.say("founding a cluster: controllers c1 c2 c3, relays r1 r2, each in a network namespace of its own")
	if err := d.cluster.Up(ctx); err != nil {
		return err
	}
	leader, err := d.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	d.say("three controllers agree, %s leads; two relays joined and serve rack %s", leader, rig.RackNetwork())

	for _, image := range []struct{ name, source string }{{system, root}, {tiny, small}} {
		start := time.Now()
		if err := d.cluster.ImportImage(ctx, image.name, image.source); err != nil {
			return err
		}
		d.say("image %s published in %.1f s", image.name, time.Since(start).Seconds())
	}

	for i, want := range []struct {
		firmware rig.Firmware
		image    string
		memory   int
	}{
		{rig.BIOS, system, 1024},
		{rig.UEFI, system, 1024},
		{rig.UEFIHTTP, tiny, 512},
	} {
		name := fmt.Sprintf("n%d", i+1)
		m := &machine{firmware: want.firmware, image: want.image, address: fmt.Sprintf("10.77.0.%d", 101+i)}
		if m.Machine, err = d.room.Rack.Machine(rig.MachineConfig{Name: name, MAC: fmt.Sprintf("52:54:00:77:00:%02x", i+1),
			Firmware: want.firmware, Memory: want.memory}); err != nil {
			return err
		}
		if err := d.cluster.AddNode(ctx, name, want.image, m.MAC(), m.address); err != nil {
			return err
		}
		if want.image != tiny {
			view, err := d.cluster.Node(ctx, name)
			if err != nil {
				return err
			}
			m.hostKey = view.HostKey
		}
		d.machines = append(d.machines, m)
	}
	return d.cluster.WaitRelays(ctx)
}

// distribution is what a root file system calls itself: debian, rocky, …
func distribution(root string) (string, error) {
	data, err := os.ReadFile(filepath.Join(root, "etc", "os-release"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if id, ok := strings.CutPrefix(line, "ID="); ok {
			return strings.Trim(strings.TrimSpace(id), `"'`), nil
		}
	}
	return "", fmt.Errorf("%s/etc/os-release has no ID", root)
}

// boot switches machines on, all at once, and waits until every one is up and is who it was declared to be.
func (d *demo) boot(ctx context.Context, what string, machines ...*machine) error {
	d.say("%s", what)
	if err := d.switchOn(machines); err != nil {
		return err
	}
	var g errgroup.Group
	for _, m := range machines {
		g.Go(func() (err error) {
			m.last, err = d.cluster.WaitBoot(ctx, m.Name(), m.on)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, m := range machines {
		if err := d.identify(ctx, m); err != nil {
			return err
		}
	}
	d.table(machines)
	return nil
}

func (d *demo) switchOn(machines []*machine) error {
	for _, m := range machines {
		m.on = time.Now()
		if err := m.PowerCycle(); err != nil {
			return err
		}
	}
	return nil
}

// identify holds a machine that is up against what is declared of it: its name on the console, its address and, where
// the image has an SSH server, its host key.
func (d *demo) identify(ctx context.Context, m *machine) error {
	prompt := m.Name() + " login:"
	if m.image == tiny {
		prompt = "up: host " + m.Name()
	}
	if _, err := m.Console().Wait(ctx, prompt); err != nil {
		return err
	}
	if m.hostKey == "" {
		return nil
	}
	for _, place := range d.room.Relays {
		if !d.cluster.Process(place.Name()).Running() {
			continue
		}
		key, err := cluster.HostKey(ctx, place.Host, m.address)
		if err != nil {
			return fmt.Errorf("%s: asking its SSH server at %s: %w", m.Name(), m.address, err)
		}
		if !sameKey(key, m.hostKey) {
			return fmt.Errorf("%s shows the host key %s, declared is %s", m.Name(), key, m.hostKey)
		}
		return nil
	}
	return errors.New("no relay is left to look from")
}

// sameKey compares algorithm and key, and leaves comments out.
func sameKey(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	return len(x) >= 2 && len(y) >= 2 && x[0] == y[0] && x[1] == y[1]
}

// loseLeaderAndRelay kills both, and boots the machine that this relay had served.
func (d *demo) loseLeaderAndRelay(ctx context.Context) error {
	leader, err := d.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	m := d.machines[0]
	relay := string(m.last.Relay)
	if d.cluster.Process(relay) == nil {
		return fmt.Errorf("%s says that relay %q served it, which is none of the rig's", m.Name(), relay)
	}
	d.cluster.Kill(leader)
	d.cluster.Kill(relay)
	if err := d.boot(ctx, fmt.Sprintf("kill -9: the leader %s, and relay %s which served %s; %s is switched off and on",
		leader, relay, m.Name(), m.Name()), m); err != nil {
		return err
	}
	if string(m.last.Relay) == relay {
		return fmt.Errorf("%s says that the dead relay %s served it", m.Name(), relay)
	}
	now, err := d.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	d.say("%s leads now, and %s came up from relay %s", now, m.Name(), m.last.Relay)
	return nil
}

// loseControllers stops them all and boots a machine; its console tells that it came up. When the controllers are back
// they learn from the relay what happened without them.
func (d *demo) loseControllers(ctx context.Context) error {
	stopped := d.cluster.ControllersRunning()
	for _, name := range stopped {
		if err := d.cluster.Stop(ctx, name); err != nil {
			return err
		}
	}
	m := d.machines[1]
	d.say("every controller is stopped; %s is switched off and on", m.Name())
	if err := d.switchOn([]*machine{m}); err != nil {
		return err
	}
	if err := d.identify(ctx, m); err != nil {
		return err
	}
	d.say("%s is up after %.0f s without any controller", m.Name(), time.Since(m.on).Seconds())
	for _, place := range d.room.Controllers {
		if err := d.cluster.Start(place.Name()); err != nil {
			return err
		}
	}
	if err := d.cluster.WaitControllers(ctx, len(d.room.Controllers)); err != nil {
		return err
	}
	var err error
	if m.last, err = d.cluster.WaitBoot(ctx, m.Name(), m.on); err != nil {
		return err
	}
	d.say("the controllers are back, and know from relay %s how %s came up meanwhile", m.last.Relay, m.Name())
	d.table([]*machine{m})
	return nil
}

// stay keeps the cluster until the run is interrupted.
func (d *demo) stay(ctx context.Context, state string) error {
	d.say("the cluster stays until CTRL-C. Ask it: bin/wulf --endpoint unix:%s/c1.sock node list", state)
	<-ctx.Done()
	return nil
}

// explain shows what the product itself and the consoles say of machines that are not up.
func (d *demo) explain() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var once sync.Once
	for _, m := range d.machines {
		console := m.Console()
		if console == nil {
			continue
		}
		once.Do(func() { fmt.Fprintln(d.out, "\nwhat is known of the machines:") })
		if why, err := d.cluster.Why(ctx, m.Name()); err == nil {
			fmt.Fprintln(d.out, why)
		}
		fmt.Fprintf(d.out, "console of %s:\n%s", m.Name(), console.Tail(12))
	}
}

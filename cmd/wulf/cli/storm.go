package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/storm"
)

func (p *program) storm() *cli.Command {
	return noun("storm", "thousands of machines that are not there, to see what the mesh does with them",
		verb{
			name: "run", usage: "boot declared nodes as simulated machines, all at once", args: "NODESET…", least: 1, most: unlimited,
			about: "The load is real: real packets in every phase of a boot, on the real network, to the real relays. The machines are nodes that " +
				"were declared for it, and this host must own their addresses; see docs/storms.md. They are given what those nodes are given, their " +
				"secrets too, so nodes that exist are refused while they run.",
			examples: []string{
				"wulf storm run 's[00001-10000]' --agent 10.64.0.1 --spread 10s --report storm1",
				"wulf storm run 's[001-100]' --interface eth1 --firmware efi-x64 --yes -o json",
			},
			flags: []cli.Flag{
				text("agent", "be the machines' DHCP relay agent, at `ADDRESS` of this host in their network"),
				text("interface", "instead, broadcast on the network interface `NAME`"),
				number("helpers", "as an agent, pass DHCP on to `N` relays for each machine: those of its rack first (default 2)"),
				duration("spread", 10*time.Second, "switch the machines on within `TIME`"),
				duration("fail-after", 30*time.Minute, "count machines as failed that are not up after `TIME`"),
				text("firmware", "the machines have the firmware `KIND`: bios, efi-x64 or http-x64 (default bios)"),
				number("window", "the firmware asks TFTP for windows of `N` blocks (default 0: it does not ask)"),
				number("seed", "throw the dice from `N` on (default 1)"),
				text("report", "write report.txt, report.json and report.svg into `DIR`"),
				toggle("yes", "do not ask", "y"), formatFlag("text or json"),
			},
			run: p.stormRun,
		},
	)
}

// formatText is the report of a storm for people.
const formatText = "text"

func (p *program) stormRun(c *cli.Context) error {
	format, err := p.format(c, formatText, formatJSON)
	if err != nil {
		return err
	}
	if c.IsSet("agent") == c.IsSet("interface") {
		return fault.New(fault.Invalid, "it must be said how the machines reach DHCP").WithFix("--agent ADDRESS or --interface NAME")
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	cfg, err := p.stormOf(c, cl)
	if err != nil {
		return err
	}
	if !c.Bool("yes") {
		if err := p.stormAsk(c, cl, len(cfg.Machines)); err != nil {
			return err
		}
	}
	if err := storm.Bindable(cfg.Machines); err != nil {
		return err
	}
	if cfg.Wire, err = stormWire(c); err != nil {
		return err
	}
	cfg.Progress = func(s storm.Sample) {
		var way []string
		for i, phase := range storm.Phases() {
			way = append(way, fmt.Sprintf("%s %d", phase, s.Reached[i]))
		}
		p.say("%4.0f s: %d of %d up, %s (%s)", s.At.Seconds(), s.Up(), s.Total, size(s.Bytes), strings.Join(way, ", "))
	}
	s, err := storm.New(cfg)
	if err != nil {
		cfg.Wire.Close()
		return err
	}
	e, err := p.newEgress(c, cl)
	if err != nil {
		cfg.Wire.Close()
		return err
	}
	defer e.stop()
	r, err := s.Run(c.Context)
	if err != nil {
		return err
	}
	r.AddControllers(e.stop())
	if dir := c.String("report"); dir != "" {
		if err := writeStorm(dir, r); err != nil {
			return err
		}
	}
	if format == formatJSON {
		in := json.NewEncoder(p.out)
		in.SetIndent("", "  ")
		err = in.Encode(r)
	} else {
		err = r.WriteText(p.out)
	}
	if err == nil && r.Up < r.Machines {
		err = fault.New(fault.Timeout, "%d of %d machines are not up", r.Machines-r.Up, r.Machines).WithFix("see the errors of the report, and wulf node why NODE")
	}
	return err
}

func stormWire(c *cli.Context) (*storm.Wire, error) {
	if device := c.String("interface"); device != "" {
		return storm.NewSegmentWire(c.Context, device)
	}
	agent, err := netip.ParseAddr(c.String("agent"))
	if err != nil || !agent.Is4() {
		return nil, fault.New(fault.Invalid, "%q is no IPv4 address", c.String("agent"))
	}
	return storm.NewAgentWire(agent)
}

// stormOf makes machines of the declared nodes.
func (p *program) stormOf(c *cli.Context, cl *client) (storm.Config, error) {
	q, err := p.query(c, false)
	if err != nil {
		return storm.Config{}, err
	}
	t, err := cl.table(q, "name", "hardware", "address", "rack", "zone", "state", "runtime")
	if err != nil {
		return storm.Config{}, err
	}
	relays, err := fetch[api.RelayView](cl, api.PathRelays)
	if err != nil {
		return storm.Config{}, err
	}
	helpers := 2
	if c.IsSet("helpers") {
		helpers = c.Int("helpers")
	}
	if helpers < 1 {
		return storm.Config{}, fault.New(fault.Invalid, "with %d helpers no machine's DHCP would reach a relay", helpers).WithFix("say --helpers 1 or more")
	}
	cfg := storm.Config{
		Spread: c.Duration("spread"), Until: c.Duration("fail-after"), Firmware: boot.Firmware(c.String("firmware")), Window: c.Int("window"), Seed: 1,
		Relays: map[string]catalog.RelayName{},
	}
	if c.IsSet("seed") {
		cfg.Seed = uint64(c.Int("seed"))
	}
	for _, r := range relays.Items {
		for _, a := range r.Addresses {
			cfg.Relays[a.String()] = r.Name
		}
	}
	var running []string
	for i, row := range t.Rows {
		m := storm.Machine{Name: catalog.NodeName(row[0]), Hardware: catalog.HardwareAddr(row[1])}
		if prefix, err := netip.ParsePrefix(row[2]); err == nil {
			m.Address = prefix.Addr()
		} else if m.Address, err = netip.ParseAddr(row[2]); err != nil {
			return cfg, fault.New(fault.Invalid, "node %s has no IPv4 address", row[0]).WithFix("wulf node set %s --ipaddr ADDRESS", row[0])
		}
		m.Helpers = helpersOf(relays.Items, row[3], row[4], i, helpers)
		// A machine of an earlier storm is up as well, but no service on it tells of its runtime overlays.
		if row[5] == string(boot.StageUp) && row[6] != "" {
			running = append(running, row[0])
		}
		cfg.Machines = append(cfg.Machines, m)
	}
	if c.IsSet("agent") && len(cfg.Relays) == 0 {
		return cfg, fault.New(fault.NotFound, "there is no relay that an agent could pass DHCP on to").WithFix("see wulf relay list")
	}
	if len(running) > 0 {
		return cfg, fault.New(fault.Conflict, "%s of the nodes run, %s first: a storm would be taken for them", thousands(len(running)), running[0]).
			WithFix("declare nodes for the storm, as docs/storms.md shows")
	}
	return cfg, nil
}

// helpersOf are the relays that an agent of a machine passes DHCP on to, as a network's people would configure it: those
// of its rack, then of its zone, then others, each machine with others of them.
func helpersOf(relays []api.RelayView, rack, zone string, machine, n int) []netip.Addr {
	var list []netip.Addr
	for _, class := range []func(api.RelayView) bool{
		func(r api.RelayView) bool { return rack != "" && r.Rack == rack },
		func(r api.RelayView) bool { return zone != "" && r.Zone == zone },
		func(api.RelayView) bool { return true },
	} {
		for i := range relays {
			r := relays[(machine+i)%len(relays)]
			if len(list) < n && len(r.Addresses) > 0 && class(r) && !slices.Contains(list, r.Addresses[0]) {
				list = append(list, r.Addresses[0])
			}
		}
	}
	return list
}

func (p *program) stormAsk(c *cli.Context, cl *client, machines int) error {
	var status api.ControllerStatus
	if err := cl.get(api.PathStatus, &status); err != nil {
		return err
	}
	return p.confirm(c, mutation{count: machines, ask: fmt.Sprintf("Boot %s simulated machines at the relays of cluster %s? It is as much work for them, and for the network, as real ones.",
		thousands(machines), status.Cluster)})
}

// writeStorm writes all forms of a report.
func writeStorm(dir string, r *storm.Report) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	var text, plot strings.Builder
	if err := r.WriteText(&text); err != nil {
		return err
	}
	if err := r.WritePlot(&plot); err != nil {
		return err
	}
	for name, b := range map[string][]byte{"report.json": append(raw, '\n'), "report.txt": []byte(text.String()), "report.svg": []byte(plot.String())} {
		if err := durable.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// egress watches what controllers send, each by its own account. One that dies has sent what it said last; one that
// started again begins at nothing.
type egress struct {
	ask  map[string]*api.Client // by the controller's name
	done context.CancelFunc
	over sync.WaitGroup

	mu   sync.Mutex
	last map[string]int64
	sent map[string]int64
}

// egressEvery is how often controllers are asked. What one sent in the time before its end is lost to the report.
const egressEvery = 2 * time.Second

// newEgress begins to watch. The controllers that cannot be asked from here are left out: over the socket of this machine
// there is only its own.
func (p *program) newEgress(c *cli.Context, cl *client) (*egress, error) {
	t, err := p.target(c)
	if err != nil {
		return nil, err
	}
	e := &egress{ask: map[string]*api.Client{}, last: map[string]int64{}, sent: map[string]int64{}}
	views, err := fetch[api.ControllerView](cl, api.PathControllers)
	if err != nil {
		return nil, err
	}
	overTLS, err := p.controllersTLS(t)
	if err != nil {
		return nil, err
	}
	for _, v := range views.Items {
		if overTLS != nil {
			e.ask[string(v.Name)] = api.NewClient(api.ClientConfig{Endpoints: func() []string { return []string{v.API} }, TLS: overTLS})
		}
	}
	if overTLS == nil {
		var status api.ControllerStatus
		if err := cl.get(api.PathStatus, &status); err != nil {
			return nil, err
		}
		own, err := p.newClient(c)
		if err != nil {
			return nil, err
		}
		e.ask[string(status.Name)] = own
	}
	ctx, cancel := context.WithCancel(c.Context)
	e.done = cancel
	e.look(ctx)
	e.over.Go(func() {
		tick := time.NewTicker(egressEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				e.look(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
	return e, nil
}

// look asks each controller once.
func (e *egress) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, egressEvery)
	defer cancel()
	var all sync.WaitGroup
	for name, client := range e.ask {
		all.Go(func() {
			var s api.ControllerStatus
			if client.Get(ctx, api.PathStatus, &s) != nil {
				return
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			before, known := e.last[name]
			switch {
			case !known: // what it sent before the storm
			case s.BytesOut < before:
				e.sent[name] += s.BytesOut
			default:
				e.sent[name] += s.BytesOut - before
			}
			e.last[name] = s.BytesOut
		})
	}
	all.Wait()
}

// stop asks once more, ends the watch and returns what each controller sent.
func (e *egress) stop() []storm.Egress {
	if e.done != nil {
		e.look(context.Background())
		e.done()
		e.over.Wait()
		e.done = nil
		for _, c := range e.ask {
			c.Close()
		}
	}
	var list []storm.Egress
	for name := range e.last {
		list = append(list, storm.Egress{Name: name, Bytes: e.sent[name]})
	}
	slices.SortFunc(list, func(a, b storm.Egress) int { return strings.Compare(a.Name, b.Name) })
	return list
}

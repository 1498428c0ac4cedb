package mesh

import (
	"context"
	"net/netip"
	"slices"

	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// process is a program on a host of its own, which can be killed and started again on the same data.
type process struct {
	Name string
	host *memnet.Host
	dir  string
	make func() (runner, error) // opens its sockets and makes it; called for each start

	cancel context.CancelFunc // nil while it does not run
	done   chan error
}

// runner is what controllers and relays have in common.
type runner interface {
	Run(ctx context.Context) error
}

// Running tells whether the program runs.
func (p *process) Running() bool { return p.cancel != nil }

// Dir is where the program keeps its data.
func (p *process) Dir() string { return p.dir }

func (m *Mesh) start(p *process) {
	m.t.Helper()
	r, err := p.make()
	if err != nil {
		m.t.Fatalf("starting %s: %v", p.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.done = cancel, make(chan error, 1)
	go func() { p.done <- r.Run(ctx) }()
}

// end stops a program as systemd does, and waits for it.
func (m *Mesh) end(p *process) {
	m.t.Helper()
	if p.cancel == nil {
		return
	}
	p.cancel()
	p.cancel = nil
	if err := <-p.done; err != nil {
		m.t.Errorf("%s ended with %v", p.Name, err)
	}
}

// processes finds controllers and relays by name.
func (m *Mesh) processes(names []string) (found []*process) {
	m.t.Helper()
	for _, name := range names {
		all := make([]*process, 0, len(m.Controllers)+len(m.Relays))
		for _, c := range m.Controllers {
			all = append(all, c.process)
		}
		for _, r := range m.Relays {
			all = append(all, r.process)
		}
		i := slices.IndexFunc(all, func(p *process) bool { return p.Name == name })
		if i < 0 {
			m.t.Fatalf("nothing is called %s", name)
		}
		found = append(found, all[i])
	}
	return found
}

// Stop ends programs as an operator does: they may finish what they are about.
func (m *Mesh) Stop(names ...string) {
	m.t.Helper()
	for _, p := range m.processes(names) {
		m.end(p)
	}
}

// Kill ends programs as kill -9 does: their connections are reset, and nothing that they say afterwards is heard.
func (m *Mesh) Kill(names ...string) {
	m.t.Helper()
	for _, p := range m.processes(names) {
		m.Net.Kill(p.Name)
		m.PowerCut(p.Name)
		m.Net.Heal(p.Name)
	}
}

// PowerCut ends programs with their machines: nobody is told, packets to them vanish until Restart.
func (m *Mesh) PowerCut(names ...string) {
	m.t.Helper()
	for _, p := range m.processes(names) {
		m.Net.Stall(p.Name)
		if p.cancel == nil {
			continue
		}
		p.cancel()
		p.cancel = nil
		<-p.done // whatever it says of its end: it was not asked
		m.Net.Kill(p.Name)
	}
}

// Restart starts programs again on what they left on disk.
func (m *Mesh) Restart(names ...string) {
	m.t.Helper()
	for _, p := range m.processes(names) {
		if p.Running() {
			continue
		}
		m.Net.Heal(p.Name)
		m.start(p)
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

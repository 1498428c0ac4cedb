// Package firmware is a simulated machine on a memnet segment: firmware that asks DHCP and fetches a boot program by
// TFTP or HTTP, iPXE that runs the script it is given, a kernel that hands its command line on, and then the agent's
// own code. It keeps the timing of the real things, in the virtual time of a testing/synctest bubble.
//
// What the machine is not: it executes no byte that it fetches, so it checks them instead. A file whose name is its
// digest, but whose content is not, is a wrong byte (see Counts), whatever the boot makes of it. Its network card has
// no layer 2: what real DHCP servers send to a machine that has no address yet by raw frame must be broadcast to it,
// so it sets the broadcast flag, as UEFI and most PXE ROMs do anyway.
package firmware

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// Config describes a machine. Everything but Firmware must be set.
type Config struct {
	Net      *memnet.Network
	Name     string // of its host, and in traces
	Segment  string // the layer-2 segment that its card is on; declared already
	Hardware catalog.HardwareAddr
	Firmware boot.Firmware // FirmwareBIOS (also for ""), FirmwareEFI64, FirmwareEFIArm64, FirmwareHTTP64 or FirmwareOther
	Dir      string        // of its own: the root file system of the running node; emptied at every start
}

// Times of the machine itself. Machines that are switched on together do not ask together.
const (
	postTime   = 2 * time.Second // from power to the first packet, at least
	postSpread = 2 * time.Second // and this much more at most
	loopTime   = 5 * time.Second // after the firmware found nothing to boot, before it starts over
	initTime   = 3 * time.Second // from switch_root to the default target
)

// maxTrace bounds what is kept of a machine's story; beyond, the oldest lines go.
const maxTrace = 2000

// Machine is one simulated machine, off at first. Any number of goroutines may use it.
type Machine struct {
	cfg  Config
	host *memnet.Host

	muted atomic.Bool // by a flaw

	mu     sync.Mutex
	stop   context.CancelFunc // nil while it is off
	done   chan struct{}
	dice   *rand.Rand
	stage  boot.Stage
	failed error
	flaws  Flaws
	up     bool
	change chan struct{} // closed at the next change of up
	counts Counts
	trace  []Step
}

// Counts tell what happened to a machine since it was made.
type Counts struct {
	Starts  int // from power, a reset or a reboot on
	Ups     int // boots that reached up
	Retries int // requests of the agent that failed at one relay and were made again
	Wrong   int // files whose bytes were not what their name says, whoever noticed
}

// Step is a line of a machine's story.
type Step struct {
	At   time.Time
	Text string
}

// New makes a machine and its host on the network; it is off. It panics as memnet does on a mistake in the test.
func New(cfg Config) *Machine {
	if cfg.Firmware == "" {
		cfg.Firmware = boot.FirmwareBIOS
	}
	seed := uint64(0)
	for _, c := range []byte(cfg.Hardware) {
		seed = seed*131 + uint64(c)
	}
	return &Machine{
		cfg: cfg, host: cfg.Net.Host(cfg.Name).Join(cfg.Segment),
		dice: rand.New(rand.NewPCG(seed, 0x6669726d)), change: make(chan struct{}),
	}
}

// Name is the machine's name.
func (m *Machine) Name() string { return m.cfg.Name }

// Hardware is the address of the card that it boots from.
func (m *Machine) Hardware() catalog.HardwareAddr { return m.cfg.Hardware }

// Root is the directory that is the root file system of the running node.
func (m *Machine) Root() string { return m.cfg.Dir }

// PowerOn switches the machine on; one that is on stays as it is.
func (m *Machine) PowerOn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stop != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stop, m.done = cancel, make(chan struct{})
	go m.run(ctx, m.done)
}

// PowerOff pulls the plug and returns when nothing of the machine runs any more.
func (m *Machine) PowerOff() {
	m.mu.Lock()
	stop, done := m.stop, m.done
	m.mu.Unlock()
	if stop == nil {
		return
	}
	stop()
	<-done
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stop, m.stage = nil, ""
}

// Reset starts the machine over, as a hand on the button or a BMC does.
func (m *Machine) Reset() {
	m.PowerOff()
	m.PowerOn()
}

// Up tells whether the node runs, by its own opinion.
func (m *Machine) Up() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.up
}

// Stage is the furthest stage that the present boot has reached, "" for none.
func (m *Machine) Stage() boot.Stage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stage
}

// Failed is why the last start ended without a running node; nil if none did.
func (m *Machine) Failed() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}

// Counts tells what happened so far.
func (m *Machine) Counts() Counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts
}

// WaitUp waits until the node runs; the error is that of ctx.
func (m *Machine) WaitUp(ctx context.Context) error {
	for {
		m.mu.Lock()
		up, change := m.up, m.change
		m.mu.Unlock()
		if up {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Steps is the machine's story so far, oldest first.
func (m *Machine) Steps() []Step {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Step(nil), m.trace...)
}

// Trace is the machine's story as text, a line each.
func (m *Machine) Trace() string {
	var b strings.Builder
	for _, s := range m.Steps() {
		fmt.Fprintf(&b, "%s %s %s\n", s.At.UTC().Format("15:04:05.000"), m.cfg.Name, s.Text)
	}
	return b.String()
}

// run starts the machine again and again until it has no power.
func (m *Machine) run(ctx context.Context, done chan struct{}) {
	defer close(done)
	defer m.dead()
	for ctx.Err() == nil {
		m.dead()
		m.mu.Lock()
		m.stage = ""
		m.counts.Starts++
		post := postTime + time.Duration(m.dice.Int64N(int64(postSpread)))
		m.mu.Unlock()
		m.note("starts")
		err := sleep(ctx, post)
		if err == nil {
			err = m.start(ctx)
		}
		if ctx.Err() != nil {
			m.note("is switched off")
			return
		}
		m.mu.Lock()
		m.failed = err
		m.mu.Unlock()
		m.note("failed: %v", err)
		_ = sleep(ctx, loopTime)
	}
}

// start is one way from the firmware to the running node; it returns only when that way ends.
func (m *Machine) start(ctx context.Context) error {
	if err := m.loader(ctx); err != nil {
		return err
	}
	k, err := m.ipxe(ctx)
	if err != nil {
		return err
	}
	return m.kernel(ctx, k)
}

// dead is the state without power: no socket, no address, nothing in memory.
func (m *Machine) dead() {
	m.setUp(false)
	m.cfg.Net.Kill(m.cfg.Name)
	if m.muted.Swap(false) {
		m.cfg.Net.Heal(m.cfg.Name)
	}
	m.host.SetMTU(0)
	_ = m.host.SetAddrs() // no address is never another's
	entries, _ := os.ReadDir(m.cfg.Dir)
	for _, e := range entries {
		_ = os.RemoveAll(m.cfg.Dir + "/" + e.Name())
	}
}

// reach notes a stage.
func (m *Machine) reach(s boot.Stage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stage = s
}

func (m *Machine) setUp(up bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.up == up {
		return
	}
	m.up = up
	if up {
		m.counts.Ups++
		m.failed = nil
	}
	close(m.change)
	m.change = make(chan struct{})
}

// wrong notes a file that is not what its name says.
func (m *Machine) wrong(what string) {
	m.mu.Lock()
	m.counts.Wrong++
	m.mu.Unlock()
	m.note("WRONG BYTES: %s", what)
}

// note adds a line to the story.
func (m *Machine) note(format string, args ...any) {
	s := Step{time.Now(), fmt.Sprintf(format, args...)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trace = append(m.trace, s)
	m.trace = m.trace[max(0, len(m.trace)-maxTrace):]
}

// sleep waits, or ends early with the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

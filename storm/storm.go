// Package storm boots machines that are not there: thousands of them in one process, each with its own hardware address,
// its own IP address and the habits of firmware, iPXE and wulf-agent. Their packets are real, in every phase of a boot,
// so that what serves them cannot tell them from machines. What they fetch is verified and thrown away; they execute
// nothing, keep nothing and wait for nothing but answers, so that the time of a boot here is the time that the mesh took.
//
// A machine is one goroutine, and a few sockets while it uses them. DHCP goes through one socket for all (see Wire). The
// agent's part is the agent's own code (cmd/wulf-agent/mesh), with its patience, its fail-over and its checks.
//
// The addresses of the machines must be addresses of this host: `ip route add local PREFIX dev lo` makes a whole network so.
package storm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Machine is one machine, as it is declared.
type Machine struct {
	Name     catalog.NodeName
	Hardware catalog.HardwareAddr
	Address  netip.Addr   // which DHCP must give it
	Helpers  []netip.Addr // relays to which its relay agent passes DHCP on; none: it is on the wire itself
}

// Config says what storm there is to be. Machines and Wire are required.
type Config struct {
	Machines []Machine
	Wire     *Wire
	Relays   map[string]catalog.RelayName // by address, for the report
	Spread   time.Duration                // the machines are switched on within this time, each at its own moment
	Firmware boot.Firmware                // FirmwareBIOS (also for ""), FirmwareEFI64 or FirmwareHTTP64
	Window   int                          // blocks of TFTP that are sent before an acknowledgement; 0: the option is not used
	Until    time.Duration                // after which machines that are not up count as failed
	Seed     uint64                       // of all dice
	Progress func(Sample)                 // is told every second how far it is; nil: nobody is
}

// MaxMachines bounds a storm: a process has so many sockets.
const MaxMachines = 50_000

// Phases are the steps of a boot that a storm measures, in order.
func Phases() []boot.Stage {
	return []boot.Stage{boot.StageDHCP, boot.StageLoader, boot.StageScript, boot.StageKernel, boot.StageStageOne, boot.StageImage, boot.StageOverlay, boot.StageUp}
}

// phases is how many there are.
const phases = 8

// Storm is one run. Make one with New, and Run it once.
type Storm struct {
	cfg      Config
	machines []*machine
	tally    *tally
	trusts   *trusts
	buffers  sync.Pool
}

// New checks what is asked for, and opens nothing.
func New(cfg Config) (*Storm, error) {
	switch n := len(cfg.Machines); {
	case n == 0:
		return nil, fault.New(fault.Invalid, "a storm needs a machine")
	case n > MaxMachines:
		return nil, fault.New(fault.Invalid, "a storm has at most %d machines, and these are %d", MaxMachines, n).WithFix("start more than one, on several hosts")
	}
	switch cfg.Firmware {
	case "":
		cfg.Firmware = boot.FirmwareBIOS
	case boot.FirmwareBIOS, boot.FirmwareEFI64, boot.FirmwareHTTP64:
	default:
		return nil, fault.New(fault.Invalid, "machines cannot have the firmware %q", cfg.Firmware).WithFix("it is %s, %s or %s", boot.FirmwareBIOS, boot.FirmwareEFI64, boot.FirmwareHTTP64)
	}
	s := &Storm{cfg: cfg, tally: newTally(), trusts: &trusts{of: map[string]*trusted{}, turn: make(chan struct{}, 1)}}
	s.buffers.New = func() any { b := make([]byte, 64<<10); return &b }
	dice := rand.New(rand.NewPCG(cfg.Seed, 0x73746f726d))
	for i, m := range cfg.Machines {
		mac, err := net.ParseMAC(string(m.Hardware))
		if err != nil || len(mac) != 6 {
			return nil, fault.New(fault.Invalid, "machine %s has the hardware address %q, and cannot ask DHCP with it", m.Name, m.Hardware)
		}
		if !m.Address.Is4() {
			return nil, fault.New(fault.Invalid, "machine %s has no IPv4 address", m.Name).WithFix("wulf node set %s --ipaddr ADDRESS", m.Name)
		}
		s.machines = append(s.machines, &machine{Machine: m, storm: s, mac: mac, dice: rand.New(rand.NewPCG(cfg.Seed, uint64(i))), start: spread(dice, cfg.Spread)})
	}
	return s, nil
}

func spread(dice *rand.Rand, within time.Duration) time.Duration {
	if within <= 0 {
		return 0
	}
	return time.Duration(dice.Int64N(int64(within)))
}

// Bindable fails if this host does not own the machines' addresses: they would be given them, and hear nothing there.
func Bindable(machines []Machine) error {
	for _, m := range []Machine{machines[0], machines[len(machines)-1]} {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: m.Address.AsSlice()})
		if err != nil {
			return fault.New(fault.Denied, "the address %s of machine %s is none of this host's", m.Address, m.Name).
				WithFix("ip route add local PREFIX dev lo, where PREFIX holds the machines' addresses and nobody else's; see docs/storms.md")
		}
		c.Close()
	}
	return nil
}

// files is how many open files a machine may need at once, and some for all.
const files, filesOfAll = 8, 200

// room asks the kernel for the open files that the machines need, which root is given beyond the usual limit. Without them
// machines fail as those do that find no port.
func (s *Storm) room() {
	var r unix.Rlimit
	if want := uint64(len(s.machines)*files + filesOfAll); unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil && r.Cur < want {
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: want, Max: max(want, r.Max)})
	}
}

// Run boots all machines and returns what became of them, when all are up, when the time is over, or when ctx ends.
func (s *Storm) Run(ctx context.Context) (*Report, error) {
	s.room()
	if s.cfg.Until > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.cfg.Until, fault.New(fault.Timeout, "it was not up after %s", s.cfg.Until))
		defer cancel()
	}
	wire, unplug := context.WithCancel(ctx)
	var served sync.WaitGroup
	served.Go(func() { s.cfg.Wire.run(wire) })
	s.tally.begin(len(s.machines))
	watch, unwatch := context.WithCancel(context.Background())
	served.Go(func() { s.tally.sample(watch, s.cfg.Progress) })
	var g sync.WaitGroup
	for _, m := range s.ordered() {
		if err := sleep(ctx, m.start-s.tally.since()); err != nil {
			break
		}
		g.Go(func() { m.run(ctx) })
	}
	g.Wait()
	unwatch()
	unplug()
	served.Wait()
	return s.report(), nil
}

// ordered are the machines in the order in which they are switched on, so that those that are off cost no goroutine.
func (s *Storm) ordered() []*machine {
	all := slices.Clone(s.machines)
	slices.SortStableFunc(all, func(a, b *machine) int { return int(a.start - b.start) })
	return all
}

// machine is one machine while the storm goes on. Its goroutine alone changes it.
type machine struct {
	Machine
	storm *Storm
	mac   net.HardwareAddr
	dice  *rand.Rand
	start time.Duration // when it is switched on, after the storm began

	on       time.Duration // when it really was
	at       time.Duration // when the phase under way began
	starts   int           // how often it went through its firmware
	took     [phases]time.Duration
	reached  [phases]time.Duration // after the storm began; 0: never
	bytes    [phases]int64
	relays   map[string]int64 // bytes by relay
	finished bool
	last     error
}

// loopTime is how long firmware waits after it found nothing to boot, before it starts over.
const loopTime = 5 * time.Second

// run starts the machine again and again until it is up or ctx ends.
func (m *machine) run(ctx context.Context) {
	t := m.storm.tally
	m.on, m.relays = t.since(), map[string]int64{}
	for ctx.Err() == nil {
		m.starts++
		m.at = t.since()
		err := m.boot(ctx)
		if err == nil {
			m.finished = true
			return
		}
		if ctx.Err() != nil {
			break
		}
		m.last = err
		t.fail(m.Name, err, true)
		_ = sleep(ctx, loopTime)
	}
}

// boot is one way from the firmware to the running node.
func (m *machine) boot(ctx context.Context) error {
	if err := m.firmware(ctx); err != nil {
		return err
	}
	cmdline, stageOne, err := m.ipxe(ctx)
	if err != nil {
		return err
	}
	return m.agent(ctx, cmdline, stageOne)
}

// reach notes the end of a phase.
func (m *machine) reach(phase int, bytes int64) {
	now := m.storm.tally.since()
	m.took[phase], m.reached[phase] = now-m.at, now
	m.bytes[phase] += bytes
	m.at = now
	m.storm.tally.reached[phase].Add(1)
}

// count notes bytes that came from a relay, by its name or its address.
func (m *machine) count(relay string, n int64) {
	if name, ok := m.storm.cfg.Relays[relay]; ok {
		relay = string(name)
	}
	m.relays[relay] += n
}

// sleep waits, or ends early with the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// step puts before an error what the machine was doing.
func step(err error, format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

package firmware

import (
	"context"
	"errors"
	"time"

	agent "github.com/wulfmesh/wulfmesh/cmd/wulf-agent/image"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/storage"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// Flaws are what is wrong with a machine. The zero value is a sound one.
type Flaws struct {
	Hangs    boot.Stage    // it does nothing any more once it has reached that stage
	Resets   boot.Stage    // it starts over once it has reached that stage
	Pauses   time.Duration // how long it dawdles between its script and its kernel
	Declines bool          // it finds another machine at the address that it is given (RFC 2131 §3.1, 5)
	Memory   int64         // bytes that it has; 0 is enough for everything
	Clock    time.Duration // how far the agent's clock is off
	Disks    bool          // it takes heed of what is declared of its disks; it has none
	Breaks   boot.Stage    // its agent fails once it has reached that stage
	With     error         // what it fails with
	Robbed   bool          // somebody else claims its boot before its agent does
	Mute     bool          // it falls silent once it is up, and runs on
}

// Break makes a machine have those flaws, and no others, from its next stage on.
func (m *Machine) Break(f Flaws) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flaws = f
}

func (m *Machine) flawed() Flaws {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.flaws
}

// errReset is a machine that starts over without a word.
var errReset = errors.New("the machine resets itself")

// passes is called at a stage that was reached, and acts on the machine's flaws: it may never return before the machine
// has no power.
func (m *Machine) passes(ctx context.Context, s boot.Stage) error {
	m.reach(s)
	f := m.flawed()
	if f.Pauses > 0 && s == boot.StageScript {
		if err := sleep(ctx, f.Pauses); err != nil {
			return err
		}
	}
	switch s {
	case f.Hangs:
		m.note("hangs after %s", s)
		<-ctx.Done()
		return context.Cause(ctx)
	case f.Resets:
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
		return errReset
	case f.Breaks:
		return f.With
	}
	return nil
}

// SetBandwidth limits what the machine sends and receives, each to so many bytes a second.
func (m *Machine) SetBandwidth(bytesPerSecond int64) { m.host.SetBandwidth(bytesPerSecond) }

// mute cuts the machine off a while after it came up.
func (m *Machine) mute(ctx context.Context) {
	if sleep(ctx, time.Minute) == nil {
		m.muted.Store(true)
		m.cfg.Net.Stall(m.cfg.Name)
	}
}

// clock is the time as the agent's machine has it.
func (m *Machine) clock() time.Time { return time.Now().Add(m.flawed().Clock) }

// room is the agent's check that an image fits into memory.
func (n *node) room(m *chunk.Manifest) error {
	total := n.flawed().Memory
	if total == 0 {
		return nil
	}
	return agent.CheckRoom(m, total, total, total/10*9)
}

// disks is the agent's work on disks, of which this machine has none.
func (n *node) disks(ctx context.Context, declared *api.Storage) error {
	if declared == nil || !n.flawed().Disks {
		return nil
	}
	none := n.cfg.Dir + "/none"
	s := storage.New(storage.Config{
		Declared: *declared, Programs: storage.Own{}, Probe: func() {}, Load: func(...string) {},
		Mark: storage.Mark("test", n.params.Node), Sys: none, Dev: none, Log: n.log,
	})
	return s.Prepare(ctx)
}

// arch is the number of the machine's firmware in option 93, and its vendor class.
func (m *Machine) arch() (class string, arch uint16) {
	switch m.cfg.Firmware {
	case boot.FirmwareEFI64:
		return "PXEClient:Arch:00007:UNDI:003016", 7
	case boot.FirmwareHTTP64:
		return "HTTPClient:Arch:00016:UNDI:003016", 16
	case boot.FirmwareEFIArm64:
		return "PXEClient:Arch:00011:UNDI:003016", 11
	case boot.FirmwareOther: // RISC-V of 64 bits
		return "PXEClient:Arch:00027:UNDI:003016", 27
	}
	return "PXEClient:Arch:00000:UNDI:002001", 0
}

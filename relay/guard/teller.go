package guard

import (
	"log/slog"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// tellEvery is how often the same is recorded of one machine at most.
const tellEvery = 10 * time.Second

// Teller records and logs what becomes of machines, but not again what was told of one a moment ago: firmware asks several
// times.
type Teller struct {
	Relay    catalog.RelayName // that tells
	Protocol string            // by which machines ask
	Record   func(boot.Event)
	Log      *slog.Logger

	last Recent[catalog.HardwareAddr, telling]
}

// telling is what was told of a machine.
type telling struct {
	firmware boot.Firmware
	address  string
	err      string
	at       time.Time
}

func (t telling) same(u telling) bool {
	t.at = u.at
	return t == u
}

// Tell tells of an event, whose time and relay it fills in.
func (t *Teller) Tell(e boot.Event) {
	e.Time, e.Relay = time.Now().UTC(), t.Relay
	now := telling{e.Firmware, e.Address, e.Error, e.Time}
	if last, ok := t.last.Get(e.Hardware); ok && last.same(now) && e.Time.Sub(last.at) < tellEvery {
		return
	}
	t.last.Put(e.Hardware, now)
	t.Record(e)
	if e.Error != "" {
		t.Log.Warn(t.Protocol, "relay", t.Relay, "node", e.Node, "hardware", e.Hardware, "stage", e.Stage, "revision", e.Revision, "err", e.Error)
		return
	}
	t.Log.Info(t.Protocol, "relay", t.Relay, "node", e.Node, "hardware", e.Hardware, "stage", e.Stage, "revision", e.Revision,
		"firmware", e.Firmware, "address", e.Address)
}

package journal

import (
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Bounds of what is kept of one machine.
const (
	maxBoots  = 4  // the boot that goes on or was last, and those before
	maxEvents = 64 // of one boot

	maxRefreshes = 8 // of maxEvents: the last ones
)

// early is how long before its script a boot may have begun: what firmware does until then bears no boot ID.
const early = 10 * time.Minute

// skew is how far the clocks of relays may be apart: what one saw of the firmware may seem to come after the script that
// another handed out. No machine starts over so soon.
const skew = 2 * time.Second

// machine is what is remembered of one machine: its boots, newest first.
type machine struct {
	boots []*api.Boot
}

// add takes an event into the boot that it belongs to and returns that boot, or nil for one that is known already.
//
// Events of one boot may come over several relays, late and twice. One with a boot ID belongs to that boot. One
// without was seen before the script was handed out: it belongs to the newest boot if that has no ID yet, and
// begins a new one otherwise; the first event with an ID adopts it. forget is called for each boot that has no room any
// more, and moved for each to which or from which some of its events went.
func (m *machine) add(e *boot.Event, forget, moved func(*api.Boot)) *api.Boot {
	b := m.find(e)
	added := b == nil
	if added {
		b = &api.Boot{Node: e.Node, Hardware: e.Hardware, Boot: e.Boot, Started: e.Time}
	}
	if e.Boot != "" && (added || b.Boot == "") {
		m.reclaim(b, e, forget, moved)
	}
	if added {
		m.boots = slices.Insert(m.boots, 0, b)
		// A late event of an older boot must not pass for the newest boot.
		slices.SortStableFunc(m.boots, func(a, b *api.Boot) int { return b.Started.Compare(a.Started) })
		for len(m.boots) > maxBoots {
			forget(m.boots[len(m.boots)-1])
			m.boots = m.boots[:len(m.boots)-1]
		}
	}
	if known(b, e) {
		return nil
	}
	fold(b, e)
	return b
}

// reclaim gives a boot what firmware did before it, where that was told earlier and has been taken for the beginning of a
// later boot, for a boot of its own, or for the end of the one before.
func (m *machine) reclaim(b *api.Boot, e *boot.Event, forget, moved func(*api.Boot)) {
	begun := len(b.Events) > 0
	for _, o := range m.boots {
		named, ok := namedAt(o)
		if o == b || begun && !ok { // firmware that began anew after an earlier start
			continue
		}
		mine := func(f boot.Event) bool {
			switch before := e.Time.Sub(f.Time); {
			case f.Boot != "" || before < 0 || before >= early:
				return false
			case ok && !named.After(e.Time): // what lies before its own script, and the kernel that was sent after it
				return f.Time.Sub(named) >= skew && f.Stage.Index() < boot.StageKernel.Index()
			}
			return true
		}
		had := len(o.Events)
		for i := range o.Events {
			if mine(o.Events[i]) {
				fold(b, &o.Events[i])
			}
		}
		if o.Events = slices.DeleteFunc(o.Events, mine); len(o.Events) == had {
			continue
		}
		if len(o.Events) > 0 {
			o.Started = o.Events[0].Time
			for _, f := range slices.Backward(o.Events) {
				if counts(&f) {
					o.Last = f.Time
					break
				}
			}
		}
		moved(o)
		moved(b)
	}
	m.boots = slices.DeleteFunc(m.boots, func(o *api.Boot) bool {
		empty := o.Boot == "" && len(o.Events) == 0
		if empty {
			forget(o)
		}
		return empty
	})
}

func (m *machine) find(e *boot.Event) *api.Boot {
	if e.Boot != "" {
		for _, b := range m.boots {
			if b.Boot == e.Boot {
				return b
			}
		}
	}
	if len(m.boots) == 0 {
		return nil
	}
	if e.Boot == "" && e.Stage == boot.StageAlive { // of a node with a client of Warewulf, which knows no boots
		return m.boots[0]
	}
	if e.Boot == "" {
		for _, b := range m.boots {
			if known(b, e) { // told twice: it begins nothing
				return b
			}
		}
	}
	if ofSystem(e) {
		for _, b := range m.boots {
			if !b.Started.After(e.Time) {
				return b
			}
		}
	}
	if b := m.around(e); b != nil {
		return b
	}
	var after *api.Boot // what was seen of the boot so far came later in it
	for _, b := range m.boots {
		nameless := b.Boot == "" && e.Time.Sub(b.Last).Abs() <= early
		switch anew := e.Stage == boot.StageDHCP && e.Firmware != boot.FirmwareIPXE; {
		case b.Started.Sub(e.Time) >= skew:
			if nameless {
				after = b
			}
		case e.Boot == "" && anew && b.Stage.Index() > boot.StageDHCP.Index() && e.Time.After(b.Last):
			return after // the firmware begins anew: the machine was reset before it got its script
		case nameless:
			return b
		case e.Boot != "": // it has a name that no boot has: only the newest before it may be its own
			return nil
		}
	}
	if e.Boot != "" {
		return nil
	}
	return after
}

// ofSystem tells whether an event is the trouble that a system, or the agent, has with DHCP. It began none and is no step of
// one. Firmware says what it is, and what fetches a boot program has an address.
func ofSystem(e *boot.Event) bool {
	return e.Boot == "" && e.Stage == boot.StageDHCP && e.Firmware == boot.FirmwareNone && e.Error != "" && e.Address == ""
}

// around finds the boot with an ID that an event without one lies in, by its time: relays pass on what they saw each at
// its own pace, so what was before the script may come after what was long behind it. The kernel has no ID where another
// relay sent it than the one whose script the machine follows.
func (m *machine) around(e *boot.Event) *api.Boot {
	if at := e.Stage.Index(); e.Boot != "" || at < 0 || at > boot.StageKernel.Index() {
		return nil
	}
	for _, b := range slices.Backward(m.boots) { // of two scripts that came after it, it led to the first
		named, ok := namedAt(b)
		if !ok {
			continue
		}
		if before := named.Sub(e.Time); before >= 0 && before < early || before < 0 && -before < skew && e.Relay != b.Relay {
			return b
		}
	}
	if e.Stage != boot.StageKernel {
		return nil
	}
	for _, b := range m.boots {
		named, ok := namedAt(b)
		if !ok || !named.Before(e.Time) {
			continue
		}
		switch soon := e.Time.Sub(b.Last) < early; {
		case !e.Time.After(b.Last), b.Stage == boot.StageScript && soon:
			return b
		case b.Stage == boot.StageKernel && e.Bytes == 0 && soon: // the kernel was not sent again
			return b
		}
	}
	return nil
}

// namedAt is the time of the first event that bears the boot's ID.
func namedAt(b *api.Boot) (time.Time, bool) {
	for i := range b.Events {
		if b.Events[i].Boot != "" {
			return b.Events[i].Time, true
		}
	}
	return time.Time{}, false
}

// known tells whether a boot has an event already. What a node tells, it tells again to another relay when the answer of
// the first one is lost, and each has put its clock's time to it.
func known(b *api.Boot, e *boot.Event) bool {
	at := e.Stage.Index()
	node := e.Boot != "" && (at < 0 || at >= boot.StageStageOne.Index())
	for i := range b.Events { // events are large: they are looked at where they are
		o := &b.Events[i]
		if o.Stage != e.Stage || o.Firmware != e.Firmware || o.Message != e.Message || o.Error != e.Error {
			continue
		}
		if o.Time.Equal(e.Time) && o.Relay == e.Relay || node && o.Boot == e.Boot && o.Took == e.Took && o.Time.Sub(e.Time).Abs() < skew {
			return true
		}
	}
	return false
}

// put inserts an event behind those that were not later.
func put(b *api.Boot, e *boot.Event) {
	at := len(b.Events)
	for at > 0 && b.Events[at-1].Time.After(e.Time) {
		at--
	}
	if b.Events == nil {
		b.Events = make([]boot.Event, 0, len(boot.Stages()))
	}
	b.Events = slices.Insert(b.Events, at, *e)
}

// fold puts one more event into the summary.
func fold(b *api.Boot, e *boot.Event) {
	switch e.Stage {
	case boot.StageAlive:
		b.Seen = later(b.Seen, e.Time)
		b.Relays = with(b.Relays, e.Relay)
		refreshed(b, e)
		return
	case boot.StageRefresh:
		refresh(b, e)
		refreshed(b, e)
		return
	}
	put(b, e)
	if len(b.Events) > maxEvents { // the beginning and the end tell the most
		b.Events = slices.Delete(b.Events, maxEvents/2, maxEvents/2+1)
	}
	if ofSystem(e) && b.Stage != "" && b.Stage != boot.StageDHCP { // the boot is where it is
		b.Relays = with(b.Relays, e.Relay)
		if b.Stage != boot.StageUp && b.Stage != boot.StageFailed {
			b.Error, b.Fix = e.Error, e.Fix
		}
		return
	}
	if e.Time.Before(b.Started) {
		b.Started = e.Time
	}
	b.Last = later(b.Last, e.Time)
	if e.Stage == boot.StageUp {
		b.Seen = later(b.Seen, e.Time)
	}
	setIf(&b.Node, e.Node)
	setIf(&b.Hardware, e.Hardware)
	setIf(&b.Boot, e.Boot)
	setIf(&b.Address, e.Address)
	setIf(&b.Image, e.Image)
	setIf(&b.Revision, e.Revision)
	setIf(&b.Manifest, e.Manifest)
	setIf(&b.Without, e.Without)
	if e.Firmware != boot.FirmwareIPXE {
		setIf(&b.Firmware, e.Firmware) // iPXE is what the firmware loaded, not what it is
	}
	if e.Stage == boot.StageScript {
		b.Relay = e.Relay
	}
	b.Relays = with(with(b.Relays, e.Relay), e.From)
	stage(b, e)
}

// refresh takes in what a running node did about its runtime overlays. It is no step of the boot.
func refresh(b *api.Boot, e *boot.Event) {
	put(b, e)
	is := func(e boot.Event) bool { return e.Stage == boot.StageRefresh }
	count := 0
	for _, e := range b.Events {
		if is(e) {
			count++
		}
	}
	if count > maxRefreshes {
		at := slices.IndexFunc(b.Events, is)
		b.Events = slices.Delete(b.Events, at, at+1)
	}
	if b.Stage == "" { // all that is known of this boot: nodes begin with it when they are up
		b.Stage, b.Last, b.Seen = boot.StageUp, e.Time, e.Time
	}
}

// refreshed notes what a node says of its runtime overlays, if it has not said anything later.
func refreshed(b *api.Boot, e *boot.Event) {
	r := &api.Runtime{Revision: e.Revision, Seen: e.Time, Error: e.Error}
	if old := b.Runtime; old != nil {
		if old.Seen.After(e.Time) {
			return
		}
		r.Changed = old.Changed
	}
	if e.Stage == boot.StageRefresh {
		r.Changed = e.Time
	}
	b.Runtime = r
}

// stage moves the summary to the furthest stage. A failure stands until the same boot gets further than it had.
func stage(b *api.Boot, e *boot.Event) {
	if e.Stage == boot.StageFailed {
		if b.Stage != boot.StageFailed {
			b.FailedAt = b.Stage
		}
		b.Stage, b.Error, b.Fix = boot.StageFailed, e.Error, e.Fix
		return
	}
	reached := b.Stage
	if reached == boot.StageFailed {
		reached = b.FailedAt
	}
	if e.Stage.Index() > reached.Index() {
		b.Stage, b.FailedAt, b.Error, b.Fix = e.Stage, "", "", ""
	}
	if e.Error != "" {
		b.Error, b.Fix = e.Error, e.Fix
	}
}

func setIf[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func with(list []catalog.RelayName, r catalog.RelayName) []catalog.RelayName {
	if r == "" || slices.Contains(list, r) {
		return list
	}
	return append(slices.Clone(list), r)
}

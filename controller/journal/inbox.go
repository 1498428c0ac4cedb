package journal

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/discover"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Bounds and times of the inbox.
const (
	maxInbox    = 10_000             // machines; beyond, some are forgotten: first those that were never given an address, which a flood makes by the thousand
	inboxLife   = 7 * 24 * time.Hour // for how long a machine is remembered that asks no more
	inboxEvery  = 30 * time.Second   // how often the file is written at most; the journal's own has what came since
	inboxFormat = 1                  // of the file. History: 1 (2026-11) first
)

// inbox is what is known of machines that no node claimed when they asked. All of them are also in the journal, but there a
// machine that asks for days loses its beginning.
type inbox struct {
	mu       sync.Mutex
	machines map[catalog.HardwareAddr]*discover.Machine
	changed  bool // since the file was written
	written  time.Time
}

type inboxFile struct {
	Format   int                `json:"format"`
	Machines []discover.Machine `json:"machines"`
}

// see takes an event in, if it is of an unknown machine.
func (x *inbox) see(e boot.Event, now time.Time) {
	at := e.Stage.Index()
	if e.Node != "" || e.Hardware == "" || at < 0 || at > boot.StageScript.Index() {
		return
	}
	if _, err := catalog.ParseHardwareAddr(string(e.Hardware)); err != nil {
		return
	}
	if e.Time.After(now) { // a relay's clock is ahead: a machine must not seem to wait for ever
		e.Time = now
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	m := x.machines[e.Hardware]
	if m == nil {
		if len(x.machines) >= maxInbox {
			x.forget()
		}
		m = &discover.Machine{Hardware: e.Hardware, First: e.Time, Last: e.Time, Relay: e.Relay}
		x.put(m)
	}
	x.changed = true
	facts := catalog.Facts{}
	if e.Machine != nil {
		facts = e.Machine.Clean()
	}
	late := e.Time.Before(m.Last)
	if e.Time.Before(m.First) {
		m.First = e.Time
	}
	if e.Firmware != boot.FirmwareIPXE || m.Firmware == "" {
		m.Firmware = cmp.Or(string(e.Firmware), m.Firmware)
	}
	if late { // it fills in what is not known
		m.Facts, m.Address = facts.Merge(m.Facts), cmp.Or(m.Address, e.Address)
		return
	}
	m.Last, m.Relay, m.Facts, m.Address = e.Time, e.Relay, m.Facts.Merge(facts), cmp.Or(e.Address, m.Address)
	if e.Stage == boot.StageDHCP {
		m.Error, m.Facts.Agent = e.Error, facts.Agent // it may stand somewhere else by now
	}
}

func (x *inbox) put(m *discover.Machine) {
	if x.machines == nil {
		x.machines = map[catalog.HardwareAddr]*discover.Machine{}
	}
	x.machines[m.Hardware] = m
}

// forget makes room, for many at once so that it is rarely done.
func (x *inbox) forget() {
	all := slices.SortedFunc(maps.Values(x.machines), func(a, b *discover.Machine) int {
		if (a.Address == "") != (b.Address == "") {
			return cmp.Compare(a.Address, b.Address)
		}
		return a.Last.Compare(b.Last)
	})
	for _, m := range all[:len(all)/10] {
		delete(x.machines, m.Hardware)
	}
}

// Inbox returns the machines that no node claimed when they asked, in the order in which they were seen first; a node may
// have claimed some by now.
func (j *Journal) Inbox() []discover.Machine { return j.inbox.list(time.Now()) }

func (x *inbox) list(now time.Time) []discover.Machine {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := make([]discover.Machine, 0, len(x.machines))
	for hw, m := range x.machines {
		if now.Sub(m.Last) > inboxLife {
			delete(x.machines, hw)
			x.changed = true
			continue
		}
		all = append(all, *m)
	}
	slices.SortFunc(all, func(a, b discover.Machine) int {
		return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Hardware, b.Hardware))
	})
	return all
}

// since returns the machines that asked after a time, the last first.
func (x *inbox) since(t time.Time) []discover.Machine {
	x.mu.Lock()
	var all []discover.Machine
	for _, m := range x.machines {
		if m.Last.After(t) {
			all = append(all, *m)
		}
	}
	x.mu.Unlock()
	slices.SortFunc(all, func(a, b discover.Machine) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Hardware, b.Hardware))
	})
	return all
}

func (j *Journal) inboxFile() string { return filepath.Join(j.cfg.Dir, "inbox.json") }

// loadInbox reads what the last run left. What is damaged is left out: the machines ask again.
func (j *Journal) loadInbox() {
	b, err := os.ReadFile(j.inboxFile())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var f inboxFile
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err == nil && f.Format != inboxFormat {
		err = fault.New(fault.Corrupt, "it has format %d", f.Format)
	}
	if err != nil {
		j.cfg.Log.Warn("the inbox of unknown machines cannot be read; it fills again as they ask", "err", err)
		return
	}
	for _, m := range f.Machines[:min(len(f.Machines), maxInbox)] {
		m.Facts = m.Facts.Clean()
		j.inbox.put(&m)
	}
}

// keepInbox writes the inbox to its file, if it has changed and it is time, or the last time.
func (j *Journal) keepInbox(last bool) error {
	x, now := &j.inbox, time.Now()
	x.mu.Lock()
	due := x.changed && (last || now.Sub(x.written) >= inboxEvery)
	if due {
		x.changed, x.written = false, now
	}
	x.mu.Unlock()
	if !due {
		return nil
	}
	b, err := json.Marshal(inboxFile{inboxFormat, x.list(now)})
	if err != nil {
		return fault.Wrap(fault.Internal, err, "encoding the inbox")
	}
	return j.cfg.Disk.WriteFile(j.inboxFile(), b, 0o600)
}

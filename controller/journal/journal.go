// Package journal remembers how machines boot, from the events that relays report.
//
// This is observed state: it is kept in memory and, so that it outlives a restart, in a file; it is not
// replicated through the log. Every relay reports to every controller, so each controller's journal is complete
// as long as it runs, and a boot storm makes no entry in the log.
package journal

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
)

// Config says where a journal lies.
type Config struct {
	Name catalog.ControllerName // whose journal it is
	Dir  string                 // "" keeps it in memory only
	Disk durable.FS             // where Dir is; the zero value is the machine's own
	Log  *slog.Logger
}

// Bounds of a journal.
const (
	maxMachines = 200_000  // beyond, some are forgotten, see forget
	maxFile     = 64 << 20 // bytes of the event file before it is written anew from memory, or twice what it was then
	maxPending  = 100_000  // events waiting to be written to the file; beyond, the file misses some
	maxWatch    = 4096     // events waiting for one watcher
	flushEvery  = 2 * time.Second
	lastRetry   = 5 * time.Minute // before the file is written anew again after that failed; the first comes at the next flush
)

// Journal holds what is known of every machine's boots. All methods may be called by any number of goroutines.
type Journal struct {
	cfg   Config
	inbox inbox

	mu       sync.Mutex
	machines map[string]*machine // by hardware address, or by node where an event has none
	nodes    map[catalog.NodeName]string
	pending  []boot.Event
	lost     int // events that did not go to the file
	watchers map[*watcher]bool
	sessions *sessions
	since    time.Time // from when on it hears of everything

	// Of Run alone.
	written int64         // bytes of the file when it was last written anew
	retry   time.Time     // when that is tried again
	pause   time.Duration // before it is tried again
}

// New opens the journal and reads what it holds. A damaged end of its file, which a crash leaves, is dropped.
func New(cfg Config) (*Journal, error) {
	j := &Journal{
		cfg: cfg, machines: map[string]*machine{}, nodes: map[catalog.NodeName]string{}, watchers: map[*watcher]bool{},
		sessions: newSessions(), since: time.Now().UTC(),
	}
	if cfg.Dir == "" {
		return j, nil
	}
	if err := cfg.Disk.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := durable.Sweep(cfg.Dir); err != nil {
		return nil, err
	}
	j.loadInbox()
	return j, j.load()
}

func (j *Journal) file() string { return filepath.Join(j.cfg.Dir, "events.ndjson") }

func (j *Journal) load() error {
	f, err := os.Open(j.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening the journal: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	damaged := 0
	for lines.Scan() {
		var l line
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			damaged++
			continue
		}
		if l.Result != nil {
			j.sessions.restore(l.Result)
			continue
		}
		j.take(&l.Event)
	}
	if i, err := f.Stat(); err == nil {
		j.written = i.Size()
	}
	j.sessions.prune()
	if damaged > 0 || lines.Err() != nil {
		j.cfg.Log.Warn("journal has damaged lines; the rest is used", "lines", damaged, "err", lines.Err())
	}
	return nil
}

// Record takes events from a relay. Events that are known already are dropped. It does no I/O.
func (j *Journal) Record(events []boot.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range events {
		clip(&e)
		j.infer(&e)
		if !j.take(&e) {
			continue
		}
		for w := range j.watchers {
			w.offer(e)
		}
		if e.Stage == boot.StageAlive || j.cfg.Dir == "" {
			continue
		}
		if len(j.pending) >= maxPending {
			j.lost++
			continue
		}
		j.pending = append(j.pending, e)
	}
}

// infer takes the heart-beat of a boot that is not known to be up for the event that said so: the agent's heart begins
// to beat after that, and a relay that dies takes with it what it has not passed on yet.
func (j *Journal) infer(e *boot.Event) {
	if e.Stage != boot.StageAlive {
		return
	}
	if m := j.machines[j.key(e)]; m != nil {
		if b := m.find(e); b != nil && b.Stage == boot.StageUp {
			return
		}
	}
	e.Stage, e.Message = boot.StageUp, toldByHeartBeat
	e.Revision, e.Error = 0, "" // they are about its runtime overlays
}

// key names the machine that an event is about. A system asks with all network devices of its node, and not only with that
// which the node boots from.
func (j *Journal) key(e *boot.Event) string {
	if key := j.nodes[e.Node]; key != "" && ofSystem(e) {
		return key
	}
	return cmp.Or(string(e.Hardware), j.nodes[e.Node], "node "+string(e.Node))
}

// take puts an event in its place and reports whether it is news.
func (j *Journal) take(e *boot.Event) bool {
	j.inbox.see(*e, time.Now())
	key := j.key(e)
	m := j.machines[key]
	if m == nil {
		if len(j.machines) >= maxMachines {
			j.forget()
		}
		m = &machine{}
		j.machines[key] = m
	}
	if e.Node != "" {
		j.nodes[e.Node] = key
	}
	b := m.add(e, j.sessions.forget, func(o *api.Boot) { j.sessions.anew(key, o) })
	if b != nil {
		j.sessions.take(key, b, e)
	}
	return b != nil || e.Stage == boot.StageAlive
}

// forget drops the machines that were heard of longest ago, those that never were a node first: anybody can invent such. It
// is a tenth at once, so that it is rarely done.
func (j *Journal) forget() {
	type aged struct {
		key  string
		node bool
		last time.Time
	}
	all := make([]aged, 0, len(j.machines))
	for k, m := range j.machines {
		node := slices.ContainsFunc(m.boots, func(b *api.Boot) bool { return b.Node != "" })
		all = append(all, aged{k, node, later(m.boots[0].Last, m.boots[0].Seen)})
	}
	slices.SortFunc(all, func(a, b aged) int {
		if a.node != b.node {
			if b.node {
				return -1
			}
			return 1
		}
		return a.last.Compare(b.last)
	})
	for _, a := range all[:max(1, len(all)/10)] {
		for _, b := range j.machines[a.key].boots {
			if j.nodes[b.Node] == a.key { // and not of the machine that took its place
				delete(j.nodes, b.Node)
			}
			j.sessions.forget(b)
		}
		delete(j.machines, a.key)
	}
}

// clip bounds what a node may have written into an event.
func clip(e *boot.Event) {
	cut := func(s *string, n int) {
		if len(*s) > n {
			*s = (*s)[:n]
		}
	}
	cut(&e.Message, boot.MaxEventText)
	cut(&e.Error, boot.MaxEventText)
	cut(&e.Fix, boot.MaxEventText)
	cut(&e.Without, boot.MaxEventText)
	cut(&e.Console, boot.MaxEventConsole)
	cut(&e.Image, boot.MaxEventText)
	cut(&e.Boot, 64)
	cut(&e.Address, 64)
	if e.Machine != nil {
		facts := e.Machine.Clean()
		e.Machine = &facts
	}
}

// Boots returns the newest boot of every machine, without its events, in the order of node names; machines that
// no node claims come last.
func (j *Journal) Boots() []api.Boot {
	j.mu.Lock()
	all := make([]api.Boot, 0, len(j.machines))
	for _, m := range j.machines {
		b := *m.boots[0]
		b.Events = nil
		all = append(all, b)
	}
	j.mu.Unlock()
	slices.SortFunc(all, func(a, b api.Boot) int {
		if (a.Node == "") != (b.Node == "") {
			return cmp.Compare(b.Node, a.Node)
		}
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Hardware, b.Hardware))
	})
	return all
}

// Last returns the last boot of a node, without its events; nil if there is none.
func (j *Journal) Last(node catalog.NodeName) *api.Boot {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := j.machines[j.nodes[node]]
	if m == nil {
		return nil
	}
	b := *m.boots[0]
	b.Events = nil
	return &b
}

// Boot returns the boots of a node, or of a machine by its hardware address, newest first, with their events.
func (j *Journal) Boot(nodeOrHardware string) []api.Boot {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := j.machines[nodeOrHardware]
	if m == nil {
		m = j.machines[j.nodes[catalog.NodeName(nodeOrHardware)]]
	}
	if m == nil {
		return nil
	}
	var all []api.Boot
	for _, b := range m.boots {
		c := *b
		c.Events = slices.Clone(b.Events)
		all = append(all, c)
	}
	return all
}

// A watcher waits for events. When it falls behind, events are dropped and it is told how many.
type watcher struct {
	news    chan boot.Event
	dropped int
}

func (w *watcher) offer(e boot.Event) {
	if w.dropped > 0 {
		select {
		case w.news <- boot.Event{Time: e.Time, Message: fmt.Sprintf("%d events were left out", w.dropped)}:
			w.dropped = 0
		default:
		}
	}
	select {
	case w.news <- e:
	default:
		w.dropped++
	}
}

// Watch yields events as they come, from its call on until ctx ends. Who reads too slowly misses some, and is told so by
// an event that has a Message and no Stage. What it returns is to be iterated over once.
func (j *Journal) Watch(ctx context.Context) iter.Seq[boot.Event] {
	w := &watcher{news: make(chan boot.Event, maxWatch)}
	j.mu.Lock()
	j.watchers[w] = true
	j.mu.Unlock()
	gone := func() {
		j.mu.Lock()
		delete(j.watchers, w)
		j.mu.Unlock()
	}
	context.AfterFunc(ctx, gone) // for those who never look
	return func(yield func(boot.Event) bool) {
		defer gone()
		for {
			select {
			case e := <-w.news:
				if !yield(e) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// Run writes events to the journal's file, a few seconds' worth at a time, until ctx ends. A crash loses those:
// they are observations, and a sync for each would cost more than they are worth.
func (j *Journal) Run(ctx context.Context) error {
	if j.cfg.Dir == "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		done := false
		select {
		case <-tick.C:
		case <-ctx.Done():
			done = true
		}
		if err := errors.Join(j.flush(), j.keepInbox(done)); err != nil {
			j.cfg.Log.Warn("journal cannot be written; boots are remembered in memory only", "err", err)
		}
		if done {
			return nil
		}
	}
}

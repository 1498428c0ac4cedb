// Package feed follows the controllers' catalog and keeps the last one known, in memory and on disk, so that a
// relay boots nodes while every controller is away. It never writes to the catalog.
//
// A revision is on disk before it is served, so a relay that restarts serves nothing older than it did before.
// Run owns all goroutines; Plan and Catalog may be called by any number at once and take no lock.
package feed

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Config is what a Feed needs. All but Disk, Key, Live, Unwell, Status and Relays are required.
type Config struct {
	Dir       string                 // where the catalog and the secrets are kept
	Disk      durable.FS             // the zero value is the machine's own
	Name      catalog.RelayName      // of this relay
	Key       []byte                 // pki.KeyHash of its certificate, by which the catalog admits it; nil: the name is enough
	Cluster   string                 // whose catalog is followed; no other is taken
	Client    *api.Client            // to the controllers
	Endpoints func() []string        // of the controllers; asked anew each time
	Unwell    func() bool            // whether this relay steps back in plans; nil: it does not
	Status    func() api.RelayStatus // what is reported to the controllers; nil: nothing is
	Relays    func() int             // how many relays there are, which share what controllers can take; nil: this one alone
	Log       *slog.Logger
}

// Timings.
const (
	pollWait   = 10 * time.Second       // a controller holds a request so long for news
	pollGrace  = 8 * time.Second        // and has so long beyond it to answer
	firstRetry = 250 * time.Millisecond // after a round of controllers none of which answered; doubles
	lastRetry  = 5 * time.Second
	lonely     = 45 * time.Second // without an answer a person should know
	reportRest = time.Second      // between two changes that are reported, at least; longer where there are many relays
)

// denials is how many controllers in a row must refuse this relay before it takes itself for removed: one that
// lags behind has perhaps not heard yet that the relay joined.
const denials = 3

// Feed holds the catalog that this relay serves. Its methods may be called by any number of goroutines.
type Feed struct {
	cfg     Config
	disk    store
	view    atomic.Pointer[view]
	secrets atomic.Pointer[heldSecrets]
	tell    chan struct{} // see Tell
	removed atomic.Bool   // the controllers no longer know this relay

	confidence catalog.Confidence

	mu       sync.Mutex
	contact  time.Time         // when a controller last said that there is nothing newer
	problems map[string]string // by topic: what a person should know
}

// view is a catalog and the channel that closes when a newer one is there.
type view struct {
	catalog *catalog.Catalog
	changed chan struct{}
}

// State is how fresh the catalog is.
type State struct {
	Revision catalog.Revision
	Hash     catalog.Hash
	Contact  time.Time // when a controller last confirmed that this is the latest; zero: not since the start
	Problems []string  // what a person should know, one line each
}

// Open reads what is on disk and starts nothing. A damaged file is put aside and said in State, not an error: the
// controllers have the catalog. It fails if the directory cannot be used.
func Open(cfg Config) (*Feed, error) {
	if err := cfg.Disk.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := durable.Sweep(cfg.Dir); err != nil {
		return nil, err
	}
	f := &Feed{cfg: cfg, disk: store{dir: cfg.Dir, fs: cfg.Disk}, tell: make(chan struct{}, 1), problems: map[string]string{}}
	c, problem := f.disk.load()
	if c != nil && c.Cluster.Name != cfg.Cluster {
		c, problem = nil, "the catalog on disk is of another cluster, "+c.Cluster.Name+"; it is not used"
	}
	if c == nil {
		c = &catalog.Catalog{}
	}
	if problem != "" {
		cfg.Log.Warn(problem, "relay", cfg.Name, "revision", c.Revision)
	}
	f.say(topicDisk, problem)
	f.view.Store(&view{c, make(chan struct{})})
	f.secrets.Store(f.loadSecrets())
	return f, nil
}

// Run follows the controllers, keeps the secrets fresh and reports, until ctx ends; then it returns nil.
func (f *Feed) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { f.follow(ctx) })
	wg.Go(func() { f.followSecrets(ctx) })
	if f.cfg.Status != nil {
		wg.Go(func() { f.report(ctx) })
	}
	wg.Wait()
	return nil
}

// Catalog is the one served now. Before the first one arrived it is the empty catalog, of revision 0.
func (f *Feed) Catalog() *catalog.Catalog { return f.view.Load().catalog }

// Changed returns a channel that closes when the catalog is no longer the one that Catalog returns now. To miss
// nothing, call it before Catalog.
func (f *Feed) Changed() <-chan struct{} { return f.view.Load().changed }

// Plan answers what a machine boots, from the present catalog. Which relay answers, and whether it is well, is filled in
// here. While this relay may not serve, the error is that of Admitted.
func (f *Feed) Plan(req boot.Request) (boot.Plan, error) {
	if err := f.Admitted(); err != nil {
		return boot.Plan{}, err
	}
	req.Relay, req.Unwell = f.cfg.Name, f.unwell()
	return boot.Resolve(f.Catalog(), req)
}

func (f *Feed) unwell() bool { return f.cfg.Unwell != nil && f.cfg.Unwell() }

// Admitted tells why this relay must serve nothing: fault.Unavailable while it has no catalog, fault.Denied if the
// catalog does not admit it or the controllers no longer do. It is nil when it may serve.
func (f *Feed) Admitted() error {
	c := f.Catalog()
	if f.removed.Load() {
		return fault.New(fault.Denied, "relay %s was removed from the cluster, its controllers say", f.cfg.Name).WithFix("let it join again: wulf relay token, wulf relay join")
	}
	if c.Revision == 0 {
		return fault.New(fault.Unavailable, "relay %s has no catalog yet; no controller has answered it", f.cfg.Name)
	}
	self, ok := c.Relay(f.cfg.Name)
	if !ok {
		return fault.New(fault.Denied, "relay %s is not admitted", f.cfg.Name).WithFix("let it join: wulf relay token, wulf relay join")
	}
	if f.cfg.Key != nil && !bytes.Equal(self.Key, f.cfg.Key) {
		return fault.New(fault.Denied, "another relay has joined under the name %s", f.cfg.Name).WithFix("let this one join again under another name")
	}
	return nil
}

// State tells how fresh the catalog is and what is wrong.
func (f *Feed) State() State {
	c := f.Catalog()
	s := State{Revision: c.Revision, Hash: c.Hash}
	if err := f.Admitted(); err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.Contact = f.contact
	var topics []string
	for t := range f.problems {
		topics = append(topics, t)
	}
	slices.Sort(topics)
	for _, t := range topics {
		s.Problems = append(s.Problems, f.problems[t])
	}
	return s
}

// Unkept says why the catalog cannot be kept on disk; "" if it can.
func (f *Feed) Unkept() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.problems[topicKeep]
}

// The topics of problems.
const (
	topicDisk    = "disk"    // what was found on disk
	topicKeep    = "keep"    // what could not be written there
	topicContact = "contact" // controllers that do not answer
	topicBehind  = "behind"  // controllers that hold less than this relay
	topicDiffers = "differs" // controllers that hold something else
	topicSecrets = "secrets"
)

// say sets the problem of a topic; "" says that there is none any more. It reports whether that is news.
func (f *Feed) say(topic, problem string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.problems[topic] == problem {
		return false
	}
	if problem == "" {
		delete(f.problems, topic)
	} else {
		f.problems[topic] = problem
	}
	return true
}

// publish makes c the catalog that is served.
func (f *Feed) publish(c *catalog.Catalog) {
	old := f.view.Swap(&view{c, make(chan struct{})})
	close(old.changed)
}

// pause waits for d or until ctx ends, and reports whether it goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Package chunks keeps the chunks of one controller: those that the catalog needs are here, on a majority of the
// controllers before anything refers to them, and undamaged; those that nothing needs any more go after a while.
//
// Chunks do not pass through the replicated log. Whoever publishes an image or an overlay stores its chunks here,
// pushes them to the other controllers until a majority holds them, and only then proposes the change that names
// them. A controller that was away fetches what it lacks from the others.
package chunks

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
)

// Catalog is what the chunks must serve, as it changes.
type Catalog interface {
	// Watch returns the present catalog and a channel that is closed when there is a newer one.
	Watch() (*catalog.Catalog, <-chan struct{})
}

// Config says what a Keeper keeps and whom it asks. Zero times and rates mean the usual ones.
type Config struct {
	Self    catalog.ControllerName
	Store   chunkstore.Store // on this controller
	Catalog Catalog
	Voters  func() []catalog.ControllerName // the controllers of whom a majority must hold what the log refers to
	Peers   *api.Client                     // with this controller's certificate; its own list of endpoints is not used
	Log     *slog.Logger

	Grace   time.Duration // how long a chunk stays that nothing refers to; usually 24 h
	Scrub   int64         // bytes a second that are read to look for damage; usually 4 MiB, negative: none
	Reserve int64         // bytes of the file system left to the log: with less, no chunk is taken; 0: an eighth, at most 1.5 GiB
}

// Keeper keeps the chunks of one controller. Its methods may be called by any number of goroutines.
type Keeper struct {
	cfg   Config
	store *guard

	manifests manifests
	nudge     chan struct{} // asks for a look at what is missing
	missing   atomic.Int64  // chunks that the catalog needs and that are not here
	damaged   atomic.Int64  // chunks found damaged since the start
	aside     sync.Mutex    // one chunk is put aside at a time

	mu      sync.Mutex
	lost    []string                             // what the last look could not get, for a person
	failing map[catalog.ControllerName]time.Time // controllers that could not be asked, and when
	noticed time.Time                            // when a reader last asked for a look
}

// New returns a Keeper; Run makes it work.
func New(cfg Config) *Keeper {
	cfg.Grace = cmp.Or(cfg.Grace, 24*time.Hour)
	cfg.Scrub = cmp.Or(cfg.Scrub, 4<<20)
	k := &Keeper{
		cfg:       cfg,
		store:     newGuard(cfg.Store, cfg),
		manifests: manifests{refs: map[chunk.ID][]chunk.Ref{}},
		nudge:     make(chan struct{}, 1),
		failing:   map[catalog.ControllerName]time.Time{},
	}
	k.store.broken = func(id chunk.ID, why error) {
		k.putAside(id, why)
		k.look()
	}
	k.store.lacking = k.lookOnce
	return k
}

// Store is the controller's store, through which everybody must go who stores chunks or relies on some being here:
// what went through it is not collected for a while, referred to or not. It opens only what is whole.
func (k *Keeper) Store() chunkstore.Store { return k.store }

// Run fetches what is missing, collects what is not needed and looks for damage, until ctx ends; it returns nil then.
func (k *Keeper) Run(ctx context.Context) error {
	var g sync.WaitGroup
	g.Go(func() { k.follow(ctx) })
	g.Go(func() { k.collect(ctx) })
	if k.cfg.Scrub > 0 {
		g.Go(func() { k.scrub(ctx) })
	}
	g.Wait()
	return nil
}

// Problems are what a person should know, one line each.
func (k *Keeper) Problems() []string {
	k.mu.Lock()
	lines := slices.Clone(k.lost)
	k.mu.Unlock()
	if n := k.missing.Load(); n > 0 && len(lines) == 0 {
		lines = append(lines, fmt.Sprintf("%s of images, overlays or site files are not here yet", counted(int(n), "chunk")))
	}
	if n := k.damaged.Load(); n > 0 {
		lines = append(lines, fmt.Sprintf("%s found damaged on disk since the start and put aside; the disk may be failing", counted(int(n), "chunk")))
	}
	if err := k.store.room(0); err != nil {
		lines = append(lines, err.Error()+": no more chunks are taken")
	}
	return lines
}

// peers are the other controllers.
func (k *Keeper) peers() []*catalog.Controller {
	c, _ := k.cfg.Catalog.Watch()
	var out []*catalog.Controller
	for ctl := range c.Controllers() {
		if ctl.Name != k.cfg.Self {
			out = append(out, ctl)
		}
	}
	return out
}

// look asks follow to check what is missing.
func (k *Keeper) look() {
	select {
	case k.nudge <- struct{}{}:
	default: // it is asked already
	}
}

// lookOnce is look for readers, who may ask without end for what nobody needs.
func (k *Keeper) lookOnce() {
	k.mu.Lock()
	early := time.Since(k.noticed) < fetchAgain
	if !early {
		k.noticed = time.Now()
	}
	k.mu.Unlock()
	if !early {
		k.look()
	}
}

// sleep waits, and reports false if ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

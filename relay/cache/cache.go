// Package cache keeps chunks on a relay's disk: what the catalog's images need before anybody asks for it, and what
// is asked for besides. Relays fetch from one another along a tree that differs from chunk to chunk, so that the
// controllers send each chunk about once however many relays there are.
//
// No byte is served that was not verified: on arrival, at the first opening after the start, whenever the file is
// not the one that was verified, again after a while, and each time for readers that cannot verify by themselves
// (see Request.Strict). A damaged chunk is put aside, counted, reported, and fetched again.
package cache

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Config is what a Cache needs. Dir, Name, Catalog, Changed, Peers, Relays, Controllers, Endpoints and Log are
// required.
type Config struct {
	Dir    string
	Disk   durable.FS        // the zero value is the machine's own
	Budget int64             // bytes that chunks may take; 0: what the disk has, but for a reserve
	Name   catalog.RelayName // of this relay, its place in the trees

	Catalog func() *catalog.Catalog // the one served now
	Changed func() <-chan struct{}  // closes when Catalog returns another
	Peers   func() []Peer           // the admitted relays

	Relays      *api.Client // whose TLS expects relays; without a limit for the head of an answer: see Request.Nearer
	Controllers *api.Client // whose TLS expects controllers
	Endpoints   func() []string

	Settle time.Duration // before chunks are fetched that nobody asked for: until then Peers may not know them all
	Log    *slog.Logger
}

// Request says on whose behalf a chunk is opened.
type Request struct {
	// Strict is for readers that cannot verify what they get, as firmware cannot: the bytes are verified now, even if
	// they were a moment ago.
	Strict bool

	// Fresh is for readers that found the bytes wrong: nothing that was verified before counts.
	Fresh bool

	// Hops is how many relays the request has passed; 0 for a node's. From api.MaxHops on it is served from disk only.
	Hops int

	// Ahead is for what no node waits for.
	Ahead bool

	// Nearer, if it is there, is called every second or so in which the chunk came nearer, while it is fetched: with what
	// came, which only grows. Who waits learns from it that waiting is not in vain.
	Nearer func(progress int64)
}

// Bounds and timings.
const (
	recheck     = time.Minute    // a chunk that was verified so long ago is verified before it is served again
	scrubAge    = 24 * time.Hour // and after so long also if nobody asks for it
	maxAttempts = 3              // of opening a chunk that turns out damaged again and again
	maxMemory   = 256 << 20      // bytes of chunks in memory: those on arrival, and those that no disk would take
	maxInMemory = 32 << 20       // of one chunk
	reserve     = 64 << 20       // bytes of the disk that are left free
)

// Cache is a relay's chunks. Its methods may be called by any number of goroutines.
type Cache struct {
	born   time.Time
	cfg    Config
	store  *chunkstore.Dir
	index  *index
	holds  *holds
	coming coming
	memory *semaphore.Weighted
	verify chan struct{} // a slot a verification: hashing more at once than there are processors helps nobody
	poke   chan struct{} // something wanted may be missing; one slot

	pace      *pace
	seen      atomic.Pointer[view]
	needs     atomic.Pointer[needs]
	needsLock sync.Mutex // held while needs is made anew; no I/O happens under it

	mu        sync.Mutex
	flights   map[chunk.ID]*flight
	checks    map[chunk.ID]*check
	manifests map[chunk.ID]*chunk.Manifest // verified; at most maxManifests
	avoid     map[string]time.Time         // upstreams that failed, until when they are asked last
	searched  time.Time                    // when all manifests were last looked through for an unknown chunk
	condemned map[chunk.ID]identity        // damaged files that were dealt with
	damage    []damage                     // the last few
	unfetched error                        // why something wanted is missing
	full      error                        // why a chunk could not be kept
	fullFor   chunk.Ref                    // which
	spent     error                        // why something wanted is not fetched ahead: the budget
	gone      int                          // chunks that were missing on disk when that was noticed last
	goneAt    time.Time

	read  atomic.Int64 // manifests read so far
	count struct{ controllers, relays, served, corrupt, hashed atomic.Int64 }
}

// New opens the cache in cfg.Dir and looks what is there. It starts nothing.
func New(cfg Config) (*Cache, error) {
	store, err := chunkstore.NewDir(cfg.Dir, cfg.Disk)
	if err != nil {
		return nil, err
	}
	held := newHolds()
	c := &Cache{
		born: time.Now(),
		cfg:  cfg, store: store, index: newIndex(held.drop), holds: held, pace: newPace(),
		memory: semaphore.NewWeighted(maxMemory), verify: make(chan struct{}, max(2, runtime.NumCPU())), poke: make(chan struct{}, 1),
		flights: map[chunk.ID]*flight{}, checks: map[chunk.ID]*check{}, manifests: map[chunk.ID]*chunk.Manifest{}, avoid: map[string]time.Time{}, condemned: map[chunk.ID]identity{},
	}
	c.needs.Store(&needs{})
	for ref, err := range store.All(context.Background()) {
		if err != nil {
			return nil, err
		}
		c.index.add(ref)
	}
	return c, nil
}

// Run fetches what the catalog needs as it changes, and verifies in the background, until ctx ends; then it returns
// nil.
func (c *Cache) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { c.warm(ctx) })
	wg.Go(func() { c.scrub(ctx) })
	wg.Wait()
	c.holds.expire(time.Now().Add(time.Second)) // all of them
	return nil
}

// Open opens a chunk, fetching it if need be. The bytes of the File were verified. Errors are fault.NotFound if
// nobody has it, fault.Unavailable if nobody who may have it answers, fault.Full if there is no room for it.
func (c *Cache) Open(ctx context.Context, ref chunk.Ref, req Request) (chunkstore.File, error) {
	f, err := c.open(ctx, ref, req)
	if err != nil {
		return nil, err
	}
	c.count.served.Add(1)
	if req.Hops > 0 {
		f = c.leaving(ctx, f, ref.ID, req)
	}
	return f, nil
}

func (c *Cache) open(ctx context.Context, ref chunk.Ref, req Request) (chunkstore.File, error) {
	var last error
	for range maxAttempts {
		f, err := c.openLocal(ctx, ref, how{strict: req.Strict, fresh: req.Fresh, hold: req.Strict && !req.Fresh})
		if err == nil {
			return f, nil
		}
		if ctx.Err() != nil {
			return nil, fault.Wrap(fault.Unavailable, ctx.Err(), "opening chunk %s", ref.ID.Short())
		}
		if last = err; !errors.Is(err, fault.NotFound) && !errors.Is(err, fault.Corrupt) {
			// A disk that cannot be read does not keep nodes from booting, as long as somebody else can.
			c.cfg.Log.Error("a chunk cannot be read here", "relay", c.cfg.Name, "chunk", ref.ID.Short(), "err", err)
			c.discard(ref.ID)
		}
		if f, err = c.obtain(ctx, ref, req); err != nil || f != nil {
			return f, err
		}
	}
	return nil, fault.Wrap(fault.Unavailable, last, "chunk %s was damaged %d times in a row", ref.ID.Short(), maxAttempts)
}

// ReadAll returns the bytes of a chunk of at most limit bytes, verified.
func (c *Cache) ReadAll(ctx context.Context, ref chunk.Ref, limit int64) ([]byte, error) {
	if ref.Size > limit {
		return nil, fault.New(fault.Invalid, "chunk %s has %d bytes, more than the %d expected at most", ref.ID.Short(), ref.Size, limit)
	}
	for range maxAttempts {
		f, err := c.open(ctx, ref, Request{})
		if err != nil {
			return nil, err
		}
		b := make([]byte, ref.Size)
		_, err = f.ReadAt(b, 0)
		good := err == nil && chunk.Of(b) == ref.ID
		if !good {
			c.condemn(ref.ID, f)
		}
		f.Close()
		if good {
			return b, nil
		}
	}
	return nil, fault.New(fault.Unavailable, "chunk %s was damaged %d times in a row", ref.ID.Short(), maxAttempts)
}

// Has tells whether the chunk is on disk, without looking at its bytes.
func (c *Cache) Has(id chunk.ID) bool { return c.index.has(id) }

// wake has the missing chunks looked for.
func (c *Cache) wake() {
	select {
	case c.poke <- struct{}{}:
	default:
	}
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

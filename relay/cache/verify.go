package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// check is a verification under way; those who want the same file verified meanwhile wait for it.
type check struct {
	file identity
	done chan struct{}
	err  error
}

// damage is a chunk that was found damaged.
type damage struct {
	id    chunk.ID
	where string // "on disk", or who sent it
	at    time.Time
}

const onDisk = "on disk"

const (
	maxCondemned   = 1024          // files known to be damaged
	maxDamage      = 4             // told in Problems
	damageTold     = 6 * time.Hour // for so long
	maxQuarantined = 16            // damaged chunks kept for people to look at
)

// how says how far what was verified before counts.
type how struct {
	strict bool // see Request
	fresh  bool
	hold   bool // the pages are kept in memory, so that the next one need not look again
}

// openLocal opens a chunk that is on disk and sees to it that its bytes are right. A damaged one is gone when it
// returns fault.Corrupt.
func (c *Cache) openLocal(ctx context.Context, ref chunk.Ref, how how) (chunkstore.File, error) {
	f, err := c.store.Open(ctx, ref.ID)
	if err != nil {
		if errors.Is(err, fault.NotFound) && c.index.has(ref.ID) {
			c.vanished()
		}
		return nil, err
	}
	if err := c.ensure(ctx, ref, f, how); err != nil {
		if errors.Is(err, fault.Corrupt) {
			c.condemn(ref.ID, f)
		}
		f.Close()
		return nil, err
	}
	c.index.use(ref.ID)
	return f, nil
}

// vanished looks which chunks are gone from the disk, after one was found to be: somebody removed them under the cache, or
// mounted something over it. They are fetched again before anybody asks.
func (c *Cache) vanished() {
	gone := 0
	for _, ref := range c.index.unverifiedSince(time.Now()) {
		if _, err := os.Stat(c.store.Path(ref.ID)); errors.Is(err, os.ErrNotExist) {
			c.index.remove(ref.ID)
			gone++
		}
	}
	if gone == 0 {
		return
	}
	c.cfg.Log.Error("chunks are gone from the disk; they are fetched again", "relay", c.cfg.Name, "chunks", gone)
	c.mu.Lock()
	c.gone, c.goneAt = gone, time.Now()
	c.mu.Unlock()
	c.wake()
}

// ensure verifies the open file unless its bytes are known to be right.
func (c *Cache) ensure(ctx context.Context, ref chunk.Ref, f chunkstore.File, how how) error {
	file, ok := f.Content().(*os.File)
	if !ok {
		return fault.New(fault.Internal, "chunk %s is not in a file", ref.ID.Short())
	}
	id, err := identify(file)
	if err != nil {
		return fmt.Errorf("chunk %s: %w", ref.ID.Short(), err)
	}
	if id.size != ref.Size {
		return fault.New(fault.Corrupt, "chunk %s has %d bytes on disk, not %d", ref.ID.Short(), id.size, ref.Size)
	}
	if !how.fresh && c.holds.has(ref.ID, id) {
		return nil
	}
	known := c.index.known(ref.ID)
	if !how.strict && known.file == id && time.Since(known.at) < recheck {
		return nil
	}
	return c.check(ctx, ref, f, id, how.hold)
}

// check reads the open file and compares its digest. A verification of the same file that is under way already is
// as good as one of our own.
func (c *Cache) check(ctx context.Context, ref chunk.Ref, f chunkstore.File, id identity, hold bool) error {
	for {
		c.mu.Lock()
		k, running := c.checks[ref.ID]
		if !running {
			k = &check{file: id, done: make(chan struct{})}
			c.checks[ref.ID] = k
		}
		c.mu.Unlock()
		if !running {
			k.err = c.lookAt(ctx, ref, f, id, hold)
			c.mu.Lock()
			delete(c.checks, ref.ID)
			c.mu.Unlock()
			close(k.done)
			if k.err == nil {
				c.index.judge(ref.ID, id, time.Now())
			}
			return k.err
		}
		select {
		case <-k.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if k.file == id && (k.err == nil || errors.Is(k.err, fault.Corrupt)) {
			return k.err
		}
	}
}

// lookAt verifies an open file, and holds its pages from before that on, if they are to be held and can be.
func (c *Cache) lookAt(ctx context.Context, ref chunk.Ref, f chunkstore.File, id identity, hold bool) error {
	select {
	case c.verify <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.verify }()
	file, ok := f.Content().(*os.File)
	if !ok || !hold {
		return c.hash(ctx, ref, f)
	}
	locked := c.holds.lock(ref.ID, id, file)
	err := c.hash(ctx, ref, f)
	if locked == nil {
		return err
	}
	if now, changed := identify(file); err != nil || changed != nil || now != id {
		c.holds.forget(locked)
		return err
	}
	c.holds.keep(locked)
	if !c.index.has(ref.ID) { // it went meanwhile
		c.holds.drop(ref.ID)
	}
	return nil
}

// hash reads all of an open file, beside its position, and compares the digest.
func (c *Cache) hash(ctx context.Context, ref chunk.Ref, f chunkstore.File) error {
	c.count.hashed.Add(1)
	v := chunk.NewVerifier(ref)
	buf := make([]byte, min(256<<10, max(ref.Size, 1)))
	for at := int64(0); at < ref.Size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadAt(buf[:min(int64(len(buf)), ref.Size-at)], at)
		if _, bad := v.Write(buf[:n]); bad != nil {
			return bad
		}
		if at += int64(n); err != nil && err != io.EOF {
			return fmt.Errorf("reading chunk %s: %w", ref.ID.Short(), err)
		}
		if n == 0 {
			break
		}
	}
	return v.Verify()
}

// condemn puts a chunk whose open file is damaged aside, counts and tells it: once, however many readers found it.
func (c *Cache) condemn(id chunk.ID, f chunkstore.File) {
	file, ok := f.Content().(*os.File)
	if !ok {
		return
	}
	bad, err := identify(file)
	if err != nil {
		return
	}
	bad.ctime = syscall.Timespec{} // putting it aside changes that
	c.mu.Lock()
	again := c.condemned[id] == bad
	if len(c.condemned) >= maxCondemned {
		clear(c.condemned)
	}
	c.condemned[id] = bad
	c.mu.Unlock()
	if again {
		return
	}
	c.report(id, onDisk)
	if now, err := os.Open(c.store.Path(id)); err == nil {
		present, err := identify(now)
		present.ctime = bad.ctime
		now.Close()
		if err == nil && present != bad {
			return // a good one took its place meanwhile
		}
	}
	c.discard(id)
}

// report counts a damaged chunk and tells it.
func (c *Cache) report(id chunk.ID, where string) {
	c.count.corrupt.Add(1)
	c.cfg.Log.Error("a chunk is damaged; it is fetched again", "relay", c.cfg.Name, "chunk", id, "where", where)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.damage = append(c.damage, damage{id, where, time.Now()})
	c.damage = c.damage[max(0, len(c.damage)-maxDamage):]
}

// discard takes a chunk that cannot be used out of every reader's way.
func (c *Cache) discard(id chunk.ID) {
	c.index.remove(id)
	if err := c.store.Quarantine(id); err != nil {
		c.cfg.Log.Error("a damaged chunk cannot be put aside", "relay", c.cfg.Name, "chunk", id, "err", err)
		if err := c.store.Delete(context.Background(), id); err != nil {
			c.cfg.Log.Error("a damaged chunk cannot be removed", "relay", c.cfg.Name, "chunk", id, "err", err)
		}
	}
	c.prune()
	c.wake()
}

// prune keeps the damaged chunks that were put aside few: on a failing disk they would fill it.
func (c *Cache) prune() {
	dir := filepath.Join(c.cfg.Dir, "damaged")
	files, err := os.ReadDir(dir)
	if err != nil || len(files) <= maxQuarantined {
		return
	}
	age := func(e os.DirEntry) time.Time {
		if i, err := e.Info(); err == nil {
			return i.ModTime()
		}
		return time.Time{}
	}
	slices.SortFunc(files, func(a, b os.DirEntry) int { return age(a).Compare(age(b)) })
	for _, f := range files[:len(files)-maxQuarantined] {
		_ = os.Remove(filepath.Join(dir, f.Name())) // tried again with the next one
	}
}

// Timings of the scrub.
const (
	scrubPass = 10 * time.Minute // between looks for what is due
	scrubRate = 8 << 20          // bytes a second
)

// scrub verifies what was not verified for a day, slowly.
func (c *Cache) scrub(ctx context.Context) {
	for pause(ctx, scrubPass) {
		c.holds.expire(time.Now().Add(-holdTime))
		for _, ref := range c.index.unverifiedSince(time.Now().Add(-scrubAge)) {
			if f, err := c.openLocal(ctx, ref, how{strict: true, fresh: true}); err == nil {
				f.Close()
			}
			if !pause(ctx, time.Duration(float64(ref.Size)/scrubRate*float64(time.Second))) {
				return
			}
		}
	}
}

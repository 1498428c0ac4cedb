package cache

import (
	"container/list"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// index knows which chunks are on disk, when each was last asked for, and what is known of its bytes.
type index struct {
	mu      sync.Mutex
	entries map[chunk.ID]*list.Element // of *entry
	recent  *list.List                 // the one asked for last comes first
	bytes   int64
	gone    func(chunk.ID) // is told of chunks that are no longer there
}

type entry struct {
	ref     chunk.Ref
	verdict verdict
}

// verdict says that the bytes of a file were right. A file that was changed through the file system since is
// another one; a disk that changes bytes by itself is why a verdict gets old.
type verdict struct {
	file identity
	at   time.Time // zero: never since the start
}

// identity is what a file has that no write leaves as it was: writing sets the change time, which no program can set.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func identify(f *os.File) (identity, error) {
	info, err := f.Stat()
	if err != nil {
		return identity{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return identity{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}

func newIndex(gone func(chunk.ID)) *index {
	return &index{entries: map[chunk.ID]*list.Element{}, recent: list.New(), gone: gone}
}

func (x *index) add(ref chunk.Ref) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.entries[ref.ID]; ok {
		return
	}
	x.entries[ref.ID] = x.recent.PushFront(&entry{ref: ref})
	x.bytes += ref.Size
}

func (x *index) remove(id chunk.ID) {
	defer x.gone(id) // who looks whether it is here still does so after he did what must be undone then
	x.mu.Lock()
	defer x.mu.Unlock()
	if e, ok := x.entries[id]; ok {
		x.bytes -= x.recent.Remove(e).(*entry).ref.Size
		delete(x.entries, id)
	}
}

func (x *index) has(id chunk.ID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.entries[id]
	return ok
}

// size returns the size of a chunk that is on disk.
func (x *index) size(id chunk.ID) (int64, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e, ok := x.entries[id]
	if !ok {
		return 0, false
	}
	return e.Value.(*entry).ref.Size, true
}

// total returns how many chunks there are and how many bytes they have.
func (x *index) total() (chunks int, bytes int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.entries), x.bytes
}

// use notes that a chunk was asked for.
func (x *index) use(id chunk.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e, ok := x.entries[id]; ok {
		x.recent.MoveToFront(e)
	}
}

// judge notes that the bytes of a file were right at a time, and known tells the last such note.
func (x *index) judge(id chunk.ID, file identity, at time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e, ok := x.entries[id]; ok {
		e.Value.(*entry).verdict = verdict{file, at}
	}
}

func (x *index) known(id chunk.ID) verdict {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e, ok := x.entries[id]; ok {
		return e.Value.(*entry).verdict
	}
	return verdict{}
}

// oldest returns the chunk that was asked for longest ago among those that may go; false if none may.
func (x *index) oldest(mayGo func(chunk.ID) bool) (chunk.Ref, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for e := x.recent.Back(); e != nil; e = e.Prev() {
		if ref := e.Value.(*entry).ref; mayGo(ref.ID) {
			return ref, true
		}
	}
	return chunk.Ref{}, false
}

// hold tells how many of some chunks are on disk, how many bytes they have, and when the one was verified that was
// verified longest ago.
func (x *index) hold(refs []chunk.Ref) (n int, bytes int64, verified time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, ref := range refs {
		e, ok := x.entries[ref.ID]
		if !ok {
			continue
		}
		if at := e.Value.(*entry).verdict.at; n == 0 || at.Before(verified) {
			verified = at
		}
		n, bytes = n+1, bytes+ref.Size
	}
	return n, bytes, verified
}

// unverifiedSince lists the chunks whose bytes were not looked at since a time.
func (x *index) unverifiedSince(t time.Time) []chunk.Ref {
	x.mu.Lock()
	defer x.mu.Unlock()
	var refs []chunk.Ref
	for _, e := range x.entries {
		if n := e.Value.(*entry); n.verdict.at.Before(t) {
			refs = append(refs, n.ref)
		}
	}
	return refs
}

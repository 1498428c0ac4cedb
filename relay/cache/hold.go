package cache

import (
	"container/list"
	"context"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
)

// Firmware verifies nothing, so a file is hashed before it is sent to it. That has to be done again and again only because
// the disk may give other bytes the next time. Pages that are locked into memory before they are hashed are not read
// from the disk again: what was right stays right until somebody writes to the file, which changes its identity. So
// what firmware asks for is locked, as long as there is room, and hashed once; see docs/adr/0033.
const (
	holdShare = 4                // of the machine's memory a quarter may be locked
	maxHolds  = 16384            // files
	holdTime  = 15 * time.Minute // without a reader, after which pages are let go
	holdAgain = time.Minute      // after which the system is asked again that would not lock
)

// steady are the file systems by which reading a file gives the pages that are mapped: on others a read may go past them.
var steady = []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC}

// holds are the files whose pages are locked.
type holds struct {
	limit int64

	mu     sync.Mutex
	of     map[chunk.ID]*list.Element // of *hold
	recent *list.List                 // the one asked for last comes first
	bytes  int64                      // locked, or about to be
	unable time.Time                  // until when nothing is locked, because the system would not
}

// hold is a file whose pages are locked. Nothing reads them here: to read a mapping of a file that became shorter would
// end the program.
type hold struct {
	id    chunk.ID
	file  identity
	pages []byte
	used  time.Time
}

func newHolds() *holds {
	h := &holds{of: map[chunk.ID]*list.Element{}, recent: list.New()}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		h.limit = int64(info.Totalram) * int64(info.Unit) / holdShare
	}
	return h
}

// has tells whether the pages of a file have been locked since they were verified.
func (h *holds) has(id chunk.ID, file identity) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.of[id]
	if e == nil || e.Value.(*hold).file != file {
		return false
	}
	e.Value.(*hold).used = time.Now()
	h.recent.MoveToFront(e)
	return true
}

// Held opens a chunk that was verified and whose pages have been locked since: it costs next to nothing. It is false for any
// other one, which Open opens. It never blocks for long.
func (c *Cache) Held(ref chunk.Ref) (chunkstore.File, bool) {
	f, err := c.store.Open(context.Background(), ref.ID)
	if err != nil {
		return nil, false
	}
	if file, ok := f.Content().(*os.File); ok {
		if id, err := identify(file); err == nil && id.size == ref.Size && c.holds.has(ref.ID, id) {
			c.index.use(ref.ID)
			c.count.served.Add(1)
			return f, true
		}
	}
	f.Close()
	return nil, false
}

// lock locks the pages of an open file, which is to be verified then, at the cost of what was asked for longest ago; nil: it
// cannot be.
func (h *holds) lock(id chunk.ID, file identity, f *os.File) *hold {
	var fs unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &fs) != nil || !slices.Contains(steady, int64(fs.Type)) || !h.room(id, file.size) {
		return nil
	}
	pages, err := unix.Mmap(int(f.Fd()), 0, int(file.size), unix.PROT_READ, unix.MAP_SHARED)
	if err == nil {
		if err = unix.Mlock(pages); err != nil {
			_ = unix.Munmap(pages)
		}
	}
	if err != nil { // more than the limit for locked memory, mostly
		h.mu.Lock()
		defer h.mu.Unlock()
		h.bytes -= file.size
		h.unable = time.Now().Add(holdAgain)
		return nil
	}
	return &hold{id: id, file: file, pages: pages, used: time.Now()}
}

// room lets go what was asked for longest ago, and what is known of the same chunk, until a file may be locked. False: it
// may not be; others, which are about to be, need the room.
func (h *holds) room(id chunk.ID, size int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if size == 0 || size > h.limit || time.Now().Before(h.unable) {
		return false
	}
	h.remove(h.of[id])
	for h.recent.Len() > 0 && (h.bytes+size > h.limit || h.recent.Len() >= maxHolds) {
		h.remove(h.recent.Back())
	}
	if h.bytes+size > h.limit {
		return false
	}
	h.bytes += size
	return true
}

// keep keeps what was locked and then verified, and forget lets it go.
func (h *holds) keep(l *hold) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(h.of[l.id])
	h.of[l.id] = h.recent.PushFront(l)
}

func (h *holds) forget(l *hold) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bytes -= l.file.size
	_ = unix.Munmap(l.pages) // unlocks them, too
}

func (h *holds) remove(e *list.Element) {
	if e == nil {
		return
	}
	l := h.recent.Remove(e).(*hold)
	delete(h.of, l.id)
	h.bytes -= l.file.size
	_ = unix.Munmap(l.pages)
}

// drop lets the pages of a chunk go: a file that is locked keeps its place on the disk when it is deleted.
func (h *holds) drop(id chunk.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(h.of[id])
}

// expire lets the pages go that nobody has asked for since a time.
func (h *holds) expire(since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for e := h.recent.Back(); e != nil && e.Value.(*hold).used.Before(since); e = h.recent.Back() {
		h.remove(e)
	}
}

// held is how many bytes are locked.
func (h *holds) held() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bytes
}

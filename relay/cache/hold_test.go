package cache

import (
	"bytes"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// holding opens a cache with one chunk in a directory.
func holding(t *testing.T, dir string) (*Cache, chunk.Ref, []byte) {
	t.Helper()
	c, err := New(Config{Dir: dir, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.holds.expire(time.Now().Add(time.Second)) })
	body := bytes.Repeat([]byte("wulfmesh"), 100_000)
	ref := chunk.RefOf(body)
	if err := c.store.Put(t.Context(), ref, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	c.index.add(ref)
	return c, ref, body
}

func (c *Cache) touch(t *testing.T, ref chunk.Ref, req Request) {
	t.Helper()
	f, err := c.Open(t.Context(), ref, req)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func needsLocking(t *testing.T, c *Cache, ref chunk.Ref) {
	t.Helper()
	if c.touch(t, ref, Request{Strict: true}); c.holds.held() == 0 {
		t.Skip("this system or file system locks no pages for us")
	}
}

// What firmware fetches is hashed once, and then only if somebody has written to it.
func TestHeldChunksAreHashedOnce(t *testing.T) {
	c, ref, body := holding(t, t.TempDir())
	needsLocking(t, c, ref)
	if n := c.holds.held(); n != ref.Size {
		t.Errorf("%d bytes are held, of %d", n, ref.Size)
	}
	hashed := c.count.hashed.Load()
	for range 10 {
		c.touch(t, ref, Request{Strict: true})
		c.touch(t, ref, Request{})
	}
	if n := c.count.hashed.Load() - hashed; n != 0 {
		t.Errorf("a chunk that is held was hashed %d times", n)
	}
	c.touch(t, ref, Request{Strict: true, Fresh: true})
	if n := c.count.hashed.Load() - hashed; n != 1 {
		t.Errorf("for a reader that found it wrong it was hashed %d times", n)
	}
	if err := os.WriteFile(c.store.Path(ref.ID), body, 0o600); err != nil {
		t.Fatal(err)
	}
	c.touch(t, ref, Request{Strict: true})
	if n := c.count.hashed.Load() - hashed; n != 2 {
		t.Errorf("after it was written to, it was hashed %d times", n)
	}
}

// What is held is opened without further ado, until somebody writes to it.
func TestHeldChunksAreAtHand(t *testing.T) {
	c, ref, body := holding(t, t.TempDir())
	if f, ok := c.Held(ref); ok {
		f.Close()
		t.Error("a chunk that nobody verified is at hand")
	}
	needsLocking(t, c, ref)
	f, ok := c.Held(ref)
	if !ok {
		t.Fatal("a chunk whose pages are locked is not at hand")
	}
	f.Close()
	if err := os.WriteFile(c.store.Path(ref.ID), body, 0o600); err != nil {
		t.Fatal(err)
	}
	if f, ok := c.Held(ref); ok {
		f.Close()
		t.Error("a chunk that somebody wrote to is at hand")
	}
}

// A mapping keeps a file on the disk that was deleted, and memory that nobody needs.
func TestHeldPagesAreLetGo(t *testing.T) {
	c, ref, _ := holding(t, t.TempDir())
	needsLocking(t, c, ref)
	c.index.remove(ref.ID)
	if n := c.holds.held(); n != 0 {
		t.Errorf("of a chunk that is gone %d bytes are held", n)
	}
	c.index.add(ref)
	c.touch(t, ref, Request{Strict: true})
	c.holds.expire(time.Now().Add(-holdTime))
	if c.holds.held() == 0 {
		t.Error("what was asked for a moment ago is let go")
	}
	c.holds.expire(time.Now().Add(time.Second))
	if n := c.holds.held(); n != 0 {
		t.Errorf("%d bytes that nobody asks for are held", n)
	}
	c.holds.limit = ref.Size - 1
	if c.touch(t, ref, Request{Strict: true}); c.holds.held() != 0 {
		t.Error("more is held than may be")
	}
}

// Many files that are verified at once lock no more than may be locked.
func TestWhatIsAboutToBeHeldCounts(t *testing.T) {
	c, ref, _ := holding(t, t.TempDir())
	needsLocking(t, c, ref)
	f, err := os.Open(c.store.Path(ref.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file, err := identify(f)
	if err != nil {
		t.Fatal(err)
	}
	c.holds.limit = 2 * ref.Size
	other := func(i byte) chunk.ID { return chunk.ID{i} }
	one, two, three := c.holds.lock(other(1), file, f), c.holds.lock(other(2), file, f), c.holds.lock(other(3), file, f)
	if one == nil || two == nil || three != nil || c.holds.held() != 2*ref.Size {
		t.Errorf("locked: %v %v %v, in all %d bytes", one != nil, two != nil, three != nil, c.holds.held())
	}
	c.holds.forget(one)
	c.holds.keep(two)
	if three = c.holds.lock(other(3), file, f); three == nil || c.holds.held() != 2*ref.Size {
		t.Errorf("locked: %v, in all %d bytes", three != nil, c.holds.held())
	}
	c.holds.forget(three)
	c.holds.drop(other(2))
	if n := c.holds.held(); n != 0 {
		t.Errorf("%d bytes are held by nobody", n)
	}
}

// The disk gives other bytes than were written, as disks do that fail. Those that are held come from memory, whatever is
// done to get rid of them; those that are not are found.
func TestHeldPagesAreNotReadAgain(t *testing.T) {
	dir, disk := mounted(t)
	c, ref, body := holding(t, dir)
	needsLocking(t, c, ref)
	c.holds.drop(ref.ID)
	rot(t, c, ref, disk)
	if got := pages(t, c, ref); bytes.Equal(got, body) {
		t.Skip("this disk cannot be made to rot")
	}
	rot(t, c, ref, disk) // that undoes it
	c.touch(t, ref, Request{Strict: true})
	rot(t, c, ref, disk)
	if got := pages(t, c, ref); !bytes.Equal(got, body) {
		t.Error("pages that are held were read from the disk again")
	}
	c.touch(t, ref, Request{Strict: true})
	if n := c.count.corrupt.Load(); n != 0 {
		t.Errorf("%d chunks are said to be damaged", n)
	}
}

// pages are the bytes of a chunk's file as they are read now.
func pages(t *testing.T, c *Cache, ref chunk.Ref) []byte {
	t.Helper()
	b, err := os.ReadFile(c.store.Path(ref.ID))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rot inverts bytes of a chunk on the disk below the file system, and has the kernel forget what it can of the file.
func rot(t *testing.T, c *Cache, ref chunk.Ref, disk string) {
	t.Helper()
	f, err := os.Open(c.store.Path(ref.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	needle := []byte("wulfmeshwulfmeshwulfmeshwulfmesh")
	inverted := make([]byte, len(needle))
	for i, b := range needle {
		inverted[i] = ^b
	}
	at, with := bytes.Index(raw, inverted), needle
	if at < 0 {
		at, with = bytes.Index(raw, needle), inverted
	}
	d, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.WriteAt(with, int64(at)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}

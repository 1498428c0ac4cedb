package cache

import (
	"bytes"
	"io"
	"io/fs"
	"sync"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
)

// held is a chunk in memory, until everybody has closed it. Some may read it while it comes.
type held struct {
	b    []byte
	free func()

	mu    sync.Mutex
	more  sync.Cond // something below has changed
	refs  int
	got   int   // bytes that came; the last one counts once all are verified
	ended error // why no more come; io.EOF when all have
}

func newHeld(size int64, free func()) *held {
	h := &held{b: make([]byte, size), free: free, refs: 1}
	h.more.L = &h.mu
	return h
}

// fill reads the chunk and verifies it.
func (h *held) fill(r io.Reader, ref chunk.Ref) error {
	v := chunk.NewVerifier(ref)
	n, err := io.ReadFull(io.TeeReader(&growing{r, h}, v), h.b)
	if err = wrongLength(r, v, n, ref, err); err != nil {
		h.end(err)
		return err
	}
	h.end(io.EOF)
	return nil
}

// growing tells the readers of a held what is read into it.
type growing struct {
	r io.Reader
	h *held
}

func (g *growing) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	g.h.mu.Lock()
	defer g.h.mu.Unlock()
	g.h.got += n
	g.h.more.Broadcast()
	return n, err
}

func (h *held) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = err
	h.more.Broadcast()
}

// whole tells whether all of it is there.
func (h *held) whole() bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended == io.EOF
}

// wait waits until bytes from off on are there, and returns them; the error says why no more come.
func (h *held) wait(off int64) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		there := int64(min(h.got, len(h.b)-1))
		if h.ended == io.EOF {
			there = int64(len(h.b))
		}
		switch {
		case off < there:
			return h.b[off:there], nil
		case h.ended != nil:
			return nil, h.ended
		}
		h.more.Wait()
	}
}

// open returns a reader; none if there is nothing in memory. The caller knows of somebody who holds it still.
func (h *held) open() chunkstore.File {
	if h == nil {
		return nil
	}
	h.retain()
	return &heldFile{Reader: bytes.NewReader(h.b), h: h}
}

// openPart returns a reader of what comes, which calls leave when it is closed.
func (h *held) openPart(leave func()) chunkstore.File {
	h.retain()
	return &partFile{h: h, close: sync.OnceFunc(func() {
		h.release()
		leave()
	})}
}

func (h *held) retain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refs++
}

func (h *held) release() {
	h.mu.Lock()
	h.refs--
	last := h.refs == 0
	h.mu.Unlock()
	if last {
		h.free()
	}
}

// heldFile is a chunkstore.File.
type heldFile struct {
	*bytes.Reader
	h    *held
	once sync.Once
}

func (f *heldFile) Close() error           { f.once.Do(f.h.release); return nil }
func (f *heldFile) Content() io.ReadSeeker { return f.Reader }

// partFile is a chunkstore.File whose bytes may be to come. Reading waits for them, and fails when they do not come.
type partFile struct {
	h     *held
	off   int64
	close func()
}

func (f *partFile) Read(p []byte) (int, error) {
	b, err := f.h.wait(f.off)
	n := copy(p, b)
	f.off += int64(n)
	return n, err
}

func (f *partFile) ReadAt(p []byte, off int64) (int, error) {
	return io.ReadFull(&partFile{h: f.h, off: off}, p)
}

func (f *partFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.off
	case io.SeekEnd:
		offset += f.Size()
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	f.off = offset
	return offset, nil
}

func (f *partFile) Size() int64            { return int64(len(f.h.b)) }
func (f *partFile) Close() error           { f.close(); return nil }
func (f *partFile) Content() io.ReadSeeker { return f }

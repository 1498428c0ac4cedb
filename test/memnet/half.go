package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// half is one direction of a stream: a bounded queue of bytes, each readable from the time it arrives. One end writes,
// the other reads. Its lock is held for moments only and is locked after Network.mu, never before it.
type half struct {
	mu      sync.Mutex
	cond    *sync.Cond
	queue   ring
	ready   int       // bytes at the front of queue that have arrived
	coming  []arrival // the bytes behind them
	last    time.Time // when the latest of them arrives
	fin     bool      // no byte comes after those
	held    bool      // the network carries nothing now
	writing bool      // a Write is under way; others wait, so that theirs are not mixed with it

	readErr, writeErr error // why reading, writing is over
	readBy, writeBy   deadline
	alarm             alarm
}

// arrival is a run of bytes that come together.
type arrival struct {
	size int
	at   time.Time
}

func newHalf(window int) *half {
	h := &half{queue: ring{most: window}}
	h.cond = sync.NewCond(&h.mu)
	return h
}

// read waits for bytes, for the end, for an error or the deadline.
func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.readErr != nil:
			return 0, h.readErr
		case h.readBy.expired:
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		}
		ended := h.advance(time.Now())
		if h.ready > 0 {
			n := h.queue.pop(p[:min(len(p), h.ready)])
			h.ready -= n
			h.cond.Broadcast() // there is room again
			return n, nil
		}
		if ended {
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

// advance counts what has arrived as ready and asks to be woken for what has not. It tells whether the end has come.
func (h *half) advance(now time.Time) (ended bool) {
	if h.held {
		return false
	}
	for len(h.coming) > 0 && !h.coming[0].at.After(now) {
		h.ready += h.coming[0].size
		h.coming = h.coming[1:]
	}
	switch {
	case len(h.coming) > 0:
		h.alarm.wake(h.coming[0].at, h.cond)
	case h.fin && h.last.After(now):
		h.alarm.wake(h.last, h.cond)
	case h.fin:
		return true
	}
	return false
}

// write queues all of p, at most `most` bytes at a time, waiting for room. due says when bytes sent now arrive.
func (h *half) write(p []byte, most int, due func(size int) time.Time) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	mine, done := false, 0
	defer func() {
		if mine {
			h.writing = false
			h.cond.Broadcast()
		}
	}()
	for {
		switch {
		case mine && done == len(p):
			return done, nil
		case h.writeErr != nil:
			return done, h.writeErr
		case h.fin:
			return done, os.NewSyscallError("write", syscall.EPIPE) // after CloseWrite
		case h.readErr != nil && !h.held:
			return done, os.NewSyscallError("write", syscall.EPIPE) // the reader is gone
		case h.writeBy.expired:
			return done, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		}
		if mine = mine || !h.writing; mine {
			h.writing = true
			if n := min(len(p)-done, most, h.queue.room()); n > 0 {
				h.queue.push(p[done : done+n])
				h.expect(n, due(n))
				done += n
				continue
			}
		}
		h.cond.Wait()
	}
}

// expect notes when the bytes just queued arrive; a stream never overtakes itself.
func (h *half) expect(size int, at time.Time) {
	if at.Before(h.last) {
		at = h.last
	}
	h.last = at
	if n := len(h.coming); n > 0 && h.coming[n-1].at.Equal(at) {
		h.coming[n-1].size += size
	} else {
		h.coming = append(h.coming, arrival{size, at})
	}
	h.cond.Broadcast()
}

// finish marks the end of the stream, which the reader sees at the time given or after the last byte.
func (h *half) finish(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fin {
		return
	}
	h.fin = true
	if at.After(h.last) {
		h.last = at
	}
	h.cond.Broadcast()
}

// failReader ends reading with err, and writing with EPIPE. The first error stays.
func (h *half) failReader(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readErr == nil {
		h.readErr = err
		h.queue, h.ready, h.coming = ring{most: h.queue.most}, 0, nil
		h.alarm.stop()
		h.readBy.stop()
	}
	h.cond.Broadcast()
}

// failWriter ends writing with err; what was written can be read. The first error stays.
func (h *half) failWriter(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.writeErr == nil {
		h.writeErr = err
		h.writeBy.stop()
	}
	h.cond.Broadcast()
}

// hold stops and restarts the flow of bytes to the reader.
func (h *half) hold(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = on
	h.cond.Broadcast()
}

func (h *half) setDeadline(d *deadline, t time.Time, closed *atomic.Bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if closed.Load() {
		return net.ErrClosed
	}
	d.reset(t, h.cond)
	return nil
}

// ring is a queue of bytes that grows up to most.
type ring struct {
	buf         []byte
	start, size int
	most        int
}

func (r *ring) room() int { return r.most - r.size }

// push appends p, for which there is room.
func (r *ring) push(p []byte) {
	if need := r.size + len(p); need > len(r.buf) {
		grown := make([]byte, min(r.most, max(2*len(r.buf), need, 4<<10)))
		n := r.pop(grown)
		r.buf, r.start, r.size = grown, 0, n
	}
	at := (r.start + r.size) % len(r.buf)
	n := copy(r.buf[at:], p)
	copy(r.buf, p[n:])
	r.size += len(p)
}

// pop moves bytes from the front into p and returns how many.
func (r *ring) pop(p []byte) int {
	want := min(len(p), r.size)
	if want == 0 {
		return 0
	}
	n := copy(p[:want], r.buf[r.start:])
	copy(p[n:want], r.buf)
	r.start = (r.start + want) % len(r.buf)
	r.size -= want
	return want
}

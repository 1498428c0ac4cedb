// Package chunkstore keeps chunks by their ID: on disk, in memory, or behind something that keeps them elsewhere.
//
// A store never holds bytes under an ID that is not theirs at the time they were put. What happens to a disk
// later is found by Verify.
package chunkstore

import (
	"context"
	"io"
	"iter"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Store keeps chunks. All methods may be called by any number of goroutines at once. Errors are faults:
// NotFound for a chunk that is not there, Corrupt for bytes that do not match, Full where no room is left.
type Store interface {
	// Stat returns the size of a chunk in bytes without reading it.
	Stat(ctx context.Context, id chunk.ID) (int64, error)
	// Open opens a chunk for reading. Its bytes stay readable until it is closed, even if it is deleted meanwhile.
	Open(ctx context.Context, id chunk.ID) (File, error)
	// Put reads a chunk, verifies it against ref and keeps it. When it returns nil the chunk is as durable as the
	// store can make it; when it fails, nothing is left. A chunk that is there already is not read again.
	Put(ctx context.Context, ref chunk.Ref, r io.Reader) error
	// Delete removes a chunk; one that is not there is no error.
	Delete(ctx context.Context, id chunk.ID) error
	// All yields every chunk in no special order, those put or deleted meanwhile perhaps; after an error it ends.
	All(ctx context.Context) iter.Seq2[chunk.Ref, error]
}

// File is an open chunk.
type File interface {
	io.ReadSeekCloser
	io.ReaderAt
	// Size is the number of bytes.
	Size() int64
	// Content is what http.ServeContent should be given: an *os.File where there is one, so that the kernel sends
	// it without a copy. It shares the File's position.
	Content() io.ReadSeeker
}

// Verify reads a chunk and checks that its bytes are those of its ID; fault.Corrupt if they are not.
func Verify(ctx context.Context, s Store, id chunk.ID) error {
	f, err := s.Open(ctx, id)
	if err != nil {
		return err
	}
	defer f.Close()
	v := chunk.NewVerifier(chunk.Ref{ID: id, Size: f.Size()})
	if _, err := io.Copy(v, ctxReader{ctx, f}); err != nil {
		return fault.Wrap(fault.KindOf(err), err, "reading chunk %s", id.Short())
	}
	return v.Verify()
}

// ReadAll reads a whole chunk of at most limit bytes and verifies it.
func ReadAll(ctx context.Context, s Store, id chunk.ID, limit int64) ([]byte, error) {
	f, err := s.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Size() > limit {
		return nil, fault.New(fault.Invalid, "chunk %s has %d bytes, more than the %d expected at most", id.Short(), f.Size(), limit)
	}
	b := make([]byte, f.Size())
	if _, err := io.ReadFull(ctxReader{ctx, f}, b); err != nil {
		return nil, fault.Wrap(fault.Corrupt, err, "reading chunk %s", id.Short())
	}
	if chunk.Of(b) != id {
		return nil, fault.New(fault.Corrupt, "chunk %s is damaged", id.Short())
	}
	return b, nil
}

// ctxReader ends a long read when nobody waits for it any more.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

package chunkstore

import (
	"bytes"
	"context"
	"io"
	"iter"
	"maps"
	"sync"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Mem is a Store in memory.
type Mem struct {
	mu     sync.Mutex
	chunks map[chunk.ID][]byte
}

// NewMem returns an empty store.
func NewMem() *Mem { return &Mem{chunks: map[chunk.ID][]byte{}} }

func (m *Mem) get(id chunk.ID) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.chunks[id]
	if !ok {
		return nil, notHere(id)
	}
	return b, nil
}

func notHere(id chunk.ID) error { return fault.New(fault.NotFound, "chunk %s is not here", id.Short()) }

// Stat implements Store.
func (m *Mem) Stat(_ context.Context, id chunk.ID) (int64, error) {
	b, err := m.get(id)
	return int64(len(b)), err
}

// Open implements Store.
func (m *Mem) Open(_ context.Context, id chunk.ID) (File, error) {
	b, err := m.get(id)
	if err != nil {
		return nil, err
	}
	return memFile{bytes.NewReader(b)}, nil
}

// Put implements Store.
func (m *Mem) Put(ctx context.Context, ref chunk.Ref, r io.Reader) error {
	if _, err := m.get(ref.ID); err == nil {
		return nil
	}
	var b bytes.Buffer
	v := chunk.NewVerifier(ref)
	if _, err := io.Copy(io.MultiWriter(v, &b), ctxReader{ctx, r}); err != nil {
		return err
	}
	if err := v.Verify(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.chunks[ref.ID] = b.Bytes()
	return nil
}

// Delete implements Store.
func (m *Mem) Delete(_ context.Context, id chunk.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.chunks, id)
	return nil
}

// All implements Store.
func (m *Mem) All(context.Context) iter.Seq2[chunk.Ref, error] {
	m.mu.Lock()
	all := maps.Clone(m.chunks)
	m.mu.Unlock()
	return func(yield func(chunk.Ref, error) bool) {
		for id, b := range all {
			if !yield(chunk.Ref{ID: id, Size: int64(len(b))}, nil) {
				return
			}
		}
	}
}

type memFile struct{ *bytes.Reader }

func (f memFile) Close() error           { return nil }
func (f memFile) Content() io.ReadSeeker { return f.Reader }

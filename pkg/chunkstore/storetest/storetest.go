// Package storetest is what every chunkstore.Store must do, as tests.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Test holds the stores that open makes to the contract. Each store must be new and empty.
func Test(t *testing.T, open func(t *testing.T) chunkstore.Store) {
	ctx := context.Background()
	body := bytes.Repeat([]byte("wulfmesh "), 5000)
	ref := chunk.RefOf(body)

	t.Run("put, stat, open, all, delete", func(t *testing.T) {
		s := open(t)
		for range 2 { // the second Put finds it there
			if err := s.Put(ctx, ref, bytes.NewReader(body)); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := s.Stat(ctx, ref.ID); err != nil || n != ref.Size {
			t.Errorf("Stat = %d, %v", n, err)
		}
		f, err := s.Open(ctx, ref.ID)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := s.Delete(ctx, ref.ID); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, body) || f.Size() != ref.Size {
			t.Errorf("an open chunk reads %d bytes (Size %d) after its deletion, %v", len(got), f.Size(), err)
		}
		if _, err := f.Content().Seek(3, io.SeekStart); err != nil {
			t.Error(err)
		}
		if _, err := s.Stat(ctx, ref.ID); !errors.Is(err, fault.NotFound) {
			t.Errorf("Stat of a deleted chunk: %v", err)
		}
		if err := s.Delete(ctx, ref.ID); err != nil {
			t.Errorf("second Delete: %v", err)
		}
	})
	t.Run("an absent chunk is not found", func(t *testing.T) {
		s := open(t)
		if _, err := s.Open(ctx, ref.ID); !errors.Is(err, fault.NotFound) {
			t.Errorf("Open: %v", err)
		}
		if err := chunkstore.Verify(ctx, s, ref.ID); !errors.Is(err, fault.NotFound) {
			t.Errorf("Verify: %v", err)
		}
	})
	t.Run("wrong bytes leave nothing", func(t *testing.T) {
		s := open(t)
		flipped := bytes.Clone(body)
		flipped[100] ^= 1
		for name, b := range map[string][]byte{"flipped": flipped, "short": body[:len(body)-1], "long": append(bytes.Clone(body), 0), "empty": nil} {
			if err := s.Put(ctx, ref, bytes.NewReader(b)); !errors.Is(err, fault.Corrupt) {
				t.Errorf("%s: Put = %v", name, err)
			}
		}
		if err := s.Put(ctx, ref, io.MultiReader(bytes.NewReader(body[:10]), failing{})); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a reader that fails: %v", err)
		}
		for r, err := range s.All(ctx) {
			t.Errorf("All yields %v, %v", r, err)
		}
	})
	t.Run("all yields each chunk once", func(t *testing.T) {
		s := open(t)
		want := map[chunk.Ref]bool{}
		for i := range 20 {
			b := body[i:]
			want[chunk.RefOf(b)] = true
			if err := s.Put(ctx, chunk.RefOf(b), bytes.NewReader(b)); err != nil {
				t.Fatal(err)
			}
		}
		for r, err := range s.All(ctx) {
			if err != nil || !want[r] {
				t.Errorf("All yields %v, %v", r, err)
			}
			delete(want, r)
			if err := chunkstore.Verify(ctx, s, r.ID); err != nil {
				t.Error(err)
			}
		}
		if len(want) > 0 {
			t.Errorf("%d chunks are missing from All", len(want))
		}
	})
	t.Run("the same chunk put by many at once", func(t *testing.T) {
		s := open(t)
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if err := s.Put(ctx, ref, bytes.NewReader(body)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if b, err := chunkstore.ReadAll(ctx, s, ref.ID, ref.Size); err != nil || !bytes.Equal(b, body) {
			t.Errorf("ReadAll: %d bytes, %v", len(b), err)
		}
	})
	t.Run("a cancelled put leaves nothing", func(t *testing.T) {
		s := open(t)
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if err := s.Put(gone, ref, bytes.NewReader(body)); !errors.Is(err, context.Canceled) {
			t.Errorf("Put = %v", err)
		}
		if _, err := s.Stat(ctx, ref.ID); !errors.Is(err, fault.NotFound) {
			t.Errorf("Stat = %v", err)
		}
	})
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

package chunkstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore/storetest"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestMem(t *testing.T) {
	storetest.Test(t, func(*testing.T) chunkstore.Store { return chunkstore.NewMem() })
}

func TestDir(t *testing.T) {
	storetest.Test(t, func(t *testing.T) chunkstore.Store { return openDir(t, t.TempDir(), durable.FS{}) })
}

func openDir(t *testing.T, path string, disk durable.FS) *chunkstore.Dir {
	d, err := chunkstore.NewDir(path, disk)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFullDiskIsSaidAndLeavesNothing(t *testing.T) {
	body := []byte("body")
	for _, op := range []durable.Op{durable.OpCreate, durable.OpWrite, durable.OpSync, durable.OpRename} {
		dir := t.TempDir()
		d := openDir(t, dir, durable.FS{Hook: func(o durable.Op, path string) error {
			if o == op {
				return syscall.ENOSPC
			}
			return nil
		}})
		if err := d.Put(context.Background(), chunk.RefOf(body), bytes.NewReader(body)); !errors.Is(err, fault.Full) {
			t.Errorf("%s: Put = %v", op, err)
		}
		if err := d.Try(); !errors.Is(err, fault.Full) {
			t.Errorf("%s: Try = %v", op, err)
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
		hidden, _ := filepath.Glob(filepath.Join(dir, "*", ".*"))
		if n := len(files) + len(hidden); n != 0 {
			t.Errorf("%s: %d files are left", op, n)
		}
	}
}

func TestTryLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := openDir(t, dir, durable.FS{}).Try(); err != nil {
		t.Error(err)
	}
	if files, _ := os.ReadDir(dir); len(files) > 0 {
		t.Errorf("%v are left", files)
	}
}

func TestDamageOnDiskIsFoundAndPutAside(t *testing.T) {
	ctx := context.Background()
	body := bytes.Repeat([]byte("body"), 1000)
	ref := chunk.RefOf(body)
	d := openDir(t, t.TempDir(), durable.FS{})
	if err := d.Put(ctx, ref, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(d.Path(ref.ID), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0}, 1234); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := chunkstore.Verify(ctx, d, ref.ID); !errors.Is(err, fault.Corrupt) {
		t.Fatalf("Verify = %v", err)
	}
	if err := d.Quarantine(ref.ID); err != nil {
		t.Fatal(err)
	}
	if err := d.Put(ctx, ref, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	if err := chunkstore.Verify(ctx, d, ref.ID); err != nil {
		t.Fatalf("after it was fetched again: %v", err)
	}
}

func put(t *testing.T, s chunkstore.Store, body []byte) chunk.Ref {
	t.Helper()
	ref := chunk.RefOf(body)
	if err := s.Put(t.Context(), ref, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	return ref
}

// A name that the disk refuses to keep is none: another controller would count the chunk as a copy.
func TestAChunkIsNotHereBeforeItsNameIsDurable(t *testing.T) {
	body := []byte("body")
	ref := chunk.RefOf(body)
	var d *chunkstore.Dir
	var fail error
	asked := 0
	path := t.TempDir()
	d = openDir(t, path, durable.FS{Hook: func(op durable.Op, dir string) error {
		if op != durable.OpSyncDir || d == nil || dir == path {
			return nil
		}
		asked++
		if _, err := d.Stat(t.Context(), ref.ID); !errors.Is(err, fault.NotFound) {
			t.Errorf("while its directory is synced: Stat = %v", err)
		}
		return fail
	}})
	fail = syscall.EIO
	if err := d.Put(t.Context(), ref, bytes.NewReader(body)); !errors.Is(err, syscall.EIO) {
		t.Errorf("Put = %v", err)
	}
	if _, err := os.Stat(d.Path(ref.ID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what Put failed with is left: %v", err)
	}
	fail = nil
	put(t, d, body)
	if _, err := d.Stat(t.Context(), ref.ID); err != nil || asked != 2 {
		t.Errorf("afterwards: %v; synced %d times", err, asked)
	}
}

func TestADirectoryThatWasRemovedIsMadeAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chunks")
	d := openDir(t, path, durable.FS{})
	put(t, d, []byte("a"))
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	for ref, err := range d.All(t.Context()) {
		t.Errorf("All yields %v, %v", ref, err)
	}
	if _, percent, err := d.Free(); err != nil || percent == 0 {
		t.Errorf("Free: %v %%, %v", percent, err)
	}
	put(t, d, []byte("a"))
}

func TestATruncatedChunkIsReplaced(t *testing.T) {
	d := openDir(t, t.TempDir(), durable.FS{})
	ref := put(t, d, []byte("body"))
	if err := os.Truncate(d.Path(ref.ID), 2); err != nil {
		t.Fatal(err)
	}
	put(t, d, []byte("body"))
	if err := chunkstore.Verify(t.Context(), d, ref.ID); err != nil {
		t.Error(err)
	}
}

func TestDamagedChunksArePutAsideInABoundedNumber(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path, durable.FS{})
	for i := range 40 {
		ref := put(t, d, []byte{byte(i)})
		if err := d.Quarantine(ref.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(path, "damaged", ref.ID.String())); err != nil {
			t.Errorf("the last one is not kept: %v", err)
		}
	}
	if kept, _ := filepath.Glob(filepath.Join(path, "damaged", "*")); len(kept) != 16 {
		t.Errorf("%d damaged chunks are kept", len(kept))
	}
}

func TestATouchedChunkIsYoung(t *testing.T) {
	d := openDir(t, t.TempDir(), durable.FS{})
	ref := put(t, d, []byte("body"))
	old := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(d.Path(ref.ID), old, old); err != nil {
		t.Fatal(err)
	}
	if at, err := d.Stored(ref.ID); err != nil || time.Since(at) < 47*time.Hour {
		t.Errorf("Stored = %v, %v", at, err)
	}
	if err := d.Touch(ref.ID); err != nil {
		t.Fatal(err)
	}
	if at, err := d.Stored(ref.ID); err != nil || time.Since(at) > time.Hour {
		t.Errorf("touched: Stored = %v, %v", at, err)
	}
	if err := d.Touch(chunk.RefOf([]byte("nowhere")).ID); !errors.Is(err, fault.NotFound) {
		t.Errorf("Touch of what is not here: %v", err)
	}
}

// What many controllers of a large site hold: it must be looked through in seconds.
func BenchmarkManyChunks(b *testing.B) {
	const n = 300_000
	path := b.TempDir()
	d, err := chunkstore.NewDir(path, durable.FS{})
	if err != nil {
		b.Fatal(err)
	}
	ids := make([]chunk.ID, n)
	for i := range ids {
		ids[i] = chunk.Of(binary.BigEndian.AppendUint32(nil, uint32(i)))
		if err := os.MkdirAll(filepath.Dir(d.Path(ids[i])), 0o700); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(d.Path(ids[i]), nil, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			if _, err := chunkstore.NewDir(path, durable.FS{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			for _, err := range d.All(b.Context()) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("stat", func(b *testing.B) {
		for b.Loop() {
			for _, id := range ids {
				if _, err := d.Stat(b.Context(), id); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

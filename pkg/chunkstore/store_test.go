package chunkstore_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

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
		files, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
		hidden, _ := filepath.Glob(filepath.Join(dir, "*", ".*"))
		if n := len(files) + len(hidden); n != 0 {
			t.Errorf("%s: %d files are left", op, n)
		}
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

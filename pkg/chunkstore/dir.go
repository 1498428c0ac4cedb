package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Dir is a Store in a directory: a file a chunk, named by its ID, in 256 directories by its first two digits.
// Chunks are not secret by themselves, but the directory's owner decides who reads them.
type Dir struct {
	path string
	disk durable.FS
}

// NewDir opens the store in path, which it makes if need be, and removes what a crash left half-written.
func NewDir(path string, disk durable.FS) (*Dir, error) {
	if err := disk.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	d := &Dir{path, disk}
	for i := range 256 {
		if _, err := durable.Sweep(d.shard(byte(i))); err != nil {
			return nil, fmt.Errorf("cleaning chunk store: %w", err)
		}
	}
	return d, nil
}

func (d *Dir) shard(b byte) string { return filepath.Join(d.path, fmt.Sprintf("%02x", b)) }

// Path is the file in which the chunk lies, if it is here.
func (d *Dir) Path(id chunk.ID) string { return filepath.Join(d.shard(id[0]), id.String()) }

// Stat implements Store.
func (d *Dir) Stat(_ context.Context, id chunk.ID) (int64, error) {
	i, err := os.Stat(d.Path(id))
	if err != nil {
		return 0, explain(err, id)
	}
	return i.Size(), nil
}

// Open implements Store.
func (d *Dir) Open(_ context.Context, id chunk.ID) (File, error) {
	f, err := os.Open(d.Path(id))
	if err != nil {
		return nil, explain(err, id)
	}
	i, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, explain(err, id)
	}
	return dirFile{f, i.Size()}, nil
}

func explain(err error, id chunk.ID) error {
	if errors.Is(err, fs.ErrNotExist) {
		return notHere(id)
	}
	return fmt.Errorf("chunk %s: %w", id.Short(), err)
}

// Put implements Store.
func (d *Dir) Put(ctx context.Context, ref chunk.Ref, r io.Reader) error {
	if n, err := d.Stat(ctx, ref.ID); err == nil && n == ref.Size {
		return nil
	}
	if err := d.disk.MkdirAll(d.shard(ref.ID[0]), 0o700); err != nil {
		return err
	}
	f, err := d.disk.Create(d.Path(ref.ID), 0o600)
	if err != nil {
		return err
	}
	defer f.Abort() // does nothing after Commit
	v := chunk.NewVerifier(ref)
	if _, err := io.Copy(io.MultiWriter(v, f), ctxReader{ctx, r}); err != nil {
		return fmt.Errorf("storing chunk %s: %w", ref.ID.Short(), err)
	}
	if err := v.Verify(); err != nil {
		return err
	}
	return f.Commit()
}

// Stored is when the chunk was put here.
func (d *Dir) Stored(id chunk.ID) (time.Time, error) {
	i, err := os.Stat(d.Path(id))
	if err != nil {
		return time.Time{}, explain(err, id)
	}
	return i.ModTime(), nil
}

// Delete implements Store.
func (d *Dir) Delete(_ context.Context, id chunk.ID) error {
	if err := os.Remove(d.Path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain(err, id)
	}
	return nil
}

// All implements Store.
func (d *Dir) All(ctx context.Context) iter.Seq2[chunk.Ref, error] {
	return func(yield func(chunk.Ref, error) bool) {
		for i := range 256 {
			files, err := os.ReadDir(d.shard(byte(i)))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				yield(chunk.Ref{}, fmt.Errorf("listing chunks: %w", err))
				return
			}
			for _, e := range files {
				id, err := chunk.ParseID(e.Name())
				if err != nil {
					continue // being written
				}
				info, err := e.Info()
				if err != nil {
					continue // deleted meanwhile
				}
				if ctx.Err() != nil {
					yield(chunk.Ref{}, ctx.Err())
					return
				}
				if !yield(chunk.Ref{ID: id, Size: info.Size()}, nil) {
					return
				}
			}
		}
	}
}

// Free tells how much room the store's file system has.
func (d *Dir) Free() (bytes int64, percent float64, err error) { return d.disk.Free(d.path) }

// Quarantine moves a damaged chunk aside, out of every reader's way, where a person may look at it.
// Only the last one of each ID is kept. One that is not there is no error.
func (d *Dir) Quarantine(id chunk.ID) error {
	dir := filepath.Join(d.path, "damaged")
	if err := d.disk.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Rename(d.Path(id), filepath.Join(dir, id.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Internal, err, "putting damaged chunk %s aside", id.Short())
	}
	return nil
}

type dirFile struct {
	*os.File
	size int64
}

func (f dirFile) Size() int64            { return f.size }
func (f dirFile) Content() io.ReadSeeker { return f.File }

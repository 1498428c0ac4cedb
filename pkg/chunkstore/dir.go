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
	"sync"
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

	mu      sync.Mutex
	placing map[chunk.ID]chan struct{} // chunks whose names are being made durable, closed then: until that they are not here
}

// maxDamaged is how many damaged chunks are kept for a person to look at.
const maxDamaged = 16

// NewDir opens the store in path, which it makes if need be, and removes what a crash left half-written. What a crash
// left whole, but without a durable name, is here for good afterwards.
func NewDir(path string, disk durable.FS) (*Dir, error) {
	if err := disk.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	d := &Dir{path: path, disk: disk, placing: map[chunk.ID]chan struct{}{}}
	for i := range 256 {
		shard := d.shard(byte(i))
		if _, err := durable.Sweep(shard); err != nil {
			return nil, fmt.Errorf("cleaning chunk store: %w", err)
		}
		if err := disk.SyncDir(shard); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return d, nil
}

func (d *Dir) shard(b byte) string { return filepath.Join(d.path, fmt.Sprintf("%02x", b)) }

// Path is the file in which the chunk lies, if it is here.
func (d *Dir) Path(id chunk.ID) string { return filepath.Join(d.shard(id[0]), id.String()) }

// Stat implements Store.
func (d *Dir) Stat(_ context.Context, id chunk.ID) (int64, error) {
	d.mu.Lock()
	_, placing := d.placing[id]
	d.mu.Unlock()
	if placing {
		return 0, notHere(id)
	}
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
	return d.place(ref, f)
}

// place gives a chunk its name, one of those who brought it at once. Whoever asks for the chunk meanwhile is told that it
// is not here: he may count it as a copy that survives a power cut.
func (d *Dir) place(ref chunk.Ref, f *durable.File) error {
	done := make(chan struct{})
	for {
		d.mu.Lock()
		other, is := d.placing[ref.ID]
		if !is {
			break
		}
		d.mu.Unlock()
		<-other
	}
	d.placing[ref.ID] = done
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.placing, ref.ID)
		close(done)
	}()
	if i, err := os.Stat(d.Path(ref.ID)); err == nil && i.Size() == ref.Size {
		return nil // the other has done it
	}
	err := f.Commit()
	if err != nil {
		_ = os.Remove(d.Path(ref.ID)) // it may have its name, but not for good
	}
	return err
}

// Touch notes that somebody relies on the chunk: Stored is now.
func (d *Dir) Touch(id chunk.ID) error {
	now := time.Now()
	if err := os.Chtimes(d.Path(id), now, now); err != nil {
		return explain(err, id)
	}
	return nil
}

// Stored is when the chunk was put here or last touched.
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

// Free tells how much room the store's file system has. A directory that somebody removed is made again.
func (d *Dir) Free() (bytes int64, percent float64, err error) {
	if err := d.disk.MkdirAll(d.path, 0o700); err != nil {
		return 0, 0, err
	}
	return d.disk.Free(d.path)
}

// Try says why nothing can be written here; nil if something can.
func (d *Dir) Try() error {
	if err := d.disk.MkdirAll(d.path, 0o700); err != nil {
		return err
	}
	path := filepath.Join(d.path, "try")
	if err := d.disk.WriteFile(path, []byte("chunks can be kept here\n"), 0o600); err != nil {
		return err
	}
	return os.Remove(path)
}

// Quarantine moves a damaged chunk aside, out of every reader's way, where a person may look at it.
// Only the last one of each ID is kept, and maxDamaged in all. One that is not there is no error.
func (d *Dir) Quarantine(id chunk.ID) error {
	dir := filepath.Join(d.path, "damaged")
	if err := d.disk.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Rename(d.Path(id), filepath.Join(dir, id.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Internal, err, "putting damaged chunk %s aside", id.Short())
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "looking through the damaged chunks")
	}
	for extra := len(files) - maxDamaged; extra > 0 && len(files) > 0; files = files[1:] {
		if files[0].Name() == id.String() {
			continue
		}
		if err := os.Remove(filepath.Join(dir, files[0].Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.Internal, err, "removing a damaged chunk")
		}
		extra--
	}
	return nil
}

type dirFile struct {
	*os.File
	size int64
}

func (f dirFile) Size() int64            { return f.size }
func (f dirFile) Content() io.ReadSeeker { return f.File }

package workdir

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// maxWhole is up to which size a chunk is verified before anything of it is unpacked. A longer one is one large file, and
// is verified while it is written: nothing in the directory is used before all of it is.
const maxWhole = 64 << 20

// Unpack unpacks a version, with what nodes are not given, into an empty root. Progress is told the bytes of chunks done, by
// several goroutines. A file system that cannot hold an extended attribute is an error: a version made of the directory
// would lack it.
func Unpack(ctx context.Context, root string, m *chunk.Manifest, open segment.Opener, progress func(done, total int64)) error {
	var lost atomic.Pointer[string]
	u, err := segment.NewUnpacker(root, segment.UnpackOptions{Owners: true, Lost: func(path, attribute string) {
		lost.Store(new(attribute + " of /" + path))
	}})
	if err != nil {
		return err
	}
	defer u.Close()
	var total int64
	for _, s := range append(m.Segments[:len(m.Segments):len(m.Segments)], m.Aside...) {
		total += s.Size
	}
	var done atomic.Int64
	one := func(ctx context.Context, s chunk.Segment) error {
		if err := unpackOne(ctx, u, open, s); err != nil {
			return err
		}
		progress(done.Add(s.Size), total)
		return nil
	}
	for _, part := range [][]chunk.Segment{m.Segments, m.Aside} {
		if len(part) == 0 {
			continue
		}
		if err := one(ctx, part[0]); err != nil { // the directories of the others
			return err
		}
		g, working := errgroup.WithContext(ctx)
		g.SetLimit(2 * runtime.GOMAXPROCS(0)) // while one unpacks, another waits for the network
		for _, s := range part[1:] {
			g.Go(func() error { return one(working, s) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	var extras io.Reader
	if !m.Extras.ID.IsZero() {
		b, err := whole(ctx, open, m.Extras)
		if err != nil {
			return err
		}
		extras = bytes.NewReader(b)
	}
	if err := u.Finish(extras); err != nil {
		return err
	}
	if what := lost.Load(); what != nil {
		return fault.New(fault.Invalid, "the file system of the work directory cannot hold %s", *what).WithFix("choose one that can: --work-dir DIRECTORY")
	}
	return nil
}

func unpackOne(ctx context.Context, u *segment.Unpacker, open segment.Opener, s chunk.Segment) error {
	if s.Size <= maxWhole {
		b, err := whole(ctx, open, s.Ref)
		if err != nil {
			return err
		}
		return u.Unpack(ctx, bytes.NewReader(b), s)
	}
	r, err := open(ctx, s.Ref)
	if err != nil {
		return err
	}
	defer r.Close()
	v := chunk.NewVerifier(s.Ref)
	in := io.TeeReader(r, v)
	if err := u.Unpack(ctx, in, s); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return fault.Wrap(fault.Unavailable, err, "reading chunk %s", s.ID.Short())
	}
	return v.Verify()
}

// whole reads a chunk and verifies it.
func whole(ctx context.Context, open segment.Opener, ref chunk.Ref) ([]byte, error) {
	r, err := open(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := make([]byte, ref.Size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "reading chunk %s", ref.ID.Short())
	}
	if chunk.Of(b) != ref.ID {
		return nil, fault.New(fault.Corrupt, "chunk %s came damaged", ref.ID.Short())
	}
	return b, nil
}

// Over writes a small tree over what is in a root.
func Over(ctx context.Context, root string, top segment.Source) error {
	b, err := segment.Pack(ctx, top, 1)
	if err != nil {
		return err
	}
	u, err := segment.NewUnpacker(root, segment.UnpackOptions{Owners: true})
	if err != nil {
		return err
	}
	defer u.Close()
	s := chunk.Segment{Ref: chunk.RefOf(b), Files: len(top.Entries()), Unpacked: segment.ArchiveSize(top)}
	if err := u.Unpack(ctx, bytes.NewReader(b), s); err != nil {
		return err
	}
	return u.Finish(nil)
}

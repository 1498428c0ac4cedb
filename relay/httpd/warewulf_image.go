package httpd

import (
	"context"
	"io"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
	"github.com/wulfmesh/wulfmesh/relay/cache"
)

// Bounds of what is read out of images. An open image is some hundred bytes for each of its paths; who unpacks one needs a
// processor, so that few at once are served sooner than many.
const (
	maxImages    = 4
	maxUnpacking = 64
)

// images are the images that were looked into last.
type images struct {
	cfg Config

	mu   sync.Mutex
	last []*opened // the last used one is last
}

// opened is an image whose file index was read.
type opened struct {
	id    chunk.ID
	load  sync.Once
	err   error
	m     *chunk.Manifest
	image *segment.Image
	tree  fs.FS
	sizes []int64 // see segment.Image.PlainSizes
}

// open returns an image. Several who ask for one at once wait for the first of them.
func (x *images) open(ctx context.Context, id chunk.ID) (*opened, error) {
	x.mu.Lock()
	n := slices.IndexFunc(x.last, func(o *opened) bool { return o.id == id })
	o := &opened{id: id}
	if n >= 0 {
		o = x.last[n]
		x.last = slices.Delete(x.last, n, n+1)
	}
	x.last = append(x.last, o)
	if len(x.last) > maxImages {
		x.last = slices.Delete(x.last, 0, 1)
	}
	x.mu.Unlock()
	// The first one's request may end while others wait, and the image is there for longer than any.
	o.load.Do(func() { o.err = x.read(context.WithoutCancel(ctx), o) })
	if o.err != nil {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.last = slices.DeleteFunc(x.last, func(other *opened) bool { return other == o })
		return nil, o.err
	}
	return o, nil
}

func (x *images) read(ctx context.Context, o *opened) (err error) {
	if o.m, err = x.cfg.Chunks.Manifest(ctx, o.id); err != nil {
		return err
	}
	o.image, err = segment.OpenImage(ctx, o.m, func(ctx context.Context, ref chunk.Ref) (io.ReadCloser, error) {
		f, err := x.cfg.Chunks.Open(ctx, ref, cache.Request{})
		if err != nil {
			return nil, err
		}
		return chunkReader{f.Content(), f}, nil
	})
	if err != nil {
		return err
	}
	o.tree, o.sizes = segment.FS(o.image), o.image.PlainSizes()
	return nil
}

// unpacker waits for one of the places to unpack an image, and returns what gives it back.
func (s *Server) unpacker(ctx context.Context) (func(), error) {
	t := time.NewTimer(firmwareTime)
	defer t.Stop()
	select {
	case s.unpacking <- struct{}{}:
		return func() { <-s.unpacking }, nil
	case <-t.C:
	case <-ctx.Done():
	}
	return nil, fault.New(fault.Unavailable, "relay %s unpacks images for %d readers already", s.cfg.Name, cap(s.unpacking))
}

// chunkReader is a chunk as a plain reader.
type chunkReader struct {
	io.Reader
	file chunkstore.File
}

func (c chunkReader) Close() error { return c.file.Close() }

// version is when the node's version of its image was made.
func (s *Server) version(p *boot.Plan) (v catalog.ImageVersion) {
	_, v, _ = s.cfg.Feed.Catalog().ImageVersion(p.Image)
	return v
}

// wwKernel sends the kernel as it is. There is none besides that is compressed.
func (s *Server) wwKernel(w http.ResponseWriter, r *http.Request, c *caller) error {
	if c.gzip {
		return fault.New(fault.NotFound, "kernels are not kept compressed")
	}
	release, err := s.turn(w, r, firmwareTime)
	if err != nil {
		return err
	}
	defer release()
	ref := c.plan.Kernel.Kernel
	f, err := s.cfg.Chunks.Open(r.Context(), ref, cache.Request{Strict: true})
	if err != nil {
		return err
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+ref.ID.String()+`"`)
	w.Header().Set("Cache-Control", "no-cache")
	before := replyOf(w).sent
	http.ServeContent(w, r, "", s.version(&c.plan).Created, f.Content())
	if sent := replyOf(w).sent - before; sent == ref.Size {
		s.wholly(c, wwKernel, ref.ID, sent)
	}
	return nil
}

// wholly notes that a part of what a boot waits for was sent.
func (s *Server) wholly(c *caller, stage string, id chunk.ID, sent int64) {
	s.sentTo(c, stage, path.Base(c.plan.Image), sent)
	s.whole(c.addr, id, sent)
}

// wwImage sends the image as one plain archive, or as that in gzip without compression: see stored. What it is stored as
// no program of Warewulf can read.
func (s *Server) wwImage(w http.ResponseWriter, r *http.Request, c *caller) error {
	o, err := s.images.open(r.Context(), c.plan.Manifest.ID)
	if err != nil {
		return err
	}
	release, err := s.turn(w, r, firmwareTime)
	if err != nil {
		return err
	}
	defer release()
	unpacked, err := s.unpacker(r.Context())
	if err != nil {
		return err
	}
	defer unpacked()
	b := made{id: chunk.Of([]byte("plain " + o.id.String())), time: s.version(&c.plan).Created}
	sizes := o.sizes
	if c.gzip {
		b.id = chunk.Of([]byte("stored " + o.id.String()))
		sizes = make([]int64, len(o.sizes))
		for i, n := range o.sizes {
			sizes[i] = storedSize(n)
		}
	}
	for _, n := range sizes {
		b.size += n
	}
	b.write = func(out *cut) error { return s.writeImage(r.Context(), out, o, sizes, c.gzip) }
	whole, err := s.stream(w, r, b)
	if whole {
		s.wholly(c, wwImage, o.id, b.size)
	}
	return err
}

// writeImage writes the parts of an image from the first one on that was asked for.
func (s *Server) writeImage(ctx context.Context, out *cut, o *opened, sizes []int64, gzip bool) error {
	first := 0
	for first < len(sizes) && out.pass(sizes[first]) {
		first++
	}
	var pieces []piece
	for _, seg := range o.m.Segments[min(first, len(o.m.Segments)):] {
		pieces = append(pieces, piece{seg.Ref, 0, seg.Size})
	}
	next, stop := s.ahead(ctx, pieces)
	defer stop()
	for n := first; n < len(sizes); n++ {
		if out.left == 0 {
			return nil
		}
		if err := s.writePart(out, o, n, next, gzip); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) writePart(out *cut, o *opened, n int, next func() (chunkstore.File, error), gzip bool) error {
	var content io.Reader
	if n < len(o.m.Segments) {
		f, err := next()
		if err != nil {
			return err
		}
		defer f.Close()
		content = f.Content()
	}
	return buffered(out, func(w io.Writer) error {
		if !gzip {
			return o.image.WritePlain(w, n, content)
		}
		g := newStored(w, o.sizes[n])
		if err := o.image.WritePlain(g, n, content); err != nil {
			return err
		}
		return g.Close()
	})
}

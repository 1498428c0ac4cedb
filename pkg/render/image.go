package render

import (
	"bytes"
	"context"
	"io"
	"path"
	"sort"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// include is a file that templates include: a site file by its content, or a file of an image.
type include struct {
	of   chunk.ID
	path string
}

// maxPart bounds a chunk of an image that is read for a file in it.
const maxPart = 1 << 30

// ReadImageFile reads a file of an image for a template: see overlay.Reader. That a file is not there is remembered, too.
func (r *Renderer) ReadImageFile(ctx context.Context, manifest chunk.Ref, name string) ([]byte, error) {
	key := include{manifest.ID, strings.TrimPrefix(path.Clean("/"+name), "/")}
	missing := fault.New(fault.NotFound, "there is no file /%s in the image", key.path)
	if b, ok := r.includes.get(key); ok {
		if b == nil {
			return nil, missing
		}
		return b, nil
	}
	r.images.Lock()
	defer r.images.Unlock()
	raw, err := r.chunks.ReadAll(ctx, manifest, chunk.MaxManifest)
	if err != nil {
		return nil, err
	}
	m, err := chunk.Read(raw) // the catalog names it, so whose signature it bears need not be asked
	if err != nil {
		return nil, err
	}
	img, err := segment.OpenImage(ctx, m, func(ctx context.Context, ref chunk.Ref) (io.ReadCloser, error) {
		b, err := r.chunks.ReadAll(ctx, ref, maxPart)
		return io.NopCloser(bytes.NewReader(b)), err
	})
	if err != nil {
		return nil, err
	}
	e := resolve(img.Entries(), key.path)
	if e == nil || e.Type != segment.File {
		r.includes.put(key, nil, len(key.path))
		return nil, missing
	}
	if e.Size > overlay.MaxOutput {
		return nil, fault.New(fault.Invalid, "file /%s of the image has %d bytes, more than %d", key.path, e.Size, overlay.MaxOutput)
	}
	f, err := img.Open(e.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, overlay.MaxOutput))
	if err == nil {
		r.includes.put(key, append([]byte{}, b...), len(b))
	}
	return b, err
}

// maxLinks bounds the links on the way to a file, as the kernel does.
const maxLinks = 40

// resolve finds an entry by its path, as the kernel would below a root of its own: links are followed, and none leads
// out. Nil: there is none.
func resolve(entries []segment.Entry, name string) *segment.Entry {
	find := func(p string) *segment.Entry {
		i, ok := sort.Find(len(entries), func(n int) int { return segment.ComparePaths(p, entries[n].Path) })
		if !ok {
			return nil
		}
		return &entries[i]
	}
	at, rest := "", name
	for links := 0; ; {
		part, more, _ := strings.Cut(rest, "/")
		if at, rest = path.Join(at, part), more; at == "" {
			return nil
		}
		e := find(at)
		switch {
		case e == nil:
			return nil
		case e.Type == segment.Symlink:
			if links++; links > maxLinks {
				return nil
			}
			target := e.Link
			if !path.IsAbs(target) {
				target = path.Join("/", path.Dir(at), target)
			}
			at, rest = "", strings.TrimPrefix(path.Join(path.Clean("/"+target), rest), "/")
		case rest == "":
			return e
		}
	}
}

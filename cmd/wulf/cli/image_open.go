package cli

import (
	"bytes"
	"context"
	"io"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// published is a version of an image whose content is read from the controllers.
type published struct {
	image    catalog.Image
	version  catalog.ImageVersion
	manifest *chunk.Manifest
	*segment.Image
}

// label is how people name it.
func (v *published) label() string { return string(v.image.Name) + "@" + v.version.Manifest.ID.Short() }

// splitVersion divides IMAGE, IMAGE:TAG and IMAGE@VERSION.
func splitVersion(ref string) (image, version string) {
	image, version, ok := strings.Cut(strings.Replace(ref, ":", "@", 1), "@")
	if !ok {
		version = catalog.TagLatest
	}
	return image, version
}

// findRef finds a version by IMAGE, IMAGE:TAG or IMAGE@VERSION.
func findRef(cl *client, ref string) (catalog.Image, catalog.ImageVersion, error) {
	name, version := splitVersion(ref)
	i, err := findImage(cl, name)
	if err != nil {
		return i, catalog.ImageVersion{}, err
	}
	id, err := findVersion(i, version)
	if err != nil {
		return i, catalog.ImageVersion{}, err
	}
	v, _ := i.Version(id.String())
	return i, v, nil
}

// openImage opens a version to read. Whom the connection is to was verified, and every chunk is held against its digest.
func openImage(ctx context.Context, cl *client, ref string) (*published, error) {
	i, v, err := findRef(cl, ref)
	if err != nil {
		return nil, err
	}
	return openVersion(ctx, cl, i, v)
}

func openVersion(ctx context.Context, cl *client, i catalog.Image, v catalog.ImageVersion) (*published, error) {
	out := &published{image: i, version: v}
	b, err := fetchChunk(ctx, cl, v.Manifest)
	if err != nil {
		return nil, err
	}
	if out.manifest, err = chunk.Read(b); err != nil {
		return nil, err
	}
	if out.Image, err = segment.OpenImage(ctx, out.manifest, opener(cl)); err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "image %s", out.label())
	}
	return out, nil
}

// opener reads chunks from the controllers.
func opener(cl *client) segment.Opener {
	return func(ctx context.Context, ref chunk.Ref) (io.ReadCloser, error) {
		r, err := cl.Chunk(ctx, ref)
		return r, unreached(err)
	}
}

// fetchChunk reads a whole chunk, verified.
func fetchChunk(ctx context.Context, cl *client, ref chunk.Ref) ([]byte, error) {
	if ref.Size > api.MaxAnswer {
		return nil, fault.New(fault.Invalid, "chunk %s has %d bytes, more than are read at once", ref.ID.Short(), ref.Size)
	}
	r, err := opener(cl)(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(r, ref.Size+1)); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "reading chunk %s", ref.ID.Short())
	}
	if chunk.RefOf(b.Bytes()) != ref {
		return nil, fault.New(fault.Corrupt, "the controller sent a damaged chunk %s", ref.ID.Short())
	}
	return b.Bytes(), nil
}

package source

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// Meta is what a container image says of itself.
type Meta struct {
	Name     string            // as a container runtime shall call it: [HOST/]NAME[:TAG]
	Platform string            // OS/ARCH[/VARIANT]; "": linux/amd64
	Created  time.Time         // of what is exported, so that it is exported to the same bytes once more
	Comment  string            // of the layer, for docker history
	Labels   map[string]string // for docker inspect
	Gzip     bool              // instead of zstd, for runtimes from before 2022
}

// WriteOCI writes a tree as a container image of one layer, in an archive that is both an OCI layout and what docker load
// takes: docker, podman, containerd and Apptainer read it, and so does Open. Equal trees and metas give equal bytes. The
// layer waits in a nameless file in the directory work ("": TMPDIR, or /var/tmp), as its digest comes before it.
//
// A name that begins with .wh. is fault.Invalid: in a layer it would hide a file.
func WriteOCI(ctx context.Context, w io.Writer, src segment.Source, m Meta, work string) error {
	tag, err := name.NewTag(m.Name)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "%q is no name of a container image", m.Name).WithFix("write NAME:TAG in lower case, as localhost/rocky:9")
	}
	platform, err := parsePlatform(m.Platform)
	if err != nil {
		return err
	}
	for _, e := range src.Entries() {
		if strings.HasPrefix(path.Base(e.Path), ".wh.") {
			return fault.New(fault.Invalid, "%q cannot be in a container image, where such a name hides a file", e.Path).WithFix("rename it, or export a tar")
		}
	}
	f, err := nameless(cmp.Or(work, spoolDir()), "export-*")
	if err != nil {
		return err
	}
	defer f.Close()
	layer, diffID, err := writeLayer(ctx, f, src, m.Gzip)
	if err != nil {
		return err
	}
	config, err := json.Marshal(v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant, Created: v1.Time{Time: m.Created.UTC()},
		Config:  v1.Config{Cmd: []string{"/bin/sh"}, Labels: m.Labels},
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diffID}},
		History: []v1.History{{Created: v1.Time{Time: m.Created.UTC()}, CreatedBy: "wulf", Comment: m.Comment}},
	})
	if err != nil {
		return err
	}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: describe(types.OCIConfigJSON, config), Layers: []v1.Descriptor{layer}}
	a := &ociArchive{out: tar.NewWriter(w), at: m.Created}
	a.documents(tag, platform, manifest, config)
	a.file(blobOf(layer.Digest), layer.Size, io.NewSectionReader(f, 0, layer.Size))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if a.err == nil {
		a.err = a.out.Close()
	}
	if a.err != nil {
		return fault.Wrap(spoolKind(a.err), a.err, "writing the archive")
	}
	return nil
}

// writeLayer writes the compressed layer, and says what it is.
func writeLayer(ctx context.Context, w io.Writer, src segment.Source, gz bool) (v1.Descriptor, v1.Hash, error) {
	kept, plain := counting{sum: sha256.New()}, sha256.New()
	d := v1.Descriptor{MediaType: types.OCILayerZStd}
	out := io.MultiWriter(w, &kept)
	var z io.WriteCloser
	var err error
	if gz {
		d.MediaType = types.OCILayer
		z = gzip.NewWriter(out)
	} else {
		z, err = zstd.NewWriter(out, zstd.WithEncoderConcurrency(2)) // a fixed number: it has an influence on the bytes
	}
	if err == nil {
		err = WriteTar(ctx, io.MultiWriter(z, plain), src)
	}
	if err != nil {
		return d, v1.Hash{}, err
	}
	if err := z.Close(); err != nil {
		return d, v1.Hash{}, fault.Wrap(spoolKind(err), err, "writing the layer to a temporary file")
	}
	d.Size, d.Digest = kept.n, hashOf(kept.sum)
	return d, hashOf(plain), nil
}

// counting sums up what it is given.
type counting struct {
	sum hash.Hash
	n   int64
}

func (c *counting) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.sum.Write(p)
}

func hashOf(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

func describe(t types.MediaType, b []byte) v1.Descriptor {
	h := sha256.New()
	h.Write(b)
	return v1.Descriptor{MediaType: t, Size: int64(len(b)), Digest: hashOf(h)}
}

func blobOf(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }

// ociArchive writes the files of a layout. The first error stays, and nothing is written after it.
type ociArchive struct {
	out *tar.Writer
	at  time.Time
	err error
}

// documents writes all but the layer, so that whoever reads the archive as it comes knows what to do with that.
func (a *ociArchive) documents(tag name.Tag, platform v1.Platform, manifest v1.Manifest, config []byte) {
	m := a.json(manifest)
	d := describe(types.OCIManifestSchema1, m)
	d.Platform = &platform
	// What podman and docker with containerd call it; older ones go by the tag alone, or by manifest.json.
	full := plainName(tag)
	d.Annotations = map[string]string{refName: tag.TagStr(), "io.containerd.image.name": full}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{d}}
	old := []saved{{Config: blobOf(manifest.Config.Digest), RepoTags: []string{full}, Layers: []string{blobOf(manifest.Layers[0].Digest)}}}
	a.small("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	a.small("index.json", a.json(index))
	a.small("manifest.json", a.json(old))
	a.header(&tar.Header{Typeflag: tar.TypeDir, Name: "blobs/", Mode: 0o755})
	a.header(&tar.Header{Typeflag: tar.TypeDir, Name: "blobs/sha256/", Mode: 0o755})
	a.small(blobOf(d.Digest), m)
	a.small(blobOf(manifest.Config.Digest), config)
}

// plainName is the whole name of an image, with docker.io for the registry that the library calls index.docker.io.
func plainName(ref name.Reference) string {
	if rest, ok := strings.CutPrefix(ref.Name(), name.DefaultRegistry+"/"); ok {
		return "docker.io/" + rest
	}
	return ref.Name()
}

func (a *ociArchive) json(v any) []byte {
	b, err := json.Marshal(v)
	if a.err == nil {
		a.err = err
	}
	return b
}

func (a *ociArchive) small(name string, b []byte) { a.file(name, int64(len(b)), bytes.NewReader(b)) }

func (a *ociArchive) file(name string, size int64, r io.Reader) {
	a.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size})
	if a.err == nil {
		_, a.err = io.Copy(a.out, r)
	}
}

func (a *ociArchive) header(h *tar.Header) {
	h.Format, h.ModTime = tar.FormatPAX, time.Unix(max(a.at.Unix(), 0), 0)
	if a.err == nil {
		a.err = a.out.WriteHeader(h)
	}
}

// nameless makes a temporary file that is gone when it is closed, whatever happens.
func nameless(dir, pattern string) (*os.File, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, fault.Wrap(spoolKind(err), err, "making a temporary file")
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fault.Wrap(spoolKind(err), err, "making a temporary file")
	}
	return f, nil
}

package source

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// fromLayout opens an OCI image layout in a directory.
func (t *Tree) fromLayout(ref Ref, o Options) (*image, error) {
	root, err := os.OpenRoot(ref.Name)
	if err != nil {
		return nil, fault.Wrap(kindOf(err), err, "opening the layout")
	}
	t.close = append(t.close, root.Close)
	return layoutImage(root.FS(), ref, o)
}

// fromArchive opens an OCI layout, or what docker save writes, in a tar. Either is read as what it is: newer docker writes
// archives that are both.
func (t *Tree) fromArchive(ctx context.Context, ref Ref, o Options) (*image, error) {
	f, err := t.file(ref.Name)
	if err != nil {
		return nil, err
	}
	return t.archive(ctx, f, ref, o)
}

// archive opens an archive of a layout.
func (t *Tree) archive(ctx context.Context, r io.Reader, ref Ref, o Options) (*image, error) {
	a, err := t.files(ctx, r, o)
	if err != nil {
		return nil, err
	}
	return archived(a, ref, o)
}

// files opens a tar whose files may be larger than those of an image.
func (t *Tree) files(ctx context.Context, r io.Reader, o Options) (*segment.Tar, error) {
	limits := o.Limits
	limits.File = 1 << 40
	a, err := segment.OpenTar(counted(ctx, r, o), o.Work, limits)
	if err != nil {
		return nil, err
	}
	t.close = append(t.close, a.Close)
	return a, nil
}

func archived(a *segment.Tar, ref Ref, o Options) (*image, error) {
	files := segment.FS(a)
	_, layout := stat(files, "index.json")
	_, docker := stat(files, "manifest.json")
	if docker && (ref.Kind != LayoutArchive || !layout) {
		return dockerImage(files, ref, o)
	}
	return layoutImage(files, ref, o)
}

// container tells what a tar at least looks like that nobody called an archive of a container image: "" for a tree.
func container(entries []segment.Entry) Kind {
	is := make(map[string]segment.Type)
	for _, e := range entries {
		if !strings.Contains(e.Path, "/") {
			is[e.Path] = e.Type
		}
	}
	switch {
	case is["oci-layout"] == segment.File && is["index.json"] == segment.File:
		return LayoutArchive
	case is["manifest.json"] == segment.File && is["etc"] == "" && is["usr"] == "":
		return DockerArchive
	}
	return ""
}

// place is where a label says that an image was.
func (r Ref) place() string {
	if r.Kind == Daemon || r.Name == string(Stdin) {
		return r.Name
	}
	return absolute(r.Name)
}

func stat(files fs.FS, name string) (fs.FileInfo, bool) {
	fi, err := fs.Stat(files, name)
	return fi, err == nil
}

// document reads a small JSON file.
func document(files fs.FS, name string) ([]byte, error) {
	if fi, ok := stat(files, name); !ok || !fi.Mode().IsRegular() {
		return nil, fault.New(fault.Invalid, "there is no file %.200q: this is no container image", name)
	}
	f, err := files.Open(name)
	if err != nil {
		return nil, fault.Wrap(kindOf(err), err, "reading %.200q", name)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "reading %s", name)
	}
	if len(b) > maxConfig {
		return nil, fault.New(fault.Invalid, "%s has more than %d bytes", name, maxConfig)
	}
	return b, nil
}

// blobPath is where a layout keeps what has a digest.
func blobPath(h v1.Hash) (string, error) {
	p := path.Join("blobs", h.Algorithm, h.Hex)
	if h.Algorithm != "sha256" || len(h.Hex) != 64 || strings.Trim(h.Hex, "0123456789abcdef") != "" {
		return "", fault.New(fault.Invalid, "%.100q is no digest", h.String())
	}
	return p, nil
}

// verified reads a small file that has a digest.
func verified(files fs.FS, h v1.Hash) ([]byte, error) {
	p, err := blobPath(h)
	if err != nil {
		return nil, err
	}
	b, err := document(files, p)
	if err != nil {
		return nil, err
	}
	if got, _, err := v1.SHA256(bytes.NewReader(b)); err != nil || got != h {
		return nil, fault.New(fault.Corrupt, "%s has the digest %.19s", p, got)
	}
	return b, nil
}

// maxIndexes is how deep indexes may name indexes.
const maxIndexes = 4

// layoutImage finds the image of a layout: by its tag, or the only one there is, for the platform.
func layoutImage(files fs.FS, ref Ref, o Options) (*image, error) {
	b, err := document(files, "index.json")
	if err != nil {
		return nil, err
	}
	platform, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	at, err := pick(files, b, ref.Tag, platform, maxIndexes)
	if err != nil {
		return nil, err
	}
	b, err = verified(files, at)
	if err != nil {
		return nil, err
	}
	m, err := v1.ParseManifest(bytes.NewReader(b))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "reading manifest %.19s", at)
	}
	config, err := verified(files, m.Config.Digest)
	if err != nil {
		return nil, err
	}
	blobs := make([]blob, len(m.Layers))
	for n, l := range m.Layers {
		p, err := blobPath(l.Digest)
		if err != nil {
			return nil, err
		}
		blobs[n] = blob{digest: l.Digest.String(), size: l.Size, open: opens(files, p)}
	}
	return imageOf(fmt.Sprintf("%s:%s@%s", ref.Kind, ref.place(), at), config, blobs, o)
}

func opens(files fs.FS, p string) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) {
		if fi, ok := stat(files, p); !ok || !fi.Mode().IsRegular() { // a pipe would be waited for
			return nil, fault.New(fault.Invalid, "there is no file %s", p)
		}
		f, err := files.Open(p)
		if err != nil {
			return nil, fault.Wrap(kindOf(err), err, "reading %s", p)
		}
		return f, nil
	}
}

// imageOf gives the layers the digests of their content. An image that is there for one platform only is that one, unless
// another was asked for.
func imageOf(label string, config []byte, blobs []blob, o Options) (*image, error) {
	c, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "reading the image's configuration")
	}
	want, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	if is := c.Platform(); o.Platform != "" && is != nil && c.Architecture != "" && !is.Satisfies(want) {
		return nil, fault.New(fault.NotFound, "the image is for %s and not for %s", is, want.String()).WithFix("see which images there are, or leave out --platform")
	}
	if len(c.RootFS.DiffIDs) != len(blobs) {
		return nil, fault.New(fault.Invalid, "the image has %d layers, and its configuration names %d", len(blobs), len(c.RootFS.DiffIDs))
	}
	for n := range blobs {
		blobs[n].diffID = c.RootFS.DiffIDs[n].String()
	}
	return &image{label: label, layers: blobs}, nil
}

// refName is the annotation by which a layout tags an image; tools write a name or a whole reference.
const refName = "org.opencontainers.image.ref.name"

// pick finds an image in an index.
func pick(files fs.FS, index []byte, tag string, platform v1.Platform, depth int) (v1.Hash, error) {
	x, err := v1.ParseIndexManifest(bytes.NewReader(index))
	if err != nil {
		return v1.Hash{}, fault.Wrap(fault.Invalid, err, "reading the index")
	}
	var fits []v1.Descriptor
	other := false // images besides the first that fits
	var tags, platforms []string
	for _, d := range x.Manifests {
		name := d.Annotations[refName]
		if name != "" {
			tags = append(tags, name)
		}
		if tag != "" && name != tag && !strings.HasSuffix(name, ":"+tag) {
			continue
		}
		if d.Platform != nil && !d.MediaType.IsIndex() {
			platforms = append(platforms, d.Platform.String())
			if !d.Platform.Satisfies(platform) {
				continue
			}
		}
		if d.MediaType.IsImage() || d.MediaType.IsIndex() {
			fits = append(fits, d)
			other = other || d.Digest != fits[0].Digest
		}
	}
	switch {
	case len(fits) == 0 && tag != "":
		return v1.Hash{}, fault.New(fault.NotFound, "the layout has no image %q for %s", tag, platform.String()).WithFix("it has %s", or(strings.Join(tags, ", ")))
	case len(fits) == 0:
		return v1.Hash{}, fault.New(fault.NotFound, "there is no image for %s", platform.String()).WithFix("there is one for %s: --platform", or(strings.Join(platforms, ", ")))
	case other && tag == "" && depth == maxIndexes: // deeper down they are one image, packed in several ways
		return v1.Hash{}, fault.New(fault.Invalid, "there are several images").WithFix("say which: PATH:TAG, of %s", or(strings.Join(tags, ", ")))
	}
	if !fits[0].MediaType.IsIndex() {
		return fits[0].Digest, nil
	}
	if depth == 0 {
		return v1.Hash{}, fault.New(fault.Invalid, "indexes name indexes, deeper than %d", maxIndexes)
	}
	b, err := verified(files, fits[0].Digest)
	if err != nil {
		return v1.Hash{}, err
	}
	return pick(files, b, "", platform, depth-1)
}

func or(s string) string {
	if s == "" {
		return "none that has a name"
	}
	return s
}

func parsePlatform(s string) (v1.Platform, error) {
	if s == "" {
		s = "linux/amd64"
	}
	if !strings.Contains(s, "/") {
		s = "linux/" + s
	}
	p, err := v1.ParsePlatform(s)
	if err != nil {
		return v1.Platform{}, fault.Wrap(fault.Invalid, err, "platform %q", s).WithFix("write OS/ARCH, as linux/arm64")
	}
	return *p, nil
}

// saved is an image in the manifest.json of docker save.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerImage finds the image in what docker save writes.
func dockerImage(files fs.FS, ref Ref, o Options) (*image, error) {
	b, err := document(files, "manifest.json")
	if err != nil {
		return nil, err
	}
	var list []saved
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "reading manifest.json")
	}
	var tags []string
	var fits []saved
	for _, s := range list {
		tags = append(tags, s.RepoTags...)
		for _, t := range s.RepoTags {
			if ref.Tag != "" && (t == ref.Tag || strings.HasSuffix(t, ":"+ref.Tag)) {
				fits = append(fits, s)
				break
			}
		}
		if ref.Tag == "" {
			fits = append(fits, s)
		}
	}
	switch {
	case len(fits) == 0:
		return nil, fault.New(fault.NotFound, "the archive has no image %q", ref.Tag).WithFix("it has %s", or(strings.Join(tags, ", ")))
	case len(fits) > 1:
		return nil, fault.New(fault.Invalid, "the archive has %d images", len(fits)).WithFix("say which: PATH:TAG, of %s", or(strings.Join(tags, ", ")))
	}
	s := fits[0]
	config, err := document(files, path.Clean(s.Config))
	if err != nil {
		return nil, err
	}
	blobs := make([]blob, len(s.Layers))
	for n, l := range s.Layers {
		p := path.Clean(l)
		fi, ok := stat(files, p)
		if !ok || !fi.Mode().IsRegular() {
			return nil, fault.New(fault.Invalid, "the archive has no layer %.200q", l)
		}
		blobs[n] = blob{size: fi.Size(), open: opens(files, p)}
	}
	h, _, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return nil, err
	}
	return imageOf(fmt.Sprintf("%s:%s@%s", ref.Kind, ref.place(), h), config, blobs, o)
}

package overlay

import (
	"cmp"
	"context"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// World is what the renderings of one revision share: the parts of the declared state that are not the node's own. It
// may be used by any number of renderings at once.
type World struct {
	Mesh     string // the cluster's name
	Revision uint64
	Files    Files // nil: there are none
	Fleet    Fleet // nil: there are no other nodes
	Server   *Server
}

// Files are what templates may include: the site's files, and those of images. What a name stands for is told without
// reading it, so that what was made of it can be used again.
type Files interface {
	// SiteFile tells what there is under an absolute, clean path. It must not follow links.
	SiteFile(path string) (SiteFile, bool)
	// ReadSiteFile reads a file that SiteFile told of.
	ReadSiteFile(ctx context.Context, f SiteFile) ([]byte, error)
	// ImageID names the content of an image, false if there is no such image.
	ImageID(image string) (chunk.ID, bool)
	// ReadImageFile reads a file of an image, following links. One that is not there is fault.NotFound.
	ReadImageFile(ctx context.Context, image, path string) ([]byte, error)
}

// SiteFile is what templates may include of the site: a file, or a symbolic link, which has a target and no content.
type SiteFile struct {
	Path    string
	Content chunk.Ref
	Target  string
}

// Fleet are all nodes, for templates that look at others: by cluster, then by name. Like a World it never changes.
type Fleet interface {
	Len() int
	// Common and Stamp name the state of a node together: where both are equal (==), Node is equal, too, in this fleet
	// and any other.
	Common() any
	Stamp(i int) any
	// Node makes a node; it is not kept.
	Node(i int) *Node
}

// Reader reads what a World of a catalog holds only by reference.
type Reader interface {
	// ReadChunk reads a chunk whole and verifies it.
	ReadChunk(ctx context.Context, ref chunk.Ref) ([]byte, error)
	// ReadImageFile reads a file of the image of that manifest, following links.
	ReadImageFile(ctx context.Context, manifest chunk.Ref, path string) ([]byte, error)
}

// NewWorld is the world of a catalog.
func NewWorld(c *catalog.Catalog, read Reader) *World {
	return &World{
		Mesh: c.Cluster.Name, Revision: uint64(c.Revision), Files: catalogFiles{c, read},
		Fleet: &catalogFleet{c: c, order: sync.OnceValue(func() []*catalog.Node { return inOrder(c) })},
	}
}

type catalogFleet struct {
	c     *catalog.Catalog
	order func() []*catalog.Node
}

func (f *catalogFleet) Len() int        { return f.c.NodeCount() }
func (f *catalogFleet) Common() any     { return f.c.Common() }
func (f *catalogFleet) Stamp(i int) any { return f.order()[i] }

func (f *catalogFleet) Node(i int) *Node {
	r, err := f.c.Resolve(f.order()[i].Name)
	if err != nil {
		return &Node{Name: string(f.order()[i].Name)} // it is in the catalog, so this cannot be
	}
	n := NodeOf(f.c, r)
	n.Kernel.Version = value(r.Settings.Kernel.Version) // of other nodes Warewulf tells what they say, not what their image has
	return n
}

// inOrder are the nodes as Warewulf's AllNodes lists them.
func inOrder(c *catalog.Catalog) []*catalog.Node {
	type member struct {
		node    *catalog.Node
		cluster string
	}
	all := make([]member, 0, c.NodeCount())
	for n := range c.Nodes() {
		all = append(all, member{n, c.Scalar(n, func(s *catalog.Settings) *string { return s.Cluster })})
	}
	slices.SortStableFunc(all, func(a, b member) int { return cmp.Compare(a.cluster, b.cluster) })
	nodes := make([]*catalog.Node, len(all))
	for i, m := range all {
		nodes[i] = m.node
	}
	return nodes
}

type catalogFiles struct {
	c    *catalog.Catalog
	read Reader
}

func (f catalogFiles) SiteFile(path string) (SiteFile, bool) {
	s, ok := f.c.SiteFile(path)
	if !ok {
		return SiteFile{}, false
	}
	return SiteFile{Path: s.Path, Content: s.Content, Target: s.Target}, true
}

func (f catalogFiles) ImageID(image string) (chunk.ID, bool) {
	_, v, ok := f.c.ImageVersion(image)
	return v.Manifest.ID, ok
}

func (f catalogFiles) ReadImageFile(ctx context.Context, image, path string) ([]byte, error) {
	_, v, ok := f.c.ImageVersion(image)
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no image %.80q", image)
	}
	return f.read.ReadImageFile(ctx, v.Manifest, path)
}

func (f catalogFiles) ReadSiteFile(ctx context.Context, file SiteFile) ([]byte, error) {
	return f.read.ReadChunk(ctx, file.Content)
}

func (w *World) siteFile(path string) (SiteFile, bool) {
	if w.Files == nil {
		return SiteFile{}, false
	}
	return w.Files.SiteFile(path)
}

func (w *World) imageID(image string) (chunk.ID, bool) {
	if w.Files == nil {
		return chunk.ID{}, false
	}
	return w.Files.ImageID(image)
}

// maxLinks bounds how many links lead from a name to its file, as the kernel does.
const maxLinks = 40

// follow goes from a site file to where its links lead, through see, which is told every name that it asks for.
func follow(name string, see func(path string) (SiteFile, bool)) (SiteFile, bool) {
	for range maxLinks {
		f, ok := see(name)
		if !ok || f.Target == "" {
			return f, ok
		}
		if name = f.Target; !strings.HasPrefix(name, "/") {
			name = path.Join(path.Dir(f.Path), name)
		}
		name = path.Clean(name)
	}
	return SiteFile{}, false
}

package segment

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Layers is a Source that reads the layers of a container image, each a plain tar, in place.
type Layers struct{ table }

// Layer is one of them.
type Layer struct {
	Name string // for messages
	At   io.ReaderAt
	Size int64
	Sent int64 // bytes as they came, before decompression; 0: Size
}

// OpenLayers lays the layers over one another, the first at the bottom, as the OCI image specification (layer.md) has it:
// an entry replaces what is below it under the same path; .wh.NAME hides NAME and all under it, .wh..wh..opq all that
// lower layers have in its directory; other names that begin with .wh..wh. are notes of an old file system. A character
// device 0:0 or trusted.overlay.opaque, by which overlayfs hides files on a disk, hide nothing in a layer.
//
// Each layer is taken as hostile, as OpenTar takes an archive, with these differences. A directory above an entry may be a
// symbolic link of a lower layer, as /lib is in most distributions; it is followed inside the tree, as container
// runtimes follow it, and never leads out. The root may be called "/", and what a hard link names may begin with it, as
// kaniko writes them.
func OpenLayers(layers []Layer, l Limits) (*Layers, error) {
	merged := newTree(l)
	for _, x := range layers {
		s := layer{merged: merged}
		own := newTree(merged.limits)
		own.count, own.bytes, own.text = merged.count, merged.bytes, merged.text // the limits are for all layers together
		scan := tarScanner{tree: own, in: &plainTar{at: x.At, size: x.Size, sent: cmp.Or(x.Sent, x.Size)}, layer: &s}
		if err := scan.scan(); err != nil {
			return nil, fmt.Errorf("layer %s: %w", x.Name, err)
		}
		merged.count, merged.bytes, merged.text = own.count, own.bytes, own.text
		if err := s.lay(own); err != nil {
			return nil, fmt.Errorf("layer %s: %w", x.Name, err)
		}
	}
	nodes, err := merged.finish()
	if err != nil {
		return nil, fmt.Errorf("laying the layers over one another: %w", err)
	}
	return &Layers{newTable(nodes)}, nil
}

// Open reads a regular file: see Source.
func (l *Layers) Open(path string) (io.ReadCloser, error) { return l.openTar(path) }

// layer is one layer on its way into the tree of those below it.
type layer struct {
	merged *tree
	hidden []string // paths that are gone with all under them
	opaque []string // directories of which only the content is gone
	steps  int      // that resolve has made
}

const (
	whiteoutPrefix = ".wh."
	whiteoutNote   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// Links whose targets are long ways through links make much work of a short path. So many names of directories may be
// looked at for each entry that the limits allow, and for so many entries more.
const (
	stepsEach = 64
	stepsFree = 1 << 14
)

// whiteout takes a path that hides others, and tells whether it is one.
func (l *layer) whiteout(p string) bool {
	dir, name := path.Split(p)
	dir = strings.TrimSuffix(dir, "/")
	switch {
	case strings.Contains("/"+dir, "/"+whiteoutPrefix):
	case name == whiteoutOpaque:
		l.opaque = append(l.opaque, dir)
	case strings.HasPrefix(name, whiteoutNote):
	case strings.HasPrefix(name, whiteoutPrefix):
		if name = strings.TrimPrefix(name, whiteoutPrefix); name != "" && name != "." && name != ".." {
			l.hidden = append(l.hidden, path.Join(dir, name))
		}
	default:
		return false
	}
	return true
}

// below finds what lower layers have under a path.
func (l *layer) below(p string) (*node, bool) {
	at, err := l.resolve(p, nil)
	if err != nil {
		return nil, false
	}
	n, ok := l.merged.nodes[at]
	return n, ok
}

// lay hides what the layer hides of the lower ones, and then puts its own entries in.
func (l *layer) lay(own *tree) error {
	gone := make(map[string]bool, len(l.hidden)+len(l.opaque)) // false: only what is under it
	for _, list := range []struct {
		paths []string
		self  bool
	}{{l.opaque, false}, {l.hidden, true}} {
		for _, p := range list.paths {
			at, err := l.resolve(p, nil)
			if err != nil {
				return err
			}
			gone[at] = list.self
		}
	}
	// What the layer has something else for than a directory is gone with all under it, too.
	for p, n := range own.nodes {
		at, err := l.resolve(p, own)
		if err != nil {
			return err
		}
		if old, ok := l.merged.nodes[at]; n.Type != Dir || ok && old.Type != Dir {
			gone[at] = true
		}
	}
	l.drop(gone)
	// All ways are found before anything is put in: what changes the way to a path is in the layer itself, which resolve
	// asks first. In order, so that of two ways to one path the same wins everywhere.
	placed := make([]*node, 0, len(own.nodes))
	paths := make([]string, 0, len(own.nodes))
	for _, p := range slices.Sorted(maps.Keys(own.nodes)) {
		n := own.nodes[p]
		at, err := l.resolve(p, own)
		if err != nil {
			return err
		}
		if n.Path = at; !leftOut(&n.Entry) { // var/run/x is run/x in most distributions
			placed, paths = append(placed, n), append(paths, at)
		}
	}
	for _, n := range placed {
		l.merged.nodes[n.Path] = n
	}
	return l.merged.parents(paths) // now, for a later layer may hide all that is in one
}

// drop takes paths out of the lower layers, with all under them.
func (l *layer) drop(gone map[string]bool) {
	trees := make(map[string]bool) // directories, of which most layers take none away
	for p, self := range gone {
		old, ok := l.merged.nodes[p]
		if self {
			delete(l.merged.nodes, p)
		}
		if p == "" || ok && old.Type == Dir { // all others have nothing under them: see parents
			trees[p] = true
		}
	}
	if len(trees) == 0 {
		return
	}
	for p := range l.merged.nodes {
		for dir := parent(p); ; dir = parent(dir) {
			if trees[dir] {
				delete(l.merged.nodes, p)
				break
			}
			if dir == "" {
				break
			}
		}
	}
}

// resolve follows the links of lower layers in the directories above a path; what the layer itself has there comes first.
func (l *layer) resolve(p string, own *tree) (string, error) {
	if p == "" {
		return "", nil // the root
	}
	at, rest := "", strings.Split(p, "/")
	for links := 0; len(rest) > 1; {
		if l.steps++; l.steps/stepsEach > l.merged.limits.Entries+stepsFree {
			return "", fault.New(fault.Invalid, "with %.200q the layer leads through more symbolic links than any system has", p)
		}
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = parent(at)
			continue
		}
		next := path.Join(at, name)
		if own != nil {
			if _, ok := own.nodes[next]; ok { // a directory, or finish refuses it
				at = next
				continue
			}
		}
		n, ok := l.merged.nodes[next]
		if !ok || n.Type != Symlink {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", fault.New(fault.Invalid, "%.200q lies under a symbolic link that leads in circles", p)
		}
		if strings.HasPrefix(n.Link, "/") {
			at = ""
		}
		// The link's last name may be a link itself, so that the directory is looked at once more.
		rest = slices.Concat(strings.Split(n.Link, "/"), rest)
	}
	at = path.Join(at, rest[0])
	if err := CheckPath(at); err != nil {
		return "", fault.New(fault.Invalid, "%.200q leads to %.200q, which is no place for it", p, at)
	}
	return at, nil
}

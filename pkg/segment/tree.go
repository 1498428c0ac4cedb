package segment

import (
	"maps"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxText bounds what of a tree is kept in memory. A large distribution has 20 MB.
const maxText = 512 << 20

// A tree collects the entries of a source in any order and checks that they make a file tree.
type tree struct {
	limits Limits
	nodes  map[string]*node
	count  int   // entries seen, also those that were replaced or left out
	bytes  int64 // of all files seen
	text   int64 // bytes of paths, link targets and extended attributes seen
}

type node struct {
	Entry
	body *body // of a regular file; hard links share it
}

// body is the content of a regular file, wherever its names are.
type body struct {
	in      *plainTar // that it lies in; nil in a directory
	offset  int64     // of its header there
	charged bool      // counted against the limits
	names   int
	group   int
}

func newTree(l Limits) *tree {
	return &tree{limits: l.withDefaults(), nodes: make(map[string]*node)}
}

// add takes an entry. A path that is there already is replaced: the last of several wins, as it does when tar
// unpacks an archive to which a newer file was appended, and hard links made before keep the old content.
func (t *tree) add(e Entry, b *body) error {
	if err := CheckPath(e.Path); err != nil {
		return err
	}
	if err := t.charge(&e, b); err != nil {
		return err
	}
	if leftOut(&e) {
		return nil
	}
	e.Xattrs = keptXattrs(e.Xattrs)
	if err := e.check(t.limits.File); err != nil {
		return err
	}
	t.nodes[e.Path] = &node{Entry: e, body: b}
	return nil
}

// check refuses what no bootable image can hold of one entry, wherever it comes from; largest is for files.
func (e *Entry) check(largest int64) error {
	if e.Type == File && e.Size > largest {
		return fault.New(fault.Invalid, "file %q has %d bytes; a bootable image can hold files below 4 GiB only", e.Path, e.Size).
			WithFix("keep the file on shared storage, or split it")
	}
	if e.Type == Symlink && (e.Link == "" || len(e.Link) > maxPath || strings.IndexByte(e.Link, 0) >= 0) {
		return fault.New(fault.Invalid, "symbolic link %q has a target that no kernel accepts", e.Path)
	}
	size := 0
	for name, value := range e.Xattrs {
		if name == "" || len(name) > maxName || strings.IndexByte(name, 0) >= 0 || len(value) > maxXattr {
			return fault.New(fault.Invalid, "%q has the extended attribute %.200q with %d bytes, which no kernel accepts", e.Path, name, len(value))
		}
		size += len(name) + len(value)
	}
	if size > maxXattrs {
		return fault.New(fault.Invalid, "%q has %d bytes of extended attributes, more than %d", e.Path, size, maxXattrs)
	}
	return nil
}

// charge counts an entry against the limits; the content of hard links counts once.
func (t *tree) charge(e *Entry, b *body) error {
	t.count++
	if t.count > t.limits.Entries {
		return fault.New(fault.Invalid, "more than %d entries, the last is %q", t.limits.Entries, e.Path)
	}
	t.text += int64(len(e.Path) + len(e.Link))
	if b == nil || !b.charged {
		for name, value := range e.Xattrs {
			t.text += int64(len(name) + len(value))
		}
	}
	if t.text > maxText {
		return fault.New(fault.Invalid, "with %q the names, links and extended attributes of the tree are more than %d bytes", e.Path, maxText)
	}
	if b == nil || b.charged {
		return nil
	}
	if e.Size < 0 || e.Size > t.limits.Bytes-t.bytes {
		return fault.New(fault.Invalid, "with %q the tree has more than %d bytes", e.Path, t.limits.Bytes)
	}
	b.charged = true
	t.bytes += e.Size
	return nil
}

// parents checks that every parent of some paths is a directory, and adds those that nobody named: 0755 and root's, as tar
// makes them.
func (t *tree) parents(paths []string) error {
	for _, p := range paths {
		for dir := parent(p); dir != ""; dir = parent(dir) {
			n, ok := t.nodes[dir]
			if ok && n.Type != Dir {
				return fault.New(fault.Invalid, "%q lies under %q, which is a %s and not a directory", p, dir, n.Type)
			}
			if ok {
				break // its own parents are checked in its own turn
			}
			if err := t.add(Entry{Path: dir, Type: Dir, Mode: 0o755}, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish completes the parents and numbers the groups of hard links. It returns the sorted nodes.
func (t *tree) finish() ([]*node, error) {
	if err := t.parents(slices.Collect(maps.Keys(t.nodes))); err != nil {
		return nil, err
	}
	nodes := slices.SortedFunc(maps.Values(t.nodes), func(a, b *node) int { return ComparePaths(a.Path, b.Path) })
	for _, n := range nodes {
		if n.body != nil {
			n.body.names++
		}
	}
	groups := 0
	for _, n := range nodes {
		if n.body == nil || n.body.names < 2 {
			continue
		}
		if n.body.group == 0 {
			groups++
			n.body.group = groups
		}
		n.Group, n.Links = n.body.group, n.body.names
	}
	return nodes, nil
}

// parent is the directory of a clean path, "" for one at the top.
func parent(p string) string { return p[:max(strings.LastIndexByte(p, '/'), 0)] }

// leftOut tells what has no place in an image; the package comment says why.
func leftOut(e *Entry) bool {
	top, _, below := strings.Cut(e.Path, "/")
	if !below {
		return false
	}
	return mountedOver(top) || top == "dev" && e.Type == File
}

// mountedOver tells whether a file system covers the directory on every running node.
func mountedOver(path string) bool { return path == "proc" || path == "sys" || path == "run" }

// keptXattrs is m without the attributes that belong to the machine the tree was made on. It may return m.
func keptXattrs(m map[string]string) map[string]string {
	for name := range m {
		if foreignXattr(name) {
			m = maps.Clone(m)
			maps.DeleteFunc(m, func(name, _ string) bool { return foreignXattr(name) })
			break
		}
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

// foreignXattr tells whether an extended attribute belongs to the machine that a tree was made on.
func foreignXattr(name string) bool {
	return name == "security.selinux" || strings.HasPrefix(name, "trusted.overlay.")
}

// A table finds the entries of a source by path.
type table struct {
	entries []Entry
	nodes   []*node
	at      map[string]int
}

func newTable(nodes []*node) table {
	t := table{entries: make([]Entry, len(nodes)), nodes: nodes, at: make(map[string]int, len(nodes))}
	for i, n := range nodes {
		t.entries[i] = n.Entry
		t.at[n.Path] = i
	}
	return t
}

// Entries lists the tree: see Source.
func (t *table) Entries() []Entry { return t.entries }

// file finds a regular file.
func (t *table) file(path string) (*node, error) {
	i, ok := t.at[path]
	if !ok {
		return nil, fault.New(fault.NotFound, "no file %q in the tree", path)
	}
	if t.nodes[i].Type != File {
		return nil, fault.New(fault.Invalid, "%q is a %s, not a file", path, t.nodes[i].Type)
	}
	return t.nodes[i], nil
}

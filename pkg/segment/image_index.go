package segment

import (
	"math"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// readIndex fills the image with what its file index says.
func (i *Image) readIndex() error {
	in, err := i.verified(i.m.Index)
	if err != nil {
		return err
	}
	defer in.Close()
	c := indexCheck{image: i, limits: Limits{}.withDefaults()}
	for x, err := range ReadIndex(in, maxIndex) {
		if err != nil {
			return err
		}
		if err := c.add(&x); err != nil {
			return err
		}
	}
	return c.finish()
}

// indexCheck looks at one entry of an index after another. What comes of it is as sound as what a source makes itself.
type indexCheck struct {
	image  *Image
	limits Limits
	bytes  int64
	dirs   []int // entries of the directories down to the last path
	groups []hardLinks
}

// hardLinks are the names of one file.
type hardLinks struct {
	first int // its entry
	names int
}

// add takes the next entry.
func (c *indexCheck) add(x *IndexEntry) error {
	if err := CheckPath(x.Path); err != nil {
		return err
	}
	i := c.image
	at := len(i.entries)
	if at == c.limits.Entries {
		return fault.New(fault.Invalid, "more than %d entries, the last is %q", c.limits.Entries, x.Path)
	}
	e := Entry{Path: x.Path, Type: x.Type, Mode: x.Mode, UID: x.UID, GID: x.GID, Size: x.Size, MTime: x.MTime, Link: x.Link,
		Major: x.Major, Minor: x.Minor, Group: x.Group}
	bad := func(why string, args ...any) error {
		return fault.New(fault.Corrupt, "%q "+why, append([]any{e.Path}, args...)...)
	}
	if at > 0 && ComparePaths(i.entries[at-1].Path, e.Path) >= 0 {
		return bad("is out of order")
	}
	if why := unsound(&e); why != "" {
		return bad("%s", why)
	}
	if err := e.check(maxFile); err != nil {
		return err
	}
	if x.SHA256.IsZero() != (e.Type != File) || e.Type == File && e.Size == 0 && x.SHA256 != chunk.Of(nil) {
		return bad("has a digest that a %s of %d bytes cannot have", e.Type, e.Size)
	}
	if x.Segment < 0 || x.Segment >= len(i.segments) {
		return bad("is in segment %d of %d", x.Segment, len(i.segments))
	}
	main := x.Segment < len(i.m.Segments)
	if i.isSkeleton(x.Segment) != (e.Type != File || e.Size == 0) {
		return bad("is in segment %d, which is no place for a %s of %d bytes", x.Segment, e.Type, e.Size)
	}
	for len(c.dirs) > 0 && i.entries[c.dirs[len(c.dirs)-1]].Path != parent(e.Path) {
		c.dirs = c.dirs[:len(c.dirs)-1]
	}
	switch {
	case len(c.dirs) == 0 && parent(e.Path) != "":
		return bad("lies under something that is no directory of the index")
	case len(c.dirs) > 0 && main && i.places[c.dirs[len(c.dirs)-1]] >= len(i.m.Segments):
		return bad("is for nodes, and its directory is not")
	}
	if e.Type == Dir {
		c.dirs = append(c.dirs, at)
	}
	i.entries, i.places, i.sums = append(i.entries, e), append(i.places, x.Segment), append(i.sums, x.SHA256)
	if e.Group > 0 {
		return c.link(at)
	}
	return c.charge(&e)
}

// unsound says what no builder writes of one entry. It gives the entry a type that shares its text with all others.
func unsound(e *Entry) string {
	switch e.Type {
	case Dir:
		e.Type = Dir
	case File:
		e.Type = File
	case Symlink:
		e.Type = Symlink
	case Char:
		e.Type = Char
	case Block:
		e.Type = Block
	case Fifo:
		e.Type = Fifo
	default:
		return "has a type that no image can hold"
	}
	device := e.Type == Char || e.Type == Block
	switch {
	case leftOut(e):
		return "has no place in an image"
	case e.Mode > 0o7777:
		return "has a mode that is out of range"
	case e.UID == math.MaxUint32 || e.GID == math.MaxUint32:
		return "has an owner that is out of range"
	case e.Size < 0 || e.Type != File && e.Size != 0:
		return "has a size that it cannot have"
	case e.MTime < 0 || e.MTime > maxFile || e.Type != File && e.MTime != 0:
		return "has a time that it cannot have"
	case e.Type != Symlink && e.Link != "":
		return "has a target and is no symbolic link"
	case e.Major > maxMajor || e.Minor > maxMinor || !device && (e.Major != 0 || e.Minor != 0):
		return "has device numbers that it cannot have"
	case e.Group < 0 || e.Type != File && e.Group != 0:
		return "has a group of hard links that it cannot have"
	}
	return ""
}

// link takes a further name of a hard-linked file. Groups are numbered in the order of their first names.
func (c *indexCheck) link(at int) error {
	i := c.image
	e := &i.entries[at]
	switch {
	case e.Group > len(c.groups)+1:
		return fault.New(fault.Corrupt, "%q is in group %d of hard links, which does not come next", e.Path, e.Group)
	case e.Group == len(c.groups)+1:
		c.groups = append(c.groups, hardLinks{at, 1})
		return c.charge(e)
	}
	g := &c.groups[e.Group-1]
	g.names++
	if !sameFile(&i.entries[g.first], e) || i.sums[g.first] != i.sums[at] || i.places[g.first] != i.places[at] {
		return fault.New(fault.Corrupt, "%q is a hard link to %q and differs from it", e.Path, i.entries[g.first].Path)
	}
	return nil
}

// sameFile tells whether two entries agree in all that names of one file share.
func sameFile(a, b *Entry) bool {
	return a.Type == b.Type && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Size == b.Size && a.MTime == b.MTime
}

// charge counts content, that of hard links once.
func (c *indexCheck) charge(e *Entry) error {
	if e.Size > c.limits.Bytes-c.bytes {
		return fault.New(fault.Invalid, "with %q the image has more than %d bytes", e.Path, c.limits.Bytes)
	}
	c.bytes += e.Size
	return nil
}

// finish counts the names of hard-linked files.
func (c *indexCheck) finish() error {
	for _, g := range c.groups {
		if g.names < 2 {
			return fault.New(fault.Corrupt, "%q is a hard link to nothing", c.image.entries[g.first].Path)
		}
	}
	for n := range c.image.entries {
		if e := &c.image.entries[n]; e.Group > 0 {
			e.Links = c.groups[e.Group-1].names
		}
	}
	return nil
}

// readExtras gives the entries their extended attributes. The extras are in the order of the index.
func (i *Image) readExtras() error {
	if i.m.Extras.ID.IsZero() {
		return nil
	}
	in, err := i.verified(i.m.Extras)
	if err != nil {
		return err
	}
	defer in.Close()
	last := -1
	for x, err := range readExtras(in, maxExtras) {
		if err != nil {
			return err
		}
		at, ok := i.find(x.Path)
		if !ok {
			return fault.New(fault.Corrupt, "%q is not in the index", x.Path)
		}
		e := &i.entries[at]
		switch {
		case at <= last:
			return fault.New(fault.Corrupt, "%q is out of order", x.Path)
		case e.Type != File && e.Type != Dir:
			return fault.New(fault.Corrupt, "%q is a %s and cannot have extended attributes", x.Path, e.Type)
		case len(x.Xattrs) == 0:
			return fault.New(fault.Corrupt, "%q is there without extended attributes", x.Path)
		}
		last = at
		e.Xattrs = make(map[string]string, len(x.Xattrs))
		for name, value := range x.Xattrs {
			if foreignXattr(name) {
				return fault.New(fault.Corrupt, "%q has the extended attribute %q, which has no place in an image", x.Path, name)
			}
			e.Xattrs[name] = string(value)
		}
		if err := e.check(maxFile); err != nil {
			return err
		}
	}
	return nil
}

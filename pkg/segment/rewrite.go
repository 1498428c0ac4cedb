package segment

import (
	"bytes"
	"encoding/binary"
	"io"
	"maps"
	"slices"
	"sort"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Changes are what Rewrite does to a tree.
type Changes struct {
	// UIDs and GIDs give files of one owner another one, all at once; a number that is not in there stays. Modes and
	// capabilities stay as they are; access lists that name a number follow.
	UIDs, GIDs map[uint32]uint32
	// Files are regular files with their new content. One that exists keeps its owner, mode and time, and is on its own if
	// it had several names; one that does not is root's and 0644, and its directory must be there.
	Files map[string][]byte
}

// Rewrite shows a source with some changes, and changes nothing itself. A file that is to be replaced and is no regular file is
// fault.Invalid. What the source knows of its files without reading them, it goes on knowing.
func Rewrite(src Source, c Changes) (Source, error) {
	r := &rewritten{src: src, files: c.Files}
	old := src.Entries()
	r.entries = make([]Entry, 0, len(old)+len(c.Files))
	left := make(map[int]int) // names taken out of each group of hard links
	missing := maps.Clone(c.Files)
	for _, e := range old {
		e.UID, e.GID = moved(c.UIDs, e.UID), moved(c.GIDs, e.GID)
		e.Xattrs = movedLists(e.Xattrs, c)
		if content, ok := c.Files[e.Path]; ok {
			if e.Type != File {
				return nil, fault.New(fault.Invalid, "%q is a %s and not a file, and is not replaced", e.Path, e.Type)
			}
			delete(missing, e.Path)
			e.Size = int64(len(content))
			if e.Group > 0 {
				left[e.Group]++
				e.Group, e.Links = 0, 0
			}
		}
		r.entries = append(r.entries, e)
	}
	for i := range r.entries {
		e := &r.entries[i]
		if n := left[e.Group]; e.Group > 0 && n > 0 {
			if e.Links -= n; e.Links < 2 {
				e.Group, e.Links = 0, 0
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(missing)) {
		if err := CheckPath(path); err != nil {
			return nil, err
		}
		if dir := parent(path); dir != "" {
			if n, ok := r.find(dir); !ok || r.entries[n].Type != Dir {
				return nil, fault.New(fault.NotFound, "there is no directory for %q", path)
			}
		}
		n, _ := r.find(path)
		r.entries = slices.Insert(r.entries, n, Entry{Path: path, Type: File, Mode: 0o644, Size: int64(len(missing[path]))})
	}
	switch src := src.(type) {
	case summed:
		return &rewrittenImage{rewritten: r, sums: src}, nil
	case stamper:
		return &rewrittenDir{rewritten: r, stamps: src}, nil
	}
	return r, nil
}

func moved(ids map[uint32]uint32, id uint32) uint32 {
	if to, ok := ids[id]; ok {
		return to
	}
	return id
}

type rewritten struct {
	src     Source
	entries []Entry
	files   map[string][]byte
}

// Entries lists the tree: see Source.
func (r *rewritten) Entries() []Entry { return r.entries }

// Open reads a regular file: see Source.
func (r *rewritten) Open(path string) (io.ReadCloser, error) {
	if content, ok := r.files[path]; ok {
		return io.NopCloser(bytes.NewReader(content)), nil
	}
	return r.src.Open(path)
}

func (r *rewritten) find(path string) (int, bool) {
	return sort.Find(len(r.entries), func(n int) int { return ComparePaths(path, r.entries[n].Path) })
}

type rewrittenImage struct {
	*rewritten
	sums summed
}

// Sum is the digest of a regular file's content.
func (r *rewrittenImage) Sum(path string) (chunk.ID, error) {
	if content, ok := r.files[path]; ok {
		return chunk.Of(content), nil
	}
	return r.sums.Sum(path)
}

type rewrittenDir struct {
	*rewritten
	stamps stamper
}

// Stamp tells in which state a file that was not replaced is.
func (r *rewrittenDir) Stamp(path string) (Stamp, bool) {
	if _, ok := r.files[path]; ok {
		return Stamp{}, false
	}
	return r.stamps.Stamp(path)
}

// The access lists of a file and of what is made in a directory, in the form that the kernel gives them to programs
// (linux/posix_acl_xattr.h): a version, then entries of tag, permissions and number, little-endian.
const (
	aclVersion = 2
	aclUser    = 0x02
	aclGroup   = 0x08
)

var aclNames = []string{"system.posix_acl_access", "system.posix_acl_default"}

// movedLists are the extended attributes with access lists that name the owners' new numbers. It may return m.
func movedLists(m map[string]string, c Changes) map[string]string {
	cloned := false
	for _, name := range aclNames {
		list, ok := m[name]
		if !ok {
			continue
		}
		if now := movedList(list, c); now != list {
			if !cloned {
				m, cloned = maps.Clone(m), true
			}
			m[name] = now
		}
	}
	return m
}

// movedList is one list; one in a form that is not known stays as it is.
func movedList(list string, c Changes) string {
	b := []byte(list)
	if len(b) < 4 || len(b)%8 != 4 || binary.LittleEndian.Uint32(b) != aclVersion {
		return list
	}
	for e := b[4:]; len(e) > 0; e = e[8:] {
		id := binary.LittleEndian.Uint32(e[4:])
		switch binary.LittleEndian.Uint16(e) {
		case aclUser:
			id = moved(c.UIDs, id)
		case aclGroup:
			id = moved(c.GIDs, id)
		}
		binary.LittleEndian.PutUint32(e[4:], id)
	}
	return string(b)
}

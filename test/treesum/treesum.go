// Package treesum writes down what a tree of files holds, entry by entry, so that two trees on different machines can be
// compared: the directory that an image was made of, and the root of a node that booted it. It shares no code with the
// product, which it is there to check.
package treesum

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// An Entry is one name in a tree.
type Entry struct {
	Path   string            `json:"path"` // quoted as Go quotes it: names need not be UTF-8
	Type   string            `json:"type"` // file, dir, link, char, block, fifo or socket
	Mode   string            `json:"mode"` // permissions in octal, with setuid, setgid and sticky
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Size   int64             `json:"size,omitempty"`   // of a file
	SHA256 string            `json:"sha256,omitempty"` // of a file's content
	Link   string            `json:"link,omitempty"`   // what a symbolic link holds, quoted
	Device string            `json:"device,omitempty"` // major:minor
	Names  int               `json:"names,omitempty"`  // how many names in the tree a thing with several has
	First  string            `json:"first,omitempty"`  // the first of them, quoted
	Xattrs map[string]string `json:"xattrs,omitempty"` // in hexadecimal
}

// Name is the path as it is.
func (e Entry) Name() string { return unquote(e.Path) }

// Target is what a symbolic link holds, as it is.
func (e Entry) Target() string { return unquote(e.Link) }

func unquote(s string) string {
	plain, err := strconv.Unquote(s)
	if err != nil {
		return s
	}
	return plain
}

// types are the names of the kinds of files.
var types = map[uint32]string{
	unix.S_IFREG: "file", unix.S_IFDIR: "dir", unix.S_IFLNK: "link", unix.S_IFCHR: "char", unix.S_IFBLK: "block", unix.S_IFIFO: "fifo", unix.S_IFSOCK: "socket",
}

// Sum lists a tree in the order of its paths. It stays on the file system of its root, whose directories that others are
// mounted on are listed without what is below them.
func Sum(root string) ([]Entry, error) {
	var top unix.Stat_t
	if err := unix.Lstat(root, &top); err != nil {
		return nil, fmt.Errorf("%s: %w", root, err)
	}
	s := sum{root: root, dev: top.Dev, inodes: make(map[uint64]int)}
	if err := s.visit(".", &top); err != nil {
		return nil, err
	}
	slices.SortFunc(s.entries, func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	names := make(map[string][]int) // by the path of the entry that was met first
	for i, e := range s.entries {
		if e.First != "" {
			names[e.First] = append(names[e.First], i)
		}
	}
	for _, group := range names {
		first := s.entries[group[0]].Path
		for _, i := range group {
			s.entries[i].First, s.entries[i].Names = first, len(group)
			if len(group) == 1 { // its other names are outside the tree
				s.entries[i].First, s.entries[i].Names = "", 0
			}
		}
	}
	return s.entries, nil
}

type sum struct {
	root    string
	dev     uint64
	entries []Entry
	inodes  map[uint64]int // the first entry of what has several names
}

func (s *sum) visit(path string, st *unix.Stat_t) error {
	full := filepath.Join(s.root, path)
	e := Entry{Path: strconv.QuoteToASCII(path), Type: types[st.Mode&unix.S_IFMT], Mode: fmt.Sprintf("%04o", st.Mode&0o7777), UID: st.Uid, GID: st.Gid}
	var err error
	if e.Xattrs, err = xattrs(full); err != nil {
		return fmt.Errorf("%s: attributes: %w", full, err)
	}
	switch e.Type {
	case "file":
		e.Size = st.Size
		if e.SHA256, err = s.digest(full, st); err != nil {
			return err
		}
	case "link":
		to, err := os.Readlink(full)
		if err != nil {
			return err
		}
		e.Link = strconv.QuoteToASCII(to)
	case "char", "block":
		e.Device = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	if st.Nlink > 1 && e.Type != "dir" {
		if at, met := s.inodes[st.Ino]; met {
			e.First = s.entries[at].First
		} else {
			e.First = e.Path
			s.inodes[st.Ino] = len(s.entries)
		}
	}
	s.entries = append(s.entries, e)
	if e.Type != "dir" || st.Dev != s.dev {
		return nil
	}
	list, err := os.ReadDir(full)
	if err != nil {
		return err
	}
	for _, child := range list {
		var st unix.Stat_t
		name := filepath.Join(path, child.Name())
		if err := unix.Lstat(filepath.Join(s.root, name), &st); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := s.visit(name, &st); err != nil {
			return err
		}
	}
	return nil
}

// digest is the content's digest, read once for all names of a file.
func (s *sum) digest(path string, st *unix.Stat_t) (string, error) {
	if at, met := s.inodes[st.Ino]; met && st.Nlink > 1 {
		return s.entries[at].SHA256, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// xattrs reads the extended attributes of a name itself, not of what it points to.
func xattrs(path string) (map[string]string, error) {
	n, err := unix.Llistxattr(path, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := make([]byte, n)
	if n, err = unix.Llistxattr(path, list); err != nil {
		return nil, err
	}
	all := make(map[string]string)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[name] = hex.EncodeToString(value[:n])
	}
	return all, nil
}

// Write writes entries as JSON lines.
func Write(w io.Writer, entries []Entry) error {
	enc := json.NewEncoder(w)
	for _, e := range entries {
		if err := enc.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

// Read reads what Write wrote.
func Read(r io.Reader) ([]Entry, error) {
	var entries []Entry
	for dec := json.NewDecoder(r); ; {
		var e Entry
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return entries, nil
		} else if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
}

// Diff lists by path how two trees differ; got is the second.
func Diff(want, got []Entry) map[string]string {
	is := make(map[string]Entry, len(got))
	for _, e := range got {
		is[e.Name()] = e
	}
	differ := make(map[string]string)
	for _, w := range want {
		g, ok := is[w.Name()]
		switch {
		case !ok:
			differ[w.Name()] = "missing"
		case !same(w, g):
			differ[w.Name()] = fmt.Sprintf("is %s, not %s", describe(g), describe(w))
		}
		delete(is, w.Name())
	}
	for name, g := range is {
		differ[name] = "added: " + describe(g)
	}
	return differ
}

func same(a, b Entry) bool {
	attributes := maps.Equal(a.Xattrs, b.Xattrs)
	a.Xattrs, b.Xattrs = nil, nil
	return attributes && describe(a) == describe(b)
}

func describe(e Entry) string {
	b, err := json.Marshal(e) // maps are written in order
	if err != nil {
		return err.Error()
	}
	return string(b)
}

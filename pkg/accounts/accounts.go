// Package accounts brings the users and groups of an image in line with those of a machine, so that a number means the same
// person on both, and on the file systems that they share. It reads and writes the texts of passwd(5) and its companions,
// and says which owners of files change with them.
//
// The rules are Warewulf's, made whole: the machine's accounts win, those that only the image has stay, and where one of
// these has a number that the machine gives to somebody else, nothing is done. Passwords never travel: an account that is
// new in the image has none, and whoever has a key or a directory service can still log in. Root stays the image's own.
//
// What a stranger wrote into the files is bounded and never an error by itself: a line that is no entry is noted, and goes.
package accounts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Files are the texts in which a system keeps its accounts. nil is a file that is not there.
type Files struct {
	Passwd  []byte // passwd(5)
	Group   []byte // group(5)
	Shadow  []byte // shadow(5)
	Gshadow []byte // gshadow(5)
	SubUID  []byte // subuid(5)
	SubGID  []byte // subgid(5)
}

// Paths are where they lie, below the root.
var Paths = []string{"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/subuid", "etc/subgid"}

// MachinePaths are those that Merge looks at on a machine: its passwords stay unread.
var MachinePaths = []string{"etc/passwd", "etc/group", "etc/subuid", "etc/subgid"}

// Read reads some of the Paths from the file system below a root. More than MaxFile bytes are fault.Invalid.
func Read(root fs.FS, paths []string) (Files, error) {
	var all Files
	for _, path := range paths {
		f, err := root.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return all, fmt.Errorf("reading accounts: %w", err)
		}
		text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
		f.Close()
		if err != nil {
			return all, fmt.Errorf("reading accounts: %w", err)
		}
		if len(text) > MaxFile {
			return all, fault.New(fault.Invalid, "/%s has more than %d bytes", path, MaxFile)
		}
		*all.At(path) = text
	}
	return all, nil
}

// At is the text that belongs at one of the Paths, to be read or set.
func (f *Files) At(path string) *[]byte {
	switch path {
	case "etc/passwd":
		return &f.Passwd
	case "etc/group":
		return &f.Group
	case "etc/shadow":
		return &f.Shadow
	case "etc/gshadow":
		return &f.Gshadow
	case "etc/subuid":
		return &f.SubUID
	case "etc/subgid":
		return &f.SubGID
	}
	return nil
}

// Note is something in a file that a person may want to look at.
type Note struct {
	Whose string // "image" or "machine"
	Path  string // of Paths
	Line  int    // from 1
	Text  string
}

func (n Note) String() string {
	return fmt.Sprintf("/%s of the %s, line %d: %s", n.Path, n.Whose, n.Line, n.Text)
}

// The bounds of what is read. Directories of universities, printed into a file, have some ten thousand lines.
const (
	MaxFile  = 64 << 20 // bytes; a longer file is fault.Invalid
	maxLines = 1_000_000
	maxLine  = 1 << 20 // a group with everybody in it
	maxNotes = 100     // of one file; then it is enough
	maxName  = 256
)

// user is a line of passwd.
type user struct {
	name, password       string
	uid, gid             uint32
	comment, home, shell string
}

func (u user) String() string {
	return strings.Join([]string{u.name, u.password, id(u.uid), id(u.gid), u.comment, u.home, u.shell}, ":")
}

// group is a line of group.
type group struct {
	name, password string
	gid            uint32
	members        []string
}

func (g group) String() string {
	return strings.Join([]string{g.name, g.password, id(g.gid), strings.Join(g.members, ",")}, ":")
}

// file is what was read from one text.
type file[T any] struct {
	whose   string
	path    string
	entries []T
	at      map[string]int // index of the entry of each name, the first of several, as the C library takes it
	nis     []string       // lines that begin with + or -: a directory service's, and the last in a file
	notes   []Note
}

func (f *file[T]) note(line int, format string, args ...any) {
	if len(f.notes) < maxNotes {
		f.notes = append(f.notes, Note{f.whose, f.path, line, fmt.Sprintf(format, args...)})
	}
}

// get finds the entry of a name.
func (f *file[T]) get(name string) (entry T, ok bool) {
	i, ok := f.at[name]
	if ok {
		entry = f.entries[i]
	}
	return entry, ok
}

// read reads a text line by line; parse makes an entry of its fields, or says why it is none.
func read[T any](whose, path string, text []byte, fields int, parse func(fields []string) (entry T, why string)) (*file[T], error) {
	f := &file[T]{whose: whose, path: path, at: make(map[string]int)}
	if len(text) > MaxFile {
		return nil, fault.New(fault.Invalid, "/%s of the %s has more than %d bytes", path, whose, MaxFile)
	}
	if bytes.Count(text, []byte("\n")) > maxLines {
		return nil, fault.New(fault.Invalid, "/%s of the %s has more than %d lines", path, whose, maxLines)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "", trimmed[0] == '#':
			continue
		case len(line) > maxLine:
			f.note(n, "it is longer than %d bytes", maxLine)
			continue
		case strings.IndexByte(line, 0) >= 0:
			f.note(n, "it holds a NUL byte")
			continue
		case line[0] == '+', line[0] == '-':
			f.nis = append(f.nis, line)
			continue
		}
		split := strings.Split(line, ":")
		if len(split) != fields {
			f.note(n, "it has %d fields and not %d", len(split), fields)
			continue
		}
		name := split[0]
		if why := badName(name); why != "" {
			f.note(n, "the name %.200q %s", name, why)
			continue
		}
		entry, why := parse(split)
		if why != "" {
			f.note(n, "%s: %s", name, why)
			continue
		}
		if _, ok := f.at[name]; ok {
			f.note(n, "%s is there before, and that counts", name)
			continue
		}
		f.at[name] = len(f.entries)
		f.entries = append(f.entries, entry)
	}
	return f, nil
}

func badName(s string) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > maxName:
		return "is too long"
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == ',' || r == '/' }):
		return "holds what no name may hold"
	}
	return ""
}

func readUsers(whose string, text []byte) (*file[user], error) {
	return read(whose, "etc/passwd", text, 7, func(f []string) (u user, why string) {
		u = user{name: f[0], password: f[1], comment: f[4], home: f[5], shell: f[6]}
		if u.uid, why = readID(f[2]); why == "" {
			u.gid, why = readID(f[3])
		}
		return u, why
	})
}

func readGroups(whose string, text []byte) (*file[group], error) {
	return read(whose, "etc/group", text, 4, func(f []string) (g group, why string) {
		g = group{name: f[0], password: f[1], members: members(f[3])}
		g.gid, why = readID(f[2])
		return g, why
	})
}

// members splits a list of names; what is empty or there twice goes.
func members(s string) []string {
	var all []string
	seen := make(map[string]bool)
	for name := range strings.SplitSeq(s, ",") {
		if name = strings.Trim(name, " \t"); name != "" && !seen[name] {
			seen[name] = true
			all = append(all, name)
		}
	}
	return all
}

// readID reads a number of a user or group. The largest, -1 to the kernel, stands for none (chown(2)).
func readID(s string) (n uint32, why string) {
	v, err := strconv.ParseUint(s, 10, 32)
	if err != nil || v == 1<<32-1 {
		return 0, fmt.Sprintf("%.40q is no number of a user or group", s)
	}
	return uint32(v), ""
}

func id(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

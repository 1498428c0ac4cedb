package segment

import (
	"io"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Lay lays one tree over another: what top holds replaces what base has under the same path, everything else stays.
// Nothing is ever taken away but what lies below a directory that top has something else for. A directory that is there
// keeps its owner and mode, for archives of a few files name the directories above them or leave that out, and then have
// nothing to say of them. It is fault.Invalid if top has a directory where base has something else: most often that is
// /lib or /bin, a link to the same below /usr, and a system that loses it does not start.
func Lay(base, top Source) (Source, error) {
	l := &laid{base: base, top: top, above: make(map[string]bool)}
	b, t := base.Entries(), top.Entries()
	groups := 0
	for i := range b {
		groups = max(groups, b[i].Group)
	}
	gone := "" // a directory of base that something else replaced
	for len(b) > 0 || len(t) > 0 {
		switch c := order(b, t); {
		case c < 0:
			if gone == "" || !strings.HasPrefix(b[0].Path, gone+"/") {
				l.entries = append(l.entries, b[0])
			}
			b = b[1:]
		case c == 0:
			switch {
			case b[0].Type == Dir && t[0].Type == Dir:
				l.entries = append(l.entries, b[0])
			case t[0].Type == Dir:
				return nil, fault.New(fault.Invalid, "/%s is a directory there, and a %s in the image", t[0].Path, b[0].Type).
					WithFix("lay it out as the image does, or import it as an image of its own")
			default:
				if b[0].Type == Dir {
					gone = b[0].Path
				}
				l.put(t[0], groups)
			}
			b, t = b[1:], t[1:]
		default:
			l.put(t[0], groups)
			t = t[1:]
		}
	}
	l.count()
	return l, nil
}

// order compares what comes next in two sorted lists; an empty one comes last.
func order(a, b []Entry) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return ComparePaths(a[0].Path, b[0].Path)
}

// laid is one tree over another.
type laid struct {
	base, top Source
	entries   []Entry
	above     map[string]bool // files that are top's
}

func (l *laid) put(e Entry, groups int) {
	if e.Group > 0 {
		e.Group += groups
	}
	if e.Type == File {
		l.above[e.Path] = true
	}
	l.entries = append(l.entries, e)
}

// count counts the names of hard-linked files anew: some may be gone.
func (l *laid) count() {
	names := make(map[int]int)
	for i := range l.entries {
		names[l.entries[i].Group]++
	}
	for i := range l.entries {
		e := &l.entries[i]
		if e.Group == 0 {
			continue
		}
		if e.Links = names[e.Group]; e.Links == 1 {
			e.Group, e.Links = 0, 0
		}
	}
}

// Entries implements Source.
func (l *laid) Entries() []Entry { return l.entries }

// Open implements Source.
func (l *laid) Open(path string) (io.ReadCloser, error) {
	if l.above[path] {
		return l.top.Open(path)
	}
	return l.base.Open(path)
}

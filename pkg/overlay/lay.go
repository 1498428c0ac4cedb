package overlay

import (
	"slices"
	"strings"
)

// Lay lays a site's own files over those that wulfmesh ships under the same name: per path, the site's counts, and one
// of TypeGone takes a shipped file away. So does a hook count that is the site's, and one without a unit takes the
// shipped one of the same path away. Either may be nil; neither is changed.
func Lay(base, own *Bundle) (*Bundle, error) {
	if base == nil {
		base = &Bundle{}
	}
	if own == nil {
		own = &Bundle{}
	}
	gone := func(f File) bool { return f.Type == TypeGone }
	files := slices.Clone(own.Files)
	for _, f := range base.Files {
		if _, ok := own.File(f.Path); !ok {
			files = append(files, f)
		}
	}
	hooks := slices.DeleteFunc(slices.Clone(base.Hooks), func(h Hook) bool {
		return slices.ContainsFunc(own.Hooks, func(o Hook) bool { return o.Path == h.Path })
	})
	hooks = slices.DeleteFunc(append(hooks, own.Hooks...), func(h Hook) bool { return h.Reload+h.Restart == "" })
	return NewBundle(slices.DeleteFunc(files, gone), hooks...)
}

// File finds a file by its path.
func (b *Bundle) File(path string) (*File, bool) {
	i, ok := slices.BinarySearchFunc(b.Files, path, func(f File, p string) int { return strings.Compare(f.Path, p) })
	if !ok {
		return nil, false
	}
	return &b.Files[i], true
}

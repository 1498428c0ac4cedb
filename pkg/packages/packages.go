// Package packages reads which packages are installed in a file tree, from the databases that package managers keep
// there: dpkg, rpm in each of its three formats, apk and pacman. It runs nothing of the tree, and believes nothing: the
// databases are a stranger's files, so every length, count and chain of pages in them is bounded.
package packages

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Package is an installed package.
type Package struct {
	Kind    string `json:"kind"` // whose it is: dpkg, rpm, apk or pacman
	Name    string `json:"name"`
	Version string `json:"version"`        // in full, as its manager writes it: 2:6.4.0~rc1-1.el9
	Arch    string `json:"arch,omitempty"` // as its manager calls it
	Size    int64  `json:"size,omitempty"` // bytes that it takes once installed, as it says itself; 0 if it does not
}

// Bounds of what is read. Databases of full desktops stay below a tenth of them.
const (
	maxDatabase = 512 << 20 // bytes of one database
	maxPackages = 200_000
	maxText     = 512 // bytes of a name, a version or an architecture
)

// kinds are the package managers, and how the packages of each are found.
var kinds = []struct {
	name string
	read func(tree fs.FS) ([]Package, error)
}{{"dpkg", dpkg}, {"rpm", rpm}, {"apk", apk}, {"pacman", pacman}}

// Read lists the packages installed in a tree, ordered by name, architecture and version. Links in the tree must lead
// where a program inside would be led, as with segment.FS. A tree without packages gives none. A database that is there
// and cannot be read is fault.Invalid.
func Read(tree fs.FS) ([]Package, error) {
	var all []Package
	for _, k := range kinds {
		found, err := k.read(tree)
		if err != nil {
			return nil, err
		}
		if len(found) > maxPackages {
			return nil, tooMany(k.name)
		}
		for i := range found {
			found[i].Kind = k.name
			if err := found[i].check(); err != nil {
				return nil, err
			}
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Size, b.Size))
	})
	return all, nil
}

// tooMany is the error of a database that goes on and on.
func tooMany(kind string) error {
	return fault.New(fault.Invalid, "the image's %s database has more than %d packages", kind, maxPackages)
}

// check refuses what no package is called, before it gets to somebody's terminal.
func (p *Package) check() error {
	for _, s := range []string{p.Name, p.Version, p.Arch} {
		if len(s) > maxText || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) }) {
			return fault.New(fault.Invalid, "the image's %s database has a package %.60q %.60q, which cannot be", p.Kind, p.Name, p.Version)
		}
	}
	if p.Name == "" || p.Version == "" || p.Size < 0 {
		return fault.New(fault.Invalid, "the image's %s database has a package without name or version: %.60q %.60q", p.Kind, p.Name, p.Version)
	}
	return nil
}

// Change is a package of which another version is installed.
type Change struct {
	From Package `json:"from"`
	To   Package `json:"to"`
}

// Difference is what happened to the packages of a tree.
type Difference struct {
	Added   []Package `json:"added,omitempty"`
	Removed []Package `json:"removed,omitempty"`
	Changed []Change  `json:"changed,omitempty"`
}

// Diff tells what became of the packages a, where there are the packages b now; both as Read returns them. Of a package
// that is there in several versions, as kernels are, those that went and those that came are paired in their order.
func Diff(a, b []Package) Difference {
	type key struct{ kind, name, arch string }
	keyOf := func(p Package) key { return key{p.Kind, p.Name, p.Arch} }
	came := make(map[key][]Package)
	for _, p := range b {
		came[keyOf(p)] = append(came[keyOf(p)], p)
	}
	went := make(map[key][]Package)
	for _, p := range a {
		k := keyOf(p)
		if i := slices.IndexFunc(came[k], func(q Package) bool { return q.Version == p.Version }); i >= 0 {
			came[k] = slices.Delete(came[k], i, i+1)
		} else {
			went[k] = append(went[k], p)
		}
	}
	var d Difference
	for _, p := range a {
		k := keyOf(p)
		if len(went[k]) == 0 || went[k][0] != p {
			continue
		}
		went[k] = went[k][1:]
		if len(came[k]) == 0 {
			d.Removed = append(d.Removed, p)
			continue
		}
		d.Changed = append(d.Changed, Change{From: p, To: came[k][0]})
		came[k] = came[k][1:]
	}
	for _, p := range b {
		if k := keyOf(p); len(came[k]) > 0 && came[k][0] == p {
			d.Added = append(d.Added, p)
			came[k] = came[k][1:]
		}
	}
	return d
}

// readFile reads a file of the tree; nothing, and fs.ErrNotExist, for one that is not there.
func readFile(tree fs.FS, name string, limit int64) ([]byte, error) {
	fi, err := fs.Stat(tree, name)
	switch {
	case absent(err):
		return nil, err
	case err != nil:
		return nil, fault.Wrap(fault.Invalid, err, "reading the image's /%s", name)
	case !fi.Mode().IsRegular():
		return nil, fault.New(fault.Invalid, "the image's /%s is no file", name)
	}
	f, err := tree.Open(name)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "reading the image's /%s", name)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "reading the image's /%s", name)
	}
	if int64(len(b)) > limit {
		return nil, fault.New(fault.Invalid, "the image's /%s has more than %d bytes: that is no package database", name, limit)
	}
	return b, nil
}

// absent tells whether a database is simply not there.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

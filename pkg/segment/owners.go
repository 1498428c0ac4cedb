package segment

import (
	"bufio"
	"context"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Debian's package manager keeps the paths of each package in a file of lines. Those of 3000 packages have 25 MB.
const (
	dpkgInfo = "var/lib/dpkg/info/"
	maxLists = 64 << 20 // bytes of all lists; a tree with more is cut as one without packages
)

// owners tells for paths which package they are of. It decides the order of files only, so what it does not know, or
// gets wrong, costs bytes and nothing else. RPM keeps its files in databases, which are not read here: such trees stay in
// the order of the walk.
func owners(ctx context.Context, src Source, entries []Entry) (map[string]string, error) {
	all := make(map[string]string)
	links := make(map[string]string) // at the top, as dpkg knows /bin/sh where it is in usr/bin
	var lists []*Entry
	var size int64
	for i := range entries {
		e := &entries[i]
		if e.Type == Symlink && !strings.Contains(e.Path, "/") {
			links[e.Path] = strings.Trim(e.Link, "/")
		}
		name, ok := strings.CutPrefix(e.Path, dpkgInfo)
		if !ok || e.Type != File {
			continue
		}
		if strings.HasSuffix(name, ".list") {
			lists = append(lists, e)
			size += e.Size
		} else if dot := strings.LastIndexByte(name, '.'); dot > 0 {
			all[e.Path] = dpkgPackage(name[:dot])
		}
	}
	if len(lists) == 0 || size > maxLists {
		return nil, nil
	}
	for _, e := range lists {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		f, err := src.Open(e.Path)
		if err != nil {
			return nil, err
		}
		name := dpkgPackage(strings.TrimSuffix(path.Base(e.Path), ".list"))
		err = owned(f, name, links, all)
		f.Close()
		if err != nil {
			return nil, fault.Wrap(fault.KindOf(err), err, "reading %q", e.Path)
		}
	}
	return all, nil
}

// owned reads the paths of one package. A path that several packages claim is the first one's; most of those are directories.
func owned(list io.Reader, name string, links, all map[string]string) error {
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		p := strings.TrimPrefix(lines.Text(), "/")
		top, rest, _ := strings.Cut(p, "/")
		if to, ok := links[top]; ok {
			p = to + "/" + rest
		}
		if _, ok := all[p]; !ok {
			all[p] = name
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) { // so long a line is no path
		return err
	}
	return nil
}

// dpkgPackage is the package of a file NAME or NAME:ARCH.
func dpkgPackage(file string) string {
	name, _, _ := strings.Cut(file, ":")
	return name
}

package segment

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// ExcludeFiles list in an image what nodes are not given. The first is Warewulf's.
var ExcludeFiles = []string{"etc/warewulf/excludes", "etc/wulf/excludes"}

// maxExcludes bounds the bytes of such a list.
const maxExcludes = 1 << 20

// ReadExcludes reads the lists of an image, and returns nil if there is none or nothing in them. They are Warewulf's: a
// pattern of path.Match a line, against the whole path, slashes at its ends trimmed; what is below a directory that matches
// goes with it. A line that is no pattern is fault.Invalid.
func ReadExcludes(src Source) (func(path string) bool, error) {
	image := FS(src)
	byDepth := make(map[int][]string) // * matches no slash, so a pattern matches paths of its own depth only
	for _, name := range ExcludeFiles {
		f, err := image.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list, err := io.ReadAll(io.LimitReader(f, maxExcludes+1))
		f.Close()
		if err != nil {
			return nil, err
		}
		if len(list) > maxExcludes {
			return nil, fault.New(fault.Invalid, "the image's /%s has more than %d bytes", name, maxExcludes)
		}
		if err := addPatterns(byDepth, name, list); err != nil {
			return nil, err
		}
	}
	if len(byDepth) == 0 {
		return nil, nil
	}
	return func(p string) bool { return excluded(byDepth, p) }, nil
}

func addPatterns(byDepth map[int][]string, name string, list []byte) error {
	for at, lines := 1, bufio.NewScanner(bytes.NewReader(list)); lines.Scan(); at++ {
		pattern := strings.Trim(strings.TrimSpace(lines.Text()), "/")
		if pattern == "" || pattern[0] == '#' {
			continue
		}
		if _, err := path.Match(pattern, ""); err != nil {
			return fault.New(fault.Invalid, "line %d of the image's /%s is no pattern: %.200q", at, name, pattern).WithFix("mend the line, or delete it")
		}
		depth := strings.Count(pattern, "/")
		if !slices.Contains(byDepth[depth], pattern) {
			byDepth[depth] = append(byDepth[depth], pattern)
		}
	}
	return nil
}

// excluded tells whether a pattern matches the path or a directory above it.
func excluded(byDepth map[int][]string, p string) bool {
	depth := 0
	for i := 0; i <= len(p); i++ {
		if i < len(p) && p[i] != '/' {
			continue
		}
		for _, pattern := range byDepth[depth] {
			if ok, _ := path.Match(pattern, p[:i]); ok { // it was tried before, and is a pattern
				return true
			}
		}
		depth++
	}
	return false
}

// divide copies the entries of a tree, divided into those for nodes and those that are kept from them, each in order.
// Names of one file that come to lie on both sides become two files. Hard links are numbered in the order of first names,
// wherever a tree came from.
func divide(entries []Entry, exclude func(string) bool) (all []Entry, given, aside []int) {
	all = slices.Clone(entries)
	type group struct {
		number int
		aside  bool
	}
	names, numbers := make(map[group]int), make(map[group]int)
	sides := make([]bool, len(all))
	for i := range all {
		sides[i] = exclude != nil && exclude(all[i].Path)
		if all[i].Group > 0 {
			names[group{all[i].Group, sides[i]}]++
		}
	}
	for i := range all {
		e := &all[i]
		if g := (group{e.Group, sides[i]}); e.Group > 0 {
			if e.Links = names[g]; e.Links < 2 {
				e.Group, e.Links = 0, 0
			} else {
				if numbers[g] == 0 {
					numbers[g] = len(numbers) + 1
				}
				e.Group = numbers[g]
			}
		}
		if sides[i] {
			aside = append(aside, i)
		} else {
			given = append(given, i)
		}
	}
	return all, given, aside
}

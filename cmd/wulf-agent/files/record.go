package files

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"syscall"

	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// Record is what overlays have written on a node, by path: files, links, and directories that were not there before.
type Record map[string]Written

// Written is what is remembered of a path.
type Written struct {
	// Marks tell what was written there: the first is the newest. After a crash the file may be as any of them says.
	Marks []string `json:"marks"`
	Attrs []string `json:"attrs,omitempty"` // names of the extended attributes that it was given
	Stamp string   `json:"stamp,omitempty"` // of the file when it was written; "" while that is not known to have happened
}

// maxMarks bounds the marks of a path: crash after crash, with other content each time, is no reason to grow.
const maxMarks = 4

const dirMark = "dir"

func (w Written) dir() bool { return w.mark() == dirMark }

// mark is what was written last.
func (w Written) mark() string {
	if len(w.Marks) == 0 {
		return ""
	}
	return w.Marks[0]
}

// Drifted lists the files that are no longer as they were written: somebody has changed them on the node, or only their
// times. It reads no contents.
func (t *Tree) Drifted(r Record) []string {
	var all []string
	for path, w := range r {
		if w.dir() {
			continue
		}
		at, err := resolve(t.Root, path, false)
		if err == nil && w.Stamp != "" {
			if i, err := t.Root.Lstat(at); err == nil && stamp(i) == w.Stamp {
				continue
			}
		}
		all = append(all, path)
	}
	slices.Sort(all)
	return all
}

// stamp is what changes whenever a file does. Its owner and mode are in it by the time of their change.
func stamp(i fs.FileInfo) string {
	s, ok := i.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d %d %d.%d %d.%d", s.Ino, s.Size, s.Mtim.Sec, s.Mtim.Nsec, s.Ctim.Sec, s.Ctim.Nsec)
}

// markOf is the mark of a listed file.
func markOf(f *overlay.Listed) string {
	switch f.Type {
	case overlay.TypeDir:
		return dirMark
	case overlay.TypeLink:
		return "link " + f.Target
	}
	return "file " + f.Digest.String()
}

// markAt is the mark of what is there, "" for what overlays never write.
func markAt(root *os.Root, path string, i fs.FileInfo) (string, error) {
	switch {
	case i.IsDir():
		return dirMark, nil
	case i.Mode()&fs.ModeSymlink != 0:
		target, err := root.Readlink(path)
		return "link " + target, err
	case !i.Mode().IsRegular():
		return "", nil
	}
	f, err := root.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return "file " + hex.EncodeToString(sum.Sum(nil)), nil
}

// written notes a file that has been put in place.
func (x *applying) written(f *overlay.Listed, at string) error {
	i, err := x.tree.Root.Lstat(at)
	if err != nil {
		return err
	}
	x.result.Record[f.Path] = Written{Marks: []string{markOf(f)}, Attrs: slices.Sorted(maps.Keys(f.Xattrs)), Stamp: stamp(i)}
	return nil
}

// intended is the record as it is if the writing that begins now is cut short: each file is as it was, or as it will be.
func (x *applying) intended(wrong []*overlay.Listed) Record {
	r := maps.Clone(x.result.Record)
	for _, f := range wrong {
		w, mark := r[f.Path], markOf(f)
		if f.Type == overlay.TypeDir && len(w.Marks) == 0 {
			continue // whether it is made here is not known yet, and a directory that is left is no harm
		}
		marks := append([]string{mark}, slices.DeleteFunc(slices.Clone(w.Marks), func(m string) bool { return m == mark })...)
		r[f.Path] = Written{Marks: marks[:min(len(marks), maxMarks)], Attrs: w.Attrs}
	}
	return r
}

package stageone

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io/fs"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// inputsFormat is a part of every digest of inputs. It grows with each change to what Build makes of the same inputs.
//
// History: 1 (2026-11) first; 2 (2026-11) takes btrfs along.
const inputsFormat = 2

// summed is a source that knows the digests of its files' contents without reading them.
type summed interface {
	// Sum is the digest of a regular file's content; an error if it is not known.
	Sum(path string) (chunk.ID, error)
}

// Inputs is a digest of a kernel and of all that Build makes its stage one of, without reading any of it: whoever has both
// of equal inputs need not make them again. Of the image it covers the kernel's file and everything below its modules and
// below /lib/firmware, of which Build takes a part; so unequal inputs may still make equal bytes. A source that has a
// method Sum(path string) (chunk.ID, error) is asked for the digests of contents. Another source's files go by
// their size and the time when they were changed.
func Inputs(src segment.Source, k Kernel, o Options) (chunk.ID, error) {
	d := digest{Hash: sha256.New(), image: segment.FS(src), seen: make(map[string]bool)}
	d.sums, _ = src.(summed)
	d.number(inputsFormat)
	d.number(level)
	d.text(k.Version)
	if e := file(d.image, k.Path); e != nil {
		d.content(e)
	}
	d.sum(chunk.Of(o.Agent))
	d.sum(chunk.Of(o.Trust))
	extra := slices.Sorted(slices.Values(o.Modules))
	d.number(int64(len(extra)))
	for _, name := range extra {
		d.text(name)
	}
	for _, dir := range []string{k.Modules, "lib/firmware"} {
		d.text(dir)
		if dir == "" {
			continue
		}
		if err := d.below(dir); err != nil {
			return chunk.ID{}, err
		}
	}
	return chunk.ID(d.Sum(nil)), nil
}

// digest hashes values so that no two lists of values look alike.
type digest struct {
	hash.Hash
	image fs.FS
	sums  summed          // nil if the source knows none
	seen  map[string]bool // directories
}

func (d digest) number(n int64) { binary.Write(d, binary.LittleEndian, n) }

func (d digest) text(s string) {
	d.number(int64(len(s)))
	d.Write([]byte(s))
}

func (d digest) sum(id chunk.ID) { d.Write(id[:]) }

// below takes all that can be reached in a directory, through links too, every directory once; nothing if it is not there.
func (d digest) below(dir string) error {
	return fs.WalkDir(d.image, dir, func(p string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && p == dir {
			return nil
		}
		if err != nil {
			return err
		}
		fi, err := fs.Stat(d.image, p) // behind the link
		if err != nil {
			return nil // a link that leads nowhere
		}
		e := fi.Sys().(*segment.Entry)
		switch {
		case e.Type == segment.File:
			d.text(strings.TrimPrefix(p, dir))
			d.content(e)
		case e.Type == segment.Dir && p != dir && d.seen[e.Path]:
			return skipped(entry)
		case e.Type == segment.Dir:
			d.seen[e.Path] = true
			d.text(strings.TrimPrefix(p, dir))
			if !entry.IsDir() {
				return d.below(p)
			}
		}
		return nil
	})
}

// skipped does not go into a directory; a link is not gone into anyway, and what is beside it comes next.
func skipped(entry fs.DirEntry) error {
	if entry.IsDir() {
		return fs.SkipDir
	}
	return nil
}

func (d digest) content(e *segment.Entry) {
	if d.sums != nil {
		if id, err := d.sums.Sum(e.Path); err == nil {
			d.text("sum")
			d.sum(id)
			return
		}
	}
	d.text("stat")
	d.number(e.Size)
	d.number(e.MTime)
}

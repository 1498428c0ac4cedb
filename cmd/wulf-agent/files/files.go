// Package files makes a node's files what its overlays declare, and takes back what they no longer do.
//
// Each file is replaced at once: a reader, or a crash, finds the old one or the new one. What is right already is not
// touched. Nothing outside of the root can be reached, whatever the names and links in it say.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"syscall"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// Tree is a node's root, and how its overlays' files get there.
type Tree struct {
	Root *os.Root // the node's root
	// Kept is where what an overlay replaces is kept, to be put back when the overlay no longer has the file. Nil: it is
	// gone.
	Kept *os.Root
	// Fetch hands the bytes of a content that is not in the listing to use, which it may call again from the beginning; see
	// mesh.Stream.
	Fetch func(ctx context.Context, ref chunk.Ref, use func(io.Reader) error) error
	// Save keeps what is about to be written before it is, so that a crash leaves no file that nobody knows to be an
	// overlay's. Nil: nothing is kept.
	Save func(Record) error
}

// Result is what became of a listing.
type Result struct {
	Record  Record   // what overlays have written by now
	Changed []string // written, because they were not as listed
	New     []string // those of Changed that nothing was in the place of
	Removed []string // in the listing no more: removed, or put back as they were before overlays had them
	Left    []string // in the listing no more, but changed on the node since they were written: they stay
	Failed  []error  // a file each; all others are as listed
}

// Apply makes the files below the root those of a listing. before is the Record that the last Result left: files of it
// that the listing lacks are taken back. The error is of what keeps all files from being written, not one; the Result
// holds even then.
func (t *Tree) Apply(ctx context.Context, l *overlay.Listing, before Record) (*Result, error) {
	x := &applying{tree: t, result: &Result{Record: maps.Clone(before)}, before: before}
	if x.result.Record == nil {
		x.result.Record = Record{}
	}
	listed := make(map[string]*overlay.Listed, len(l.Files))
	var wrong []*overlay.Listed
	for i := range l.Files {
		f := &l.Files[i]
		listed[f.Path] = f
		right, err := x.right(f)
		if err != nil {
			x.failed(f.Path, err)
		} else if !right {
			wrong = append(wrong, f)
		}
	}
	gone := x.vanished(listed)
	if len(wrong)+len(gone) == 0 {
		return x.result, nil
	}
	if t.Save != nil {
		if err := t.Save(x.intended(wrong)); err != nil {
			return x.result, err
		}
	}
	// A file may come where a directory of files was that have vanished, or the other way round: these wait for that.
	later, err := x.write(ctx, wrong, true)
	if err != nil {
		return x.result, err
	}
	x.takeBack(gone)
	_, err = x.write(ctx, later, false)
	return x.result, err
}

// applying is one Apply.
type applying struct {
	tree   *Tree
	before Record
	result *Result
}

func (x *applying) failed(path string, err error) {
	kind := fault.KindOf(err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		kind = fault.Full
	}
	x.result.Failed = append(x.result.Failed, fault.Wrap(kind, err, "/%s", path))
}

// errOccupied is the reason why something is not put where it should be: what is there must not be destroyed.
var errOccupied = errors.New("it is left as it is")

// write puts files in place, and returns those that something stands in the way of, if they may be tried again.
func (x *applying) write(ctx context.Context, wrong []*overlay.Listed, again bool) (later []*overlay.Listed, err error) {
	for _, f := range wrong {
		if ctx.Err() != nil {
			return nil, fault.Wrap(fault.Timeout, ctx.Err(), "overlay file %s", f.Path)
		}
		err := x.put(ctx, f)
		switch {
		case err == nil:
			x.result.Changed = append(x.result.Changed, f.Path)
		case again && errors.Is(err, errOccupied):
			later = append(later, f)
		case errors.Is(err, errFetch): // no other can be had either
			return nil, fmt.Errorf("overlay file %s: %w", f.Path, err)
		default:
			x.failed(f.Path, err)
		}
	}
	return later, nil
}

// vanished lists what overlays wrote and the listing lacks, or has as a file where a directory was, or the other way
// round; what is inside of a directory before that.
func (x *applying) vanished(listed map[string]*overlay.Listed) []string {
	var gone []string
	parents := map[string]bool{}
	for p := range listed {
		for p = path.Dir(p); p != "." && !parents[p]; p = path.Dir(p) {
			parents[p] = true
		}
	}
	for p, w := range x.before {
		f, ok := listed[p]
		if ok && (f.Type == overlay.TypeDir) != w.dir() || !ok && !(w.dir() && parents[p]) {
			gone = append(gone, p)
		}
	}
	slices.Sort(gone)
	slices.Reverse(gone)
	return gone
}

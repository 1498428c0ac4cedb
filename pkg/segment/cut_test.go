package segment

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// TestPathHashIsFrozen: other values would cut every image anew, and none would share segments with those before.
func TestPathHashIsFrozen(t *testing.T) {
	for path, want := range map[string]uint64{"": 0xefd01f60ba992926, "usr/bin/bash": 0x9c4eefd494f98888} {
		if got := pathHash(path); got != want {
			t.Errorf("pathHash(%q) = %#x, want %#x", path, got, want)
		}
	}
}

// someFiles are sorted entries of n files, in sizes like those of a distribution.
func someFiles(n int) []Entry {
	r := rand.New(rand.NewPCG(1, 2))
	var entries []Entry
	for i := range n {
		size := int64(1) << r.IntN(18)
		if i%100 == 0 {
			size = r.Int64N(6 << 20)
		}
		entries = append(entries, Entry{Path: fmt.Sprintf("usr/lib/d%03d/f%06d", i/40, i), Type: File, Size: size + 1})
	}
	return entries
}

func TestEveryFileIsInOneSegmentOfBoundedSize(t *testing.T) {
	c := cuttings()[content]
	entries := someFiles(20_000)
	entries = append(entries, Entry{Path: "usr/lib/link", Type: Symlink}, Entry{Path: "usr/share/doc/a/x", Type: File, Size: 10},
		Entry{Path: "usr/share/empty", Type: File}, Entry{Path: "var/lib/dpkg/info/a.list", Type: File, Size: 10},
		Entry{Path: "var/lib/dpkg/status", Type: File, Size: 10})
	plan := plan(entries, every(entries), nil)
	seen := map[*Entry]bool{}
	small := 0
	for i, part := range plan {
		var size int64
		for j, e := range part {
			if i == 0 && j == 0 {
				if e.Path != "." || e.Mode != 0o755 {
					t.Errorf("the skeleton begins with %+v", e)
				}
				continue
			}
			if seen[e] {
				t.Errorf("%s is there twice", e.Path)
			}
			seen[e] = true
			size += e.Size
			if inSkeleton := e.Type != File || e.Size == 0; inSkeleton != (i == 0) {
				t.Errorf("%s is in segment %d", e.Path, i)
			}
		}
		if len(part) > 1 && size > c.max+c.alone {
			t.Errorf("segment %d has %d bytes", i, size)
		}
		if i > 0 && size < c.min-1000*newcHeader {
			small++
		}
	}
	if len(seen) != len(entries) {
		t.Errorf("%d of %d entries are in a segment", len(seen), len(entries))
	}
	// Only the last one of a class may be small: what packages note and what is volatile does not mix with the rest.
	if small > 3 {
		t.Errorf("%d segments are smaller than the minimum", small)
	}
	last, before := plan[len(plan)-1], plan[len(plan)-2]
	if len(last) != 1 || last[0].Path != "var/lib/dpkg/status" || len(before) != 2 || before[0].Path != "usr/share/doc/a/x" {
		t.Errorf("the last segments begin with %s and %s", before[0].Path, last[0].Path)
	}
}

func TestHardLinksStayTogether(t *testing.T) {
	entries := someFiles(2000)
	for i := range entries {
		if i%5 == 0 {
			entries[i].Group, entries[i].Links = 1+i%50, 0
		}
	}
	at := map[int]int{}
	for i, part := range plan(entries, every(entries), nil) {
		for _, e := range part {
			if e.Group == 0 {
				continue
			}
			if old, ok := at[e.Group]; ok && old != i {
				t.Fatalf("group %d is in the segments %d and %d", e.Group, old, i)
			}
			at[e.Group] = i
		}
	}
}

// TestOneFileMoreOrLessChangesFewSegments holds the cutting to its promise: all segments but those around the change
// are the same chunks.
func TestOneFileMoreOrLessChangesFewSegments(t *testing.T) {
	entries := someFiles(5_000)
	key := func(part []*Entry) string {
		s := ""
		for _, e := range part {
			s += fmt.Sprintln(e.Path, e.Size)
		}
		return s
	}
	before := map[string]bool{}
	for _, part := range plan(entries, every(entries), nil) {
		before[key(part)] = true
	}
	r := rand.New(rand.NewPCG(3, 4))
	const tries = 40
	changed, bytes := 0, int64(0)
	for range tries {
		i := r.IntN(len(entries))
		less := append(append([]Entry(nil), entries[:i]...), entries[i+1:]...)
		for _, part := range plan(less, every(less), nil)[1:] {
			if !before[key(part)] {
				changed++
				for _, e := range part {
					bytes += e.Size
				}
			}
		}
	}
	if mean := float64(changed) / tries; mean > 1.5 {
		t.Errorf("a file less changes %.2f segments on average", mean)
	}
	if mean := bytes / tries; mean > 1500<<10 {
		t.Errorf("a file less changes %d bytes on average", mean)
	}
}

func TestOneFileMoreStoresFewNewChunks(t *testing.T) {
	items := library(7, 300)
	old := build(t, openTar(t, makeTar(t, items...)), Options{Level: 1})
	newer := build(t, openTar(t, makeTar(t, append(items, regular("usr/lib/part07/new", "a new file"))...)), Options{Level: 1})
	have := map[chunk.ID]bool{}
	for _, s := range old.Segments {
		have[s.ID] = true
	}
	fresh := 0
	for _, s := range newer.Segments {
		if !have[s.ID] {
			fresh++
		}
	}
	if len(old.Segments) < 4 || fresh > 2 {
		t.Errorf("%d of %d segments are new", fresh, len(newer.Segments))
	}
	// A file that changes its time only is another file; a directory or a link is not.
	items = append(items, dir("usr/lib", 0o755))
	old = build(t, openTar(t, makeTar(t, items...)), Options{Level: 1})
	items[len(items)-1].ModTime = items[0].ModTime
	newer = build(t, openTar(t, makeTar(t, items...)), Options{Level: 1})
	if old.Segments[0] != newer.Segments[0] {
		t.Error("the time of a directory changed the skeleton")
	}
}

// every is the places of all entries.
func every(entries []Entry) []int {
	all := make([]int, len(entries))
	for i := range all {
		all[i] = i
	}
	return all
}

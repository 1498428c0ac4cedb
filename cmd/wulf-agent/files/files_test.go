package files_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/files"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

func TestOnlyWhatIsNotAsListedIsWritten(t *testing.T) {
	l := newLab(t)
	big := strings.Repeat("x", 100_000)
	first := []overlay.Listed{dir("etc", 0o750), moded("etc/a", "one", 0o640), moded("etc/b/c", "two", 0o4755), link("l", "etc/a"), l.fetched("opt/big", big)}
	l.want(l.apply(first...), "wrote etc etc/a etc/b/c l opt/big")
	l.want(l.content("etc"), "directory 750")
	l.want(l.content("l"), "→ etc/a")
	l.want(l.content("opt/big"), big)
	if i, err := os.Stat(filepath.Join(l.dir, "etc/b/c")); err != nil || i.Mode() != 0o755|os.ModeSetuid {
		t.Errorf("%v, %v", i.Mode(), err)
	}
	before, _ := os.Stat(filepath.Join(l.dir, "etc/a"))
	saved := len(l.saved)
	l.want(l.apply(first...), "")
	if after, _ := os.Stat(filepath.Join(l.dir, "etc/a")); !os.SameFile(before, after) || len(l.saved) != saved {
		t.Error("what was right has been written again")
	}
	clear(l.large) // what is on the node is not fetched
	changed := slices.Clone(first)
	changed[1], changed[4].Mode = file("etc/a", "three"), 0o600
	l.want(l.apply(changed...), "wrote etc/a opt/big")
	l.want(l.content("etc/a"), "three")
	l.want(l.content("opt/big"), big)
	if i, _ := os.Stat(filepath.Join(l.dir, "opt/big")); i.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", i.Mode())
	}
	if d := l.tree.Drifted(l.record); len(d) > 0 {
		t.Errorf("%v are not as they were written", d)
	}
}

func TestAFileIsReplacedAndNotWrittenThrough(t *testing.T) {
	l := newLab(t)
	l.write("target", "the image's")
	l.write("twin", "both")
	if err := errors.Join(os.Symlink("target", filepath.Join(l.dir, "link")), os.Link(filepath.Join(l.dir, "twin"), filepath.Join(l.dir, "other"))); err != nil {
		t.Fatal(err)
	}
	l.want(l.apply(file("link", "a file"), file("twin", "one"), link("target", "elsewhere")), "wrote link target twin")
	l.want(l.content("link"), "a file")
	l.want(l.content("target"), "→ elsewhere")
	l.want(l.content("other"), "both")
}

// What somebody changes on the node is set back, and found without reading contents.
func TestWhatWasChangedOnTheNodeIsSetBack(t *testing.T) {
	l := newLab(t)
	want := []overlay.Listed{file("etc/a", "one"), file("etc/b", "two"), link("l", "etc/a"), file("etc/ok", "x")}
	l.apply(want...)
	l.write("etc/a", "two")
	if err := errors.Join(os.Chmod(filepath.Join(l.dir, "etc/b"), 0o600), os.Remove(filepath.Join(l.dir, "l"))); err != nil {
		t.Fatal(err)
	}
	if d := l.tree.Drifted(l.record); !slices.Equal(d, []string{"etc/a", "etc/b", "l"}) {
		t.Errorf("drifted: %v", d)
	}
	l.want(l.apply(want...), "wrote etc/a etc/b l")
	l.want(l.content("etc/a"), "one")
	if d := l.tree.Drifted(l.record); len(d) > 0 {
		t.Errorf("drifted: %v", d)
	}
	// Nor is it taken for what was there before overlays.
	l.want(l.apply(file("etc/ok", "x")), "removed etc/a etc/b l")
	l.want(l.content("etc/a"), "nothing")
}

func TestWhatIsListedNoMoreIsTakenBack(t *testing.T) {
	l := newLab(t)
	l.write("etc/image", "the image's")
	l.write("etc/own", "the node's")
	if err := errors.Join(os.Chmod(filepath.Join(l.dir, "etc/image"), 0o600), os.Symlink("nowhere", filepath.Join(l.dir, "etc/link"))); err != nil {
		t.Fatal(err)
	}
	l.apply(file("etc/image", "the overlay's"), file("etc/link", "a file"), file("etc/new", "x"), file("opt/site/x", "y"), dir("opt/empty", 0o755))
	l.apply(file("etc/image", "the overlay's second"), file("etc/link", "a file"), file("etc/new", "x"), file("opt/site/x", "y"), dir("opt/empty", 0o755))
	l.want(l.content("etc/image"), "the overlay's second")
	l.want(l.apply(), "removed etc/image etc/link etc/new opt/site/x")
	l.want(l.content("etc/image"), "the image's")
	l.want(l.content("etc/link"), "→ nowhere")
	if i, _ := os.Stat(filepath.Join(l.dir, "etc/image")); i.Mode().Perm() != 0o600 {
		t.Errorf("it came back with mode %v", i.Mode())
	}
	if got := l.all(); !slices.Equal(got, []string{"etc", "etc/image", "etc/link", "etc/own"}) || len(l.record) != 0 {
		t.Errorf("there are %v, and the record has %v", got, l.record)
	}
	// And it can begin again.
	l.write("etc/image", "edited on the node")
	l.apply(file("etc/image", "the overlay's"))
	l.apply()
	l.want(l.content("etc/image"), "edited on the node")
}

// Nobody's work is deleted: what was changed since it was written stays when overlays no longer have it.
func TestWhatWasChangedOnTheNodeStaysWhenItIsListedNoMore(t *testing.T) {
	l := newLab(t)
	l.write("etc/a", "the image's")
	l.apply(file("etc/a", "one"), file("etc/b", "two"), file("d/c", "three"))
	l.write("etc/a", "mine")
	l.write("d/mine", "too")
	l.want(l.apply(file("etc/b", "two")), "removed d/c; left etc/a")
	l.want(l.content("etc/a"), "mine")
	l.want(l.content("d/mine"), "too")
	l.want(l.apply(file("etc/b", "two")), "") // and it is told once
	os.Remove(filepath.Join(l.dir, "d/mine"))
	l.want(l.apply(), "removed etc/b")
	if got := l.all(); !slices.Equal(got, []string{"etc", "etc/a"}) {
		t.Errorf("there are %v", got)
	}
}

func TestWhatStandsInTheWayIsToldAndNotDestroyed(t *testing.T) {
	l := newLab(t)
	l.write("etc/dir/precious", "x")
	l.write("etc/file", "y")
	if err := unix.Mkfifo(filepath.Join(l.dir, "etc/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := l.apply(file("etc/dir", "a file"), file("etc/fine", "z"), dir("etc/file", 0o755), file("etc/file/below", "z"), file("etc/pipe", "z"))
	l.want(got, "wrote etc/fine; failed: /etc/dir: a directory is where a file should be: it is left as it is; "+
		"failed: /etc/file: a file is where a directory should be: it is left as it is; "+
		"failed: /etc/file/below: /etc/file, where a directory should be, is a file: it is left as it is; "+
		"failed: /etc/pipe: a pipe is where a file should be: it is left as it is")
	l.want(l.content("etc/dir/precious"), "x")
	l.want(l.content("etc/file"), "y")
	l.want(l.apply(), "removed etc/fine")
	l.want(l.content("etc/file"), "y")
}

// What the overlays themselves put in the way of each other gives way.
func TestAFileMayComeWhereADirectoryWas(t *testing.T) {
	l := newLab(t)
	l.apply(file("a/b/c", "x"), file("f", "y"))
	l.want(l.apply(file("a", "now a file"), file("f/g", "now below")), "wrote a f/g; removed a/b/c f")
	l.want(l.content("a"), "now a file")
	l.want(l.content("f/g"), "now below")
	l.want(l.apply(file("a/b/c", "x"), file("f", "y")), "wrote a/b/c f; removed a f/g")
}

func TestLinksOnTheWayAreFollowedAsTheNodeDoes(t *testing.T) {
	l := newLab(t)
	for _, d := range []string{"usr/lib", "run"} {
		if err := os.MkdirAll(filepath.Join(l.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"lib": "usr/lib", "var": "/run", "up": "../../..", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(l.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	l.want(l.apply(dir("lib", 0o755), file("lib/x", "1"), file("loop/x", "4"), file("up/x", "3"), file("var/x", "2")),
		"wrote lib/x up/x var/x; failed: /loop/x: there are more than 40 links on the way to it")
	l.want(l.content("lib"), "→ usr/lib")
	l.want(l.content("usr/lib/x"), "1")
	l.want(l.content("run/x"), "2")
	l.want(l.content("x"), "3")
	l.want(l.apply(), "removed lib/x up/x var/x")
}

func TestExtendedAttributesAndLabels(t *testing.T) {
	l := newLab(t)
	at := func(p string) string { return filepath.Join(l.dir, p) }
	l.write("old", "x")
	if err := unix.Setxattr(at("old"), "user.try", []byte("1"), 0); err != nil {
		t.Skip("no extended attributes here: ", err)
	}
	get := func(p, name string) string {
		b := make([]byte, 100)
		n, err := unix.Lgetxattr(at(p), name, b)
		if err != nil {
			return err.Error()
		}
		return string(b[:n])
	}
	noted := file("noted", "x")
	noted.Xattrs = map[string][]byte{"user.note": []byte("declared")}
	l.want(l.apply(noted, file("old", "y")), "wrote noted old")
	l.want(get("noted", "user.note"), "declared")
	l.want(get("old", "user.try"), "no data available")
	l.want(l.apply(noted, file("old", "y")), "")
	if err := unix.Setxattr(at("noted"), "user.note", []byte("else"), 0); err != nil {
		t.Fatal(err)
	}
	l.want(l.apply(noted, file("old", "y")), "wrote noted")
	noted.Xattrs = nil
	l.want(l.apply(noted, file("old", "y")), "wrote noted")
	l.want(get("noted", "user.note"), "no data available")
	l.want(l.apply(noted), "removed old")
	l.want(get("old", "user.try"), "1") // that of the image came back whole
	noted.Xattrs = map[string][]byte{"nonsense": []byte("x")}
	l.want(l.apply(noted, file("z", "")), "wrote z; failed: /noted: the extended attribute nonsense cannot be set here: operation not supported")
	l.want(l.content("noted"), "x")

	if err := unix.Setxattr(at("old"), "security.selinux", []byte("system_u:object_r:etc_t:s0"), 0); err != nil {
		t.Skip("labels cannot be set here: ", err)
	}
	l.want(l.apply(file("old", "labelled")), "wrote old; removed noted z")
	l.want(get("old", "security.selinux"), "system_u:object_r:etc_t:s0")
}

// A relay that is gone in the middle leaves whole files and a record by which the rest follows.
func TestAFetchThatFailsIsToldAndTheRestFollowsLater(t *testing.T) {
	l := newLab(t)
	l.write("b", "the image's")
	a, b, c := file("a", "one"), l.fetched("b", strings.Repeat("b", 50_000)), file("c", "three")
	content := l.large[b.Digest]
	delete(l.large, b.Digest)
	got := l.apply(a, b, c)
	if !strings.HasPrefix(got, "wrote a; error: overlay file b: its content did not come") {
		t.Errorf("got %q", got)
	}
	l.want(l.content("b"), "the image's")
	l.want(l.content("c"), "nothing")
	l.large[b.Digest] = content
	l.want(l.apply(a, b, c), "wrote b c")
	l.want(l.apply(), "removed a b c")
	l.want(l.content("b"), "the image's")
}

func TestNothingIsWrittenThatCouldNotBeNoted(t *testing.T) {
	l := newLab(t)
	l.tree.Save = func(files.Record) error { return fault.New(fault.Full, "the disk is full") }
	l.want(l.apply(file("a", "x")), "error: the disk is full")
	l.want(l.content("a"), "nothing")
}

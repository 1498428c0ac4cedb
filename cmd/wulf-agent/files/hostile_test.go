package files_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/files"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// outside puts a file beside the root, and checks in the end that it is all that is there.
func (l *lab) outside() (check func()) {
	l.t.Helper()
	beside := filepath.Join(filepath.Dir(l.dir), "secret")
	if err := os.WriteFile(beside, []byte("outside"), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return func() {
		l.t.Helper()
		b, err := os.ReadFile(beside)
		i, _ := os.Lstat(beside)
		if err != nil || string(b) != "outside" || i.Mode() != 0o600 {
			l.t.Errorf("the file outside is now %q %v, %v", b, i, err)
		}
		entries, err := os.ReadDir(filepath.Dir(l.dir))
		if err != nil || len(entries) != 2 {
			l.t.Errorf("outside of the root there are %v, %v", entries, err)
		}
	}
}

func TestNothingOutsideOfTheRootIsReached(t *testing.T) {
	for name, listed := range map[string][]overlay.Listed{
		"dots":                {file("../x", "x")},
		"inner dots":          {file("a/../../x", "x")},
		"absolute":            {file("/x", "x")},
		"through links":       {link("out", ".."), file("out/x", "x"), file("out/secret", "x")},
		"through many links":  {link("a", "../a/.."), link("b", "a/../../.."), file("b/secret", "x"), dir("b", 0o777)},
		"over links":          {link("secret", "../secret"), file("secret/x", "x")},
		"directory of a link": {link("d", ".."), dir("d", 0o777)},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			check := l.outside()
			l.apply(listed...)
			check()
			l.apply(listed...)
			check()
			l.apply()
			check()
			if got := l.all(); len(got) > 0 {
				t.Errorf("%v is left", got)
			}
		})
	}
}

// What a node was booted with may be hostile as well: links that lead out.
func TestLinksOfTheImageLeadNowhereOutside(t *testing.T) {
	l := newLab(t)
	check := l.outside()
	for name, target := range map[string]string{"up": "..", "far": filepath.Dir(l.dir), "file": filepath.Join(filepath.Dir(l.dir), "secret")} {
		if err := os.Symlink(target, filepath.Join(l.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	l.apply(file("up/secret", "x"), file("far/secret", "x"), file("file", "x"), dir("up", 0o700))
	check()
	l.apply()
	check()
}

// Whatever comes, nothing outside changes, what is applied again is right already, and all of it can be taken back.
func FuzzListing(f *testing.F) {
	for _, l := range []*overlay.Listing{
		listing(file("etc/a", "one"), link("l", "etc"), dir("etc", 0o755)),
		listing(file("../x", "x"), link("out", ".."), file("out/x", "x")),
		listing(file("a", "x"), file("a/b", "y"), dir("a", 0o1777)),
	} {
		raw, err := json.Marshal(l)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		listed, err := overlay.DecodeListing(raw)
		if err != nil || len(listed.Files) > 50 {
			t.Skip()
		}
		l := newLab(t)
		check := l.outside()
		l.write("etc/a", "the image's")
		defer check()
		first, err := l.tree.Apply(t.Context(), listed, nil)
		if err != nil {
			return // a content that is nowhere
		}
		second, err := l.tree.Apply(t.Context(), listed, first.Record)
		if err != nil {
			t.Fatal(err)
		}
		if len(first.Failed) == 0 && len(second.Changed)+len(second.Failed) > 0 {
			t.Errorf("the second time it wrote %v, failed %v", second.Changed, second.Failed)
		}
		if last, err := l.tree.Apply(t.Context(), listing(), second.Record); err != nil || len(last.Failed) > 0 {
			t.Errorf("taking all back: %v, %v", last.Failed, err)
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"../x":{"marks":["dir"]},"etc/a":{"marks":["link x"],"stamp":"1"},"l":{}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r files.Record
		if json.Unmarshal(raw, &r) != nil {
			t.Skip()
		}
		l := newLab(t)
		check := l.outside()
		l.tree.Drifted(r)
		l.record = r
		l.apply(file("etc/a", "x"))
		l.apply()
		check()
	})
}

// A full disk costs what did not fit, and nothing that was there.
func TestAFullDiskLeavesOldFilesWhole(t *testing.T) {
	l := newLab(t)
	if err := unix.Mount("files-test", l.dir, "tmpfs", 0, "size=1m,mode=0755"); err != nil {
		t.Skip("nothing can be mounted here: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(l.dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	root, err := os.OpenRoot(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	l.tree.Root = root
	l.write("old", "the image's")
	big := l.fetched("old", string(slices.Repeat([]byte("x"), 2<<20)))
	if got := l.apply(big, file("small", "fits")); !strings.HasPrefix(got, "wrote small; failed: /old: ") || !strings.HasSuffix(got, "no space left on device") {
		t.Errorf("got %q", got)
	}
	l.want(l.content("old"), "the image's")
	if got := l.all(); !slices.Equal(got, []string{"old", "small"}) {
		t.Errorf("there are %v", got)
	}
}

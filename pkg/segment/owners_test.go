package segment

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// debian is a tree of packages, whose files lie all over it, with /bin as it is since usr was merged.
func debian(packages ...string) []item {
	items := []item{symlink("bin", "usr/bin"), regular("var/lib/dpkg/status", strings.Join(packages, "\n")), regular("etc/hostname", "ours")}
	for _, name := range packages {
		r := strings.Repeat(name+" says a thing or two. ", 2000)
		list := "/.\n/usr\n"
		for _, p := range []string{"bin/%s", "usr/lib/lib%s.so", "usr/share/%s/data", "usr/share/doc/%s/copyright"} {
			p = fmt.Sprintf(p, name)
			list += "/" + p + "\n"
			items = append(items, regular(strings.Replace("/"+p, "/bin/", "/usr/bin/", 1)[1:], p+r))
		}
		items = append(items, regular("var/lib/dpkg/info/"+name+":amd64.list", list), regular("var/lib/dpkg/info/"+name+":amd64.md5sums", "sums of "+name))
	}
	return items
}

func names(n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("p%03d", 2*i))
	}
	return list
}

func TestFilesOfAPackageAreStoredTogether(t *testing.T) {
	src := openTar(t, makeTar(t, debian(names(40)...)...))
	owners, err := owners(t.Context(), src, src.Entries())
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[string][]int)
	n := 0
	for _, part := range plan(src.Entries(), every(src.Entries()), owners)[1:] {
		for _, e := range part {
			if n++; strings.Contains(e.Path, "p014") && !strings.HasSuffix(e.Path, ".list") {
				at["p014"] = append(at["p014"], n)
			}
		}
	}
	if got := at["p014"]; len(got) != 5 || got[4]-got[0] != 4 {
		t.Errorf("five files of a package are at the places %v", got)
	}
}

func TestAPackageMoreChangesFewSegments(t *testing.T) {
	segments := func(packages []string) map[chunk.ID]bool {
		src := openTar(t, makeTar(t, debian(packages...)...))
		owners, err := owners(t.Context(), src, src.Entries())
		if err != nil {
			t.Fatal(err)
		}
		keys := make(map[chunk.ID]bool)
		for _, part := range plan(src.Entries(), every(src.Entries()), owners) {
			keys[segmentKey(1, part, make([]chunk.ID, len(part)))] = true
		}
		return keys
	}
	old := segments(names(200))
	all, most := 0, 0
	const tries = 10
	for i := range tries {
		fresh := 0
		for key := range segments(append(names(200), fmt.Sprintf("p%03d", 1+40*i))) {
			if !old[key] {
				fresh++
			}
		}
		all, most = all+fresh, max(most, fresh)
	}
	// The skeleton, the files of the package, the list of them, and the volatile ones; its files may end a segment.
	if len(old) < 20 || all > 5*tries || most > 6 {
		t.Errorf("of %d segments %.1f are new on average, and %d at most", len(old), float64(all)/tries, most)
	}
}

func TestWhatOfAPackageIsUnknownDoesNotMatter(t *testing.T) {
	items := debian("a", "b")
	items = append(items,
		regular("var/lib/dpkg/info/long.list", "/usr/bin/x\n"+strings.Repeat("y", 100_000)+"\n/usr/bin/a\n"),
		regular("var/lib/dpkg/info/a-late.list", "/usr/bin/a\n../../etc/hostname\n\n/\nusr/bin/\n"), regular("var/lib/dpkg/info/format", "1\n"))
	src := openTar(t, makeTar(t, items...))
	got, err := owners(t.Context(), src, src.Entries())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"usr/bin/a": "a-late", "usr/bin/b": "b", "usr/bin/x": "long", "var/lib/dpkg/info/a:amd64.md5sums": "a", "etc/hostname": ""} {
		if got[path] != want {
			t.Errorf("%s is of %q, want %q", path, got[path], want)
		}
	}
	build(t, src, Options{})
	if none, err := owners(t.Context(), image(t).(*view).src, image(t).(*view).src.Entries()); none != nil || err != nil {
		t.Errorf("a tree without packages: %v, %v", slices.Collect(maps.Keys(none)), err)
	}
}

func FuzzOwners(f *testing.F) {
	f.Add("/.\n/bin/sh\n/usr/share/doc/dash\n")
	f.Fuzz(func(t *testing.T, list string) {
		all := make(map[string]string)
		if err := owned(strings.NewReader(list), "p", map[string]string{"bin": "usr/bin"}, all); err != nil {
			t.Fatal(err)
		}
		for path := range all {
			if len(path) > len(list)+len("usr/bin") || strings.Contains(path, "\n") {
				t.Errorf("%q is of a package", path)
			}
		}
	})
}

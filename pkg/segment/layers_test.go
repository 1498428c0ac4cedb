package segment

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// layerOf is a layer of an archive with these headers, the content of files in Linkname as in treeOf.
func layerOf(t testing.TB, name string, headers ...tar.Header) Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		body := ""
		if h.Typeflag == tar.TypeReg {
			body, h.Linkname = h.Linkname, ""
			h.Size = int64(len(body))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, body)
	}
	w.Close()
	return Layer{Name: name, At: bytes.NewReader(b.Bytes()), Size: int64(b.Len())}
}

func reg(name, body string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Linkname: body}
}
func adir(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
func slink(name, to string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
}
func link(name, to string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}
}

// inWords is a tree in words: directories end in a slash, files have their content, links their target.
func inWords(t *testing.T, src Source) string {
	t.Helper()
	var lines []string
	for _, e := range src.Entries() {
		switch e.Type {
		case Dir:
			lines = append(lines, e.Path+"/")
		case File:
			f, err := src.Open(e.Path)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(f)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			lines = append(lines, e.Path+"="+string(b))
		default:
			lines = append(lines, e.Path+">"+e.Link)
		}
	}
	return strings.Join(lines, " ")
}

func TestLayersLieOverOneAnother(t *testing.T) {
	for name, tc := range map[string]struct {
		layers []Layer
		want   string
	}{
		"a file replaces a file":           {[]Layer{layerOf(t, "1", reg("a", "old")), layerOf(t, "2", reg("a", "new"))}, "a=new"},
		"a whiteout hides a file":          {[]Layer{layerOf(t, "1", reg("d/a", "1"), reg("d/b", "2")), layerOf(t, "2", reg("d/.wh.a", ""))}, "d/ d/b=2"},
		"a whiteout hides a tree":          {[]Layer{layerOf(t, "1", reg("d/e/f", "1"), reg("d.x", "2")), layerOf(t, "2", reg(".wh.d", ""))}, "d.x=2"},
		"a whiteout hides no own entry":    {[]Layer{layerOf(t, "1", reg("a", "old")), layerOf(t, "2", reg("a", "new"), reg(".wh.a", ""))}, "a=new"},
		"a whiteout of what is not there":  {[]Layer{layerOf(t, "1", reg("a", "1")), layerOf(t, "2", reg(".wh.b", ""))}, "a=1"},
		"an opaque directory":              {[]Layer{layerOf(t, "1", reg("d/a", "1"), reg("d/s/b", "2"), reg("e", "3")), layerOf(t, "2", reg("d/c", "new"), reg("d/.wh..wh..opq", ""))}, "d/ d/c=new e=3"},
		"an opaque root":                   {[]Layer{layerOf(t, "1", reg("a", "1")), layerOf(t, "2", reg(".wh..wh..opq", ""), reg("b", "2"))}, "b=2"},
		"notes of an old file system":      {[]Layer{layerOf(t, "1", reg(".wh..wh.aufs", ""), reg("a", "1"), reg(".wh..wh.plnk/7", ""))}, "a=1"},
		"a link to a lower layer":          {[]Layer{layerOf(t, "1", reg("a", "1")), layerOf(t, "2", link("b", "a"))}, "a=1 b=1"},
		"one name of a file is hidden":     {[]Layer{layerOf(t, "1", reg("a", "1"), link("b", "a")), layerOf(t, "2", reg(".wh.a", ""))}, "b=1"},
		"a file for a directory":           {[]Layer{layerOf(t, "1", reg("d/a", "1")), layerOf(t, "2", reg("d", "file"))}, "d=file"},
		"a directory for a file":           {[]Layer{layerOf(t, "1", reg("d", "file")), layerOf(t, "2", adir("d/"), reg("d/a", "1"))}, "d/ d/a=1"},
		"through a link to a directory":    {[]Layer{layerOf(t, "1", adir("usr/lib/"), slink("lib", "usr/lib")), layerOf(t, "2", reg("lib/x", "1"))}, "lib>usr/lib usr/ usr/lib/ usr/lib/x=1"},
		"through an absolute link":         {[]Layer{layerOf(t, "1", adir("usr/lib/"), slink("lib", "/usr/lib")), layerOf(t, "2", reg("lib/x", "1"), reg("lib/.wh.y", ""))}, "lib>/usr/lib usr/ usr/lib/ usr/lib/x=1"},
		"a link that leads out stays in":   {[]Layer{layerOf(t, "1", adir("etc/"), slink("up", "../../..")), layerOf(t, "2", reg("up/etc/x", "1"))}, "etc/ etc/x=1 up>../../.."},
		"a whiteout through a link":        {[]Layer{layerOf(t, "1", reg("usr/lib/x", "1"), slink("lib", "usr/lib")), layerOf(t, "2", reg("lib/.wh.x", ""))}, "lib>usr/lib usr/ usr/lib/"},
		"a directory said to be one again": {[]Layer{layerOf(t, "1", adir("usr/lib/"), slink("lib", "usr/lib")), layerOf(t, "2", adir("lib/"), reg("lib/x", "1"))}, "lib/ lib/x=1 usr/ usr/lib/"},
		"the root has its own name":        {[]Layer{layerOf(t, "1", adir("/"), reg("a", "1")), layerOf(t, "2", adir("/"), reg("b", "2"))}, "a=1 b=2"},
		"a link to a name from the root":   {[]Layer{layerOf(t, "1", reg("a", "1")), layerOf(t, "2", reg("b", "2"), link("c", "/b"), link("d", "/a"))}, "a=1 b=2 c=2 d=1"},
		"a device of overlayfs":            {[]Layer{layerOf(t, "1", reg("a", "1")), layerOf(t, "2", tar.Header{Name: "a", Typeflag: tar.TypeChar})}, "a>"},
		"three layers":                     {[]Layer{layerOf(t, "1", reg("a", "1"), reg("b", "1")), layerOf(t, "2", reg(".wh.a", "")), layerOf(t, "3", reg("a", "3"))}, "a=3 b=1"},
	} {
		l, err := OpenLayers(tc.layers, Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := inWords(t, l); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestALayerChangesTheModeOfADirectoryOnly(t *testing.T) {
	l, err := OpenLayers([]Layer{
		layerOf(t, "1", reg("d/a", "1")),
		layerOf(t, "2", tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 7}),
	}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if e := l.Entries()[0]; e.Mode != 0o1777 || e.UID != 7 || len(l.Entries()) != 2 {
		t.Errorf("got %+v", l.Entries())
	}
}

func TestHostileLayersAreRefusedByName(t *testing.T) {
	good := layerOf(t, "base", reg("a", "1"), adir("d/"))
	cut := layerOf(t, "bad", reg("x", strings.Repeat("x", 2000)))
	cut.Size -= 1500
	for name, tc := range map[string]struct {
		layer Layer
		say   string
	}{
		"a path that leads out":      {layerOf(t, "bad", reg("../x", "1")), `"../x"`},
		"an absolute path":           {layerOf(t, "bad", reg("/x", "1")), `"/x"`},
		"a link to nothing":          {layerOf(t, "bad", link("x", "nothing")), `"nothing"`},
		"a link that leads out":      {layerOf(t, "bad", link("x", "../../etc/shadow")), `"../../etc/shadow"`},
		"a link to a directory":      {layerOf(t, "bad", link("x", "d")), `"d"`},
		"below its own link":         {layerOf(t, "bad", slink("s", "/etc"), reg("s/x", "1")), `"s/x"`},
		"below a file":               {layerOf(t, "bad", reg("a/x", "1")), `"a/x"`},
		"a whiteout that leads out":  {layerOf(t, "bad", reg("../.wh.x", "")), `"../.wh.x"`},
		"cut short":                  {cut, `"x"`},
		"links that lead in circles": {layerOf(t, "bad", slink("p", "q"), slink("q", "p")), ""},
	} {
		layers := []Layer{good, tc.layer}
		if name == "links that lead in circles" {
			layers = append(layers, layerOf(t, "bad", reg("p/x", "1")))
			tc.say = `"p/x"`
		}
		_, err := OpenLayers(layers, Limits{})
		if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tc.say) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheLimitsAreForAllLayersTogether(t *testing.T) {
	var layers []Layer
	for range 4 {
		layers = append(layers, layerOf(t, "x", reg("a", "12345")))
	}
	if _, err := OpenLayers(layers, Limits{Bytes: 18}); !errors.Is(err, fault.Invalid) {
		t.Errorf("bytes: %v", err)
	}
	if _, err := OpenLayers(layers, Limits{Entries: 3}); !errors.Is(err, fault.Invalid) {
		t.Errorf("entries: %v", err)
	}
}

func TestHidingAndWanderingAreBounded(t *testing.T) {
	base := layerOf(t, "base", reg("a", "1"))
	if _, err := OpenLayers([]Layer{base, layerOf(t, "many", reg(".wh.b", ""), reg(".wh.c", ""), reg(".wh.d", ""))}, Limits{Entries: 3}); !errors.Is(err, fault.Invalid) {
		t.Errorf("what hides others is not counted: %v", err)
	}
	// Each link leads back and forth a thousand times, and then to the next.
	var links, files []tar.Header
	for i := range maxLinks - 1 {
		links = append(links, slink(fmt.Sprint("l", i), strings.Repeat("./", 2000)+fmt.Sprint("l", i+1)))
	}
	links = append(links, adir(fmt.Sprint("l", maxLinks-1)))
	for i := range 40 {
		files = append(files, reg(fmt.Sprint("l0/f", i), ""))
	}
	_, err := OpenLayers([]Layer{layerOf(t, "links", links...), layerOf(t, "files", files...)}, Limits{Entries: 100})
	if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), `"l0/f`) {
		t.Errorf("got %v, want fault.Invalid that names an entry", err)
	}
	if l, err := OpenLayers([]Layer{layerOf(t, "links", links...), layerOf(t, "files", files[:5]...)}, Limits{Entries: 100}); err != nil || !strings.Contains(paths(l), "l39/f4") {
		t.Errorf("a long way is refused: %v", err)
	}
}

func TestWhatARunningSystemHidesIsLeftOutBelowLinksToo(t *testing.T) {
	l, err := OpenLayers([]Layer{
		layerOf(t, "1", adir("run/"), adir("var/"), slink("var/run", "/run")),
		layerOf(t, "2", adir("var/"), reg("var/run/x.pid", "1"), reg("var/x", "1")),
	}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := inWords(t, l), "run/ var/ var/run>/run var/x=1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzOpenLayers(f *testing.F) {
	body := func(l Layer) []byte {
		b := make([]byte, l.Size)
		l.At.ReadAt(b, 0)
		return b
	}
	f.Add(body(layerOf(f, "1", reg("a", "1"), slink("l", "a"), adir("d/"))), body(layerOf(f, "2", reg("l/x", "1"), reg(".wh.a", ""), reg("d/.wh..wh..opq", ""))))
	f.Add(body(layerOf(f, "1", slink("a", "b"), slink("b", "a"))), body(layerOf(f, "2", reg("a/x", "1"), link("y", "a"))))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		l, err := OpenLayers([]Layer{{Name: "1", At: bytes.NewReader(one), Size: int64(len(one))}, {Name: "2", At: bytes.NewReader(two), Size: int64(len(two))}}, Limits{Entries: 1000, Bytes: 1 << 20})
		if err != nil {
			return
		}
		last := ""
		for _, e := range l.Entries() {
			if err := CheckPath(e.Path); err != nil || last != "" && ComparePaths(last, e.Path) >= 0 {
				t.Fatalf("%q after %q: %v", e.Path, last, err)
			}
			last = e.Path
			if strings.Contains("/"+e.Path, "/.wh.") {
				t.Fatalf("the tree has %q", e.Path)
			}
		}
	})
}

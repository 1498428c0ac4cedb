package segment

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestWhatWasBuiltIsVerified(t *testing.T) {
	b := build(t, openTar(t, makeTar(t, everything()...)), Options{})
	if err := Verify(context.Background(), b.manifest(), b.open); err != nil {
		t.Error(err)
	}
	if err := forge(t, b).verify(); err != nil {
		t.Errorf("taken apart and put together: %v", err)
	}
	empty := build(t, openTar(t, makeTar(t)), Options{})
	if err := Verify(context.Background(), empty.manifest(), empty.open); err != nil {
		t.Errorf("an image without files: %v", err)
	}
}

func TestWhatIsKeptFromNodesIsPartOfTheImage(t *testing.T) {
	b := build(t, openTar(t, makeTar(t, append(system(), library(15, 30)...)...)), Options{Level: 1})
	aside := func() *forgery {
		f := forge(t, b)
		f.keep("etc/mtab", "etc/noted", "home", "home/ann", "home/ann/.profile")
		return f
	}
	m, open := aside().seal()
	if err := Verify(context.Background(), m, open); err != nil {
		t.Fatal(err)
	}
	image, err := OpenImage(context.Background(), m, open)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, image, "home/ann/.profile"); got != "umask 077\n" {
		t.Errorf("a file that is kept from nodes holds %q", got)
	}
	if !image.Aside("home") || image.Aside("etc") || image.Aside("nothing") {
		t.Error("what is aside and what is not is confused")
	}
	if got, want := len(image.Entries()), len(openImage(t, b).Entries()); got != want || m.Files != b.Files-2 {
		t.Errorf("%d entries and %d files, want %d and %d", got, m.Files, want, b.Files-2)
	}
	for name, c := range map[string]struct {
		change func(f *forgery)
		names  string
	}{
		"for nodes below":   {func(f *forgery) { f.at("home/ann/.profile").Segment = 1 }, "home/ann/.profile"},
		"file in skeleton":  {func(f *forgery) { f.at("etc/noted").Segment-- }, "etc/noted"},
		"link among files":  {func(f *forgery) { f.at("etc/mtab").Segment++ }, "etc/mtab"},
		"no root":           {func(f *forgery) { s := &f.segments[len(f.segments)-2]; s.entries = s.entries[1:] }, "segment"},
		"other content":     {func(f *forgery) { f.entry("etc/noted").body = "NOTED" }, "etc/noted"},
		"half a hard link":  {func(f *forgery) { f.at("usr/bin/z").Segment = f.at("etc/noted").Segment }, "usr/bin/z"},
		"counted for nodes": {func(f *forgery) { f.manifest = func(m *chunk.Manifest) { m.Files += 2 } }, "files"},
	} {
		f := aside()
		c.change(f)
		if err := f.verify(); !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%s: got %v, want fault.Corrupt that names %s", name, err, c.names)
		}
	}
}

func TestSegmentsOfKnownImagesAreNotReadAgain(t *testing.T) {
	items := append(system(), library(13, 200)...)
	old := build(t, openTar(t, makeTar(t, items...)), Options{Level: 1})
	newer := build(t, openTar(t, makeTar(t, append(items, regular("usr/lib/part07/new", "a new file"))...)), Options{Level: 1})
	known := openImage(t, old)
	had := make(map[chunk.ID]bool)
	for _, s := range old.Segments {
		had[s.ID] = true
	}
	err := Verify(context.Background(), newer.manifest(), func(ctx context.Context, ref chunk.Ref) (io.ReadCloser, error) {
		if had[ref.ID] {
			t.Errorf("%s is read again", ref.ID.Short())
		}
		return newer.open(ctx, ref)
	}, known)
	if err != nil {
		t.Error(err)
	}
	// An index that says something else of a known segment gets no credit.
	for name, change := range map[string]func(f *forgery){
		"mode":   func(f *forgery) { f.at("usr/bin/su").Mode = 0o6755 },
		"digest": func(f *forgery) { f.at("usr/bin/su").SHA256 = chunk.ID{1} },
		"link":   func(f *forgery) { f.at("bin").Link = "usr/sbin" },
	} {
		f := forge(t, old)
		change(f)
		if err := f.verify(known); !errors.Is(err, fault.Corrupt) {
			t.Errorf("%s: got %v, want fault.Corrupt", name, err)
		}
	}
}

func TestFailuresToReadAreNotTheImagesFault(t *testing.T) {
	b := build(t, openTar(t, makeTar(t, append(system(), library(14, 30)...)...)), Options{Level: 1})
	away := func(ctx context.Context, ref chunk.Ref) (io.ReadCloser, error) {
		r, err := b.open(ctx, ref)
		if ref != b.Index && ref != b.Extras {
			r = io.NopCloser(io.MultiReader(io.LimitReader(r, 20), failing{fault.New(fault.Unavailable, "the store is away")}))
		}
		return r, err
	}
	if err := Verify(context.Background(), b.manifest(), away); !errors.Is(err, fault.Unavailable) || errors.Is(err, fault.Corrupt) {
		t.Errorf("got %v, want fault.Unavailable", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	image, err := OpenImage(ctx, b.manifest(), b.open)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := image.Verify(); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if _, err := image.Open("usr/bin/su"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// FuzzVerify holds that an image which is verified can be unpacked, and is then the tree of its index.
func FuzzVerify(f *testing.F) {
	noted := regular("noted", "x")
	noted.PAXRecords = map[string]string{"SCHILY.xattr.user.note": "by hand"}
	b := build(f, openTar(f, makeTar(f, dir("d", 0o755), regular("d/f", "content"), hardlink("d/g", "d/f"), symlink("l", "d"), regular("d/empty", ""), noted)), Options{Level: 1})
	plain := func(ref chunk.Ref) []byte {
		r, _, err := Decompress(bytes.NewReader(b.chunks[ref.ID]))
		if err != nil {
			f.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	f.Add(plain(b.Segments[0].Ref), plain(b.Segments[1].Ref), plain(b.Index), plain(b.Extras), 4, 3, 4, int64(8))
	f.Fuzz(func(t *testing.T, skeleton, files, index, extras []byte, n0, n1, count int, size int64) {
		made := built{Result: &Result{Files: count, Unpacked: size}, chunks: make(map[chunk.ID][]byte)}
		store := func(plain []byte) chunk.Ref {
			z := oneFrame(t)(plain)
			ref := chunk.RefOf(z)
			made.chunks[ref.ID] = z
			return ref
		}
		made.Segments = []chunk.Segment{{Ref: store(skeleton), Unpacked: int64(len(skeleton)), Files: n0}, {Ref: store(files), Unpacked: int64(len(files)), Files: n1}}
		made.Index = store(index)
		if len(extras) > 0 {
			made.Extras = store(extras)
		}
		if err := Verify(context.Background(), made.manifest(), made.open); err != nil {
			if k := fault.KindOf(err); k != fault.Corrupt && k != fault.Invalid {
				t.Fatal(err)
			}
			return
		}
		top := t.TempDir()
		if err := os.Mkdir(filepath.Join(top, "root"), 0o755); err != nil {
			t.Fatal(err)
		}
		made.unpack(t, filepath.Join(top, "root"))
		if list, err := os.ReadDir(top); err != nil || len(list) != 1 {
			t.Fatalf("the directory above holds %v (%v)", list, err)
		}
		image := openImage(t, made)
		for _, e := range image.Entries() {
			fi, err := os.Lstat(filepath.Join(top, "root", e.Path))
			if err != nil && (root() || e.Type != Char && e.Type != Block) || fi.IsDir() != (e.Type == Dir) {
				t.Fatalf("%q is not there: %v", e.Path, err)
			}
			if e.Type == File {
				if b, err := os.ReadFile(filepath.Join(top, "root", e.Path)); err != nil || string(b) != read(t, image, e.Path) {
					t.Fatalf("%q has other content (%v)", e.Path, err)
				}
			}
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

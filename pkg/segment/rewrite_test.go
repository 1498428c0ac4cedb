package segment

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wulfmesh/wulfmesh/pkg/accounts"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// acl is an access list: pairs of tag and number.
func acl(entries ...uint32) string {
	b := []byte{2, 0, 0, 0}
	for i := 0; i < len(entries); i += 2 {
		tag, n := entries[i], entries[i+1]
		b = append(b, byte(tag), byte(tag>>8), 6, 0, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	}
	return string(b)
}

func rewrite(t testing.TB, src Source, c Changes) Source {
	t.Helper()
	r, err := Rewrite(src, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func entryOf(t testing.TB, src Source, path string) Entry {
	t.Helper()
	i := slices.IndexFunc(src.Entries(), func(e Entry) bool { return e.Path == path })
	if i < 0 {
		t.Fatalf("no %s", path)
	}
	return src.Entries()[i]
}

func TestRewriteChangesOwnersAndFilesAndNothingElse(t *testing.T) {
	listed := regular("var/log", "x")
	listed.PAXRecords = map[string]string{
		"SCHILY.xattr.system.posix_acl_access":  acl(1, 1<<32-1, 2, 1000, 2, 5, 8, 12, 8, 1000, 0x20, 1000),
		"SCHILY.xattr.system.posix_acl_default": "\x02\x00\x00\x00\x02",
	}
	swapped := regular("home/bob", "bob")
	swapped.Uid, swapped.Gid = 1001, 1001
	src := openTar(t, makeTar(t, append(everything(), dir("var", 0o755), listed, swapped)...))
	before := listing(t, src)
	c := Changes{
		UIDs: map[uint32]uint32{1000: 1001, 1001: 1000}, GIDs: map[uint32]uint32{12: 70000, 70000: 12},
		Files: map[string][]byte{"etc/noted": []byte("anew"), "usr/bin/z": []byte("alone"), "etc/empty": nil, "etc/passwd": []byte("root"), "zz": nil},
	}
	r := rewrite(t, src, c)
	if got := listing(t, src); got != before {
		t.Error("the source itself was changed")
	}
	if !slices.IsSortedFunc(r.Entries(), func(a, b Entry) int { return ComparePaths(a.Path, b.Path) }) {
		t.Error("the entries are not in order")
	}
	// What differs is what was asked for.
	got := map[string]Entry{}
	for _, e := range r.Entries() {
		got[e.Path] = e
	}
	for _, e := range src.Entries() {
		e.UID, e.GID = moved(c.UIDs, e.UID), moved(c.GIDs, e.GID)
		switch e.Path {
		case "var/log":
			e.Xattrs = maps.Clone(e.Xattrs)
			e.Xattrs["system.posix_acl_access"] = acl(1, 1<<32-1, 2, 1001, 2, 5, 8, 70000, 8, 1000, 0x20, 1000)
		case "etc/noted":
			e.Size = 4
		case "usr/bin/z":
			e.Size, e.Group, e.Links = 5, 0, 0
		case "usr/bin/a", "etc/a":
			e.Links = 2
		case "etc/empty", "etc/empty2":
			e.Group, e.Links = 0, 0
		}
		g := got[e.Path]
		if !maps.Equal(g.Xattrs, e.Xattrs) {
			t.Errorf("%s has attributes %q, want %q", e.Path, g.Xattrs, e.Xattrs)
		}
		if g.Xattrs, e.Xattrs = nil, nil; !equalEntries(g, e) {
			t.Errorf("got %+v\nwant %+v", g, e)
		}
		delete(got, e.Path)
		if _, ok := c.Files[e.Path]; e.Type == File && !ok {
			if a, b := read(t, r, e.Path), read(t, src, e.Path); a != b {
				t.Errorf("%s has another content", e.Path)
			}
		}
	}
	if want := (Entry{Path: "etc/passwd", Type: File, Mode: 0o644, Size: 4}); len(got) != 2 || !equalEntries(got["etc/passwd"], want) {
		t.Errorf("new are %+v", got)
	}
	for path, content := range c.Files {
		if s := read(t, r, path); s != string(content) {
			t.Errorf("%s holds %q", path, s)
		}
	}
	if mode := entryOf(t, r, "usr/bin/su").Mode; mode != 0o4755 {
		t.Errorf("su has mode %o", mode)
	}
	if entryOf(t, r, "usr/bin/ping").Xattrs["security.capability"] == "" {
		t.Error("ping has lost its capability")
	}
	// And it makes an image, from which the same comes.
	b := build(t, r, Options{})
	image := openImage(t, b)
	if diff := changes(t, r, image, DiffOptions{}); diff != "" {
		t.Errorf("the image that was built is not what was shown:\n%s", diff)
	}
	if again := build(t, image, Options{}); !slices.Equal(again.Segments, b.Segments) || again.Index != b.Index {
		t.Error("built again from the image it has other chunks")
	}
}

func equalEntries(a, b Entry) bool {
	return a.Path == b.Path && a.Type == b.Type && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Size == b.Size && a.MTime == b.MTime &&
		a.Link == b.Link && a.Major == b.Major && a.Minor == b.Minor && a.Group == b.Group && a.Links == b.Links
}

func TestOnlyFilesInDirectoriesAreReplaced(t *testing.T) {
	src := openTar(t, makeTar(t, system()...))
	for path, kind := range map[string]fault.Kind{
		"etc": fault.Invalid, "bin": fault.Invalid, "dev/null": fault.Invalid, "bin/x": fault.NotFound, "none/x": fault.NotFound,
		"etc/empty/x": fault.NotFound, "../x": fault.Invalid, "": fault.Invalid,
	} {
		if _, err := Rewrite(src, Changes{Files: map[string][]byte{path: nil}}); !errors.Is(err, kind) {
			t.Errorf("%q: %v, want %s", path, err, kind)
		}
	}
}

func TestARewrittenSourceKnowsWhatItsSourceKnows(t *testing.T) {
	c := Changes{Files: map[string][]byte{"etc/noted": []byte("anew")}}
	image := openImage(t, build(t, openTar(t, makeTar(t, everything()...)), Options{}))
	sums, ok := rewrite(t, image, c).(summed)
	if !ok {
		t.Fatal("a rewritten image does not know its digests")
	}
	for path, content := range map[string]string{"etc/noted": "anew", "usr/bin/su": "su"} {
		if id, err := sums.Sum(path); err != nil || id != chunk.Of([]byte(content)) {
			t.Errorf("%s: %s, %v", path, id.Short(), err)
		}
	}

	root := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(strings.Repeat(name, 100)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := openLater(t, root)
	stamps, ok := rewrite(t, dir, Changes{Files: map[string][]byte{"b": nil}}).(stamper)
	if !ok {
		t.Fatal("a rewritten directory has no stamps")
	}
	want, _ := dir.Stamp("a")
	if got, ok := stamps.Stamp("a"); !ok || got != want {
		t.Errorf("a: %v, %v", got, ok)
	}
	if _, ok := stamps.Stamp("b"); ok {
		t.Error("a file that is replaced has the stamp of the old one")
	}
}

func TestAnImageGetsTheAccountsOfAMachine(t *testing.T) {
	log := regular("var/lib/slurm", "x")
	log.Mode, log.Uid, log.Gid = 0o4750, 64030, 64030
	src := openTar(t, makeTar(t, append(system(), log, regular("etc/passwd", "root:x:0:0::/root:\nslurm:x:64030:64030::/:\n"), regular("etc/group", "root:x:0:\nslurm:x:64030:\n"))...))
	image, err := accounts.Read(FS(src), accounts.Paths)
	if err != nil {
		t.Fatal(err)
	}
	m, err := accounts.Merge(accounts.Files{Passwd: []byte("root:x:0:0::/root:\nslurm:x:500:501::/:\n"), Group: []byte("root:x:0:\nslurm:x:501:\n")}, image)
	if err != nil {
		t.Fatal(err)
	}
	r := rewrite(t, src, Changes{UIDs: m.UIDs, GIDs: m.GIDs, Files: m.Changed(image)})
	if e := entryOf(t, r, "var/lib/slurm"); e.UID != 500 || e.GID != 501 || e.Mode != 0o4750 {
		t.Errorf("%+v", e)
	}
	if got := read(t, r, "etc/passwd"); got != "root:x:0:0::/root:\nslurm:x:500:501::/:\n" {
		t.Errorf("%q", got)
	}
}

func FuzzAccessLists(f *testing.F) {
	f.Add(acl(1, 1<<32-1, 2, 1000, 8, 7), uint32(1000), uint32(5))
	f.Add("\x02\x00\x00\x00", uint32(0), uint32(1))
	f.Fuzz(func(t *testing.T, list string, from, to uint32) {
		there, back := map[uint32]uint32{from: to, to: from}, map[uint32]uint32{from: to, to: from}
		now := movedList(list, Changes{UIDs: there, GIDs: there})
		if len(now) != len(list) || movedList(now, Changes{UIDs: back, GIDs: back}) != list {
			t.Fatalf("%q became %q", list, now)
		}
	})
}

func TestOwnersMoveAllAtOnce(t *testing.T) {
	src := openTar(t, makeTar(t, system()...))
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.MapOf(rapid.SampledFrom([]uint32{0, 12, 1000, 70000, 6}), rapid.Uint32()).Draw(t, "ids")
		r, err := Rewrite(src, Changes{UIDs: ids, GIDs: ids})
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range r.Entries() {
			old := src.Entries()[i]
			if want := moved(ids, old.UID); e.UID != want || e.Mode != old.Mode || e.Path != old.Path {
				t.Errorf("%s: %d, want %d", e.Path, e.UID, want)
			}
			if want := moved(ids, old.GID); e.GID != want {
				t.Errorf("%s: group %d, want %d", e.Path, e.GID, want)
			}
		}
	})
}

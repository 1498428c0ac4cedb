package packages

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// made is a database that the script testdata/make made with the tools that it belongs to.
func made(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func lines(all []Package) string {
	var b strings.Builder
	for _, p := range all {
		fmt.Fprintf(&b, "%s\t%s\t%s\t%d\n", p.Name, p.Version, p.Arch, p.Size)
	}
	return b.String()
}

func TestWhatRpmSaysIsInstalledIsReadFromEachOfItsFormats(t *testing.T) {
	want, err := os.ReadFile("testdata/want.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rpmdb.sqlite", "Packages.db", "Packages"} {
		for _, dir := range []string{"var/lib/rpm/", "usr/lib/sysimage/rpm/"} {
			all, err := Read(fstest.MapFS{dir + name: {Data: made(t, name)}})
			if err != nil || lines(all) != string(want) {
				t.Errorf("%s: %v\n%s", name, err, lines(all))
			}
		}
	}
}

func TestTheWriteAheadLogCounts(t *testing.T) {
	want, err := os.ReadFile("testdata/want.tsv")
	if err != nil {
		t.Fatal(err)
	}
	_, left, _ := strings.Cut(string(want), "\n") // all but the first kernel
	db, log := made(t, "rpmdb-wal.sqlite"), made(t, "rpmdb-wal.sqlite-wal")
	for name, tc := range map[string]struct {
		log  []byte
		gone bool // whether the change in the log counts
	}{
		"whole":           {log, true},
		"none":            {nil, false},
		"cut off":         {log[:len(log)-1], false},
		"of another time": {append(bytes.Clone(log[:16]), append([]byte("saltsalt"), log[24:]...)...), false},
		"damaged":         {append(bytes.Clone(log[:3000]), append([]byte{^log[3000]}, log[3001:]...)...), false},
		"with a torn end": {append(bytes.Clone(log), log[32:2000]...), true},
	} {
		all, err := Read(fstest.MapFS{"var/lib/rpm/rpmdb.sqlite": {Data: db}, "var/lib/rpm/rpmdb.sqlite-wal": {Data: tc.log}})
		got := lines(all)
		if err != nil || strings.Contains(got, "6.4.0~rc1") == tc.gone || !strings.HasSuffix(got, left) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

func TestHeadersThatLieAreRefused(t *testing.T) {
	header := func(tags, size uint32, more ...uint32) []byte {
		b := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, tags), size)
		for _, w := range more {
			b = binary.BigEndian.AppendUint32(b, w)
		}
		return b
	}
	for name, b := range map[string][]byte{
		"empty": nil, "many tags": header(70000, 0), "more than there is": header(1, 100, tagName, typeString, 0, 1), "all there is": header(1<<32-1, 1<<32-1),
		"behind the end": header(1, 4, tagName, typeString, 5, 1, 0),
	} {
		if p, err := rpmHeader(b); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if p, err := rpmHeader(header(1, 4, tagSize, typeInt32, 1, 1, 0)); err != nil || p.Size != 0 {
		t.Errorf("a number that is cut off: %+v, %v", p, err)
	}
}

// A damaged database gives an error or fewer packages, and neither a panic nor the memory and time of a large one.
func TestDamagedDatabasesDoNoHarm(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	for name, read := range map[string]blobs{"rpmdb.sqlite": sqliteBlobs, "Packages.db": ndbBlobs, "Packages": bdbBlobs} {
		whole := made(t, name)
		for range 300 {
			b := bytes.Clone(whole)
			for range 1 + dice.IntN(20) {
				at := dice.IntN(len(b))
				if dice.IntN(2) == 0 {
					at = dice.IntN(len(b)/4096)*4096 + dice.IntN(40) // where pages say what they are
				}
				b[at] = byte(dice.Uint32())
			}
			handed := 0
			read(b[:len(b)-dice.IntN(2)*dice.IntN(len(b))], nil, func(blob []byte) error {
				handed += len(blob)
				rpmHeader(blob)
				return nil
			})
			if handed > 2*len(whole) {
				t.Fatalf("%s of %d bytes gave %d", name, len(whole), handed)
			}
		}
	}
}

func TestPagesInACircleAreFound(t *testing.T) {
	// Every inner page and every chain leads to the page that it is on.
	b := made(t, "rpmdb.sqlite")
	db, err := openSQLite(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := 2; n <= db.pages; n++ {
		p := b[(n-1)*db.size:][:db.size]
		if p[0] == innerPage {
			binary.BigEndian.PutUint32(p[8:], uint32(n))
		} else if p[0] == 0 {
			binary.BigEndian.PutUint32(p, uint32(n))
		}
	}
	if err := sqliteBlobs(b, nil, func([]byte) error { return nil }); err == nil {
		t.Error("a circle of SQLite's pages went unnoticed")
	}
	d := &bdb{file: made(t, "Packages"), size: 4096, order: binary.LittleEndian}
	for n := 1; n < len(d.file)/d.size; n++ {
		if p := d.page(n); p[25] == bdbOverflow {
			binary.LittleEndian.PutUint32(p[16:], uint32(n))
			binary.LittleEndian.PutUint16(p[22:], 1)
			if _, err := d.chain(n, 4096); err == nil {
				t.Error("a circle of Berkeley DB's pages went unnoticed")
			}
		}
	}
}

// fuzz seeds with a whole database, cut to what a fuzzer can turn over.
func fuzz(f *testing.F, name string, read blobs) {
	whole := made(f, name)
	f.Add(whole[:min(len(whole), 64<<10)])
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		read(b, b, func(blob []byte) error {
			rpmHeader(blob)
			if n++; n > maxPackages {
				return tooMany("rpm")
			}
			return nil
		})
	})
}

func FuzzSQLite(f *testing.F)     { fuzz(f, "rpmdb.sqlite", sqliteBlobs) }
func FuzzNdb(f *testing.F)        { fuzz(f, "Packages.db", ndbBlobs) }
func FuzzBerkeleyDB(f *testing.F) { fuzz(f, "Packages", bdbBlobs) }

func FuzzRpmHeader(f *testing.F) {
	ndbBlobs(made(f, "Packages.db"), nil, func(blob []byte) error { f.Add(bytes.Clone(blob)); return nil })
	f.Fuzz(func(t *testing.T, b []byte) { rpmHeader(b) })
}

func FuzzText(f *testing.F) {
	f.Add("Package: a\nVersion: 1\nStatus: install ok installed\n\n", "P:a\nV:1\nI:5\n\n", "%NAME%\na\n\n%VERSION%\n1\n")
	f.Fuzz(func(t *testing.T, dpkg, apk, pacman string) {
		all, err := Read(fstest.MapFS{"var/lib/dpkg/status": {Data: []byte(dpkg)}, "lib/apk/db/installed": {Data: []byte(apk)}, "var/lib/pacman/local/x/desc": {Data: []byte(pacman)}})
		if err != nil && !errors.Is(err, fault.Invalid) {
			t.Error(err)
		}
		for _, p := range all {
			if p.Name == "" || p.Version == "" || strings.ContainsAny(p.Name+p.Version+p.Arch, "\n\x1b\x00") {
				t.Errorf("%+v", p)
			}
		}
		if d := Diff(all, all); len(d.Added)+len(d.Removed)+len(d.Changed) > 0 {
			t.Errorf("it differs from itself: %+v", d)
		}
	})
}

package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Archives that no honest program writes and that tar.Writer refuses to are put together from blocks here.

// block is one header as old as tar itself, in GNU's format.
func block(kind byte, name string, size int64, change ...func(b []byte)) []byte {
	b := make([]byte, tarBlock)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	fmt.Fprintf(bytes.NewBuffer(b[124:124]), "%011o\x00%011o\x00", max(size, 0), 1)
	if size < 0 { // base 256
		b[124] = 0xff
		binary.BigEndian.PutUint32(b[124:], 0xffffffff)
		binary.BigEndian.PutUint64(b[128:], uint64(size))
	}
	b[156] = kind
	copy(b[257:], "ustar  \x00")
	for _, c := range change {
		c(b)
	}
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// padded fills up the last block.
func padded(s string) []byte {
	return append([]byte(s), make([]byte, (tarBlock-len(s)%tarBlock)%tarBlock)...)
}

// records are PAX records for the entry that follows.
func records(kv ...string) []byte {
	var all strings.Builder
	for i := 0; i < len(kv); i += 2 {
		rest := " " + kv[i] + "=" + kv[i+1] + "\n"
		n := len(rest) + 1
		for len(fmt.Sprint(n))+len(rest) != n {
			n++
		}
		fmt.Fprintf(&all, "%d%s", n, rest)
	}
	return append(block('x', "PaxHeaders/x", int64(all.Len()), ustar), padded(all.String())...)
}

func ustar(b []byte) { copy(b[257:], "ustar\x0000") }

// sparse makes an old GNU header one of a sparse file with one piece of data.
func sparse(offset, length, size int64) func(b []byte) {
	return func(b []byte) {
		for at, v := range map[int]int64{386: offset, 398: length, 483: size} {
			copy(b[at:], fmt.Sprintf("%011o\x00", v))
			if v > 1<<33-1 {
				b[at], b[at+1], b[at+2], b[at+3] = 0x80, 0, 0, 0
				binary.BigEndian.PutUint64(b[at+4:], uint64(v))
			}
		}
	}
}

var endOfTar = make([]byte, 2*tarBlock)

func TestArchivesThatNoProgramWritesAreRefused(t *testing.T) {
	file := func(name string) []byte { return append(block('0', name, 1), padded("x")...) }
	pax := func(kv ...string) []byte {
		return append(records(kv...), append(block('0', "short", 1, ustar), padded("x")...)...)
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	device := func(major, minor string) func(b []byte) {
		return func(b []byte) { copy(b[329:], major+"\x00"+minor+"\x00") }
	}
	long := func(kind byte, s string) []byte {
		return append(block(kind, "././@LongLink", int64(len(s))), padded(s)...)
	}
	bomb := func(n int) []byte {
		var b []byte
		for i := range n {
			b = append(b, block('S', fmt.Sprint("hole", i), 0, sparse(1<<32-1, 0, 1<<32-1))...)
		}
		return b
	}
	for name, c := range map[string]struct {
		data  []byte
		names string // what the error must name
	}{
		"PAX path upwards":        {join(file("first"), pax("path", "../evil")), "../evil"},
		"PAX path absolute":       {join(file("first"), pax("path", "/evil")), "/evil"},
		"PAX path with NUL":       {join(file("first"), pax("path", "ev\x00il")), "first"},
		"PAX link upwards":        {join(file("first"), records("linkpath", "../../etc/shadow"), block('1', "link", 0, ustar)), "../../etc/shadow"},
		"PAX size too large":      {join(file("first"), pax("size", "1048576"), endOfTar), "short"},
		"PAX size too small":      {join(file("first"), records("size", "0"), block('0', "short", 1024, ustar), padded(strings.Repeat("x", 1024))), "short"},
		"PAX size negative":       {join(file("first"), pax("size", "-1")), "first"},
		"PAX size no number":      {join(file("first"), pax("size", "1e3")), "first"},
		"PAX size gigantic":       {join(file("first"), pax("size", "9223372036854775807")), "short"},
		"PAX size over all":       {join(file("first"), pax("size", "99999999999999999999")), "first"},
		"PAX owner negative":      {join(file("first"), pax("uid", "-5")), "short"},
		"PAX owner too large":     {join(file("first"), pax("uid", "4294967295")), "short"},
		"PAX records broken":      {join(file("first"), block('x', "x", 5, ustar), padded("99 a="), file("short")), "first"},
		"PAX records huge":        {join(file("first"), block('x', "x", 1<<30, ustar)), "first"},
		"PAX attribute huge":      {join(file("first"), pax("SCHILY.xattr.user.x", strings.Repeat("x", maxXattr+1))), "short"},
		"PAX attribute no name":   {join(file("first"), pax("SCHILY.xattr.", "x")), "short"},
		"PAX attribute long name": {join(file("first"), pax("SCHILY.xattr.user."+strings.Repeat("x", 300), "x")), "short"},
		"PAX attribute escaped":   {join(file("first"), pax("LIBARCHIVE.xattr.user.%zz", "eA")), "short"},
		"PAX attribute NUL":       {join(file("first"), pax("LIBARCHIVE.xattr.user.%00", "eA")), "short"},
		"PAX attribute base 64":   {join(file("first"), pax("LIBARCHIVE.xattr.user.x", "!!")), "short"},
		"PAX name of sparse":      {join(file("first"), pax("GNU.sparse.major", "0", "GNU.sparse.minor", "1", "GNU.sparse.name", "../evil", "GNU.sparse.size", "1", "GNU.sparse.numblocks", "1", "GNU.sparse.map", "0,1")), "../evil"},
		"PAX sparse overlap":      {join(file("first"), pax("GNU.sparse.major", "0", "GNU.sparse.minor", "1", "GNU.sparse.size", "10", "GNU.sparse.numblocks", "2", "GNU.sparse.map", "5,1,0,1")), "first"},
		"PAX sparse outside":      {join(file("first"), pax("GNU.sparse.major", "0", "GNU.sparse.minor", "1", "GNU.sparse.size", "10", "GNU.sparse.numblocks", "1", "GNU.sparse.map", "9223372036854775807,1")), "first"},
		"PAX sparse negative":     {join(file("first"), pax("GNU.sparse.major", "0", "GNU.sparse.minor", "1", "GNU.sparse.size", "-10", "GNU.sparse.numblocks", "1", "GNU.sparse.map", "0,1")), "first"},
		"PAX sparse map huge":     {join(file("first"), pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "10")), "first"},
		"negative size":           {join(file("first"), block('0', "short", -1)), "first"},
		"size beyond the end":     {join(file("first"), block('0', "short", 1<<20), padded("x")), "short"},
		"huge size":               {join(file("first"), block('0', "short", 1<<33-1)), "short"},
		"long name upwards":       {join(file("first"), long('L', "../../evil\x00"), file("short")), "../../evil"},
		"long name endless":       {join(file("first"), long('L', strings.Repeat("n/", 700<<10)), file("short")), "first"},
		"long link outside":       {join(file("first"), long('K', "/etc/shadow\x00"), block('1', "link", 0)), "/etc/shadow"},
		"hard link to itself":     {join(file("first"), block('1', "link", 0, func(b []byte) { copy(b[157:], "link") })), `"link"`},
		"device major":            {join(file("first"), block('3', "dev", 0, device("0010000", "0000000"))), `"dev"`},
		"device minor":            {join(file("first"), block('4', "dev", 0, device("0000001", "4000000"))), `"dev"`},
		"device negative":         {join(file("first"), block('3', "dev", 0, device("\xff\xff\xff\xff\xff\xff\xff\xff"[:7], "0000000"))), "dev"},
		"device no number":        {join(file("first"), block('3', "dev", 0, device("00x0001", "0000000"))), "first"},
		"sparse, longer data":     {join(file("first"), block('S', "hole", 0, sparse(0, 512, 512))), "hole"},
		"sparse, overlong piece":  {join(file("first"), block('S', "hole", 1, sparse(1<<40, 1, 10)), padded("x")), "first"},
		"sparse, size negative":   {join(file("first"), block('S', "hole", 0, func(b []byte) { copy(b[483:], strings.Repeat("\xff", 12)) })), "first"},
		"sparse, bombs":           {join(file("first"), bomb(40)), "hole"},
		"sparse, gigantic":        {join(file("first"), block('S', "hole", 0, sparse(0, 0, 1<<40))), "hole"},
		"multi-volume":            {join(file("first"), block('M', "short", 1), padded("x")), "short"},
		"volume label":            {join(file("first"), block('V', "label", 0)), "label"},
		"directory dump":          {join(file("first"), block('D', "dump", 1), padded("x")), "dump"},
		"a kind of somebody's":    {join(file("first"), block('Q', "short", 0)), "short"},
		"wrong check sum":         {join(file("first"), append([]byte("x"), block('0', "short", 0)[1:]...)), "first"},
		"garbage":                 {join(file("first"), bytes.Repeat([]byte("garbage!"), 64)), "first"},
		"one NUL block, more":     {join(file("first"), make([]byte, tarBlock), file("short")), "first"},
		"half a header":           {join(file("first"), block('0', "short", 0)[:300]), "short"},
		"nested too deeply":       {join(file("first"), pax("path", strings.Repeat("d/", maxDepth)+"deep")), "d/d/d"},
		"empty name":              {join(file("first"), block('0', "", 0)), `""`},
		"file by a slash":         {join(file("first"), block('0', "short/", 1), padded("x")), "short/"},
	} {
		t.Run(name, func(t *testing.T) {
			data := append(bytes.Clone(c.data), endOfTar...)
			top := t.TempDir()
			spool := filepath.Join(top, "spool")
			if err := os.Mkdir(spool, 0o700); err != nil {
				t.Fatal(err)
			}
			src, err := OpenTar(stream{bytes.NewReader(data)}, spool, Limits{})
			if err == nil {
				t.Errorf("it is taken for %s", paths(src))
				src.Close()
			} else if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.names) {
				t.Errorf("got %v, want fault.Invalid that names %s", err, c.names)
			}
			for dir, want := range map[string]int{top: 1, spool: 0} {
				if left, err := os.ReadDir(dir); err != nil || len(left) != want {
					t.Errorf("%v is left behind (%v)", left, err)
				}
			}
		})
	}
}

func TestManyNamesAreBoundedAsTheirTextIs(t *testing.T) {
	tr := newTree(Limits{})
	tr.text = maxText - 5000
	target := strings.Repeat("far", 1000)
	if err := tr.add(Entry{Path: "first", Type: Symlink, Link: target}, nil); err != nil {
		t.Fatal(err)
	}
	if err := tr.add(Entry{Path: "second", Type: Symlink, Link: target}, nil); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "second") {
		t.Errorf("got %v, want fault.Invalid that names the entry", err)
	}
}

func TestAttributesAreReadAsBsdtarNotesThem(t *testing.T) {
	it := regular("a", "x")
	it.PAXRecords = map[string]string{"LIBARCHIVE.xattr.user.a%20b": "AP8", "LIBARCHIVE.xattr.security.capability": "AQAAAg==", "SCHILY.xattr.user.c": "plain"}
	src := openTar(t, makeTar(t, it))
	if got, want := fmt.Sprintf("%q", src.Entries()[0].Xattrs), `map["security.capability":"\x01\x00\x00\x02" "user.a b":"\x00\xff" "user.c":"plain"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFilesWithHolesAreWhole(t *testing.T) {
	// 3 MiB, with five bytes at the first megabyte, in the formats that GNU tar has had.
	want := string(make([]byte, 1<<20)) + "hello" + string(make([]byte, 2<<20-5))
	var b []byte
	b = append(b, block('S', "old", 5, sparse(1<<20, 5, 3<<20))...)
	b = append(b, padded("hello")...)
	b = append(b, records("GNU.sparse.major", "0", "GNU.sparse.minor", "1", "GNU.sparse.name", "pax01", "GNU.sparse.size", "3145728", "GNU.sparse.numblocks", "1", "GNU.sparse.map", "1048576,5")...)
	b = append(append(b, block('0', "x", 5, ustar)...), padded("hello")...)
	b = append(b, records("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "pax10", "GNU.sparse.realsize", "3145728")...)
	b = append(append(append(b, block('0', "x", 517, ustar)...), padded("1\n1048576\n5\n")...), padded("hello")...)
	b = append(append(b, block('0', "behind", 1)...), padded("x")...)
	src := openTar(t, append(b, endOfTar...))
	if got, want := paths(src), "behind old pax01 pax10"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	for _, name := range []string{"old", "pax01", "pax10"} {
		if got := read(t, src, name); got != want {
			t.Errorf("%s has %d other bytes", name, len(got))
		}
	}
	if got := read(t, src, "behind"); got != "x" {
		t.Errorf("the file behind them holds %q", got)
	}
}

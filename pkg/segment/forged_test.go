package segment

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestForgedImagesAreRefusedByName(t *testing.T) {
	b := build(t, openTar(t, makeTar(t, append(system(), library(12, 15)...)...)), Options{Level: 1})
	const link, first = "usr/bin/z", "etc/a" // names of one file, the first of which has the content
	const plain = "usr/bin/su"
	addIndex := func(f *forgery, x IndexEntry) {
		n, _ := slices.BinarySearchFunc(f.index, x, func(a, b IndexEntry) int { return ComparePaths(a.Path, b.Path) })
		f.index = slices.Insert(f.index, n, x)
	}
	for name, c := range map[string]struct {
		change func(f *forgery)
		names  string
	}{
		// Archives that are not what the index says.
		"other content":      {func(f *forgery) { f.entry(plain).body = "SU" }, plain},
		"longer content":     {func(f *forgery) { f.entry(plain).body = "su!" }, plain},
		"other mode":         {func(f *forgery) { f.entry(plain).Mode = 0o6755 }, plain},
		"other owner":        {func(f *forgery) { f.entry("home/ann").UID = 1 }, "home/ann"},
		"other group":        {func(f *forgery) { f.entry("home/ann").GID = 1 }, "home/ann"},
		"other time":         {func(f *forgery) { f.entry(plain).MTime++ }, plain},
		"other link":         {func(f *forgery) { f.entry("bin").Link = "usr/sbin" }, "bin"},
		"other type":         {func(f *forgery) { f.entry("dev/initctl").Type = Dir }, "dev/initctl"},
		"other device":       {func(f *forgery) { f.entry("dev/null").Minor = 1 }, "dev/null"},
		"other name":         {func(f *forgery) { f.entry("etc/noted").Path = "etc/notes" }, "etc/notes"},
		"path outside":       {func(f *forgery) { f.entry("etc/noted").Path = "../noted" }, "../noted"},
		"absolute path":      {func(f *forgery) { f.entry("etc/noted").Path = "/etc/noted" }, "/etc/noted"},
		"link taken apart":   {func(f *forgery) { f.entry(link).Group, f.entry(link).Links = 0, 0 }, link},
		"link more":          {func(f *forgery) { f.entry(plain).Group, f.entry(plain).Links = 99, 2 }, plain},
		"number of names":    {func(f *forgery) { f.entry(first).Links = 4 }, first},
		"content twice":      {func(f *forgery) { f.entry(link).Group = 77; f.entry(link).body = f.entry(first).body }, "segment 1"},
		"content of no link": {func(f *forgery) { f.entry(first).body = "" }, "segment 1"},
		"entry twice":        {func(f *forgery) { s := &f.segments[0]; s.entries = append(s.entries, *f.entry("bin")) }, "segment 0"},
		"one for the other":  {func(f *forgery) { *f.entry("etc/mtab") = *f.entry("bin") }, "bin"},
		"entry more":         {func(f *forgery) { s := &f.segments[1]; s.entries = append(s.entries, *f.entry("bin")) }, "segment 1"},
		"entry less":         {func(f *forgery) { s := &f.segments[1]; s.entries = s.entries[1:] }, "segment 1"},
		"another root":       {func(f *forgery) { f.segments[0].entries[0].Mode = 0o777 }, `"."`},
		"no root":            {func(f *forgery) { f.segments[0].entries = f.segments[0].entries[1:] }, "segment 0"},
		"no root, another":   {func(f *forgery) { f.segments[0].entries[0] = f.segments[0].entries[1] }, `"."`},
		"a directory too late": {func(f *forgery) {
			s := f.segments[0].entries
			s[1], s[len(s)-1] = s[len(s)-1], s[1]
		}, "out of order"},
		"lower-case digits": {func(f *forgery) {
			f.segments[1].archive = func(b []byte) []byte { copy(b[6+8:], "000081a4"); return b }
		}, "segment 1"},
		"file system number": {func(f *forgery) {
			f.segments[1].archive = func(b []byte) []byte { copy(b[6+7*8:], "00000001"); return b }
		}, "segment 1"},
		"trailer": {func(f *forgery) {
			f.segments[1].archive = func(b []byte) []byte {
				copy(b[bytes.LastIndex(b, []byte(newcMagic))+6:], "00000001")
				return b
			}
		}, "segment 1"},

		// Chunks that are not one frame.
		"two frames": {func(f *forgery) {
			f.segments[1].frame = func(b []byte) []byte { return slices.Concat(oneFrame(t)(b), oneFrame(t)(b)) }
		}, "segment 1"},
		"an archive in two frames": {func(f *forgery) {
			f.segments[1].frame = func(b []byte) []byte {
				return slices.Concat(oneFrame(t)(b[:1024]), oneFrame(t)(b[1024:]))
			}
		}, "segment 1"},
		"skipped frame before": {func(f *forgery) {
			f.segments[1].frame = func(b []byte) []byte {
				return slices.Concat([]byte("\x50\x2a\x4d\x18\x04\x00\x00\x00evil"), oneFrame(t)(b))
			}
		}, "segment 1"},
		"skipped frame behind": {func(f *forgery) {
			f.segments[1].frame = func(b []byte) []byte {
				return slices.Concat(oneFrame(t)(b), []byte("\x50\x2a\x4d\x18\x04\x00\x00\x00evil"))
			}
		}, "segment 1"},
		"garbage behind": {func(f *forgery) {
			f.segments[1].frame = func(b []byte) []byte { return append(oneFrame(t)(b), "garbage"...) }
		}, "segment 1"},
		"no compression": {func(f *forgery) { f.segments[1].frame = func(b []byte) []byte { return b } }, "segment 1"},
		"no bytes":       {func(f *forgery) { f.segments[1].frame = func([]byte) []byte { return nil } }, "segment 1"},
		"cut short": {func(f *forgery) {
			f.segments[1].frame = func(b []byte) []byte { b = oneFrame(t)(b); return b[:len(b)-2] }
		}, "segment 1"},
		"no check sum": {func(f *forgery) { f.segments[1].frame = oneFrame(t, zstd.WithEncoderCRC(false)) }, "check sum"},
		"wrong check sum": {func(f *forgery) {
			f.segments[1].frame = func(b []byte) []byte { b = oneFrame(t)(b); b[len(b)-1] ^= 1; return b }
		}, "segment 1"},
		"window too large": {func(f *forgery) {
			f.segments[1].frame = func(b []byte) []byte {
				b = oneFrame(t, zstd.WithSingleSegment(false))(b)
				b[5] = 0xa0 // 1 GiB
				return b
			}
		}, "window"},
		"no content size": {func(f *forgery) {
			f.segments[1].frame = func(plain []byte) []byte {
				var b bytes.Buffer
				w, _ := zstd.NewWriter(&b, zstd.WithWindowSize(window))
				w.Write(plain[:512])
				w.Flush()
				w.Write(plain[512:])
				w.Close()
				return b.Bytes()
			}
		}, "how large its content is"},
		"a bomb": {func(f *forgery) {
			f.segments[1].frame = func(b []byte) []byte { return oneFrame(t)(append(bytes.Clone(b), make([]byte, 32<<20)...)) }
		}, "segment 1"},
		"garbled": {func(f *forgery) { f.segments[1].chunk = func(b []byte) []byte { b[len(b)/2] ^= 4; return b } }, "has the digest"},
		"longer":  {func(f *forgery) { f.segments[1].chunk = func(b []byte) []byte { return append(b, 0) } }, "is longer than"},
		"shorter": {func(f *forgery) { f.segments[1].chunk = func(b []byte) []byte { return b[:len(b)-1] } }, "bytes, not"},

		// Archives that are no archives.
		"no archive": {func(f *forgery) { f.segments[1].archive = func(b []byte) []byte { return make([]byte, len(b)) } }, "segment 1"},
		"bad magic": {func(f *forgery) {
			f.segments[1].archive = func(b []byte) []byte { copy(b, "070702"); return b }
		}, "segment 1"},
		"size beyond the end": {func(f *forgery) {
			f.segments[1].archive = func(b []byte) []byte { copy(b[6+6*8:], "7FFFFFFF"); return b }
		}, "segment 1"},
		"huge name": {func(f *forgery) {
			f.segments[1].archive = func(b []byte) []byte { copy(b[6+11*8:], "FFFFFFFF"); return b }
		}, "segment 1"},
		"name without NUL": {func(f *forgery) {
			f.segments[1].archive = func(b []byte) []byte { copy(b[6+11*8:], "00000004"); return b }
		}, "segment 1"},
		"trailer in the middle": {func(f *forgery) {
			f.segments[1].archive = func(b []byte) []byte {
				at := bytes.Index(b[1:], []byte(newcMagic)) + 1
				copy(b[at+6+11*8:], "0000000B")
				copy(b[at+newcHeader:], trailer+"\x00")
				return b
			}
		}, "segment 1"},
		"entry behind the trailer": {func(f *forgery) {
			f.segments[1].archive = func(b []byte) []byte { return append(b, b...) }
		}, "segment 1"},

		// Indexes that cannot be.
		"index: outside":        {func(f *forgery) { f.at("bin").Path = "../bin" }, "../bin"},
		"index: absolute":       {func(f *forgery) { f.at("bin").Path = "/bin" }, "/bin"},
		"index: NUL":            {func(f *forgery) { f.at("bin").Path = "b\x00n" }, `b\x00n`},
		"index: no name":        {func(f *forgery) { f.at("bin").Path = "" }, "empty"},
		"index: no order":       {func(f *forgery) { f.index[0], f.index[1] = f.index[1], f.index[0] }, "out of order"},
		"index: twice":          {func(f *forgery) { addIndex(f, *f.at("bin")) }, `"bin"`},
		"index: no directory":   {func(f *forgery) { f.at("opt").Type = Fifo }, "opt/"},
		"index: under a link":   {func(f *forgery) { addIndex(f, IndexEntry{Path: "bin/x", Type: Dir, Mode: 0o755}) }, "bin/x"},
		"index: under nothing":  {func(f *forgery) { addIndex(f, IndexEntry{Path: "no/x", Type: Dir, Mode: 0o755}) }, "no/x"},
		"index: unknown type":   {func(f *forgery) { f.at("bin").Type = "socket" }, "bin"},
		"index: in proc":        {func(f *forgery) { addIndex(f, IndexEntry{Path: "proc/x", Type: Dir, Mode: 0o755}) }, "proc/x"},
		"index: mode":           {func(f *forgery) { f.at("opt").Mode = 0o17777 }, "opt"},
		"index: owner":          {func(f *forgery) { f.at("opt").UID = 1<<32 - 1 }, "opt"},
		"index: size":           {func(f *forgery) { f.at(plain).Size = -1 }, plain},
		"index: huge size":      {func(f *forgery) { f.at(plain).Size = 1 << 32 }, plain},
		"index: size of dir":    {func(f *forgery) { f.at("opt").Size = 1 }, "opt"},
		"index: time":           {func(f *forgery) { f.at(plain).MTime = -1 }, plain},
		"index: time of dir":    {func(f *forgery) { f.at("opt").MTime = 1 }, "opt"},
		"index: link of dir":    {func(f *forgery) { f.at("opt").Link = "x" }, "opt"},
		"index: no link":        {func(f *forgery) { f.at("bin").Link = "" }, "bin"},
		"index: NUL in link":    {func(f *forgery) { f.at("bin").Link = "a\x00" }, "bin"},
		"index: device of dir":  {func(f *forgery) { f.at("opt").Major = 1 }, "opt"},
		"index: device":         {func(f *forgery) { f.at("dev/null").Major = 1 << 12 }, "dev/null"},
		"index: group of dir":   {func(f *forgery) { f.at("opt").Group = 1 }, "opt"},
		"index: no such group":  {func(f *forgery) { f.at(plain).Group = 1 << 40 }, plain},
		"index: group below 0":  {func(f *forgery) { f.at(plain).Group = -1 }, plain},
		"index: single link":    {func(f *forgery) { f.at(link).Group = 0; f.at("usr/bin/a").Group = 0 }, first},
		"index: links differ":   {func(f *forgery) { f.at(link).Mode = 0o777 }, link},
		"index: no digest":      {func(f *forgery) { f.at(plain).SHA256 = chunk.ID{} }, plain},
		"index: digest of dir":  {func(f *forgery) { f.at("opt").SHA256 = chunk.ID{1} }, "opt"},
		"index: not empty":      {func(f *forgery) { f.at("etc/empty").SHA256 = chunk.ID{1} }, "etc/empty"},
		"index: other segment":  {func(f *forgery) { f.at(plain).Segment++ }, "segment"},
		"index: no segment":     {func(f *forgery) { f.at(plain).Segment = 1 << 20 }, plain},
		"index: segment below":  {func(f *forgery) { f.at(plain).Segment = -1 }, plain},
		"index: dir elsewhere":  {func(f *forgery) { f.at("opt").Segment = 1 }, `"opt"`},
		"index: file elsewhere": {func(f *forgery) { f.at(plain).Segment = 0 }, plain},
		"index: file more": {func(f *forgery) {
			addIndex(f, IndexEntry{Path: "more", Type: File, Size: 1, Segment: 1, SHA256: chunk.Of([]byte("x"))})
		}, "segment 1"},

		// Extras.
		"extras: nowhere":    {func(f *forgery) { f.extras[0].Path = "no" }, `"no"`},
		"extras: outside":    {func(f *forgery) { f.extras[0].Path = "../x" }, "../x"},
		"extras: of a link":  {func(f *forgery) { f.extras[0].Path = "bin" }, `"bin"`},
		"extras: of devices": {func(f *forgery) { f.extras[0].Path = "dev/sda" }, "dev/sda"},
		"extras: no order":   {func(f *forgery) { slices.Reverse(f.extras) }, "out of order"},
		"extras: twice":      {func(f *forgery) { f.extras = append(f.extras, f.extras[len(f.extras)-1]) }, "usr/bin/ping"},
		"extras: of nothing": {func(f *forgery) { f.extras[0].Xattrs = nil }, "etc/noted"},
		"extras: foreign":    {func(f *forgery) { f.extras[0].Xattrs["security.selinux"] = []byte("x") }, "etc/noted"},
		"extras: no name":    {func(f *forgery) { f.extras[0].Xattrs[""] = []byte("x") }, "etc/noted"},
		"extras: long name":  {func(f *forgery) { f.extras[0].Xattrs["user."+strings.Repeat("x", 300)] = nil }, "etc/noted"},
		"extras: too many":   {func(f *forgery) { f.extras[0].Xattrs["user.x"] = make([]byte, maxXattrs) }, "etc/noted"},

		// Manifests.
		"manifest: files":       {func(f *forgery) { f.manifest = func(m *chunk.Manifest) { m.Files++ } }, "files"},
		"manifest: unpacked":    {func(f *forgery) { f.manifest = func(m *chunk.Manifest) { m.Unpacked-- } }, "bytes"},
		"manifest: entries":     {func(f *forgery) { f.manifest = func(m *chunk.Manifest) { m.Segments[1].Files++ } }, "segment 1"},
		"manifest: archive":     {func(f *forgery) { f.manifest = func(m *chunk.Manifest) { m.Segments[1].Unpacked++ } }, "segment 1"},
		"manifest: below 0":     {func(f *forgery) { f.manifest = func(m *chunk.Manifest) { m.Segments[1].Unpacked = -1 } }, "segment 1"},
		"manifest: size":        {func(f *forgery) { f.manifest = func(m *chunk.Manifest) { m.Segments[1].Size-- } }, "segment 1"},
		"manifest: size below":  {func(f *forgery) { f.manifest = func(m *chunk.Manifest) { m.Segments[1].Size = -1 } }, "segment 1"},
		"manifest: index below": {func(f *forgery) { f.manifest = func(m *chunk.Manifest) { m.Index.Size = -1 } }, "index"},
		"manifest: no index":    {func(f *forgery) { f.manifest = func(m *chunk.Manifest) { m.Index = m.Extras } }, "index"},
		"manifest: no extras":   {func(f *forgery) { f.manifest = func(m *chunk.Manifest) { m.Extras = m.Index } }, "extras"},
		"segment missing":       {func(f *forgery) { f.segments[1].drop = true }, "segment"},
		"segment more": {func(f *forgery) {
			f.segments = append(f.segments, forgedSegment{entries: f.segments[1].entries[:1]})
		}, "segment"},
	} {
		t.Run(name, func(t *testing.T) {
			f := forge(t, b)
			c.change(f)
			err := f.verify()
			if k := fault.KindOf(err); k != fault.Corrupt && k != fault.Invalid || !strings.Contains(err.Error(), c.names) {
				t.Errorf("got %v, want fault.Corrupt or fault.Invalid that names %s", err, c.names)
			}
		})
	}
}

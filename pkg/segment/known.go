package segment

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Known is what earlier builds found out: the digests of files that have not changed since, and the segments that came of
// entries that are the same now. A Build that has one reads and compresses the rest only, and adds to it. It saves work
// and decides nothing: with another Known, or none, the same chunks come out. Any number of goroutines may use it.
type Known struct {
	mu       sync.Mutex
	age      uint8 // counts builds, and starts again after 255
	files    map[Stamp]knownFile
	segments map[chunk.ID]knownSegment // by the digest of what they are made of
}

type knownFile struct {
	sum chunk.ID
	age uint8 // of the last build that used it
}

type knownSegment struct {
	chunk.Segment
	age uint8
}

// Stamp tells two states of a file apart without reading it. What changes a file changes its ctime, which nobody can set.
type Stamp struct {
	Dev, Ino     uint64
	Size         int64
	MTime, CTime int64 // nanoseconds since 1970
}

// stamper is a Source that can stamp its files. False means that a file's stamp says nothing.
type stamper interface {
	Stamp(path string) (Stamp, bool)
}

// NewKnown returns one that knows nothing.
func NewKnown() *Known {
	return &Known{files: make(map[Stamp]knownFile), segments: make(map[chunk.ID]knownSegment)}
}

// Empty tells whether it knows of any segment.
func (k *Known) Empty() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.segments) == 0
}

// Learn adds the segments of an image that was built before.
func (k *Known) Learn(i *Image) {
	for n, part := range i.parts() {
		var entries []*Entry
		var sums []chunk.ID
		if i.isSkeleton(n) {
			entries, sums = append(entries, rootEntry()), append(sums, chunk.ID{})
		}
		for _, at := range part {
			entries, sums = append(entries, &i.entries[at]), append(sums, i.sums[at])
		}
		k.putSegment(segmentKey(i.m.Level, entries, sums), i.segments[n])
	}
}

// LearnDir adds the files of a directory that an image was just unpacked into, of which sum tells the digests. Nothing may
// have written there since, and nothing may before the file system's clock has moved on: a hundredth of a second. One
// that counts whole seconds only is of no use, and nothing is learnt.
func (k *Known) LearnDir(dir *Directory, sum func(path string) (chunk.ID, error)) {
	fine := false
	for _, s := range dir.stamps {
		fine = fine || s.CTime%1e9 != 0
	}
	if !fine {
		return
	}
	for path, s := range dir.stamps {
		if id, err := sum(path); err == nil {
			k.putFile(s, id)
		}
	}
}

// begin starts another build, and forgets what the last few did not use.
func (k *Known) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.age++
	for s, f := range k.files {
		if k.age-f.age > keptBuilds {
			delete(k.files, s)
		}
	}
	for key, s := range k.segments {
		if k.age-s.age > keptBuilds {
			delete(k.segments, key)
		}
	}
}

// keptBuilds is for how many builds something is known that they did not use: two trees may be built in turns.
const keptBuilds = 4

func (k *Known) file(s Stamp) (chunk.ID, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f, ok := k.files[s]
	if ok {
		f.age = k.age
		k.files[s] = f
	}
	return f.sum, ok
}

func (k *Known) putFile(s Stamp, sum chunk.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.files[s] = knownFile{sum, k.age}
}

func (k *Known) segment(key chunk.ID) (chunk.Segment, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.segments[key]
	if ok {
		s.age = k.age
		k.segments[key] = s
	}
	return s.Segment, ok
}

func (k *Known) putSegment(key chunk.ID, s chunk.Segment) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.segments[key] = knownSegment{s, k.age}
}

// segmentKey is the digest of all that decides what is in a segment, and of the level it is compressed at. The release
// of the compressor is not in it, nor the order of the files, which the index of an image does not tell: who has other
// bytes of the same entries has the same files.
func segmentKey(level int, entries []*Entry, sums []chunk.ID) chunk.ID {
	order := make([]int, len(entries))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(entries[a].Path, entries[b].Path) })
	h := sha256.New()
	keyText(h, "wulfmesh segment 2")
	keyNumbers(h, int64(level), int64(len(entries)))
	first := make(map[int]int) // name of each hard-linked file, as the numbers of groups depend on the rest of the tree
	for place, i := range order {
		n, name := normal(entries[i]), -1
		if n.Group > 0 {
			at, ok := first[n.Group]
			if !ok {
				at, first[n.Group] = place, place
			}
			name = at
		}
		keyText(h, n.Path)
		keyText(h, string(n.Type))
		keyText(h, n.Link)
		keyNumbers(h, int64(n.Mode), int64(n.UID), int64(n.GID), n.Size, n.MTime, int64(n.Major), int64(n.Minor), int64(n.Links), int64(name))
		h.Write(sums[i][:])
	}
	var id chunk.ID
	h.Sum(id[:0])
	return id
}

func keyText(h hash.Hash, s string) {
	keyNumbers(h, int64(len(s)))
	io.WriteString(h, s)
}

func keyNumbers(h hash.Hash, all ...int64) {
	var b [8]byte
	for _, n := range all {
		binary.LittleEndian.PutUint64(b[:], uint64(n))
		h.Write(b[:])
	}
}

// The file of a Known: its magic, the numbers of files and segments and the age as one record, then records of fixed size,
// little-endian, then the CRC-32C of all before.
//
// History: 1 (2026-11) first.
const (
	knownMagic = "wulfmesh-known 1\n"
	maxKnown   = 8 << 20 // files or segments
)

type knownHead struct {
	Files, Segments uint32
	Age             uint8
}

type fileRecord struct {
	Stamp Stamp
	Sum   chunk.ID
	Age   uint8
}

type segmentRecord struct {
	Key, ID               chunk.ID
	Size, Unpacked, Files int64
	Age                   uint8
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Save writes it.
func (k *Known) Save(w io.Writer) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	sum := crc32.New(castagnoli)
	out := bufio.NewWriterSize(io.MultiWriter(w, sum), 256<<10)
	out.WriteString(knownMagic)
	var buf []byte
	put := func(v any) { // it is of fixed size; the writer remembers its errors
		buf, _ = binary.Append(buf[:0], binary.LittleEndian, v)
		out.Write(buf)
	}
	put(knownHead{uint32(len(k.files)), uint32(len(k.segments)), k.age})
	for s, f := range k.files {
		put(fileRecord{s, f.sum, f.age})
	}
	for key, s := range k.segments {
		put(segmentRecord{key, s.ID, s.Size, s.Unpacked, int64(s.Files), s.age})
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return binary.Write(w, binary.LittleEndian, sum.Sum32())
}

// LoadKnown reads what Save wrote. One that is damaged is fault.Corrupt: begin with a new one.
func LoadKnown(r io.Reader) (*Known, error) {
	sum := crc32.New(castagnoli)
	in := bufio.NewReaderSize(r, 256<<10)
	checked := io.TeeReader(in, sum)
	bad := func(err error) (*Known, error) {
		return nil, fault.Wrap(fault.Corrupt, err, "this is not what is known of builds")
	}
	magic := make([]byte, len(knownMagic))
	if _, err := io.ReadFull(checked, magic); err != nil || string(magic) != knownMagic {
		return bad(err)
	}
	var head knownHead
	if err := binary.Read(checked, binary.LittleEndian, &head); err != nil || head.Files > maxKnown || head.Segments > maxKnown {
		return bad(err)
	}
	k := NewKnown()
	k.age = head.Age
	buf := make([]byte, max(binary.Size(fileRecord{}), binary.Size(segmentRecord{})))
	get := func(v any) error {
		b := buf[:binary.Size(v)]
		if _, err := io.ReadFull(checked, b); err != nil {
			return err
		}
		_, err := binary.Decode(b, binary.LittleEndian, v)
		return err
	}
	for range head.Files {
		var f fileRecord
		if err := get(&f); err != nil {
			return bad(err)
		}
		k.files[f.Stamp] = knownFile{f.Sum, f.Age}
	}
	for range head.Segments {
		var s segmentRecord
		if err := get(&s); err != nil {
			return bad(err)
		}
		k.segments[s.Key] = knownSegment{chunk.Segment{Ref: chunk.Ref{ID: s.ID, Size: s.Size}, Unpacked: s.Unpacked, Files: int(s.Files)}, s.Age}
	}
	want := sum.Sum32()
	var got uint32
	if err := binary.Read(in, binary.LittleEndian, &got); err != nil || got != want {
		return bad(err)
	}
	return k, nil
}

package segment

import (
	"archive/tar"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const (
	tarBlock  = 512
	ratioFrom = 64 << 20 // bytes out from which on the compression ratio is looked at
	// How programs note extended attributes in PAX records: as they are; and, what bsdtar does besides, with the name
	// as in URLs and the value in base 64.
	xattrPAX        = "SCHILY.xattr."
	xattrLibarchive = "LIBARCHIVE.xattr."
)

// Tar is a Source that reads a tar archive in place: only an index is kept, nothing is unpacked, and so owners,
// modes and device nodes come out right without privileges. Close it when the tree is no longer needed.
type Tar struct {
	table
	plain plainTar
	spool *os.File // nil when the caller's own file is read
}

// plainTar is a plain tar archive.
type plainTar struct {
	at   io.ReaderAt
	size int64
	sent int64 // bytes as they came, before decompression
}

// OpenTar indexes the tar archive in r, which may be compressed (see Decompress), and reads r to its end.
// A plain archive that can be read at any place (a file) is used where it is and must stay open until Close;
// everything else is first written to a nameless temporary file in spoolDir.
//
// The archive is taken as hostile. These are fault.Invalid, naming the entry: absolute paths, "..", ".", empty
// components and NUL bytes, parents that are not directories (symbolic links also), hard links to something that
// is not a file of the archive before them, numbers out of range, kinds of entries that no image can hold, more
// than the limits allow, and an archive that ends early. Of several entries with one path the last one wins, as
// it does with tar itself, because tar -r and image builders append newer files instead of replacing the old.
func OpenTar(r io.Reader, spoolDir string, l Limits) (*Tar, error) {
	t := new(Tar)
	if err := t.open(r, spoolDir, l.withDefaults()); err != nil {
		t.Close()
		return nil, err
	}
	s := tarScanner{tree: newTree(l), in: &t.plain}
	if err := s.scan(); err != nil {
		t.Close()
		return nil, err
	}
	nodes, err := s.tree.finish()
	if err != nil {
		t.Close()
		return nil, fmt.Errorf("reading the tar archive: %w", err)
	}
	t.table = newTable(nodes)
	return t, nil
}

// Open reads a regular file: see Source.
func (t *Tar) Open(path string) (io.ReadCloser, error) { return t.table.openTar(path) }

// openTar reads a regular file of an archive.
func (t *table) openTar(path string) (io.ReadCloser, error) {
	n, err := t.file(path)
	if err != nil {
		return nil, err
	}
	// Reading the header again leaves it to archive/tar to find the data, sparse files included.
	in, off := n.body.in, n.body.offset
	tr := tar.NewReader(io.NewSectionReader(in.at, off, in.size-off))
	if _, err := tr.Next(); err != nil {
		return nil, fault.Wrap(fault.Conflict, err, "file %q changed while the archive was being read", path)
	}
	return io.NopCloser(tr), nil
}

// Close removes the temporary file, if there is one. It does not close what the caller handed in.
func (t *Tar) Close() error {
	if t.spool == nil {
		return nil
	}
	return t.spool.Close()
}

// open finds a place to read the plain archive from.
func (t *Tar) open(r io.Reader, spoolDir string, l Limits) error {
	in := &counter{r: r}
	plain, compressed, err := Decompress(in)
	if err != nil {
		return err
	}
	defer plain.Close()
	if file, ok := r.(interface {
		io.ReaderAt
		io.Seeker
	}); ok && !compressed {
		size, err := file.Seek(0, io.SeekEnd)
		if err == nil {
			t.plain = plainTar{file, size, size}
			return nil
		}
	}
	f, err := os.CreateTemp(spoolDir, "tar-*")
	if err != nil {
		return fault.Wrap(kindOf(err), err, "making a temporary file for the archive")
	}
	t.spool, t.plain.at = f, f
	if err := os.Remove(f.Name()); err != nil {
		return fault.Wrap(kindOf(err), err, "making a temporary file for the archive")
	}
	return t.fill(plain, in, compressed, l)
}

// fill writes the plain archive to the spool.
func (t *Tar) fill(plain io.Reader, in *counter, compressed bool, l Limits) error {
	// A header and a part of a block for each entry, besides the content.
	most := l.Bytes + min(int64(l.Entries), math.MaxInt64/8/tarBlock)*4*tarBlock
	buf := make([]byte, 256<<10)
	for {
		n, err := plain.Read(buf)
		t.plain.size += int64(n)
		if t.plain.size > most {
			return fault.New(fault.Invalid, "the archive holds more than %d bytes", most)
		}
		if compressed && t.plain.size > ratioFrom && t.plain.size/l.Ratio > in.n {
			return fault.New(fault.Invalid, "the archive unpacks to more than %d times its size and is taken for a bomb", l.Ratio)
		}
		if _, err := t.spool.Write(buf[:n]); err != nil {
			return fault.Wrap(kindOf(err), err, "writing the archive to a temporary file")
		}
		if errors.Is(err, io.EOF) {
			t.plain.sent = in.n
			return nil
		}
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "unpacking the archive after %d bytes", t.plain.size)
		}
	}
}

type tarScanner struct {
	tree  *tree
	in    *plainTar
	layer *layer // nil for an archive by itself
}

// scan reads the archive once from begin to end, content included, so that a short one is noticed now.
func (s *tarScanner) scan() error {
	in := &counter{r: io.NewSectionReader(s.in.at, 0, s.in.size)}
	tr := tar.NewReader(in)
	last := ""
	ratio, begun := s.tree.limits.Ratio, s.tree.bytes // which are those of lower layers
	for {
		// archive/tar reads whole blocks and nothing ahead: the next header starts at the next block.
		offset := (in.n + tarBlock - 1) / tarBlock * tarBlock
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			if in.n <= offset {
				return fault.New(fault.Invalid, "the tar archive lacks its end mark: it is cut short after entry %q", last).
					WithFix("make or fetch the archive again")
			}
			return nil
		}
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "reading the tar archive after entry %q", last)
		}
		last = h.Name
		if err := s.entry(h, offset); err != nil {
			return fmt.Errorf("tar entry %.200q: %w", h.Name, err)
		}
		if n := s.tree.bytes - begun; n > ratioFrom && n/ratio > s.in.sent { // a sparse file of a few bytes may be 4 GiB
			return fault.New(fault.Invalid, "with entry %.200q the archive unpacks to more than %d times its size and is taken for a bomb", h.Name, ratio)
		}
		if _, err := io.Copy(io.Discard, tr); err != nil {
			return fault.Wrap(fault.Invalid, err, "reading tar entry %.200q", h.Name)
		}
	}
}

// entry takes one header that starts at offset.
func (s *tarScanner) entry(h *tar.Header, offset int64) error {
	name := h.Name
	for strings.HasPrefix(name, "./") { // tar -C DIR -c . names everything so
		name = name[2:]
	}
	e := Entry{MTime: h.ModTime.Unix(), Mode: uint32(h.Mode) & 0o7777}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeDir:
		e.Type, name = Dir, strings.TrimSuffix(name, "/")
		if (name == "" || name == ".") && (h.Name != "/" || s.layer != nil) && h.Name != "" {
			return nil // the root, which is always the same: see the package comment
		}
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		e.Type, e.Size = File, h.Size
	case tar.TypeLink:
		e.Type = File
	case tar.TypeSymlink:
		e.Type, e.Link = Symlink, h.Linkname
	case tar.TypeChar:
		e.Type = Char
	case tar.TypeBlock:
		e.Type = Block
	case tar.TypeFifo:
		e.Type = Fifo
	default:
		return fault.New(fault.Invalid, "an image cannot hold an entry of tar type %q", h.Typeflag)
	}
	e.Path = name
	if err := CheckPath(name); err != nil {
		return err
	}
	if s.layer != nil && s.layer.whiteout(name) {
		return s.tree.charge(&Entry{Path: name}, nil)
	}
	if h.Typeflag == tar.TypeLink {
		return s.link(e, h.Linkname)
	}
	for _, id := range []int{h.Uid, h.Gid} {
		if id < 0 || id >= math.MaxUint32 {
			return fault.New(fault.Invalid, "owner %d:%d is out of range", h.Uid, h.Gid)
		}
	}
	e.UID, e.GID = uint32(h.Uid), uint32(h.Gid)
	if e.Type == Char || e.Type == Block {
		if h.Devmajor < 0 || h.Devmajor > maxMajor || h.Devminor < 0 || h.Devminor > maxMinor {
			return fault.New(fault.Invalid, "device %d:%d is out of range", h.Devmajor, h.Devminor)
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	}
	if e.Type == File || e.Type == Dir {
		var err error
		if e.Xattrs, err = paxXattrs(h.PAXRecords); err != nil {
			return err
		}
	}
	var b *body
	if e.Type == File {
		b = &body{in: s.in, offset: offset}
	}
	return s.tree.add(e, b)
}

// link adds a further name of something that the archive has named before. For a symbolic link or a device a
// second one does as well.
func (s *tarScanner) link(e Entry, target string) error {
	for strings.HasPrefix(target, "./") {
		target = target[2:]
	}
	if s.layer != nil {
		target = strings.TrimPrefix(target, "/")
	}
	old, ok := s.tree.nodes[target]
	if !ok && s.layer != nil {
		old, ok = s.layer.below(target)
	}
	switch {
	case !ok && leftOut(&e):
		return s.tree.add(e, nil)
	case !ok:
		return fault.New(fault.Invalid, "hard link to %.200q, which the archive does not hold before it", target)
	case old.Type == Dir:
		return fault.New(fault.Invalid, "hard link to the directory %.200q", target)
	}
	path := e.Path
	e = old.Entry // names of one file share everything but the path
	e.Path = path
	return s.tree.add(e, old.body)
}

// paxXattrs picks the extended attributes out of PAX records.
func paxXattrs(records map[string]string) (map[string]string, error) {
	m := make(map[string]string)
	for k, v := range records {
		if name, ok := strings.CutPrefix(k, xattrPAX); ok {
			m[name] = v
		}
	}
	for k, v := range records {
		name, ok := strings.CutPrefix(k, xattrLibarchive)
		if !ok {
			continue
		}
		plain, err := url.PathUnescape(name)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "the extended attribute %.200q has no readable name", name)
		}
		value, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "the extended attribute %.200q is not in base 64", plain)
		}
		m[plain] = string(value)
	}
	if len(m) == 0 {
		return nil, nil
	}
	return m, nil
}

// counter counts the bytes that pass.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

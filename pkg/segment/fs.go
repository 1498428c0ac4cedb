package segment

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxLinks is how many symbolic links one path may lead through, as in the kernel.
const maxLinks = 40

// FS shows a source as the file system that a program inside the image sees: symbolic links are followed with the
// tree as their root, so that lib/modules is found where lib is a link to usr/lib, absolute targets and ".." stay
// inside, and loops end in an error. Sys of a file's info is its *Entry. The result also has Lstat, ReadLink,
// Stat and ReadDir, and any number of goroutines may use it.
func FS(src Source) fs.FS {
	v := &view{src: src, at: map[string]*Entry{".": {Path: ".", Type: Dir, Mode: 0o755}}, below: make(map[string][]*Entry)}
	entries := src.Entries()
	for i := range entries {
		e := &entries[i]
		v.at[e.Path] = e
		dir := path.Dir(e.Path)
		v.below[dir] = append(v.below[dir], e)
	}
	return v
}

type view struct {
	src   Source
	at    map[string]*Entry
	below map[string][]*Entry // what each directory holds, in order
}

var errTooManyLinks = errors.New("too many levels of symbolic links")

// resolve finds the entry of name; if last is false, a link in the last place is not followed.
func (v *view) resolve(op, name string, last bool) (*Entry, error) {
	fail := func(err error) (*Entry, error) { return nil, &fs.PathError{Op: op, Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}
	e := v.at["."]
	rest := strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			e = v.at[path.Dir(e.Path)] // above the root is the root
			continue
		}
		if e.Type != Dir {
			return fail(fs.ErrNotExist)
		}
		next, ok := v.at[path.Join(e.Path, part)]
		switch {
		case !ok:
			return fail(fs.ErrNotExist)
		case next.Type != Symlink || len(rest) == 0 && !last:
			e = next
			continue
		}
		if links++; links > maxLinks {
			return fail(errTooManyLinks)
		}
		if strings.HasPrefix(next.Link, "/") {
			e = v.at["."]
		}
		rest = append(strings.Split(next.Link, "/"), rest...)
		if len(rest) > maxPath {
			return fail(errTooManyLinks)
		}
	}
	return e, nil
}

// Open implements fs.FS.
func (v *view) Open(name string) (fs.File, error) {
	e, err := v.resolve("open", name, true)
	if err != nil {
		return nil, err
	}
	switch e.Type {
	case Dir:
		return &openDir{info: info{e, path.Base(name)}, entries: v.list(e)}, nil
	case File:
		r, err := v.src.Open(e.Path)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return &openFile{ReadCloser: r, info: info{e, path.Base(name)}}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fault.New(fault.Invalid, "it is a %s", e.Type)}
}

// Stat implements fs.StatFS.
func (v *view) Stat(name string) (fs.FileInfo, error) {
	e, err := v.resolve("stat", name, true)
	if err != nil {
		return nil, err
	}
	return info{e, path.Base(name)}, nil
}

// Lstat implements fs.ReadLinkFS.
func (v *view) Lstat(name string) (fs.FileInfo, error) {
	e, err := v.resolve("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return info{e, path.Base(name)}, nil
}

// ReadLink implements fs.ReadLinkFS.
func (v *view) ReadLink(name string) (string, error) {
	e, err := v.resolve("readlink", name, false)
	if err != nil {
		return "", err
	}
	if e.Type != Symlink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return e.Link, nil
}

// ReadDir implements fs.ReadDirFS.
func (v *view) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := v.resolve("readdir", name, true)
	if err != nil {
		return nil, err
	}
	if e.Type != Dir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
	}
	return v.list(e), nil
}

func (v *view) list(dir *Entry) []fs.DirEntry {
	below := v.below[dir.Path]
	list := make([]fs.DirEntry, len(below))
	for i, e := range below {
		list[i] = fs.FileInfoToDirEntry(info{e, path.Base(e.Path)})
	}
	return list
}

// info is an entry as fs sees it, under the name that it was asked for by.
type info struct {
	e    *Entry
	name string
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.e.Size }
func (i info) ModTime() time.Time { return time.Unix(i.e.MTime, 0) }
func (i info) IsDir() bool        { return i.e.Type == Dir }
func (i info) Sys() any           { return i.e }

func (i info) Mode() fs.FileMode {
	m := fs.FileMode(i.e.Mode & 0o777)
	for _, b := range []struct {
		bit  uint32
		mode fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if i.e.Mode&b.bit != 0 {
			m |= b.mode
		}
	}
	switch i.e.Type {
	case Dir:
		m |= fs.ModeDir
	case Symlink:
		m |= fs.ModeSymlink
	case Char:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case Block:
		m |= fs.ModeDevice
	case Fifo:
		m |= fs.ModeNamedPipe
	}
	return m
}

type openFile struct {
	io.ReadCloser
	info info
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }

type openDir struct {
	info    info
	entries []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: errors.New("is a directory")}
}

// ReadDir implements fs.ReadDirFile.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(d.entries) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.entries) {
		n = len(d.entries)
	}
	list := d.entries[:n]
	d.entries = d.entries[n:]
	return list, nil
}

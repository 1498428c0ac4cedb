// Package segment turns a file tree into bootable segments and back.
//
// A Source is a tree to read: a directory (OpenDir) or a tar archive (OpenTar), neither of which needs
// privileges. Build cuts it into segments. A segment is one complete newc cpio archive in exactly one zstd frame,
// so the plain concatenation of an image's segments is an initramfs that the Linux kernel boots, while each one
// alone can be verified, shared between images, fetched again and unpacked in parallel (Unpacker).
// Segment 0 is the skeleton: directories, symbolic links, device nodes, pipes and empty files. Every other
// segment holds regular files only, so any of them may be unpacked at any time once the skeleton is there.
//
// # What is kept, and what is not
//
// The same tree gives the same bytes on every controller, so what says more about the machine that made the
// tree than about the tree is normalised:
//
//   - Modification times of files are kept in whole seconds: Python compares them with those noted in compiled
//     files, and a node must not recompile its libraries at every boot. Directories, links and devices get time 0.
//     Theirs would change the skeleton with every file added, and caches that are valid only while they are
//     younger than their directory (icon themes, fonts) stay valid.
//   - The root directory is 0755 and root's, whatever the source says: a work directory made by mktemp is 0700,
//     and a system whose root nobody may search does not work.
//   - What lies under proc, sys and run is left out, as file systems are mounted over it; of dev only what is not
//     a regular file is kept. Sockets are left out: nobody listens on them.
//   - Extended attributes, with them file capabilities and ACLs, do not fit in cpio. They travel in the extras
//     chunk and the agent restores them (Unpacker.Finish); a kernel that unpacks the segments by itself does not,
//     which Result.Special is there to warn of. security.selinux and trusted.overlay.* are left out: they
//     are the build machine's.
//   - A file of 4 GiB or more is refused by name: newc counts its bytes with eight hexadecimal digits.
//
// The package opens no socket, and reads a clock only to tell whether a file was written to just now.
package segment

import (
	"io"
	"strings"
	"unicode/utf8"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Type is the kind of a file. Its text is what the file index says.
type Type string

// The types that an image can hold.
const (
	Dir     Type = "dir"
	File    Type = "file"
	Symlink Type = "symlink"
	Char    Type = "char"
	Block   Type = "block"
	Fifo    Type = "fifo"
)

// Entry describes one path of a tree.
type Entry struct {
	Path   string            // relative, clean, with slashes: see CheckPath
	Type   Type              //
	Mode   uint32            // permissions, setuid, setgid and sticky bits: at most 07777
	UID    uint32            //
	GID    uint32            //
	Size   int64             // bytes of a regular file, otherwise 0
	MTime  int64             // seconds since 1970
	Link   string            // where a symbolic link points, as it is written there
	Major  uint32            // of a device
	Minor  uint32            // of a device
	Group  int               // files with equal numbers above 0 are hard links of one another
	Links  int               // how many names the file has in the tree; below 2 means one
	Xattrs map[string]string // extended attributes by full name; never changed once handed out
}

// Source is a file tree that does not change while it is used.
type Source interface {
	// Entries lists the tree in the order of ComparePaths, every directory before what is in it, and without
	// the root itself. Nobody may change the slice.
	Entries() []Entry
	// Open reads a regular file. An unknown path is fault.NotFound. Any number of goroutines may call it.
	Open(path string) (io.ReadCloser, error)
}

// Limits bounds what a Source may hold, so that a hostile archive cannot eat the machine.
// A zero field means the default.
type Limits struct {
	Entries int   // paths, 2 000 000 by default
	Bytes   int64 // bytes of all files together, 256 GiB by default
	File    int64 // bytes of one file; by default what an image can hold, 4 GiB less one byte
	Ratio   int64 // bytes out for each compressed byte in, looked at after the first 64 MiB, 200 by default
}

func (l Limits) withDefaults() Limits {
	if l.Entries == 0 {
		l.Entries = 2_000_000
	}
	if l.Bytes == 0 {
		l.Bytes = 256 << 30
	}
	if l.File == 0 {
		l.File = maxFile
	}
	if l.Ratio == 0 {
		l.Ratio = 200
	}
	return l
}

// The kernel skips a name of more than PATH_MAX bytes, its NUL included, without a word (init/initramfs.c), so
// the builder must refuse it. maxDepth bounds the directories an Unpacker keeps open.
const (
	maxPath  = 4095
	maxName  = 255
	maxDepth = 128
	maxFile  = 1<<32 - 1
	maxMajor = 0xfff // of a device; Linux has 12 bits for it, and 20 for the minor number
	maxMinor = 0xfffff
	trailer  = "TRAILER!!!"
)

// CheckPath tells whether p can name an entry: relative, without empty, "." or ".." components and NUL bytes,
// of bounded length and depth. The error is fault.Invalid and names p.
func CheckPath(p string) error {
	bad := func(why string) error { return fault.New(fault.Invalid, "path %.200q %s", p, why) }
	switch {
	case p == "":
		return bad("is empty")
	case len(p) > maxPath:
		return bad("is longer than 4095 bytes")
	case p[0] == '/':
		return bad("is absolute")
	case strings.IndexByte(p, 0) >= 0:
		return bad("holds a NUL byte")
	case p == trailer:
		return bad("is what ends a cpio archive and cannot name a file")
	}
	depth := 0
	for name := range strings.SplitSeq(p, "/") {
		if depth++; depth > maxDepth {
			return bad("is nested too deeply")
		}
		switch {
		case name == "":
			return bad("has an empty component")
		case name == "." || name == "..":
			return bad("has a component " + name)
		case len(name) > maxName:
			return bad("has a name longer than 255 bytes")
		}
	}
	return nil
}

// ComparePaths orders paths as a walk through the tree meets them: by bytes, a slash before everything else,
// so that a directory is followed by all that it contains.
func ComparePaths(a, b string) int {
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		switch {
		case x == y:
		case x == '/':
			return -1
		case y == '/':
			return 1
		case x < y:
			return -1
		default:
			return 1
		}
	}
	return len(a) - len(b)
}

// splitRaw returns s as text or, where it is not UTF-8 and JSON would mangle it, as bytes.
func splitRaw(s string) (text string, raw []byte) {
	if utf8.ValidString(s) {
		return s, nil
	}
	return "", []byte(s)
}

// joinRaw undoes splitRaw.
func joinRaw(text string, raw []byte) string {
	if len(raw) > 0 {
		return string(raw)
	}
	return text
}

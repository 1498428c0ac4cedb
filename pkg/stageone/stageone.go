// Package stageone builds the small initial file system with which a node fetches its image: the agent as /init,
// whom to trust, and the drivers and firmware of one of the image's own kernels.
//
// It reads the image as a segment.Source and executes nothing of it, so an image for another architecture is no
// different from one for the controller's own. Everything but /init lies below /.wulf: the archive may be laid
// over a whole root, as a one-stage boot does, without changing a file of it.
package stageone

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"path"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// Where things lie in stage one: all but /init are below Home.
const (
	Home      = ".wulf"
	TrustFile = ".wulf/trust.json"
)

// Bounds of what an image may put into a stage one, before compression. The modules of a distribution's kernel are
// 70 MB; firmware that would pass its bound is left out, and said so.
const (
	maxModule   = 128 << 20
	maxModules  = 512 << 20
	maxFirmware = 48 << 20
)

// level of compression. Level 11 makes a stage one of 25 MB smaller by 2 MB, which is a hundredth of the image that
// follows it, and takes four seconds more of a person's time at each import.
const level = 9

// Options say what goes into a stage one besides the kernel's own.
type Options struct {
	Agent   []byte   // the program wulf-agent for the kernel's architecture
	Trust   []byte   // trust.json: whom the node believes
	Modules []string // names of further modules to take along
}

// Result is a stage one.
type Result struct {
	Archive  []byte // a cpio archive in one zstd frame
	Modules  int
	Firmware int
	Warnings []string // what was left out
}

// Build makes the stage one of a kernel. Equal sources and options give equal bytes.
func Build(ctx context.Context, src segment.Source, k Kernel, o Options) (*Result, error) {
	if len(o.Agent) == 0 {
		return nil, fault.New(fault.NotFound, "there is no wulf-agent for %s", k.Arch).WithFix("install wulf-agent-%s beside wulf", k.Arch)
	}
	b := &builder{ctx: ctx, image: segment.FS(src), content: make(map[string][]byte)}
	b.result.Warnings = slices.Clone(k.Warnings)
	b.add("init", 0o755, o.Agent)
	b.add(TrustFile, 0o644, o.Trust)
	if k.Modules != "" {
		if err := b.modules(k, o.Modules); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(b.entries, func(a, c segment.Entry) int { return segment.ComparePaths(a.Path, c.Path) })
	var err error
	b.result.Archive, err = segment.Pack(ctx, b, level)
	return &b.result, err
}

// builder collects the files of a stage one, and is then the source that is packed.
type builder struct {
	ctx     context.Context
	image   fs.FS
	entries []segment.Entry
	content map[string][]byte // of files, nil for directories
	result  Result
}

// Entries implements segment.Source.
func (b *builder) Entries() []segment.Entry { return b.entries }

// Open implements segment.Source.
func (b *builder) Open(p string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(b.content[p])), nil
}

// add adds a file, unless it is there, and the directories above it.
func (b *builder) add(p string, mode uint32, body []byte) *segment.Entry {
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		if _, ok := b.content[dir]; ok {
			break
		}
		b.content[dir] = nil
		b.entries = append(b.entries, segment.Entry{Path: dir, Type: segment.Dir, Mode: 0o755})
	}
	b.content[p] = body
	b.entries = append(b.entries, segment.Entry{Path: p, Type: segment.File, Mode: mode, Size: int64(len(body))})
	return &b.entries[len(b.entries)-1]
}

func (b *builder) warn(w string) { b.result.Warnings = append(b.result.Warnings, w) }

// readFile reads a file of at most limit bytes; a larger one is fault.Full.
func readFile(fsys fs.FS, p string, limit int64) ([]byte, error) {
	f, err := fsys.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, p, limit)
}

// readAll reads at most limit bytes; more are fault.Full.
func readAll(r io.Reader, what string, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, unreadable(err, "reading the image's %s", what)
	}
	if int64(len(b)) > limit {
		return nil, fault.New(fault.Full, "the image's %s has more than %d bytes", what, limit)
	}
	return b, nil
}

// unreadable is what is wrong with a file of the image, unless the fault is the source's own.
func unreadable(err error, format string, args ...any) error {
	kind := fault.KindOf(err)
	if kind == fault.Internal {
		kind = fault.Invalid // a decompressor's
	}
	return fault.Wrap(kind, err, format, args...)
}

// Package source opens what images are made of: registries, what docker or podman on this machine have built, OCI layouts,
// archives, and directories. Whatever it is, it becomes one segment.Source; nothing is unpacked to disk, nothing of it is
// run, and only a directory needs somebody who may read all of it. What is not a directory is taken as hostile.
package source

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// Kind is a way to get at a root file system.
type Kind string

// The kinds. Their text begins a reference, but for the last three, which are paths.
const (
	Registry      Kind = "docker"         // docker://[HOST/]NAME[:TAG][@DIGEST]
	Daemon        Kind = "docker-daemon"  // docker-daemon:NAME[:TAG]
	Layout        Kind = "oci"            // oci:DIRECTORY[:TAG]
	LayoutArchive Kind = "oci-archive"    // oci-archive:FILE[:TAG]
	DockerArchive Kind = "docker-archive" // docker-archive:FILE[:TAG], as docker save writes it
	Directory     Kind = "directory"
	Tar           Kind = "tar"
	Stdin         Kind = "-" // a tar on standard input
)

// Ref says where a root file system is.
type Ref struct {
	Kind Kind
	Name string // of an image in a registry or at a daemon, or the path
	Tag  string // of one of several in a layout or archive; "" if there is but one
}

// Options say how to get at it. The zero value is right for everything that needs no login.
type Options struct {
	Platform string // OS/ARCH[/VARIANT], of an image that is there for several; "": linux/amd64
	Insecure bool   // a registry may speak plain HTTP, or show any certificate
	Mirrors  []string
	Username string // of a registry; "": as the files of docker and podman say
	Password string

	Transport http.RoundTripper // nil: the network, by the proxies that the environment names
	Stdin     io.Reader
	Work      string // directory for nameless temporary files; "": TMPDIR, or /var/tmp
	Limits    segment.Limits
	// Progress, if set, is told how many bytes of how many have come; total is 0 if that is not known. It is called by
	// several goroutines.
	Progress func(step string, done, total int64)
}

// Tree is a root file system. Close it when it is no longer needed.
type Tree struct {
	segment.Source
	Label string // where it came from, for people: with the digest, where there is one

	close []func() error
}

// Close lets go of files.
func (t *Tree) Close() error {
	var first error
	for _, c := range t.close {
		if err := c(); first == nil {
			first = err
		}
	}
	t.close = nil
	return first
}

// forms is what Parse takes, for messages.
const forms = "docker://NAME, docker-daemon:NAME, oci:DIRECTORY, oci-archive:FILE, docker-archive:FILE, a directory, a tar, or - for standard input"

// Parse reads a reference. Kinds that are paths are told apart by looking: fault.NotFound if there is nothing, fault.Invalid
// for what cannot be a reference. A directory that is an OCI layout is read as one. The spellings of Warewulf, with :// everywhere and file://, are read as well.
func Parse(text string) (Ref, error) {
	if text == "-" {
		return Ref{Kind: Stdin}, nil
	}
	scheme, rest, ok := strings.Cut(text, ":")
	if ok {
		switch k := Kind(scheme); k {
		case Registry, Daemon:
			name := strings.TrimPrefix(rest, "//")
			if name == "" || strings.ContainsAny(name, " \t\n") || k == Registry && !strings.HasPrefix(rest, "//") {
				return Ref{}, fault.New(fault.Invalid, "%q names no image", text).WithFix("write %s://[HOST/]NAME[:TAG]", k)
			}
			return Ref{Kind: k, Name: name}, nil
		case Layout, LayoutArchive, DockerArchive:
			path, tag, err := splitTag(strings.TrimPrefix(rest, "//"))
			return Ref{Kind: k, Name: path, Tag: tag}, err
		case "file":
			text = strings.TrimPrefix(rest, "//")
		case "http", "https", "oras", "library", "shub":
			return Ref{}, fault.New(fault.Invalid, "%s: is nothing that can be imported", scheme).WithFix("it may be %s", forms)
		}
	}
	if text == "" {
		return Ref{}, fault.New(fault.Invalid, "no source is named").WithFix("it may be %s", forms)
	}
	fi, err := os.Stat(text)
	switch {
	case os.IsNotExist(err):
		return Ref{}, fault.New(fault.NotFound, "there is no directory or archive %s", text).WithFix("it may be %s", forms)
	case err != nil:
		return Ref{}, fault.Wrap(fault.Invalid, err, "looking at the image")
	case fi.IsDir() && isFile(text, "oci-layout") && isFile(text, "index.json"):
		return Ref{Kind: Layout, Name: text}, nil
	case fi.IsDir():
		return Ref{Kind: Directory, Name: text}, nil
	case fi.Mode().IsRegular():
		return Ref{Kind: Tar, Name: text}, nil
	}
	return Ref{}, fault.New(fault.Invalid, "%s is neither a directory nor an archive", text).WithFix("it may be %s", forms)
}

func isFile(dir, name string) bool {
	fi, err := os.Lstat(filepath.Join(dir, name))
	return err == nil && fi.Mode().IsRegular()
}

// splitTag divides PATH and PATH:TAG; a path that is there is taken whole. Tags may be whole names, as podman save writes
// them: localhost/rocky:9.
func splitTag(s string) (path, tag string, err error) {
	if s == "" {
		return "", "", fault.New(fault.Invalid, "no path is named").WithFix("it may be %s", forms)
	}
	if _, err := os.Stat(s); err == nil {
		return s, "", nil
	}
	path, rest, more := strings.Cut(s, ":")
	for more {
		if _, err := os.Stat(path); err == nil {
			return path, rest, nil
		}
		var next string
		next, rest, more = strings.Cut(rest, ":")
		path += ":" + next
	}
	path, _, _ = strings.Cut(s, ":")
	return "", "", fault.New(fault.NotFound, "there is no %s", path)
}

// Open opens a root file system. What has layers is fetched whole now, into nameless files, each layer held against its
// digest. Errors name the layer or the entry that they are about.
func Open(ctx context.Context, ref Ref, o Options) (*Tree, error) {
	if o.Work == "" {
		o.Work = spoolDir()
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	t := &Tree{Label: string(ref.Kind) + ":" + ref.Name}
	err := t.open(ctx, ref, o)
	if err != nil {
		_ = t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Tree) open(ctx context.Context, ref Ref, o Options) error {
	switch ref.Kind {
	case Directory:
		t.Label = absolute(ref.Name)
		d, err := segment.OpenDir(ref.Name, o.Limits)
		if err != nil {
			return err
		}
		t.Source, t.close = d, append(t.close, d.Close)
		return notOneUsers(d, ref.Name)
	case Stdin:
		t.Label = "standard input"
		return t.tar(ctx, o.Stdin, string(Stdin), o)
	case Tar:
		t.Label = absolute(ref.Name)
		f, err := t.file(ref.Name)
		if err != nil {
			return err
		}
		if err := notSIF(f, ref.Name); err != nil {
			return err
		}
		return t.tar(ctx, f, ref.Name, o)
	}
	var i *image
	var err error
	switch ref.Kind {
	case Registry:
		i, err = fromRegistry(ctx, ref, o)
	case Daemon:
		i, err = t.fromDaemon(ctx, ref, o)
	case Layout:
		i, err = t.fromLayout(ref, o)
	default:
		i, err = t.fromArchive(ctx, ref, o)
	}
	if err != nil {
		return err
	}
	t.Label = i.label
	return t.layers(ctx, i, o)
}

// spoolDir is where temporary files of gigabytes belong: /tmp is memory on many machines.
func spoolDir() string {
	if fi, err := os.Stat("/var/tmp"); os.Getenv("TMPDIR") == "" && err == nil && fi.IsDir() {
		return "/var/tmp"
	}
	return os.TempDir()
}

func absolute(path string) string {
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}

// file opens a file that is closed with the tree.
func (t *Tree) file(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(kindOf(err), err, "opening the archive")
	}
	t.close = append(t.close, f.Close)
	return f, nil
}

// tar reads an archive, which is the tree itself, or that of a container image: wwctl takes what docker save writes by its
// path alone.
func (t *Tree) tar(ctx context.Context, r io.Reader, name string, o Options) error {
	a, err := t.files(ctx, r, o)
	if err != nil {
		return err
	}
	if kind := container(a.Entries()); kind != "" {
		i, err := archived(a, Ref{Kind: kind, Name: name}, o)
		if err != nil {
			return err
		}
		t.Label = i.label
		return t.layers(ctx, i, o)
	}
	for _, e := range a.Entries() {
		if e.Size > cmp.Or(o.Limits.File, 1<<32-1) {
			return fault.New(fault.Invalid, "file %q has %d bytes; a bootable image can hold files below 4 GiB only", e.Path, e.Size).
				WithFix("keep the file on shared storage, or split it")
		}
	}
	t.Source = a
	return nil
}

// sifMagic begins a Singularity Image Format file, after the line that lets it be run.
const sifMagic = "SIF_MAGIC"

// notSIF refuses what Apptainer builds, in words that help.
func notSIF(f io.ReaderAt, name string) error {
	head := make([]byte, 64)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return fault.Wrap(kindOf(err), err, "reading %s", name)
	}
	if strings.Contains(string(head[:n]), sifMagic) {
		return fault.New(fault.Invalid, "%s is a SIF image, which is not read here", name).
			WithFix("make a directory of it: apptainer build --sandbox DIRECTORY %s", name)
	}
	return nil
}

// notOneUsers refuses a sandbox of Apptainer that was built without root: all its files are the user's who built it, and sshd,
// sudo and many others do not start on such a node. Its own .singularity.d and the links to it are as good as any file.
func notOneUsers(d *segment.Directory, name string) error {
	for _, e := range d.Entries() {
		if e.Path == ".singularity.d" && e.UID != 0 {
			return fault.New(fault.Invalid, "%s was built without root: its files belong to user %d", name, e.UID).
				WithFix("build it as root: sudo apptainer build --sandbox DIRECTORY SOURCE")
		}
	}
	return nil
}

func kindOf(err error) fault.Kind {
	switch {
	case os.IsNotExist(err):
		return fault.NotFound
	case os.IsPermission(err):
		return fault.Denied
	case fault.KindOf(err) != fault.Internal:
		return fault.KindOf(err)
	}
	return fault.Invalid
}

// reading counts what is read, and ends with its context.
type reading struct {
	ctx      context.Context
	r        io.Reader
	step     string
	done     int64
	total    int64
	progress func(string, int64, int64)
}

// counted counts what is read of an archive. One in a file can still be read where it is.
func counted(ctx context.Context, r io.Reader, o Options) io.Reader {
	c := &reading{ctx: ctx, r: r, step: "reading", progress: o.Progress}
	at, ok := r.(interface {
		io.ReaderAt
		io.Seeker
	})
	if !ok {
		return c
	}
	if f, ok := r.(*os.File); ok {
		if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() {
			c.total = fi.Size()
		}
	}
	return struct {
		io.Reader
		io.ReaderAt
		io.Seeker
	}{c, at, at}
}

func (c *reading) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	c.done += int64(n)
	c.progress(c.step, c.done, c.total)
	return n, err
}

package storage

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/disks"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Borrowed are programs of a node's image that run before the image is there: those few files are fetched, and run with a
// small root of their own.
type Borrowed struct {
	// Open opens the image, for as long as its programs are borrowed. It is called once, and not at all where every disk is as
	// declared.
	Open func() (fs.FS, error)
	// Dir is where the root of the programs is mounted, while there is need.
	Dir string

	image fs.FS
	have  map[string]string // paths, by name
}

// Run runs the program that makes a file system, and tells of a failure what the program said last.
func (b *Borrowed) Run(ctx context.Context, f disks.Format, argv []string) error {
	at, err := b.borrow(f)
	if err != nil {
		return err
	}
	return run(ctx, b.Dir, at, argv)
}

// Own are programs of the root that this program is in.
type Own struct{}

// Run runs the program that makes a file system.
func (Own) Run(ctx context.Context, f disks.Format, argv []string) error {
	for _, dir := range binDirs {
		if at := filepath.Join("/", dir, f.Program); isFile(os.DirFS("/"), at[1:]) {
			return run(ctx, "", at, argv)
		}
	}
	return lacks(f, fault.New(fault.NotFound, "the image has no program %s", f.Program))
}

// lacks says which package an image lacks.
func lacks(f disks.Format, err error) error {
	return fault.Wrap(fault.NotFound, err, "making %s", f.Name).WithFix("install the package %s in the image (in some distributions it has another name), and import it again", f.Package)
}

// run runs a program, in a root of its own if there is one.
func run(ctx context.Context, root, at string, argv []string) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, at)
	cmd.Args = argv
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	said := &tail{&out}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second // one that waits for a disk cannot be killed
	err := cmd.Run()
	if ctx.Err() != nil {
		return fault.Wrap(fault.Timeout, context.Cause(ctx), "%s did not end", argv[0])
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "%s: %s", argv[0], lastLine(out.String()))
	}
	return nil
}

// borrow brings a program to where it can run.
func (b *Borrowed) borrow(f disks.Format) (string, error) {
	if at := b.have[f.Program]; at != "" {
		return at, nil
	}
	if b.image == nil {
		image, err := b.Open()
		if err != nil {
			return "", err
		}
		if err := b.mount(); err != nil {
			return "", err
		}
		b.image, b.have = image, map[string]string{}
	}
	p, err := gather(b.image, f.Program, "etc/mke2fs.conf")
	if errors.Is(err, fault.NotFound) {
		return "", lacks(f, err)
	}
	if err != nil {
		return "", err
	}
	root, err := os.OpenRoot(b.Dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	for at, body := range p.files {
		if err := root.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return "", err
		}
		if err := root.WriteFile(at, body, 0o755); err != nil {
			return "", err
		}
	}
	b.have[f.Program] = p.path
	return p.path, nil
}

// seen are the file systems that the programs look at: devices, what is mounted, and how disks are built.
var seen = []string{"dev", "proc", "sys"}

func (b *Borrowed) mount() error {
	if err := os.MkdirAll(b.Dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("wulfmesh", b.Dir, "tmpfs", unix.MS_NOSUID, "mode=0755,size=256m"); err != nil {
		return fault.Wrap(fault.Internal, err, "mounting %s", b.Dir)
	}
	for _, name := range seen {
		to := filepath.Join(b.Dir, name)
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("/"+name, to, "", unix.MS_BIND, ""); err != nil {
			return fault.Wrap(fault.Internal, err, "mounting %s", to)
		}
	}
	return nil
}

// Close takes the programs away. What cannot be unmounted only costs memory.
func (b *Borrowed) Close() {
	if b.image == nil {
		return
	}
	for _, name := range seen {
		unix.Unmount(filepath.Join(b.Dir, name), unix.MNT_DETACH)
	}
	unix.Unmount(b.Dir, unix.MNT_DETACH)
	b.image, b.have = nil, nil
}

// tail keeps the last few hundred bytes of what is written.
type tail struct{ *bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	n, err := t.Buffer.Write(p)
	t.Next(max(0, t.Len()-1024))
	return n, err
}

// lastLine is the last line that says something.
func lastLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	for len(lines) > 0 {
		if l := strings.TrimSpace(lines[len(lines)-1]); l != "" {
			return l[:min(len(l), 300)]
		}
		lines = lines[:len(lines)-1]
	}
	return "it said nothing"
}

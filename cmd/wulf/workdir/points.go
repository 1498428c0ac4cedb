package workdir

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// covered are the directories that something of the kernel's is mounted over: see mounts. What a bind needs in there is made
// when that is done, and is gone with it.
var covered = []string{"proc", "sys", "dev", "run", "tmp"}

// points are what was made in the image to mount over.
type points struct {
	root *os.Root
	made []point // deepest last
}

// point is one of them, and when the directory that it is in was changed before.
type point struct {
	path   string
	before time.Time
}

// mountPoints makes what is missing to mount over.
func mountPoints(s Spec) (*points, error) {
	p := &points{}
	var err error
	if p.root, err = os.OpenRoot(s.Root); err != nil {
		return p, fault.Wrap(fault.Invalid, err, "opening the work directory")
	}
	for _, dir := range covered {
		if err := p.dir(dir); err != nil {
			return p, err
		}
	}
	if _, err := p.root.Lstat("etc/resolv.conf"); errors.Is(err, fs.ErrNotExist) {
		if _, err := p.root.Stat("etc"); err == nil {
			if err := p.file("etc/resolv.conf"); err != nil {
				return p, err
			}
		}
	}
	if _, err := p.root.Stat("usr/sbin/invoke-rc.d"); err == nil {
		if _, err := p.root.Lstat(policy); errors.Is(err, fs.ErrNotExist) {
			if err := p.file(policy); err != nil { // see guard
				return p, err
			}
		}
	}
	for _, b := range s.Binds {
		fi, err := os.Stat(b.Source)
		if err != nil {
			return p, fault.Wrap(fault.NotFound, err, "bind %s", b.Source)
		}
		target := strings.TrimPrefix(b.Target, "/")
		if isCovered(target) || inAnother(s.Binds, b) {
			continue
		}
		if fi.IsDir() {
			err = p.dir(target)
		} else if err = p.dir(path.Dir(target)); err == nil {
			if _, missing := p.root.Stat(target); errors.Is(missing, fs.ErrNotExist) { // and not under such a link
				err = p.file(target)
			}
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

// dir makes a directory and those above it, as far as they are missing.
func (p *points) dir(name string) error {
	at := ""
	for part := range strings.SplitSeq(path.Clean(name), "/") {
		at = path.Join(at, part)
		_, err := p.root.Lstat(at)
		if err == nil {
			continue // whatever it is: mounting tells
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil // under a link that leads out for us, and not for who is inside: lateTarget tells
		}
		if err := p.make(at, func() error { return p.root.Mkdir(at, 0o755) }); err != nil {
			return err
		}
	}
	return nil
}

func (p *points) file(name string) error {
	return p.make(name, func() error {
		f, err := p.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	})
}

// make makes one point, and leaves the time of its directory as it is: that is part of the image.
func (p *points) make(name string, how func() error) error {
	dir := path.Dir(name)
	before, err := p.root.Stat(dir)
	if err == nil {
		err = how()
	}
	if err != nil {
		return fault.Wrap(kindOf(err), err, "making /%s to mount over", name)
	}
	p.made = append(p.made, point{name, before.ModTime()})
	return p.root.Chtimes(dir, time.Time{}, before.ModTime())
}

// remove takes away what was made, unless somebody has put something there.
func (p *points) remove() {
	if p.root == nil {
		return
	}
	defer p.root.Close()
	for i := len(p.made) - 1; i >= 0; i-- {
		m := p.made[i]
		dir := path.Dir(m.path)
		now, err := p.root.Stat(dir)
		if err != nil {
			continue
		}
		fi, err := p.root.Lstat(m.path)
		if err != nil || !p.empty(m.path, fi) || p.root.Remove(m.path) != nil {
			continue
		}
		if now.ModTime().Equal(m.before) { // nobody else did anything there
			_ = p.root.Chtimes(dir, time.Time{}, m.before)
		}
	}
}

func (p *points) empty(name string, fi fs.FileInfo) bool {
	if !fi.IsDir() {
		return fi.Mode().IsRegular() && fi.Size() == 0
	}
	f, err := p.root.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return errors.Is(err, io.EOF)
}

// isCovered tells whether a path of the image is below what is mounted over.
func isCovered(target string) bool {
	for _, dir := range covered {
		if strings.HasPrefix(target, dir+"/") {
			return true
		}
	}
	return false
}

// inAnother tells whether a bind is to be seen inside of another one.
func inAnother(all []Bind, b Bind) bool {
	for _, other := range all {
		if other != b && strings.HasPrefix(b.Target, other.Target+"/") {
			return true
		}
	}
	return false
}

// lateTarget makes what a bind is mounted over where that could not be done before: inside, with all else mounted. Only in
// memory, for in a directory of this machine nothing is made for an image.
func lateTarget(b Bind, dir bool) error {
	if _, err := os.Stat(b.Target); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	at := path.Dir(b.Target)
	for at != "/" {
		if _, err := os.Stat(at); err == nil {
			break
		}
		at = path.Dir(at)
	}
	real, err := filepath.EvalSymlinks(at)
	if err != nil {
		return err
	}
	if real = strings.TrimPrefix(real, "/"); !slices.Contains(covered, real) && !isCovered(real) {
		return fault.New(fault.Invalid, "/%s, where %s is to be, lies in what else is brought along, or under a link, and lacks it", real, b.Target).
			WithFix("make %s first", b.Target)
	}
	if dir {
		return os.MkdirAll(b.Target, 0o755)
	}
	if err := os.MkdirAll(path.Dir(b.Target), 0o755); err != nil {
		return err
	}
	return os.WriteFile(b.Target, nil, 0o644)
}

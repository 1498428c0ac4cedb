package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// Bounds of what is kept of replaced files: it lies in the node's memory.
const (
	maxKept    = 4 << 20  // bytes of a file
	maxKeptAll = 64 << 20 // bytes of all
)

// keptName is the name of what was at a path before overlays had it.
func keptName(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:16])
}

// keep keeps what an overlay is about to replace for the first time. What an overlay wrote itself is not kept, nor is what
// somebody made of that on the node since.
func (x *applying) keep(name, at string, old fs.FileInfo) error {
	if x.tree.Kept == nil {
		return nil
	}
	had, ok := x.before[name]
	if ok && had.Stamp != "" {
		return nil
	}
	if ok { // a crash cut its writing short: it is the overlay's, or what was there before
		mark, err := markAt(x.tree.Root, at, old)
		if err != nil || slices.Contains(had.Marks, mark) {
			return err
		}
		if _, err := x.tree.Kept.Lstat(keptName(name)); err == nil {
			return nil
		}
	}
	if old.Size() > maxKept || old.Size()+x.keptBytes() > maxKeptAll {
		return nil
	}
	to := keptName(name)
	if err := copyFile(x.tree.Kept, to+".new", x.tree.Root, at, old); err != nil {
		x.tree.Kept.Remove(to + ".new")
		return fmt.Errorf("keeping what it replaces: %w", err)
	}
	return x.tree.Kept.Rename(to+".new", to)
}

func (x *applying) keptBytes() int64 {
	total := int64(0)
	entries, err := fs.ReadDir(x.tree.Kept.FS(), ".")
	if err != nil {
		return maxKeptAll
	}
	for _, e := range entries {
		if i, err := e.Info(); err == nil {
			total += i.Size()
		}
	}
	return total
}

// takeBack removes what overlays wrote and no longer have, and puts back what was there before.
func (x *applying) takeBack(gone []string) {
	for _, name := range gone {
		removed, err := x.takeBackOne(name)
		switch {
		case err != nil:
			x.failed(name, fmt.Errorf("it is in no overlay any more, but stays: %w", err))
			continue // it is tried again
		case removed:
			x.result.Removed = append(x.result.Removed, name)
		}
	}
	slices.Sort(x.result.Removed)
	slices.Sort(x.result.Left)
}

func (x *applying) takeBackOne(name string) (removed bool, err error) {
	root, w := x.tree.Root, x.before[name]
	at, err := resolve(root, name, false)
	if err != nil {
		return false, err
	}
	i, err := root.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		x.forget(name)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if w.dir() {
		if i.IsDir() {
			if err := root.Remove(at); errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EBUSY) {
				return false, nil // it may be empty another time
			} else if err != nil {
				return false, err
			}
		}
		x.forget(name)
		return false, nil
	}
	root.Remove(temporary(at)) // left by a crash
	if w.Stamp == "" || stamp(i) != w.Stamp {
		mark, err := markAt(root, at, i)
		if err != nil {
			return false, err
		}
		if !slices.Contains(w.Marks, mark) {
			if w.Stamp != "" {
				x.result.Left = append(x.result.Left, name)
			}
			x.forget(name)
			return false, nil
		}
	}
	if err := x.restore(name, at); err != nil {
		return false, err
	}
	x.forget(name)
	return true, nil
}

// restore puts back what was at a path before overlays had it; if nothing was, it removes the path.
func (x *applying) restore(name, at string) error {
	if x.tree.Kept != nil {
		if kept, err := x.tree.Kept.Lstat(keptName(name)); err == nil {
			tmp := temporary(at)
			if err := copyFile(x.tree.Root, tmp, x.tree.Kept, keptName(name), kept); err != nil {
				x.tree.Root.Remove(tmp)
				return fmt.Errorf("putting back what was there before: %w", err)
			}
			return x.tree.Root.Rename(tmp, at)
		}
	}
	return x.tree.Root.Remove(at)
}

// forget drops a path from the record.
func (x *applying) forget(name string) {
	delete(x.result.Record, name)
	if x.tree.Kept != nil {
		x.tree.Kept.Remove(keptName(name)) // if anything was kept
	}
}

// copyFile copies a file or link with its owner and mode from one root to another, and with those of its extended
// attributes that can be there.
func copyFile(to *os.Root, name string, from *os.Root, source string, i fs.FileInfo) error {
	if err := to.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if i.Mode()&fs.ModeSymlink != 0 {
		target, err := from.Readlink(source)
		if err != nil {
			return err
		}
		if err := to.Symlink(target, name); err != nil {
			return err
		}
	} else if err := copyContent(to, name, from, source); err != nil {
		return err
	}
	if s, ok := i.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := to.Lchown(name, int(s.Uid), int(s.Gid)); err != nil {
			return err
		}
	}
	if i.Mode().IsRegular() {
		if err := to.Chmod(name, fileMode(modeOf(i))); err != nil {
			return err
		}
	}
	return copyAttrs(to, name, from, source)
}

func copyContent(to *os.Root, name string, from *os.Root, source string) error {
	in, err := from.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Sync()
}

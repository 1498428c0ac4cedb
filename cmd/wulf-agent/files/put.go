package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// errFetch marks an error as that of Fetch.
var errFetch = errors.New("its content did not come")

// put makes a path what is listed.
func (x *applying) put(ctx context.Context, f *overlay.Listed) error {
	at, err := resolve(x.tree.Root, f.Path, f.Type == overlay.TypeDir)
	if err != nil {
		return err
	}
	if err := x.mkdirs(path.Dir(at)); err != nil {
		return err
	}
	if f.Type == overlay.TypeDir {
		return x.putDir(f, at)
	}
	old, err := x.tree.Root.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		old = nil
	case err != nil:
		return err
	case old.IsDir():
		return fault.Wrap(fault.Conflict, errOccupied, "a directory is where a %s should be", f.Type)
	case !old.Mode().IsRegular() && old.Mode()&fs.ModeSymlink == 0:
		return fault.Wrap(fault.Conflict, errOccupied, "a %s is where a %s should be", kindOf(old), f.Type)
	}
	tmp := temporary(at)
	if err := x.tree.Root.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) { // left by a crash
		return err
	}
	if err := x.make(ctx, f, tmp, at, old); err != nil {
		x.tree.Root.Remove(tmp) // if it is there; why it could not be made is what counts
		return err
	}
	if old == nil {
		x.result.New = append(x.result.New, f.Path)
	} else if err := x.keep(f.Path, at, old); err != nil {
		x.tree.Root.Remove(tmp)
		return err
	}
	if err := x.tree.Root.Rename(tmp, at); err != nil {
		x.tree.Root.Remove(tmp)
		return err
	}
	return x.written(f, at)
}

// temporary is the name of a file until it is in its place: the same each time, so that what a crash left is found. It
// begins with a dot, for programs that read whole directories skip such names.
func temporary(at string) string {
	sum := sha256.Sum256([]byte(at))
	return path.Join(path.Dir(at), ".wulf-"+hex.EncodeToString(sum[:8]))
}

// mkdirs makes the directories on the way to a file, and remembers which it made.
func (x *applying) mkdirs(dir string) error {
	if dir == "." {
		return nil
	}
	i, err := x.tree.Root.Lstat(dir)
	switch {
	case err == nil && i.IsDir():
		return nil
	case err == nil:
		return fault.Wrap(fault.Conflict, errOccupied, "/%s, where a directory should be, is a %s", dir, kindOf(i))
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
	default:
		return err
	}
	if err := x.mkdirs(path.Dir(dir)); err != nil {
		return err
	}
	return x.mkdir(dir, 0o755)
}

func (x *applying) mkdir(dir string, mode uint32) error {
	if err := x.tree.Root.Mkdir(dir, 0o700); err != nil {
		return err
	}
	x.result.Record[dir] = Written{Marks: []string{dirMark}}
	return x.tree.Root.Chmod(dir, fileMode(mode)) // whatever the process' mask is
}

// putDir makes a directory as listed. What is in it stays.
func (x *applying) putDir(f *overlay.Listed, at string) error {
	i, err := x.tree.Root.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := x.mkdir(at, f.Mode); err != nil {
			return err
		}
		if at != f.Path { // it is remembered by the name that the listing has
			x.result.Record[f.Path] = x.result.Record[at]
			delete(x.result.Record, at)
		}
	case err != nil:
		return err
	case !i.IsDir():
		return fault.Wrap(fault.Conflict, errOccupied, "a %s is where a directory should be", kindOf(i))
	}
	if err := x.own(f, at); err != nil {
		return err
	}
	return dress(x.tree.Root, at, at, f)
}

// make writes a file or link under a temporary name. Until it has its owner and mode, nobody but root can read it.
func (x *applying) make(ctx context.Context, f *overlay.Listed, tmp, at string, old fs.FileInfo) error {
	root := x.tree.Root
	if f.Type == overlay.TypeLink {
		if err := root.Symlink(f.Target, tmp); err != nil {
			return err
		}
		if os.Geteuid() == 0 {
			if err := root.Lchown(tmp, f.UID, f.GID); err != nil {
				return err
			}
		}
		return dress(root, tmp, at, f)
	}
	file, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := x.fill(ctx, f, file, at, old); err != nil {
		return err
	}
	if err := x.own(f, tmp); err != nil {
		return err
	}
	if err := dress(root, tmp, at, f); err != nil { // after the owner: a change of that takes capabilities away
		return err
	}
	// A root may be on a disk: after a power cut the file is whole, the old one or the new.
	if err := file.Sync(); err != nil {
		return err
	}
	return file.Close()
}

// fill writes the content of a file: that of the old one if only its owner, mode or attributes were wrong.
func (x *applying) fill(ctx context.Context, f *overlay.Listed, to *os.File, at string, old fs.FileInfo) error {
	if f.Inline() {
		_, err := to.Write(f.Content)
		return err
	}
	ref := chunk.Ref{ID: f.Digest, Size: f.Size}
	if old != nil && old.Mode().IsRegular() && old.Size() == f.Size {
		from, err := x.tree.Root.Open(at)
		if err != nil {
			return err
		}
		defer from.Close()
		if err := copyVerified(to, from, ref); err == nil || !errors.Is(err, fault.Corrupt) {
			return err
		}
	}
	var local error // of the node's own disk: no relay can mend it
	err := x.tree.Fetch(ctx, ref, func(r io.Reader) error {
		local = rewind(to)
		if local == nil {
			_, local = io.Copy(to, io.LimitReader(r, f.Size))
		}
		return local
	})
	if err != nil && local == nil {
		return fmt.Errorf("%w: %w", errFetch, err)
	}
	return err
}

// copyVerified copies what should be the bytes of ref. If they are not, it is fault.Corrupt, and to is empty again.
func copyVerified(to *os.File, from io.Reader, ref chunk.Ref) error {
	v := chunk.NewVerifier(ref)
	if _, err := io.Copy(io.MultiWriter(to, v), from); err != nil {
		return err
	}
	if err := v.Verify(); err != nil {
		return errors.Join(err, rewind(to))
	}
	return nil
}

func rewind(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// own sets owner, then mode: a change of owner clears setuid.
func (x *applying) own(f *overlay.Listed, at string) error {
	if os.Geteuid() == 0 {
		if err := x.tree.Root.Lchown(at, f.UID, f.GID); err != nil {
			return err
		}
	}
	return x.tree.Root.Chmod(at, fileMode(f.Mode))
}

// kindOf names what a file is.
func kindOf(i fs.FileInfo) string {
	switch m := i.Mode(); {
	case m.IsRegular():
		return "file"
	case m.IsDir():
		return "directory"
	case m&fs.ModeSymlink != 0:
		return "link"
	case m&fs.ModeNamedPipe != 0:
		return "pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "device"
}

package workdir

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// remove removes a work directory with all that is in it, after it has unmounted what somebody mounted there: that is something
// that must live on. The lock goes last, so that a Sweep goes on where this is killed.
func remove(path string) error {
	path, err := filepath.EvalSymlinks(path)
	if err == nil {
		err = unmount(path)
	}
	if err != nil {
		return err
	}
	list, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Name() != lockFile {
			if err := os.RemoveAll(filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(path)
}

// unmount unmounts all that is mounted below path.
func unmount(path string) error {
	for {
		mounts, err := mountsBelow(path)
		if err != nil || len(mounts) == 0 {
			return err
		}
		// The deepest first. One that is hidden by another fails, and comes to light when that is gone.
		slices.SortStableFunc(mounts, func(a, b string) int { return len(b) - len(a) })
		gone := false
		for _, m := range mounts {
			if err = unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err == nil {
				gone = true
			}
		}
		if !gone {
			return fault.Wrap(fault.Conflict, err, "%s is mounted, so that %s is not removed", mounts[0], path).WithFix("unmount it by hand: umount -R %s", path)
		}
	}
}

// mountsBelow lists what is mounted at a path and below it in this namespace, as often as it is mounted there, the first
// mount first. The path must be without links.
func mountsBelow(path string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fault.Wrap(kindOf(err), err, "looking for mounts below %s", path)
	}
	defer f.Close()
	all, err := readMounts(f)
	if err != nil {
		return nil, fault.Wrap(kindOf(err), err, "looking for mounts below %s", path)
	}
	return slices.DeleteFunc(all, func(m string) bool { return m != path && !strings.HasPrefix(m, path+"/") }), nil
}

// readMounts reads the mount points of a mountinfo file (proc_pid_mountinfo(5)), in which blanks and the like are octal.
func readMounts(r io.Reader) (points []string, err error) {
	for in := bufio.NewReader(r); ; {
		line, err := in.ReadString('\n')
		if fields := strings.Fields(line); len(fields) > 4 {
			points = append(points, unquoteOctal(fields[4]))
		}
		if err == io.EOF {
			return points, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// unquoteOctal turns \040 and its like into what they stand for.
func unquoteOctal(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isOctal(s[i+1]) && isOctal(s[i+2]) && isOctal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isOctal(c byte) bool { return '0' <= c && c <= '7' }

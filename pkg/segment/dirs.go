package segment

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// dirs keeps the directories down to the last path that was asked for open, so that going through a tree in the
// order of ComparePaths opens each directory once. No component that it opens is a symbolic link, which is
// stricter than os.Root: nothing that an image holds can lead a later path elsewhere, not even inside the root.
// It is for one goroutine.
type dirs struct {
	root  int      // not owned
	names []string // of the open directories, outermost first
	fds   []int
}

// parent returns a descriptor of the directory of path, good until the next call, and the last name of path.
func (d *dirs) parent(path string) (fd int, name string, err error) {
	if err := CheckPath(path); err != nil {
		return 0, "", err
	}
	want := strings.Split(path, "/")
	name = want[len(want)-1]
	want = want[:len(want)-1]
	same := 0
	for same < len(want) && same < len(d.names) && want[same] == d.names[same] {
		same++
	}
	d.truncate(same)
	for _, dir := range want[same:] {
		fd, err := retry(func() (int, error) {
			return unix.Openat(d.last(), dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			return 0, "", fault.New(fault.Corrupt, "%q lies under %q, which is no directory", path, dir)
		}
		if err != nil {
			return 0, "", fault.Wrap(kindOf(err), err, "opening the directory of %q", path)
		}
		d.names, d.fds = append(d.names, dir), append(d.fds, fd)
	}
	return d.last(), name, nil
}

func (d *dirs) last() int {
	if len(d.fds) == 0 {
		return d.root
	}
	return d.fds[len(d.fds)-1]
}

func (d *dirs) truncate(n int) {
	for _, fd := range slices.Backward(d.fds[n:]) {
		unix.Close(fd)
	}
	d.names, d.fds = d.names[:n], d.fds[:n]
}

func (d *dirs) close() { d.truncate(0) }

// retry repeats a system call that a signal interrupted; the Go runtime sends signals to its own threads.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if !errors.Is(err, unix.EINTR) {
			return v, err
		}
	}
}

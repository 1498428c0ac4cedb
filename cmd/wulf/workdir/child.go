package workdir

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Child is the first process of a command's namespaces: it makes the mounts, makes the image's root its own, runs the
// command, and buries whatever dies. It returns the exit code for the program, whose main must call it before anything else
// if its only argument is ChildArg.
func Child() int {
	closeOnExec()
	say := os.NewFile(4, "say")
	// Those of the terminal are for the command, which gets them itself, as it is in the same process group.
	signal.Notify(make(chan os.Signal, 1), passed...)
	var s Spec
	told := bufio.NewReader(os.NewFile(3, "told"))
	line, err := told.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &s)
	}
	if err == nil {
		err = enter(s)
	}
	var pid int
	if err == nil {
		pid, err = start(s)
	}
	if err != nil {
		p := problem{Kind: kindOf(err), Message: err.Error(), Fix: fault.Fix(err)}
		_ = json.NewEncoder(say).Encode(p)
		return 125
	}
	say.Close()
	go func() { // what the parent passes on, until it is gone
		for {
			s, err := told.ReadByte()
			if err != nil {
				return
			}
			_ = syscall.Kill(pid, syscall.Signal(s))
		}
	}()
	return bury(pid)
}

// closeOnExec keeps the command from all files but the first three: also from those that whoever started us left open.
func closeOnExec() {
	entries, err := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
	if err != nil {
		syscall.CloseOnExec(3)
		syscall.CloseOnExec(4)
	}
}

// enter makes the mounts and goes into the root.
func enter(s Spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fault.Wrap(fault.Denied, err, "making the mounts private")
	}
	// What comes from outside is held by descriptors: once inside, no path leads out, and no link in the image can make one.
	trees := make([]int, len(s.Binds))
	for i, b := range s.Binds {
		fd, err := unix.OpenTree(unix.AT_FDCWD, b.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "bind %s", b.Source)
		}
		if b.ReadOnly {
			attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
			if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
				return fault.Wrap(fault.Invalid, err, "bind %s read-only", b.Source)
			}
		}
		trees[i] = fd
	}
	console := terminal()
	resolver, _ := os.ReadFile("/etc/resolv.conf") // a machine without one has none to give
	if err := unix.Mount(s.Root, s.Root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fault.Wrap(fault.Internal, err, "mounting the work directory")
	}
	if err := os.Chdir(s.Root); err != nil {
		return fault.Wrap(fault.Internal, err, "entering the work directory")
	}
	if err := unix.PivotRoot(".", "."); err != nil { // pivot_root(2): "."  over "." stacks the old root on the new one
		return fault.Wrap(fault.Internal, err, "making the work directory the root")
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fault.Wrap(fault.Internal, err, "leaving the old root")
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := mounts(); err != nil {
		return err
	}
	if err := giveResolver(resolver); err != nil {
		return err
	}
	if s.RC != "" {
		if err := os.WriteFile(RCFile, []byte(s.RC), 0o644); err != nil {
			return err
		}
	}
	if console >= 0 {
		if err := os.WriteFile("/dev/console", nil, 0o600); err != nil {
			return err
		}
		if err := unix.MoveMount(console, "", unix.AT_FDCWD, "/dev/console", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fault.Wrap(fault.Internal, err, "mounting the terminal")
		}
		unix.Close(console)
	}
	if err := guard(); err != nil {
		return err
	}
	for i, b := range s.Binds {
		var st unix.Stat_t
		err := unix.Fstat(trees[i], &st)
		if err == nil {
			err = lateTarget(b, st.Mode&unix.S_IFMT == unix.S_IFDIR)
		}
		if err != nil {
			return fault.Wrap(kindOf(err), err, "bind %s to %s", b.Source, b.Target)
		}
		if err := unix.MoveMount(trees[i], "", unix.AT_FDCWD, b.Target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fault.Wrap(fault.Invalid, err, "bind %s to %s", b.Source, b.Target)
		}
		unix.Close(trees[i])
	}
	if err := unix.Sethostname([]byte(s.Name)); err != nil {
		return fault.Wrap(fault.Internal, err, "setting the host name")
	}
	return nil
}

// terminal holds the terminal that is standard input, which is of the machine's own /dev/pts and has no name inside; -1 for
// none. Programs that ask for its name find it as the console.
func terminal() int {
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err != nil {
		return -1
	}
	path, err := os.Readlink("/proc/self/fd/0")
	if err != nil {
		return -1
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1 // it may be another container's: the command runs without its name
	}
	return fd
}

// mounts are the file systems that every command finds.
func mounts() error {
	const still = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		what, where string
		flags       uintptr
		options     string
	}{
		{"proc", "/proc", still, ""},
		{"sysfs", "/sys", still | unix.MS_RDONLY, ""},
		{"tmpfs", "/dev", unix.MS_NOSUID, "mode=0755,size=4m"},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"tmpfs", "/tmp", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	} {
		if err := unix.Mount(m.what, m.where, m.what, m.flags, m.options); err != nil {
			return fault.Wrap(fault.Invalid, err, "mounting %s at %s of the image", m.what, m.where)
		}
	}
	for _, d := range []struct {
		name         string
		major, minor uint32
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}} {
		p := "/dev/" + d.name
		if err := unix.Mknod(p, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fault.Wrap(fault.Denied, err, "making %s", p)
		}
		if err := unix.Chmod(p, 0o666); err != nil { // whatever the umask
			return fault.Wrap(fault.Internal, err, "making %s", p)
		}
	}
	if err := os.Mkdir("/run/lock", 0o755); err != nil {
		return err
	}
	if err := unix.Chmod("/run/lock", 0o1777); err != nil { // Debian's /var/lock, for everybody
		return err
	}
	for _, dir := range []string{"/dev/pts", "/dev/shm"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"); err != nil {
		return fault.Wrap(fault.Internal, err, "mounting /dev/pts")
	}
	if err := unix.Mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return fault.Wrap(fault.Internal, err, "mounting /dev/shm")
	}
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, "/dev/"+name); err != nil {
			return err
		}
	}
	return nil
}

// giveResolver lets the command find names as the machine does, without a change of the image's own configuration: that is
// mounted over, or, where it is a link to a file that some service makes below /run, made there.
func giveResolver(content []byte) error {
	if content == nil {
		return nil
	}
	const conf, copied = "/etc/resolv.conf", "/run/.resolv.conf"
	target, err := os.Readlink(conf)
	if err == nil {
		if !path.IsAbs(target) {
			target = path.Join("/etc", target)
		}
		if strings.HasPrefix(target, "/run/") || strings.HasPrefix(target, "/var/run/") {
			if err := os.MkdirAll(path.Dir(target), 0o755); err == nil {
				_ = os.WriteFile(target, content, 0o644) // without it names are not found, and the rest works
			}
			return nil
		}
	}
	if _, err := os.Stat(conf); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.WriteFile(copied, content, 0o644); err != nil {
		return err
	}
	if err := unix.Mount(copied, conf, "", unix.MS_BIND, ""); err != nil {
		return fault.Wrap(fault.Internal, err, "mounting over %s", conf)
	}
	return nil
}

// searched is the PATH of every command: what it is on this machine says nothing of the image.
const searched = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// start starts the command.
func start(s Spec) (int, error) {
	env := append([]string{
		"PATH=" + searched, "HOME=/root", "USER=root", "LOGNAME=root", "LANG=C.UTF-8", "HISTFILE=/dev/null",
		fmt.Sprintf(`PS1=[wulf:%s] \w\$ `, s.Name), "SYSTEMD_OFFLINE=1", // systemctl in package scripts does not look for a manager
	}, s.Env...)
	program, err := lookUp(s.Argv[0])
	if err != nil {
		return 0, err
	}
	dir := s.Dir
	if dir == "" {
		dir = "/"
	}
	p, err := os.StartProcess(program, s.Argv, &os.ProcAttr{Dir: dir, Env: env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return 0, fault.New(fault.Invalid, "the image cannot run %s: %v", s.Argv[0], errors.Unwrap(err)).
			WithFix("a program for another architecture runs only where its emulator is registered (binfmt_misc)")
	}
	pid := p.Pid
	_ = p.Release() // bury waits for it
	return pid, nil
}

// lookUp finds a program of the image.
func lookUp(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for dir := range strings.SplitSeq(searched, ":") {
		p := path.Join(dir, name)
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fault.New(fault.NotFound, "the image has no program %s", name).WithFix("its PATH is %s", searched)
}

// bury waits for the command, and for all that lose their parents meanwhile; that is what the first process is for.
func bury(pid int) int {
	for {
		var ws syscall.WaitStatus
		dead, err := syscall.Wait4(-1, &ws, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 125
		case dead == pid && ws.Signaled():
			return 128 + int(ws.Signal())
		case dead == pid && ws.Exited():
			return ws.ExitStatus()
		case dead == pid && ws.Stopped() && ws.StopSignal() == syscall.SIGTSTP:
			_ = syscall.Kill(pid, syscall.SIGCONT) // nobody out there could ever do it
		}
	}
}

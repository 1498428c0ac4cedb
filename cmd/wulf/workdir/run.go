package workdir

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// ChildArg, as the only argument of the program, makes it the first process of a command's namespaces: see Child.
const ChildArg = "workdir-child"

// Bind brings a directory or file of the machine into the image.
type Bind struct {
	Source, Target string // absolute paths
	ReadOnly       bool
}

// ParseBind reads SRC[:DST[:ro]].
func ParseBind(s string) (Bind, error) {
	parts := strings.Split(s, ":")
	b := Bind{Source: parts[0], Target: parts[0]}
	if len(parts) > 1 && parts[1] != "" {
		b.Target = parts[1]
	}
	if len(parts) == 3 && (parts[2] == "ro" || parts[2] == "rw") {
		b.ReadOnly = parts[2] == "ro"
	} else if len(parts) > 2 {
		return Bind{}, fault.New(fault.Invalid, "%q is no bind", s).WithFix("write SRC[:DST[:ro]]")
	}
	if !path.IsAbs(b.Source) || !path.IsAbs(b.Target) || path.Clean(b.Target) == "/" {
		return Bind{}, fault.New(fault.Invalid, "%q is no bind: both sides are absolute paths, and the image's root stays", s).WithFix("write SRC[:DST[:ro]]")
	}
	b.Target = path.Clean(b.Target)
	return b, nil
}

// Spec is a command to run in a root.
type Spec struct {
	Root  string   // directory
	Name  string   // host name in it, and of the prompt
	Argv  []string // found by the PATH inside
	Env   []string // besides what every command gets
	Dir   string   // inside; "": /
	Binds []Bind
	RC    string        // content of RCFile, which a shell may be told to read; "": there is none
	Grace time.Duration // that it has to end by itself when the context is done: a package manager tidies up; 0: 10 s
}

// RCFile is where a command finds Spec.RC.
const RCFile = "/run/.bashrc"

// Run runs a command in mount, PID, UTS and IPC namespaces of its own, with this process's standard streams, and returns its
// exit code; 128 and the number for one that a signal ended. All that it started ends with it. The image's own files are
// seen and changed as they are, but for /proc, /sys, /dev, /run and /tmp, which are new and empty, and the resolver's
// configuration, which is the machine's. What is made for mounting is taken away afterwards. Errors are about running it at all.
//
// The command reads a terminal directly, and gets the signals of this process. When ctx is done it is asked to end, and killed
// after a while if it does not. While it runs, SIGTTOU is ignored by the whole process.
func Run(ctx context.Context, s Spec, in io.Reader, out, errs io.Writer) (int, error) {
	s.Binds = slices.Clone(s.Binds) // one may lie in another
	slices.SortStableFunc(s.Binds, func(a, b Bind) int { return len(a.Target) - len(b.Target) })
	points, err := mountPoints(s)
	defer points.remove()
	if err != nil {
		return 0, err
	}
	said, say, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer said.Close()
	told, tell, err := os.Pipe()
	if err != nil {
		say.Close()
		return 0, err
	}
	defer tell.Close()
	cmd := exec.Command("/proc/self/exe", ChildArg)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errs
	cmd.ExtraFiles = []*os.File{told, say}
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
		Setpgid:    true, // the terminal is lent to all of them at once
	}
	// The child is told of the death of the thread that made it, not of the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Start()
	told.Close()
	say.Close()
	if errors.Is(err, syscall.EPERM) {
		return 0, fault.New(fault.Denied, "this machine lets nobody make namespaces here").WithFix("run it as root, outside of containers that forbid it")
	}
	if err != nil {
		return 0, fault.Wrap(fault.Internal, err, "starting the command")
	}
	defer lendTerminal(in, cmd.Process.Pid)()
	err = json.NewEncoder(tell).Encode(s) // the child waits for it, so that it finds the terminal its own
	defer passSignals(ctx, cmd.Process, tell, cmp.Or(s.Grace, 10*time.Second))()
	failure, _ := io.ReadAll(io.LimitReader(said, 64<<10)) // until the command runs, or never will
	ended := cmd.Wait()
	var p problem
	if len(failure) > 0 && json.Unmarshal(failure, &p) == nil {
		return 0, &fault.Error{Kind: p.Kind, Message: p.Message, Fix: p.Fix}
	}
	var exit *exec.ExitError
	if errors.As(ended, &exit) && !exit.Exited() { // only a kill ends the first process so
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return 0, fault.New(fault.Internal, "what ran in the image was killed from outside")
	}
	if ended != nil && !errors.As(ended, &exit) {
		return 0, ended
	}
	if err != nil && ended == nil {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// problem is why a command did not run, on its way out of the namespaces.
type problem struct {
	Kind    fault.Kind `json:"kind"`
	Message string     `json:"message"`
	Fix     string     `json:"fix,omitempty"`
}

package workdir

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// helper is what this program does in place of testing when it is told to run a script: as the command line does it.
func helper(spec, script string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var s Spec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		fmt.Println(err)
		return 1
	}
	s.Argv = []string{"sh", "-c", script}
	exit, err := Run(ctx, s, os.Stdin, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Println(err)
	}
	fmt.Printf("exit %d\n", exit)
	return exit
}

// process is a helper that runs.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	out *bufio.Reader
}

// begin starts a helper; what it says comes from out.
func begin(t *testing.T, script string, change func(*syscall.SysProcAttr), in, out *os.File) *process {
	t.Helper()
	spec, err := json.Marshal(image(t))
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command("/proc/self/exe", "run", string(spec), script)}
	if in != nil {
		p.cmd.Stdin = in
	}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = new(syscall.SysProcAttr)
	if change != nil {
		change(p.cmd.SysProcAttr)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	return p
}

// piped starts a helper whose output ends when nobody has it any more.
func piped(t *testing.T, script string) *process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	t.Cleanup(func() { r.Close() })
	r.SetReadDeadline(time.Now().Add(20 * time.Second))
	p := begin(t, script, nil, nil, w)
	p.out = bufio.NewReader(r)
	return p
}

// line waits for the next line that it says.
func (p *process) line() string {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("waiting for a line: %v; there is %q", err, line)
	}
	return strings.TrimRight(line, "\r\n")
}

func TestSignalsArePassedOn(t *testing.T) {
	for _, s := range []struct {
		name   string
		signal syscall.Signal
	}{{"HUP", unix.SIGHUP}, {"TERM", unix.SIGTERM}, {"USR1", unix.SIGUSR1}} {
		p := piped(t, "trap 'exit 9' "+s.name+"; echo ready; while :; do sleep 0.05; done")
		if line := p.line(); line != "ready" {
			t.Fatal(line)
		}
		p.cmd.Process.Signal(s.signal)
		if line := p.line(); line != "exit 9" {
			t.Errorf("%s: %s", s.name, line)
		}
	}
}

func TestNothingLivesOnWhenItsOwnerIsKilled(t *testing.T) {
	p := piped(t, "trap '' HUP TERM; sleep 1000 & setsid sleep 1000 & echo ready; wait")
	if line := p.line(); line != "ready" {
		t.Fatal(line)
	}
	p.cmd.Process.Kill()
	if rest, err := io.ReadAll(p.out); len(rest) > 0 || err != nil {
		t.Errorf("it said %q, %v", rest, err)
	}
}

func TestACommandEndsWithItsContext(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		grace  time.Duration
		exit   int
		err    error
	}{
		"by itself":       {"trap 'exit 6' TERM; echo; while :; do sleep 0.05; done", 0, 6, nil},
		"by the signal":   {"echo; exec sleep 60", 0, 128 + 15, nil},
		"after the grace": {"trap '' TERM; echo; while :; do sleep 0.05; done", time.Millisecond, 0, context.Canceled},
		"with all of it":  {"trap 'exit 6' TERM; (trap '' TERM HUP; sleep 1000)& echo; while :; do sleep 0.05; done", 0, 6, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := image(t)
			s.Argv, s.Grace = []string{"sh", "-c", c.script}, c.grace
			ctx, cancel := context.WithCancel(t.Context())
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			go func() {
				r.Read(make([]byte, 1)) // it runs
				cancel()
			}()
			exit, err := Run(ctx, s, nil, w, nil)
			w.Close()
			if exit != c.exit || !errors.Is(err, c.err) {
				t.Errorf("exit %d, %v; want %d, %v", exit, err, c.exit, c.err)
			}
			r.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("%d, %v: somebody still has the output", n, err)
			}
		})
	}
}

func TestTheCommandHasNoFilesOfThisProcess(t *testing.T) {
	open, err := unix.FcntlInt(1, unix.F_DUPFD, 100) // as a careless shell leaves it
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(open)
	if out, _ := run(t, image(t), "ls", "/proc/self/fd"); out != "0\n1\n2\n3\n" { // the last is that of ls
		t.Errorf("open are %q", out)
	}
}

// What is typed at a terminal is the command's only, whatever it does with it, and the terminal is as it was afterwards.
func TestTheCommandHasTheTerminal(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	defer terminal.Close()
	if err := unix.IoctlSetPointerInt(int(terminal.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetUint32(int(terminal.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	far, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	const script = `stty -echo; trap 'echo interrupted' INT; echo ready; while ! read a; do :; done; echo "got $a"; stty raw; exit 4`
	p := begin(t, script, func(a *syscall.SysProcAttr) { a.Setsid, a.Setctty = true, true }, far, far)
	far.Close()
	p.out = bufio.NewReader(terminal)
	for _, step := range []struct{ line, then string }{{"ready", "\x03"}, {"interrupted", "\x1a"}} {
		if line := p.line(); line != step.line {
			t.Fatalf("%q, want %q", line, step.line)
		}
		if _, err := terminal.WriteString(step.then); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := terminal.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"got hello", "exit 4"} {
		if line := p.line(); line != want {
			t.Fatalf("%q, want %q", line, want)
		}
	}
	p.cmd.Wait()
	mode, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil || mode.Lflag&unix.ICANON == 0 || mode.Lflag&unix.ECHO == 0 {
		t.Errorf("the terminal is not as it was: %+v, %v", mode, err)
	}
}

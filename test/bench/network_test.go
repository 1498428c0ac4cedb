//go:build bench

package bench

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// inside is the environment variable that tells a test that it has a network of its own.
const inside = "WULF_BENCH_NETWORK"

// ownNetwork runs the test once more, in a process with a network namespace of its own, in which ports such as 67 and 69 are
// free, and which is gone with the process. It is true in that process, after the commands of ip given were run.
func ownNetwork(t *testing.T, setup ...string) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a network namespace is made: run it as root")
	}
	if os.Getenv(inside) == "" {
		cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "25m")
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Run(); err != nil {
			t.Errorf("in a network of its own: %v", err)
		}
		return false
	}
	for _, s := range append([]string{"link set lo up"}, setup...) {
		if out, err := exec.Command("ip", strings.Fields(s)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", s, err, out)
		}
	}
	return true
}

// account is a control group, which counts the processor time of a server and of all that it starts, to the nanosecond,
// also of children that nobody waits for.
type account struct {
	t    *testing.T
	dir  string
	used func() (float64, error) // seconds
}

// newAccount makes one for a process that runs.
func newAccount(t *testing.T, pid int) *account {
	t.Helper()
	name := fmt.Sprintf("wulf-bench-%d", pid)
	a := &account{t: t}
	for _, c := range []struct {
		root, file, field string
		unit              float64
	}{
		{"/sys/fs/cgroup", "cpu.stat", "usage_usec", 1e-6},
		{"/sys/fs/cgroup/cpuacct", "cpuacct.usage", "", 1e-9},
		{"/sys/fs/cgroup/cpu,cpuacct", "cpuacct.usage", "", 1e-9},
	} {
		dir := filepath.Join(c.root, name)
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		file := filepath.Join(dir, c.file)
		if _, err := os.Stat(file); err != nil {
			_ = os.Remove(dir) // of another version
			continue
		}
		a.dir, a.used = dir, func() (float64, error) {
			b, err := os.ReadFile(file)
			words := strings.Fields(string(b))
			for i := 0; i+1 < len(words) && c.field != ""; i++ {
				if words[i] == c.field {
					words = words[i+1:]
				}
			}
			if err != nil || len(words) == 0 {
				return 0, cmp.Or(err, fmt.Errorf("%s says nothing", file))
			}
			n, err := strconv.ParseFloat(words[0], 64)
			return n * c.unit, err
		}
		break
	}
	if a.dir == "" {
		t.Skip("no control group can be made here, which would count processor time")
	}
	t.Cleanup(a.close)
	if err := os.WriteFile(filepath.Join(a.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
		t.Fatal(err)
	}
	return a
}

// seconds is what was used since the account was made.
func (a *account) seconds() float64 {
	s, err := a.used()
	if err != nil {
		a.t.Fatal(err)
	}
	return s
}

// kill ends what is left of the server.
func (a *account) kill() {
	b, _ := os.ReadFile(filepath.Join(a.dir, "cgroup.procs"))
	for _, f := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func (a *account) close() {
	a.kill()
	for range 50 { // until the last process is gone
		if os.Remove(a.dir) == nil || !exists(a.dir) {
			return
		}
		_ = exec.Command("sleep", "0.1").Run()
	}
}

// Where the two sides of a loopback run that are on two machines else.
const (
	serverSide = "0" // the first processor
	clientSide = "1" // and the second
)

// twoSides gives the receiving half of this network's loopback to the second processor (Receive Packet Steering): else a
// server would be charged, as it sends, with what the kernel of its client's machine does when it receives. This process,
// which is the client, runs there, too.
func twoSides(t *testing.T) {
	t.Helper()
	if runtime.NumCPU() < 2 {
		t.Skip("SKIPPED: the server and its clients need a processor each")
	}
	dir := t.TempDir()
	if err := syscall.Mount("sysfs", dir, "sysfs", 0, ""); err != nil { // as this network namespace has it
		t.Fatalf("mounting sysfs: %v", err)
	}
	err := os.WriteFile(filepath.Join(dir, "class/net/lo/queues/rx-0/rps_cpus"), []byte("2"), 0o644) // the second, as a mask
	if late := syscall.Unmount(dir, 0); late != nil {
		t.Fatalf("unmounting sysfs: %v", late)
	}
	if err != nil {
		t.Fatalf("this kernel steers no packets: %v", err)
	}
	onProcessor(t, os.Getpid(), clientSide)
}

// onProcessor has a process run on one processor alone, with all its threads, and what it starts.
func onProcessor(t *testing.T, pid int, which string) {
	t.Helper()
	if out, err := exec.Command("taskset", "-a", "-p", "-c", which, strconv.Itoa(pid)).CombinedOutput(); err != nil {
		t.Fatalf("taskset: %v: %s", err, out)
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

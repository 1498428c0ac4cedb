package cli_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wulfmesh/wulfmesh/cmd/wulf/cli"
	"github.com/wulfmesh/wulfmesh/cmd/wulf/workdir"
	"github.com/wulfmesh/wulfmesh/controller"
	"github.com/wulfmesh/wulfmesh/controller/chunks"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// TestMain lets the test program be wulf, so that the scripts run it as a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == workdir.ChildArg {
		os.Exit(workdir.Child())
	}
	testscript.Main(m, map[string]func(){"wulf": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(cli.Run(ctx, cli.Env{
			Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Version: "v0.0.0-test",
		}))
	}})
}

// Every script talks to a controller of its own, which is real and runs in this process; UPDATE=1 rewrites what the
// scripts expect.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		ContinueOnError:     true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup:               begin,
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fails":   fails,
			"refuses": refuses,
			"masked":  masked,
			"kernel":  kernel,
			"waitfor": waitFor,
			"alive":   alive,
			"keep":    keep,
			"port":    port,
			"expire":  expire,
			"relay":   relay,
			"reports": reports,
			"events":  events,
			"claimed": claimed,
		},
	})
}

// begin starts the script's controller: WULF_SOCKET is its socket, $API its address and $DATA its data.
func begin(env *testscript.Env) error {
	c, err := startController(env.WorkDir)
	if err != nil {
		return err
	}
	env.Defer(c.stop)
	env.Values[voicesKey{}] = voices{}
	env.Vars = append(env.Vars, "WULF_SOCKET="+c.socket, "API="+c.address, "DATA="+c.dir, "TZ=UTC",
		"GORACE=atexit_sleep_ms=0") // or every process would rest for a second when it is done
	return nil
}

// running is a controller in this process.
type running struct {
	socket, address, dir string
	stop                 func()
}

// startController starts the first controller of a new cluster, with its data and its socket under a directory.
func startController(under string) (*running, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &running{socket: filepath.Join(under, "c1.sock"), address: l.Addr().String(), dir: filepath.Join(under, ".c1")}
	local, err := net.Listen("unix", r.socket)
	if err != nil {
		return nil, err
	}
	if _, err := controller.Init(r.dir, controller.Settings{Cluster: "lab", Name: "c1", Listen: r.address, Advertise: r.address}); err != nil {
		return nil, err
	}
	c, err := controller.New(controller.Config{
		Dir: r.dir, Listener: l, Local: local, Version: "v0.0.0-test", Log: slog.New(slog.DiscardHandler), Heartbeat: 50 * time.Millisecond,
		Agents: func(string) ([]byte, error) { return []byte("agent"), nil }, Chunks: chunks.Config{Reserve: 1},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	r.stop = func() {
		cancel()
		<-done
	}
	return r, begun(c)
}

// begun waits until the cluster has its default profile with its overlays: what every script starts from.
func begun(c *controller.Controller) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		if p, ok := c.Catalog().Profile(catalog.DefaultProfile); ok && len(p.Settings.Overlays.System) > 0 {
			return nil
		}
		<-tick.C
	}
	return errors.New("the controller did not begin")
}

// fails CODE MESSAGE COMMAND…: the command ends with the exit code and says MESSAGE, exactly, as its only error.
func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: fails CODE MESSAGE COMMAND…")
	}
	code := 0
	if err := ts.Exec(args[2], args[3:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	failed(ts, args, code, ts.ReadFile("stderr"))
}

// refuses CODE MESSAGE ARGUMENTS…: the same for a command line of wulf that names no file, in this process: starting one
// for each of very many costs time.
func refuses(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: refuses CODE MESSAGE ARGUMENTS…")
	}
	var out, said strings.Builder
	code := cli.Run(context.Background(), cli.Env{
		Args: args[2:], Stdin: strings.NewReader(""), Stdout: &out, Stderr: &said, Getenv: ts.Getenv, Version: "v0.0.0-test",
	})
	failed(ts, args, code, said.String())
	if out.Len() > 0 {
		ts.Fatalf("there is data on standard output: %q", out.String())
	}
}

// failed checks how a command failed.
func failed(ts *testscript.TestScript, args []string, code int, stderr string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	said := lines[len(lines)-1]
	for pattern, with := range map[string]string{`revision \d+`: "revision N", `\d{4}-\d\d-\d\dT[0-9:]+Z`: "TIME"} {
		said = regexp.MustCompile(pattern).ReplaceAllString(said, with)
	}
	if code != want || said != "error: "+args[1] {
		ts.Fatalf("exit code %d, want %d\n got %s\nwant error: %s", code, want, said, args[1])
	}
	if n := len(slices.DeleteFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "error:") })); n != 1 {
		ts.Fatalf("%d errors, want one line", n)
	}
}

// masked FILE: rewrites what differs from run to run in the last standard output and puts it in FILE.
func masked(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(mask(ts.ReadFile("stdout"))), 0o666))
}

// kernel FILE: makes the least that passes for the header of an x86 kernel.
func kernel(ts *testscript.TestScript, _ bool, args []string) {
	b := make([]byte, 0x300)
	copy(b[0x202:], "HdrS")
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o777))
	ts.Check(os.WriteFile(path, b, 0o644))
}

// waitfor FILE: waits until a program in the background has made a file.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		<-tick.C
	}
	ts.Fatalf("%s did not come", args[0])
}

// keep VAR: the last standard output becomes the value of a variable.
func keep(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// expire: waits until no join token is good any more.
func expire(ts *testscript.TestScript, _ bool, _ []string) {
	root := api.NewClient(api.ClientConfig{Endpoints: func() []string { return []string{api.UnixScheme + ts.Getenv("WULF_SOCKET")} }})
	defer root.Close()
	var tokens []catalog.Token
	ts.Check(root.Get(context.Background(), api.PathTokens, &tokens))
	for _, t := range tokens {
		if t.Uses > 0 {
			<-time.After(time.Until(t.Expires) + time.Millisecond)
		}
	}
}

// condition: [network] holds where this machine has an address that others could reach, as a relay must.
func condition(name string) (bool, error) {
	switch name {
	case "root":
		return os.Geteuid() == 0, nil
	case "network":
	default:
		return false, fmt.Errorf("no condition %q", name)
	}
	all, err := net.InterfaceAddrs()
	return slices.ContainsFunc(all, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast()
	}), err
}

// port VAR…: the variables become ports that nobody uses now.
func port(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		l, err := net.Listen("tcp", ":0")
		ts.Check(err)
		defer l.Close()
		ts.Setenv(name, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
}

// claimed NODE HARDWARE: waits until a rule has made the machine the node.
func claimed(ts *testscript.TestScript, _ bool, args []string) {
	root := api.NewClient(api.ClientConfig{Endpoints: func() []string { return []string{api.UnixScheme + ts.MkAbs(ts.Getenv("WULF_SOCKET"))} }})
	defer root.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		var v api.NodeView
		if root.Get(context.Background(), strings.Replace(api.PathNode, "{name}", args[0], 1), &v) == nil {
			if hw := v.Settings.Nets["default"].Hardware; hw != nil && string(*hw) == args[1] {
				return
			}
		}
		<-tick.C
	}
	ts.Fatalf("node %s did not become %s", args[0], args[1])
}

// alive NAME: waits until a relay has reported.
func alive(ts *testscript.TestScript, _ bool, args []string) {
	root := api.NewClient(api.ClientConfig{Endpoints: func() []string { return []string{api.UnixScheme + ts.MkAbs(ts.Getenv("WULF_SOCKET"))} }})
	defer root.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		var list api.List[api.RelayView]
		if root.Get(context.Background(), api.PathRelays, &list) == nil &&
			slices.ContainsFunc(list.Items, func(v api.RelayView) bool {
				return string(v.Name) == args[0] && v.Alive && v.Status != nil && !v.Status.Unwell
			}) {
			return
		}
		<-tick.C
	}
	ts.Fatalf("relay %s did not report that it is well", args[0])
}

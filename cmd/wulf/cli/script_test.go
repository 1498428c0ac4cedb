package cli_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
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
	"github.com/wulfmesh/wulfmesh/controller"
	"github.com/wulfmesh/wulfmesh/controller/chunks"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// TestMain lets the test program be wulf, so that the scripts run it as a process of its own.
func TestMain(m *testing.M) {
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
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup:               begin,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fails":   fails,
			"masked":  masked,
			"kernel":  kernel,
			"waitfor": waitFor,
			"relay":   relay,
			"reports": reports,
			"events":  events,
		},
	})
}

// begin starts the script's controller: WULF_SOCKET is its socket, and $API its address.
func begin(env *testscript.Env) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	dir, socket := filepath.Join(env.WorkDir, ".c1"), filepath.Join(env.WorkDir, "c1.sock")
	local, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	address := l.Addr().String()
	if _, err := controller.Init(dir, controller.Settings{Cluster: "lab", Name: "c1", Listen: address, Advertise: address}); err != nil {
		return err
	}
	c, err := controller.New(controller.Config{
		Dir: dir, Listener: l, Local: local, Version: "v0.0.0-test", Log: slog.New(slog.DiscardHandler), Heartbeat: 50 * time.Millisecond,
		Agents: func(string) ([]byte, error) { return []byte("agent"), nil }, Chunks: chunks.Config{Reserve: 1},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	env.Defer(func() {
		cancel()
		<-done
	})
	env.Values[voicesKey{}] = voices{}
	env.Vars = append(env.Vars, "WULF_SOCKET="+socket, "API="+address, "DATA="+dir, "TZ=UTC")
	return begun(c)
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
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[2], args[3:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	lines := strings.Split(strings.TrimSpace(ts.ReadFile("stderr")), "\n")
	said := regexp.MustCompile(`revision \d+`).ReplaceAllString(lines[len(lines)-1], "revision MASK")
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

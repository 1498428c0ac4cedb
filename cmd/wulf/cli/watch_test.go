package cli_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/cmd/wulf/cli"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// A watch prints events as they come, and whoever has seen enough ends it without an error.
func TestWatchTellsWhatHappensUntilItIsEnded(t *testing.T) {
	dir, err := os.MkdirTemp("", "wulf-watch-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, err := startController(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	if code := cli.Run(t.Context(), env(c, io.Discard, "network", "add", "rack", "--cidr", "10.1.0.0/16")); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	relay, err := admitted(t.Context(), c.socket, "r1", "10.1.0.250")
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Run(ctx, env(c, in, "boot", "watch", "--events", "n1"))
		in.Close()
	}()
	// Nobody says when the watch has begun, so something goes on happening until it is seen.
	seen := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		seen <- line
		_, _ = io.Copy(io.Discard, out)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case line := <-seen:
			if want := "n1           ✓ script    10.1.0.1, relay r1"; !strings.Contains(line, want) {
				t.Errorf("got %q, want it to hold %q", line, want)
			}
			cancel()
			if code := <-ended; code != 0 {
				t.Errorf("exit code %d", code)
			}
			return
		case <-tick.C:
			batch := api.EventBatch{}
			for _, node := range []catalog.NodeName{"n2", "n1"} {
				batch.Events = append(batch.Events, boot.Event{Time: time.Now(), Node: node, Boot: "b" + time.Now().String(), Stage: boot.StageScript, Address: "10.1.0.1"})
			}
			if err := relay.Post(t.Context(), api.PathEvents, batch, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func env(c *running, out io.Writer, args ...string) cli.Env {
	return cli.Env{Args: append([]string{"--socket", c.socket}, args...), Stdin: strings.NewReader(""), Stdout: out, Stderr: io.Discard,
		Getenv: func(string) string { return "" }, Version: "test"}
}

// A watch of nodes says how they are, and then a line for each new state of one that was chosen.
func TestWatchOfNodesTellsNewStatesOfThoseChosen(t *testing.T) {
	dir, err := os.MkdirTemp("", "wulf-watch-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, err := startController(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	for _, args := range [][]string{{"network", "add", "rack", "--cidr", "10.1.0.0/16"}, {"node", "add", "n[1-2]"}} {
		if code := cli.Run(t.Context(), env(c, io.Discard, args...)); code != 0 {
			t.Fatalf("%v: exit code %d", args, code)
		}
	}
	if code := cli.Run(t.Context(), env(c, io.Discard, "node", "list", "@state:failed", "-w")); code != 1 {
		t.Errorf("a watch of nobody: exit code %d, want 1", code)
	}
	relay, err := admitted(t.Context(), c.socket, "r1", "10.1.0.250")
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	told := make(chan string, 1)
	e := env(c, in, "node", "list", "n1", "-w")
	e.Stderr = writer(func(b []byte) { told <- string(b) })
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Run(ctx, e)
		in.Close()
	}()
	if got, want := <-told, "1 node: 1 never\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	lines := bufio.NewReader(out)
	for _, stage := range []boot.Stage{boot.StageScript, boot.StageFailed} {
		batch := api.EventBatch{}
		for _, node := range []catalog.NodeName{"n2", "n1", "n1"} { // the same again is nothing new
			batch.Events = append(batch.Events, boot.Event{Time: time.Now(), Node: node, Boot: "b1", Stage: stage, Address: "10.1.0.1", Error: "no space"})
		}
		if err := relay.Post(t.Context(), api.PathEvents, batch, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"  n1: never → script", "  n1: script → failed"} {
		if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, want) {
			t.Errorf("got %q (%v), want it to hold %q", line, err, want)
		}
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}

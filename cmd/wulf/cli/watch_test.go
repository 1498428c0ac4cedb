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
		ended <- cli.Run(ctx, env(c, in, "boot", "watch", "n1"))
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

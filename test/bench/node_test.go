//go:build bench

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/image"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/mesh"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// What is promised of the way of an image into a node.
const (
	targetUnpack = 100 // per cent of the time of curl | zstd | cpio
	targetAgent  = 64  // MiB of memory that the agent takes besides what it unpacks
)

// TestNode measures how long a node takes to fetch an image from a relay and unpack it into memory, beside what everybody
// does: the same tree as one archive, from a web server, through curl, zstd and cpio. Both in turns, on the same
// machine, which is also the server in both cases.
func TestNode(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a root in memory is mounted: run it as root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	b := newImageBench(t)
	r := newReport(t, fmt.Sprintf("%s: %d files, %d MB", filepath.Base(b.from), b.files, b.bytes/1e6))
	defer r.print()
	c := newCluster(t, ctx, 1, 1)
	c.must("image", "import", "debian", b.root)
	c.must("node", "add", "n1", "--image", "debian")
	var debian catalog.Image
	c.read(&debian, "image", "show", "debian")
	c.awaitRelays()
	c.await("the relay to hold the image", func() (string, bool) {
		var list api.List[api.RelayView]
		c.read(&list, "relay", "list")
		cache := list.Items[0].Status.Cache
		return fmt.Sprintf("%d of %d chunks are missing", cache.Missing, cache.Chunks), cache.Missing == 0 && cache.Chunks > 0
	})
	plain := plainAddress(t, c.relays[0])
	b.zstd(segment.DefaultLevel)
	web := serveFile(t, b.theirs())

	var wall, cpu, memory figure
	for range runs {
		theirs := intoMemory(t, func(root string) *exec.Cmd {
			return exec.CommandContext(ctx, "sh", "-c", `curl -sf "$0" | zstd -q -d -c | cpio -i -d -m --quiet -D "$1"`, web, root)
		})
		ours := intoMemory(t, func(root string) *exec.Cmd {
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestNodeUnpacksAlone$")
			cmd.Env = append(os.Environ(), alone+"="+strings.Join([]string{plain, debian.Tags[catalog.TagLatest].String(), root}, " "))
			return cmd
		})
		wall.Values = append(wall.Values, 100*ours.wall.Seconds()/theirs.wall.Seconds())
		cpu.Values = append(cpu.Values, 100*ours.cpu.Seconds()/theirs.cpu.Seconds())
		memory.Values = append(memory.Values, float64(ours.memory)/(1<<20))
		t.Logf("agent %s; curl | zstd | cpio %s", ours, theirs)
	}
	wall.Name, wall.Unit, wall.Target = "time to fetch and unpack, of curl | zstd | cpio", "%", targetUnpack
	cpu.Name, cpu.Unit = "processor time for it, of curl | zstd | cpio", "%"
	memory.Name, memory.Unit, memory.Target = "memory of the agent", "MiB", targetAgent
	for _, f := range []figure{wall, cpu, memory} {
		r.add(f)
	}
}

// alone is the environment variable that makes TestNodeUnpacksAlone the agent's part in a process of its own; its value
// is the relay's address, the version and the directory.
const alone = "WULF_BENCH_UNPACK"

// TestNodeUnpacksAlone fetches and unpacks an image, as stage one does.
func TestNodeUnpacksAlone(t *testing.T) {
	args := strings.Fields(os.Getenv(alone))
	if len(args) != 3 {
		t.Skip("TestNode runs it")
	}
	debug.SetMemoryLimit(image.Memory)
	ca, err := pki.NewCA("bench", time.Now()) // nothing that it signs is asked for: chunks come in plain
	if err != nil {
		t.Fatal(err)
	}
	m := mesh.New(mesh.Config{Trust: ca.Trust(), Relays: []string{"relay"}, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	defer m.Close()
	m.SetSession(api.Session{Relays: []string{"relay"}, Plain: args[:1]})
	id, err := chunk.ParseID(args[1])
	if err != nil {
		t.Fatal(err)
	}
	signed, err := m.FetchID(t.Context(), id, chunk.MaxManifest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := chunk.Read(signed)
	if err != nil {
		t.Fatal(err)
	}
	lost := func(path, attribute string) { t.Logf("%s: %s is lost", path, attribute) }
	if err := image.Unpack(t.Context(), m, manifest, args[2], image.Options{Lost: lost, Done: new(atomic.Int64)}); err != nil {
		t.Fatal(err)
	}
}

// unpacked is what was measured of one unpacking.
type unpacked struct {
	wall, cpu time.Duration
	memory    int64 // of the largest process of it
}

func (u unpacked) String() string {
	return fmt.Sprintf("%.2f s, %.2f s of processors, %d MiB", u.wall.Seconds(), u.cpu.Seconds(), u.memory>>20)
}

// intoMemory runs a command that unpacks into a new file system in memory.
func intoMemory(t *testing.T, command func(root string) *exec.Cmd) unpacked {
	t.Helper()
	root := t.TempDir()
	if err := unix.Mount("wulf-bench", root, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(root, unix.MNT_DETACH)
	cmd := command(root)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	if _, err := os.Stat(filepath.Join(root, "usr/bin")); err != nil {
		t.Fatalf("nothing was unpacked: %v\n%s", err, out)
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return unpacked{took, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), usage.Maxrss << 10}
}

// serveFile serves one file as a web server does, and returns its address.
func serveFile(t *testing.T, path string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return "http://" + l.Addr().String() + "/image"
}

// plainAddress is where a relay serves chunks in plain.
func plainAddress(t *testing.T, p *program) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.data(), "relay.json"))
	if err != nil {
		t.Fatal(err)
	}
	var settings struct {
		Port int `json:"boot_port"`
	}
	if err := json.Unmarshal(text, &settings); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", settings.Port)
}

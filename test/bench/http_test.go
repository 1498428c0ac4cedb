//go:build bench

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// What is promised of sending an image, beside nginx with sendfile.
const (
	targetProcessor = 110 // per cent of its processor time for a gigabyte
	targetRate      = 95  // per cent of its rate, at least
	httpImage       = 300 << 20
	httpRounds      = 3
)

// TestHTTP measures what it costs a relay to send an image out of its chunks, beside nginx that sends the same bytes as
// one file: by the path of a one-stage boot, which verifies what it sends; and chunk by chunk, as agents ask for it, who
// verify by themselves, beside as many requests to nginx for as many bytes. In turns, on this machine's loopback, to the same
// readers, who throw away what they get; at the end, what a connection costs that is held. The relay has a slot for each reader,
// as nginx has: what turns cost, and give, TestOverload tells.
//
// Both sides are counted by the processor time of their processes. A reader on the same machine takes its part of the
// processors, so rates say less than that.
func TestHTTP(t *testing.T) {
	nginx := findNginx(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	r := newReport(t, fmt.Sprintf("an image of %d MB from a relay's chunks, beside nginx", httpImage>>20))
	defer r.print()
	c := newCluster(t, ctx, 1, 1)
	m, id := httpImported(t, c)
	c.must("relay", "set", "r1", "--slots", "512", "--wait")
	relay := plainAddress(t, c.relays[0])
	file := filepath.Join(c.dir, "image")
	collect(t, c.relays[0], m, file)
	web := startNginx(t, nginx, c.dir)

	ours, theirs := func() []int { return []int{c.relays[0].cmd.Process.Pid} }, func() []int { return web.workers(t) }
	whole := func(path string, part int64) func(client int) []fetch {
		return func(client int) []fetch {
			at := int64(client) * (8 << 20) % (m.Size() - part + 1)
			return []fetch{{path: path, from: at, length: part}}
		}
	}
	chunks := func(part int64) func(client int) []fetch {
		return func(client int) []fetch {
			var all []fetch
			for i, left := client*8, part; left > 0; i++ {
				s := m.Segments[i%len(m.Segments)]
				all = append(all, fetch{path: "/chunk/" + s.ID.String(), verifies: true, length: s.Size})
				left -= s.Size
			}
			return all
		}
	}
	pieces := func(part int64) func(client int) []fetch {
		return func(client int) []fetch {
			var all []fetch
			for at, left := int64(client)*(8<<20), part; left > 0; at += 1 << 20 {
				all = append(all, fetch{path: "/image", from: at % (m.Size() - 1<<20), length: 1 << 20})
				left -= 1 << 20
			}
			return all
		}
	}
	drain(t, relay, 1, whole("/file/"+id.String(), m.Size())) // its pages are in memory from now on, as nginx's are
	drain(t, web.addr, 1, whole("/image", m.Size()))
	for _, size := range []struct {
		clients, times int
		part           int64
	}{{1, 8, m.Size()}, {16, 1, m.Size()}, {256, 1, 24 << 20}} {
		image, agent, cpuImage, cpuAgent := figure{}, figure{}, figure{}, figure{}
		for range httpRounds {
			n := measure(t, web.addr, theirs, size.clients, size.times, whole("/image", size.part))
			i := measure(t, relay, ours, size.clients, size.times, whole("/file/"+id.String(), size.part))
			p := measure(t, web.addr, theirs, size.clients, size.times, pieces(size.part))
			a := measure(t, relay, ours, size.clients, size.times, chunks(size.part))
			t.Logf("%d clients: nginx %s; image %s; nginx by the MiB %s; chunks %s", size.clients, n, i, p, a)
			image.Values, agent.Values = append(image.Values, 100*i.rate()/n.rate()), append(agent.Values, 100*a.rate()/p.rate())
			cpuImage.Values, cpuAgent.Values = append(cpuImage.Values, 100*i.cost()/n.cost()), append(cpuAgent.Values, 100*a.cost()/p.cost())
		}
		for _, f := range []struct {
			*figure
			name   string
			target float64
		}{
			{&cpuImage, "image, processor time a gigabyte, of nginx's", targetProcessor}, {&cpuAgent, "chunks for agents, the same, of nginx's by the MiB", targetProcessor},
			{&image, "image, rate, of nginx's", targetRate}, {&agent, "chunks for agents, the same, of nginx's by the MiB", targetRate},
		} {
			f.Name, f.Unit, f.Target = fmt.Sprintf("%d clients: %s", size.clients, f.name), "%", f.target
			r.add(*f.figure)
		}
	}
	held(t, r, c, relay, web, id)
}

// httpImported makes an image of that many bytes that cannot be compressed, and returns what it is cut into, when the relay
// has it.
func httpImported(t *testing.T, c *cluster) (*chunk.Manifest, chunk.ID) {
	t.Helper()
	root := filepath.Join(c.dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "boot"), 0o755); err != nil {
		t.Fatal(err)
	}
	kernel := make([]byte, 0x300) // the least that passes for the header of an x86 kernel
	copy(kernel[0x202:], "HdrS")
	if err := os.WriteFile(filepath.Join(root, "boot", "vmlinuz-6.1.0-9-amd64"), kernel, 0o644); err != nil {
		t.Fatal(err)
	}
	noise := rand.NewChaCha8([32]byte{1})
	for i := range httpImage >> 20 {
		f, err := os.Create(filepath.Join(root, fmt.Sprintf("file%03d", i)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.CopyN(f, noise, 1<<20)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	c.must("image", "import", "noise", root)
	c.must("node", "add", "n1", "--image", "noise")
	var image catalog.Image
	c.read(&image, "image", "show", "noise")
	c.awaitRelays()
	c.await("the relay to hold the image", func() (string, bool) {
		var list api.List[api.RelayView]
		c.read(&list, "relay", "list")
		cache := list.Items[0].Status.Cache
		return fmt.Sprintf("%d of %d chunks are missing", cache.Missing, cache.Chunks), cache.Missing == 0 && cache.Chunks > 0
	})
	id := image.Tags[catalog.TagLatest]
	signed, err := os.ReadFile(chunkFile(c.relays[0], id))
	if err != nil {
		t.Fatal(err)
	}
	m, err := chunk.Read(signed)
	if err != nil {
		t.Fatal(err)
	}
	return m, id
}

// chunkFile is where a relay keeps a chunk.
func chunkFile(relay *program, id chunk.ID) string {
	return filepath.Join(relay.data(), "chunks", id.String()[:2], id.String())
}

// collect makes one file of the segments of an image.
func collect(t *testing.T, relay *program, m *chunk.Manifest, to string) {
	t.Helper()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for _, s := range m.Segments {
		f, err := os.Open(chunkFile(relay, s.ID))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(out, f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// held measures what a connection costs in memory, when thousands read next to nothing or wait for another request.
func held(t *testing.T, r *report, c *cluster, relay string, web *nginxServer, id chunk.ID) {
	t.Helper()
	const connections = 5000
	ours, theirs := func() []int { return []int{c.relays[0].cmd.Process.Pid} }, func() []int { return web.workers(t) }
	c.must("relay", "set", "r1", "--slots", "1024", "--wait")
	idle, slow := "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "GET /file/"+id.String()+" HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, h := range []struct {
		what, addr, request string
		of                  func() []int
	}{
		{"relay, idle", relay, idle, ours}, {"relay, an image that nobody reads", relay, slow, ours},
		{"nginx, idle", web.addr, "GET /none HTTP/1.1\r\nHost: x\r\n\r\n", theirs}, {"nginx, an image that nobody reads", web.addr, "GET /image HTTP/1.1\r\nHost: x\r\n\r\n", theirs},
	} {
		before := resident(t, h.of())
		conns := connect(t, h.addr, connections, h.request)
		time.Sleep(2 * time.Second)
		kb := float64(resident(t, h.of())-before) / connections / 1024
		for _, conn := range conns {
			conn.Close()
		}
		r.add(figure{Name: fmt.Sprintf("%s: memory of each of %d connections", h.what, connections), Unit: "KiB", Values: []float64{kb}})
		time.Sleep(time.Second)
	}
	var v api.RelayView
	if err := json.Unmarshal([]byte(c.must("relay", "show", "r1", "-o", "json")), &v); err != nil {
		t.Fatal(err)
	}
	t.Logf("the relay's status: %+v", v.Status.Load)
}

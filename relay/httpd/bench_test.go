package httpd

import (
	"crypto/ed25519"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/relay/cache"
)

// benchImage fills a cache with an image of so many segments and serves it on the loopback interface.
func benchImage(b *testing.B, segments, size int) (base string, id chunk.ID, m *chunk.Manifest) {
	dir := b.TempDir()
	store, err := chunkstore.NewDir(dir, durable.FS{})
	if err != nil {
		b.Fatal(err)
	}
	_, key, _ := ed25519.GenerateKey(nil)
	m = &chunk.Manifest{Format: chunk.ManifestFormat, Image: "debian", Arch: "amd64"}
	put := func(body []byte) chunk.Ref {
		ref := chunk.RefOf(body)
		path := store.Path(ref.ID)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, body, 0o600); err != nil {
			b.Fatal(err)
		}
		return ref
	}
	rng := rand.NewChaCha8([32]byte{})
	for range segments {
		body := make([]byte, size)
		rng.Read(body)
		m.Segments = append(m.Segments, chunk.Segment{Ref: put(body)})
	}
	signed, err := chunk.Sign(m, key)
	if err != nil {
		b.Fatal(err)
	}
	ref := put(signed)
	c := &catalog.Catalog{}
	for i, change := range []catalog.Change{
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "demo", ManifestKeys: [][]byte{key.Public().(ed25519.PublicKey)}}, Controller: catalog.Controller{Name: "c1"}},
		catalog.PutImage{Name: "debian", Version: catalog.ImageVersion{Manifest: ref, Arch: "amd64"}},
	} {
		entry, err := catalog.Entry{At: time.Now(), Change: change}.Encode()
		if err != nil {
			b.Fatal(err)
		}
		if c, _, err = c.Apply(catalog.Revision(i+1), entry); err != nil {
			b.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	chunks, err := cache.New(cache.Config{
		Dir: dir, Name: "r1", Catalog: func() *catalog.Catalog { return c }, Peers: func() []cache.Peer { return nil }, Endpoints: func() []string { return nil }, Log: log,
	})
	if err != nil {
		b.Fatal(err)
	}
	s := New(Config{Name: "r1", Feed: still{c}, Chunks: chunks, Record: func(boot.Event) {}, Live: func() []catalog.RelayName { return nil }, Log: log})
	return listen(b, s.plain()), ref.ID, m
}

func listen(b *testing.B, h http.Handler) (base string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go srv.Serve(l)
	b.Cleanup(func() { srv.Close() })
	return "http://" + l.Addr().String()
}

// drain reads answers as a kernel's network card would: into nothing, with as little work as possible.
func drain(b *testing.B, url string, want int64, header ...string) {
	b.Helper()
	b.SetBytes(want)
	client := &http.Client{Transport: &http.Transport{ReadBufferSize: 256 << 10}}
	defer client.CloseIdleConnections()
	buf := make([]byte, 1<<20)
	before := processor()
	defer func() { // of both ends; a busy machine distorts it less than it does the rate
		b.ReportMetric((processor()-before).Seconds()/(float64(want)*float64(b.N)/1e9), "cpu-s/GB")
	}()
	for b.Loop() {
		r, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range header {
			r.Header.Set(name, "yes")
		}
		a, err := client.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{a.Body}, buf)
		a.Body.Close()
		if err != nil || n != want {
			b.Fatalf("%d bytes, %v", n, err)
		}
	}
}

// BenchmarkServing compares what a relay serves with a plain file of the same size from net/http.
func BenchmarkServing(b *testing.B) {
	const segments, size = 200, 1 << 20
	base, id, m := benchImage(b, segments, size)
	b.Run("image", func(b *testing.B) { drain(b, base+"/file/"+id.String(), m.Size()) })
	b.Run("chunk for firmware", func(b *testing.B) { drain(b, base+"/chunk/"+m.Segments[0].ID.String(), size) })
	b.Run("chunk for an agent", func(b *testing.B) {
		drain(b, base+"/chunk/"+m.Segments[0].ID.String(), size, api.HeaderVerifies)
	})
	b.Run("plain file", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "file")
		f, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Truncate(segments * size); err != nil {
			b.Fatal(err)
		}
		f.Close()
		plain := listen(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) }))
		drain(b, plain, segments*size)
	})
}

// processor is the time that this process has had of the processors.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// An image for readers that know no zstd: what unpacking it while it is sent costs, beside sending it as it is stored.
func BenchmarkImageOfWarewulf(b *testing.B) {
	program, err := os.Executable() // compresses as programs in images do
	if err != nil {
		b.Fatal(err)
	}
	body, err := os.ReadFile(program)
	if err != nil {
		b.Fatal(err)
	}
	m := newMuseum(b, string(body))
	for name, path := range map[string]string{"plain": "/image/" + n1, "gzip": "/image/" + n1 + "?compress=gz"} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.RemoteAddr = "10.4.0.1:987"
			before, sent := processor(), int64(0)
			for b.Loop() {
				w := &sink{header: http.Header{}}
				m.handler.ServeHTTP(w, r)
				b.SetBytes(w.bytes)
				sent += w.bytes
			}
			b.ReportMetric((processor()-before).Seconds()/(float64(sent)/1e9), "cpu-s/GB")
		})
	}
}

// sink is a reader that takes everything at once.
type sink struct {
	header http.Header
	bytes  int64
}

func (s *sink) Header() http.Header { return s.header }
func (s *sink) WriteHeader(int)     {}
func (s *sink) Write(p []byte) (int, error) {
	s.bytes += int64(len(p))
	return len(p), nil
}

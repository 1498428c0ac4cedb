package httpd

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/admission"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/relay/cache"
	"github.com/wulfmesh/wulfmesh/relay/feed"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// still is a feed that stands still.
type still struct{ c *catalog.Catalog }

func (s still) Catalog() *catalog.Catalog       { return s.c }
func (s still) Admitted() error                 { return nil }
func (s still) Secrets() *feed.Secrets          { return &feed.Secrets{} }
func (s still) SecretsChanged() <-chan struct{} { return nil }
func (s still) Changed() <-chan struct{}        { return nil }
func (s still) Plan(boot.Request) (boot.Plan, error) {
	return boot.Plan{}, fault.New(fault.NotFound, "no plan")
}

// shelf has chunks in memory, all of them public, and one image of all of them.
type shelf struct {
	*chunkstore.Mem
	image  chunk.Manifest
	broken chunk.ID // cannot be opened
}

func (s *shelf) Open(ctx context.Context, ref chunk.Ref, _ cache.Request) (chunkstore.File, error) {
	if ref.ID == s.broken {
		return nil, fault.New(fault.Unavailable, "nobody has it")
	}
	return s.Mem.Open(ctx, ref.ID)
}

// Held has every other chunk at hand.
func (s *shelf) Held(ref chunk.Ref) (chunkstore.File, bool) {
	if ref.ID[0]%2 == 0 {
		return nil, false
	}
	f, err := s.Open(context.Background(), ref, cache.Request{})
	return f, err == nil
}

func (s *shelf) ReadAll(ctx context.Context, ref chunk.Ref, limit int64) ([]byte, error) {
	return chunkstore.ReadAll(ctx, s.Mem, ref.ID, limit)
}

func (s *shelf) Public(ctx context.Context, id chunk.ID) (chunk.Ref, error) {
	size, err := s.Mem.Stat(ctx, id)
	return chunk.Ref{ID: id, Size: size}, err
}

func (s *shelf) Manifest(_ context.Context, id chunk.ID) (*chunk.Manifest, error) {
	if id != imageID {
		return nil, fault.New(fault.NotFound, "no such image")
	}
	return &s.image, nil
}

func (s *shelf) Size(id chunk.ID) (int64, bool) {
	size, err := s.Mem.Stat(context.Background(), id)
	return size, err == nil
}

var imageID = chunk.Of([]byte("image"))

func newShelf(t testing.TB, bodies ...[]byte) *shelf {
	s := &shelf{Mem: chunkstore.NewMem()}
	for _, b := range bodies {
		ref := chunk.RefOf(b)
		if err := s.Put(context.Background(), ref, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		s.image.Segments = append(s.image.Segments, chunk.Segment{Ref: ref})
	}
	return s
}

func newServer(chunks Chunks) *Server {
	return New(Config{
		Name: "r1", Feed: still{&catalog.Catalog{}}, Chunks: chunks, Record: func(boot.Event) {}, Live: func() []catalog.RelayName { return nil },
		Log: slog.New(slog.DiscardHandler),
	})
}

// served runs a server on memnet in a bubble, at 10.1.0.1:4480, and its other listener without TLS at 4481.
func served(t *testing.T, chunks Chunks, f func(t *testing.T, s *Server, n *memnet.Network)) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Config{})
		host := n.Host("r1", "10.1.0.1")
		plain, err := host.Listen(":4480")
		if err != nil {
			t.Fatal(err)
		}
		mesh, err := host.Listen(":4481")
		if err != nil {
			t.Fatal(err)
		}
		s := newServer(chunks)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx, plain, mesh) }()
		f(t, s, n)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		n.Close()
		synctest.Wait()
		if open := n.Open(); len(open) > 0 {
			t.Errorf("left open: %q", open)
		}
	})
}

func dialTo(t *testing.T, h *memnet.Host) net.Conn {
	t.Helper()
	c, err := h.Dial(context.Background(), "tcp", "10.1.0.1:4480")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func get(h *memnet.Host, url string) (status int, body []byte, header http.Header, err error) {
	tr := &http.Transport{DialContext: h.Dial}
	defer tr.CloseIdleConnections()
	a, err := (&http.Client{Transport: tr}).Get(url)
	if err != nil {
		return 0, nil, nil, err
	}
	defer a.Body.Close()
	body, err = io.ReadAll(a.Body)
	return a.StatusCode, body, a.Header, err
}

func TestHalfRequestsAndReadersThatTakeNothingAreCutOff(t *testing.T) {
	big := bytes.Repeat([]byte("wulfmesh"), 1<<20)
	chunks := newShelf(t, big)
	served(t, chunks, func(t *testing.T, s *Server, n *memnet.Network) {
		evil, good := n.Host("evil", "10.1.0.66"), n.Host("good", "10.1.0.2")
		path := "/chunk/" + chunks.image.Segments[0].ID.String()

		half := dialTo(t, evil)
		io.WriteString(half, "GET "+path+" HT")
		began := time.Now()
		io.ReadAll(half)
		if took := time.Since(began); took > headerTime+time.Second {
			t.Errorf("half a request was held for %v", took)
		}
		half.Close()

		idle := dialTo(t, evil)
		io.WriteString(idle, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(time.Second)
		if l := s.Load(); l.Busy != 1 {
			t.Fatalf("the load is %+v", l)
		}
		time.Sleep(pieceTime + admission.UsualIdle + time.Second)
		if l := s.Load(); l.Busy != 0 {
			t.Error("a reader that takes nothing keeps its slot")
		}
		idle.Close()

		slow := dialTo(t, evil) // takes a little all the time, and may
		io.WriteString(slow, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		total, buf := 0, make([]byte, 64<<10)
		for {
			k, err := io.ReadFull(slow, buf)
			if total += k; err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if total < len(big) {
			t.Errorf("a slow reader was given %d of %d bytes", total, len(big))
		}
		slow.Close()
		if status, body, _, err := get(good, "http://10.1.0.1:4480"+path); status != 200 || !bytes.Equal(body, big) || err != nil {
			t.Errorf("%d, %d bytes, %v", status, len(body), err)
		}
	})
}

func TestOneAddressCannotTakeAllConnections(t *testing.T) {
	chunks := newShelf(t, []byte("hello"))
	served(t, chunks, func(t *testing.T, s *Server, n *memnet.Network) {
		evil, good := n.Host("evil", "10.1.0.66"), n.Host("good", "10.1.0.2")
		var open []net.Conn
		for range maxConnsOf + 100 {
			open = append(open, dialTo(t, evil))
			time.Sleep(time.Millisecond)
		}
		s.conns.mu.Lock()
		if got := len(s.conns.from); got != maxConnsOf {
			t.Errorf("%d connections are kept, want %d", got, maxConnsOf)
		}
		s.conns.mu.Unlock()
		if status, _, _, err := get(good, "http://10.1.0.1:4480/healthz"); status != 200 {
			t.Errorf("another address: %d, %v", status, err)
		}
		for _, c := range open {
			c.Close()
		}
		time.Sleep(headerTime + time.Second)
		s.conns.mu.Lock()
		defer s.conns.mu.Unlock()
		if len(s.conns.from)+len(s.conns.of) != 0 {
			t.Errorf("%d closed connections are counted still", len(s.conns.from))
		}
	})
}

// An image of which a segment cannot be had in the middle must not look whole.
func TestImageThatBreaksOffIsNoShorterImage(t *testing.T) {
	chunks := newShelf(t, []byte("one"), []byte("two"), []byte("three"))
	chunks.broken = chunks.image.Segments[1].ID
	served(t, chunks, func(t *testing.T, s *Server, n *memnet.Network) {
		h := n.Host("node", "10.1.0.2")
		status, body, _, err := get(h, "http://10.1.0.1:4480/file/"+imageID.String())
		if err == nil {
			t.Errorf("a whole answer: %d %q", status, body)
		}
		chunks.broken = chunks.image.Segments[0].ID
		if status, _, _, _ := get(h, "http://10.1.0.1:4480/file/"+imageID.String()); status != 503 {
			t.Errorf("an image whose first segment cannot be had: %d", status)
		}
		chunks.broken = chunk.ID{}
		if status, body, _, err := get(h, "http://10.1.0.1:4480/file/"+imageID.String()); status != 200 || string(body) != "onetwothree" || err != nil {
			t.Errorf("%d %q %v", status, body, err)
		}
		_, text, _, _ := get(h, "http://10.1.0.1:4480/metrics")
		for _, want := range []string{
			`wulf_relay_http_requests_total{route="/file/{id}",status="200"} 2`, `wulf_relay_http_requests_total{route="/file/{id}",status="503"} 1`,
			`wulf_relay_http_bytes_total{route="/file/{id}",status="200"} 14`,
		} {
			if !strings.Contains(string(text), want) {
				t.Errorf("the metrics lack %s:\n%s", want, text)
			}
		}
	})
}

func TestNodesCannotFillTheSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeters()
		taken := 0
		for range 1000 {
			if m.take("n1", 10) {
				taken += 10
			}
		}
		if taken > eventBurst || taken < eventBurst-10 {
			t.Errorf("%d events at once, want %d", taken, eventBurst)
		}
		if !m.take("n2", 10) {
			t.Error("another node is held back")
		}
		time.Sleep(time.Minute)
		if !m.take("n1", 100) {
			t.Error("after a minute it is held back still")
		}
	})
}

func TestRanges(t *testing.T) {
	id := chunk.Of([]byte("x"))
	for header, want := range map[string]span{
		"": {0, 100}, "bytes=0-9": {0, 10}, "bytes=90-": {90, 10}, "bytes=-30": {70, 30}, "bytes=-300": {0, 100}, "bytes=99-500": {99, 1},
		"bytes=1-0": {0, 100}, "bytes=a-b": {0, 100}, "bytes=0-1,5-6": {0, 100}, "lines=1-2": {0, 100}, "bytes=--1": {0, 100}, "bytes=+1-2": {0, 100},
	} {
		if got, _, err := parseRange(header, "", id, 100); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", header, got, err, want)
		}
	}
	for _, header := range []string{"bytes=100-", "bytes=500-600", "bytes=-0"} {
		if got, _, err := parseRange(header, "", id, 100); err == nil {
			t.Errorf("%q is %v", header, got)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-9", "bytes=-5", "bytes=5-", "bytes=0-0,1-1", "bytes=9223372036854775807-", "bytes=-9223372036854775808"} {
		f.Add(s, "", int64(1000))
	}
	id := chunk.Of([]byte("x"))
	f.Fuzz(func(t *testing.T, header, ifRange string, size int64) {
		size &= 1<<40 - 1
		s, status, err := parseRange(header, ifRange, id, size)
		if err != nil {
			return
		}
		if s.start < 0 || s.length < 0 || s.start+s.length > size || status == http.StatusOK && s != (span{0, size}) || status == http.StatusPartialContent && s.length == 0 {
			t.Fatalf("%q of %d bytes is %v, %d", header, size, s, status)
		}
		segments := []chunk.Segment{{Ref: chunk.Ref{Size: size / 3}}, {Ref: chunk.Ref{Size: 0}}, {Ref: chunk.Ref{Size: size - size/3}}}
		total := int64(0)
		for _, p := range s.of(segments) {
			if p.offset < 0 || p.length <= 0 || p.offset+p.length > p.ref.Size {
				t.Fatalf("piece %+v", p)
			}
			total += p.length
		}
		if total != s.length {
			t.Fatalf("the pieces have %d bytes of %d", total, s.length)
		}
	})
}

// Whatever is asked, the answer is one of the statuses that the routes have, and nothing panics.
func FuzzRequests(f *testing.F) {
	for _, p := range []string{"/boot/52:54:00:00:00:01/script", "/boot/x/overlay?ticket=wt1.AAAA", "/chunk/" + imageID.String(), "/file/../../x", "/overlay/n1/system", "/v1/mesh/chunks/00"} {
		f.Add("GET", p, "Bearer ws1.AAAA", "bytes=0-1", "")
	}
	f.Add("POST", "/v1/sessions", "", "", `{"ticket":"wt1.AAAA","claim":"x"}`)
	f.Add("POST", "/v1/node/events", "Bearer x", "", `{"events":[{}]}`)
	s := newServer(newShelf(f, []byte("hello")))
	handlers := []http.Handler{s.plain(), s.mesh()}
	f.Fuzz(func(t *testing.T, method, path, auth, ranges, body string) {
		for _, h := range handlers {
			r, err := http.NewRequest(method, "http://relay"+path, strings.NewReader(body))
			if err != nil {
				return
			}
			r.RemoteAddr = "10.1.0.2:1000"
			r.Header.Set("Authorization", auth)
			r.Header.Set("Range", ranges)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code == http.StatusInternalServerError {
				t.Fatalf("%s %q: %d %s", method, path, w.Code, w.Body)
			}
		}
	})
}

package mesh_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

func encodedListing(t *testing.T) []byte {
	t.Helper()
	l := overlay.List(overlay.KindRuntime, []overlay.Rendered{{Path: "etc/motd", Type: overlay.TypeFile, Content: []byte("hello")}}, nil, overlay.MaxInline)
	raw, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// frame is a zstd frame of one block that is not compressed (RFC 8878, 3.1.1).
func frame(b []byte) []byte {
	f := binary.LittleEndian.AppendUint32([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0}, uint32(len(b)))
	block := uint32(len(b))<<3 | 1
	return append(append(f, byte(block), byte(block>>8), byte(block>>16)), b...)
}

func TestOverlaysComeWholeOrNotAtAll(t *testing.T) {
	bubble(t, func(l *lab) {
		raw := encodedListing(l.t)
		l.serve("r1", breaksOff(raw, 5, func() { panic(http.ErrAbortHandler) }))
		l.serve("r2", sends([]byte(`{"kind":"runtime","files":[{"path":"../x","type":"file"}]}`)))
		l.serve("r3", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"1"`)
			w.Header().Set(api.HeaderRevision, "12")
			switch {
			case r.URL.Path != "/overlay/n1/runtime":
				api.WriteError(w, fault.New(fault.Invalid, "asked for %s", r.URL.Path))
			case r.Header.Get("If-None-Match") == `"1"`:
				w.WriteHeader(http.StatusNotModified)
			default:
				_, _ = w.Write(raw)
			}
		})
		o, err := l.mesh.Overlays(l.t.Context(), "n1", "runtime", "", time.Minute)
		if err != nil || o.Listing == nil || string(o.Listing.Files[0].Content) != "hello" || o.Tag != `"1"` || o.Revision != 12 || o.Bytes != int64(len(raw)) {
			l.t.Fatalf("got %+v, %v", o, err)
		}
		if o, err = l.mesh.Overlays(l.t.Context(), "n1", "runtime", o.Tag, 0); err != nil || o.Listing != nil || o.Tag != `"1"` || o.Revision != 12 {
			l.t.Errorf("nothing new: got %+v, %v", o, err)
		}
		if _, err = l.mesh.Overlays(l.t.Context(), "n2", "runtime", `"1"`, 0); !errors.Is(err, fault.Invalid) {
			l.t.Errorf("another node's: %v", err)
		}
	})
}

func TestAnAnswerMayBeCompressed(t *testing.T) {
	bubble(t, func(l *lab) {
		raw := encodedListing(l.t)
		packed := frame(raw)
		l.serve("r1", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "zstd" {
				l.t.Errorf("it takes %q", r.Header.Get("Accept-Encoding"))
			}
			w.Header().Set("Content-Encoding", "zstd")
			_, _ = w.Write(packed)
		})
		if o, err := l.mesh.Overlays(l.t.Context(), "n1", "runtime", "", 0); err != nil || string(o.Listing.Files[0].Content) != "hello" || o.Bytes != int64(len(packed)) {
			l.t.Errorf("got %+v, %v", o, err)
		}
	})
}

// A relay may hold back its answer as long as it was told, and is given up when it is silent for longer.
func TestAnAnswerIsWaitedForAsLongAsItWasAskedToBeHeldBack(t *testing.T) {
	bubble(t, func(l *lab) {
		var wait time.Duration
		holds := func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Prefer"); got != "wait=60" {
				l.t.Errorf("the relay was told %q", got)
			}
			select {
			case <-time.After(wait):
				w.WriteHeader(http.StatusNotModified)
			case <-r.Context().Done():
			}
		}
		l.serve("r1", holds)
		l.serve("r2", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
		wait = 60 * time.Second
		if _, err := l.mesh.Overlays(l.t.Context(), "n1", "runtime", `"1"`, time.Minute); err != nil {
			l.t.Error(err)
		}
		l.wantReached("in time", "r1")
		wait = time.Hour
		began := time.Now()
		if _, err := l.mesh.Overlays(l.t.Context(), "n1", "runtime", `"1"`, time.Minute); err != nil {
			l.t.Error(err)
		}
		l.wantReached("silent for too long", "r1", "r2")
		if took := time.Since(began); took > 2*time.Minute {
			l.t.Errorf("it was waited for for %s", took)
		}
	})
}

func TestContentsAreVerifiedAndOneThatIsGoneIsTold(t *testing.T) {
	bubble(t, func(l *lab) {
		content := []byte(strings.Repeat("x", 100_000))
		ref := chunk.RefOf(content)
		l.serve("r1", sends(bytes.ToUpper(content)))
		l.serve("r2", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/overlay/n1/runtime/"+ref.ID.String() {
				api.WriteError(w, fault.New(fault.NotFound, "nothing of that content"))
				return
			}
			_, _ = w.Write(content)
		})
		var got []byte
		keep := func(r io.Reader) (err error) { got, err = io.ReadAll(r); return err }
		if err := l.mesh.Content(l.t.Context(), "n1", "runtime", ref, keep); err != nil || !bytes.Equal(got, content) {
			l.t.Errorf("got %d bytes, %v", len(got), err)
		}
		if err := l.mesh.Content(l.t.Context(), "n1", "runtime", chunk.RefOf([]byte("other")), keep); !errors.Is(err, fault.Invalid) {
			l.t.Errorf("a content of no file: %v", err)
		}
		broken := errors.New("no space")
		if err := l.mesh.Content(l.t.Context(), "n1", "runtime", ref, func(io.Reader) error { return broken }); !errors.Is(err, broken) {
			l.t.Errorf("a content that cannot be used: %v", err)
		}
	})
}

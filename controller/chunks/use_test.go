package chunks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/state"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// age makes the files of chunks as old as it says. Files know the time of the machine, which is not that of a bubble.
func age(t *testing.T, d *chunkstore.Dir, old time.Duration, refs ...chunk.Ref) {
	t.Helper()
	at := time.Now().Add(-old)
	for _, ref := range refs {
		must(t, os.Chtimes(d.Path(ref.ID), at, at))
	}
}

func TestUsesOutliveARestart(t *testing.T) {
	r := newRoom(t, 1, Config{Grace: 24 * time.Hour})
	defer r.net.Close()
	p := r.ctls[0]
	root := t.TempDir()
	d := r.onDisk(p, root)
	stray, asked, deleted := r.image(p, "stray"), r.image(p, "asked", "for"), r.image(p, "deleted")
	r.putImage(deleted)
	stop := run(t, p)
	age(t, d, 30*24*time.Hour, slices.Concat(stray, asked, deleted)...)
	r.onDisk(p, root) // it starts again; nothing is known but what the files say
	stop()

	if missing, err := p.Missing(t.Context(), asked); err != nil || len(missing) != 0 {
		t.Errorf("missing %v, %v", missing, err)
	}
	c, _ := r.state.Watch()
	p.fetchMissing(t.Context(), c, rootsOf(c))
	p.Keeper.store.note(p.manifests.keep(nil)) // as when the version is deleted
	r.apply(catalog.DeleteImage{Name: "rocky"})

	d = r.onDisk(p, root)
	out := collect(t, p, CollectOptions{Grace: 24 * time.Hour})
	if out.Chunks != len(stray) || whole(t, d, stray) != 0 {
		t.Errorf("collected %+v; of what a killed import left behind %d of %d are here", out, whole(t, d, stray), len(stray))
	}
	if whole(t, d, asked) != len(asked) || whole(t, d, deleted) != len(deleted) {
		t.Errorf("%d of %d chunks of an upload and %d of %d of a version deleted just now are left", whole(t, d, asked), len(asked), whole(t, d, deleted), len(deleted))
	}
}

func TestMissingTellsWhatToSend(t *testing.T) {
	r := newRoom(t, 1, Config{})
	defer r.net.Close()
	p := r.ctls[0]
	d := r.onDisk(p, t.TempDir())
	refs := []chunk.Ref{r.put(p, []byte("a")), chunk.RefOf([]byte("nowhere")), r.put(p, []byte("cut off"))}
	must(t, os.Truncate(d.Path(refs[2].ID), 2))
	if got, err := p.Missing(t.Context(), refs); err != nil || !slices.Equal(got, []chunk.ID{refs[1].ID, refs[2].ID}) {
		t.Errorf("Missing = %v, %v", got, err)
	}
}

// Versions that were deleted do not come back by going back in the history: their chunks are not kept for it.
func TestTheHistoryNeedsNoChunks(t *testing.T) {
	r := newRoom(t, 1, Config{})
	defer r.net.Close()
	p := r.ctls[0]
	first, second := r.image(p, "first"), r.image(p, "second")
	r.putImage(first)
	r.apply(catalog.TagImage{Name: "rocky", Tag: "stable", Version: first[1].ID})
	tagged := r.at
	r.putImage(second)
	r.apply(catalog.TagImage{Name: "rocky", Tag: "stable", Version: second[1].ID})
	r.apply(catalog.DeleteImage{Name: "rocky", Version: first[1].ID})
	if out := collect(t, p, CollectOptions{}); out.Chunks != len(first) {
		t.Errorf("collected %+v", out)
	}
	b, err := catalog.Entry{At: time.Now(), Change: catalog.Revert{To: catalog.Revision(tagged)}}.Encode()
	must(t, err)
	if err := r.try(b); !errors.Is(err, fault.NotFound) {
		t.Errorf("going back to a version whose bytes are gone: %v", err)
	}
	if p.has(second) != len(second) {
		t.Error("chunks of the present version are gone")
	}
}

// stalling is a body that stops in the middle until it is let go; it tells when it stops, if there is somebody to tell.
type stalling struct {
	io.Reader
	half  io.Reader
	gate  chan struct{}
	stops chan struct{}
}

func (s *stalling) Read(b []byte) (int, error) {
	if n, err := s.half.Read(b); err == nil {
		return n, nil
	}
	if s.stops != nil {
		close(s.stops)
		s.stops = nil
	}
	<-s.gate
	return s.Reader.Read(b)
}

func TestOneWhoStallsDoesNotKeepOthersFromPuttingTheSame(t *testing.T) {
	r := newRoom(t, 1, Config{})
	defer r.net.Close()
	p := r.ctls[0]
	root := t.TempDir()
	d := r.onDisk(p, root)
	body := []byte(strings.Repeat("x", 1000))
	ref := chunk.RefOf(body)
	gate := make(chan struct{})
	var g sync.WaitGroup
	for range 3 {
		g.Go(func() {
			half := &stalling{Reader: bytes.NewReader(body[500:]), half: bytes.NewReader(body[:500]), gate: gate}
			if err := p.Store().Put(t.Context(), ref, half); err != nil {
				t.Error(err)
			}
		})
	}
	begun := make(chan struct{})
	g.Go(func() {
		broken := &stalling{strings.NewReader(""), bytes.NewReader(body[:500]), gate, begun}
		if err := p.Store().Put(t.Context(), ref, broken); !errors.Is(err, fault.Corrupt) {
			t.Errorf("one whose client left: %v", err)
		}
	})
	<-begun // One that comes when the chunk is here is not read at all.
	must(t, p.Store().Put(t.Context(), ref, bytes.NewReader(body)))
	if n := whole(t, d, []chunk.Ref{ref}); n != 1 {
		t.Error("it is not here after a Put that went well")
	}
	close(gate)
	g.Wait()
	if temp, _ := filepath.Glob(filepath.Join(root, "*", ".*")); len(temp) != 0 || whole(t, d, []chunk.Ref{ref}) != 1 {
		t.Errorf("left: %v; %d of 1 whole", temp, whole(t, d, []chunk.Ref{ref}))
	}
}

func TestWhatIsComingTakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New(Config{Store: small{chunkstore.NewMem(), 3000}, Reserve: 1000})
		body := []byte(strings.Repeat("x", 1500))
		gate := make(chan struct{})
		done := make(chan error, 1)
		go func() {
			done <- k.Store().Put(t.Context(), chunk.RefOf(body), &stalling{Reader: bytes.NewReader(body[500:]), half: bytes.NewReader(body[:500]), gate: gate})
		}()
		synctest.Wait()
		other := []byte(strings.Repeat("y", 1500))
		if err := k.Store().Put(t.Context(), chunk.RefOf(other), bytes.NewReader(other)); !errors.Is(err, fault.Full) {
			t.Errorf("beside one that takes the room: %v", err)
		}
		close(gate)
		must(t, <-done)
		must(t, k.Store().Put(t.Context(), chunk.RefOf(other), bytes.NewReader(other)))
	})
}

func BenchmarkMissing(b *testing.B) {
	const n = 10_000
	d, err := chunkstore.NewDir(b.TempDir(), durable.FS{})
	if err != nil {
		b.Fatal(err)
	}
	k := New(Config{Store: d, Catalog: state.New()})
	refs := make([]chunk.Ref, n)
	for i := range refs {
		refs[i] = chunk.RefOf(binary.BigEndian.AppendUint32(nil, uint32(i)))
		if err := os.MkdirAll(filepath.Dir(d.Path(refs[i].ID)), 0o700); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(d.Path(refs[i].ID), make([]byte, 4), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if missing, err := k.Missing(b.Context(), refs); err != nil || len(missing) > 0 {
			b.Fatal(len(missing), err)
		}
	}
}

// What a revert would bring back of an overlay is as good as named.
func TestFormerFilesOfOverlaysStayAsLongAsTheHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, Config{Grace: time.Hour})
		defer r.net.Close()
		p := r.ctls[0]
		defer run(t, p)()
		shipped, former, now, stray := r.put(p, []byte("shipped")), r.put(p, []byte("former")), r.put(p, []byte("now")), r.put(p, []byte("stray"))
		r.apply(catalog.ShipOverlay{Name: "o", Base: shipped, Files: 1})
		r.apply(catalog.PutOverlay{Overlay: catalog.Overlay{Name: "o", Content: former, Laid: true}})
		r.apply(catalog.PutOverlay{Overlay: catalog.Overlay{Name: "o", Content: now, Laid: true}})
		time.Sleep(48 * time.Hour)
		if n := p.has([]chunk.Ref{shipped, former, now}); n != 3 || p.has([]chunk.Ref{stray}) != 0 {
			t.Errorf("%d of 3 chunks are there, and %d that nothing names", n, p.has([]chunk.Ref{stray}))
		}
	})
}

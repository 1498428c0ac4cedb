package chunks

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// dating is a store that knows when chunks came, as a disk does.
type dating struct {
	*chunkstore.Mem
	mu sync.Mutex
	at map[chunk.ID]time.Time
}

func (d *dating) Stored(id chunk.ID) (time.Time, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at[id], nil
}

func (d *dating) Touch(id chunk.ID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at[id] = time.Now()
	return nil
}

// restarted is the peer's keeper after a restart: it knows of no use, and the disk of every chunk's age.
func (r *room) restarted(p *peer, age time.Duration) {
	d := &dating{Mem: p.mem, at: map[chunk.ID]time.Time{}}
	for ref := range p.mem.All(r.t.Context()) {
		d.at[ref.ID] = time.Now().Add(-age)
	}
	cfg := p.cfg
	cfg.Store = d
	p.Keeper = New(cfg)
}

func collect(t *testing.T, p *peer, o CollectOptions) CollectResult {
	t.Helper()
	out, err := p.Collect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhatAKilledImportLeftGoesOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, Config{})
		defer r.net.Close()
		p := r.ctls[0]
		kept, stray := r.image(p, "a", "b"), r.image(p, "stray", "more")
		r.putImage(kept)
		r.restarted(p, time.Hour)
		if out := collect(t, p, CollectOptions{Grace: 2 * time.Hour}); out.Chunks != 0 || p.has(stray) != len(stray) {
			t.Errorf("younger than the grace: %+v", out)
		}
		if out := collect(t, p, CollectOptions{Grace: 10 * time.Minute, DryRun: true}); out.Chunks != len(stray) || p.has(stray) != len(stray) {
			t.Errorf("only counted: %+v, %d are left", out, p.has(stray))
		}
		if out := collect(t, p, CollectOptions{Grace: 10 * time.Minute}); out.Chunks != len(stray) || out.Bytes == 0 || p.has(stray) != 0 {
			t.Errorf("collected %+v, %d are left", out, p.has(stray))
		}
		if p.has(kept) != len(kept) {
			t.Errorf("%d of %d chunks are left that the catalog needs", p.has(kept), len(kept))
		}
	})
}

func TestAnImportUnderWayIsSafeFromACollection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, Config{})
		defer r.net.Close()
		p := r.ctls[0]
		refs := r.image(p, "sent", "a minute ago")
		time.Sleep(time.Minute)
		if out := collect(t, p, CollectOptions{Grace: time.Hour}); out.Chunks != 0 {
			t.Errorf("collected %+v of an import", out)
		}
		if out := collect(t, p, CollectOptions{}); out.Chunks != len(refs) {
			t.Errorf("without grace %+v of %d went", out, len(refs))
		}
	})
}

// A node may be booting what was deleted a moment ago, however long ago its chunks came.
func TestTheGraceOfADeletedVersionBeginsWithItsDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, Config{})
		defer r.net.Close()
		p := r.ctls[0]
		refs := r.image(p, "a", "b")
		r.putImage(refs)
		r.restarted(p, 1000*time.Hour)
		defer run(t, p)()
		time.Sleep(time.Minute)
		r.apply(catalog.DeleteImage{Name: "rocky"})
		time.Sleep(time.Minute)
		if out := collect(t, p, CollectOptions{Grace: time.Hour}); out.Chunks != 0 {
			t.Errorf("a minute after the deletion %+v went", out)
		}
		time.Sleep(2 * time.Hour)
		if out := collect(t, p, CollectOptions{Grace: time.Hour}); out.Chunks != len(refs) {
			t.Errorf("two hours later %+v of %d went", out, len(refs))
		}
	})
}

func TestALostDiskIsRepairedFromTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 3, Config{})
		defer r.net.Close()
		refs := r.image(r.ctls[0], "a", "b", "c", "d")
		if err := r.ctls[0].Push(t.Context(), refs, nil); err != nil {
			t.Fatal(err)
		}
		r.putImage(refs)
		stop := run(t, r.ctls[0], r.ctls[1], r.ctls[2])
		defer stop()
		time.Sleep(time.Minute)
		for i, ref := range refs[:4] { // two lost different ones; the manifest is lost, too
			p := r.ctls[i%2]
			if err := p.mem.Delete(t.Context(), ref.ID); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.ctls[2].mem.Delete(t.Context(), refs[4].ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		for _, p := range r.ctls {
			if n := p.has(refs); n != len(refs) || len(p.Problems()) != 0 {
				t.Errorf("%s has %d of %d chunks and says %q", p.name, n, len(refs), p.Problems())
			}
		}
	})
}

func TestVerifyRepairsWhatIsMissingOrDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 2, Config{})
		defer r.net.Close()
		p := r.ctls[0]
		disk := &rotten{Mem: p.mem, bad: map[chunk.ID]bool{}}
		p.cfg.Store, p.Keeper.store.Store = disk, disk
		refs := r.image(p, "a", "b", "c")
		if err := p.Push(t.Context(), refs, nil); err != nil {
			t.Fatal(err)
		}
		r.putImage(refs)
		manifest := refs[len(refs)-1].ID
		out, err := p.Verify(t.Context(), manifest, true)
		if err != nil || out.Chunks != len(refs) || out.Bytes == 0 || len(out.Missing)+len(out.Damaged) != 0 {
			t.Errorf("whole: %+v, %v", out, err)
		}
		disk.bad[refs[0].ID] = true
		if err := p.mem.Delete(t.Context(), refs[1].ID); err != nil {
			t.Fatal(err)
		}
		if out, err = p.Verify(t.Context(), manifest, false); err != nil || len(out.Missing) != 1 || len(out.Damaged) != 0 || len(out.Repaired) != 1 {
			t.Errorf("a look: %+v, %v", out, err)
		}
		if out, err = p.Verify(t.Context(), manifest, true); err != nil || len(out.Missing) != 0 || len(out.Damaged) != 1 || len(out.Repaired) != 1 {
			t.Errorf("all read: %+v, %v", out, err)
		}
		if err := chunkstore.Verify(t.Context(), disk, refs[0].ID); err != nil {
			t.Errorf("the damaged chunk: %v", err)
		}
		r.net.Cut("c2")
		if err := p.mem.Delete(t.Context(), refs[2].ID); err != nil {
			t.Fatal(err)
		}
		if out, err = p.Verify(t.Context(), manifest, true); err != nil || len(out.Missing) != 1 || len(out.Repaired) != 0 {
			t.Errorf("alone: %+v, %v", out, err)
		}
		if _, err := p.Verify(t.Context(), refs[0].ID, true); !errors.Is(err, fault.NotFound) {
			t.Errorf("what is no version: %v", err)
		}
	})
}

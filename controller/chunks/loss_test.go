package chunks

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// onDisk gives a peer a store on a real disk, in path, as it is after a start.
func (r *room) onDisk(p *peer, path string) *chunkstore.Dir {
	r.t.Helper()
	d, err := chunkstore.NewDir(path, durable.FS{})
	if err != nil {
		r.t.Fatal(err)
	}
	cfg := p.cfg
	cfg.Store = d
	cfg.Reserve = 1
	p.Keeper = New(cfg)
	return d
}

// whole tells how many of some chunks are undamaged on a disk.
func whole(t *testing.T, d *chunkstore.Dir, refs []chunk.Ref) (n int) {
	for _, ref := range refs {
		if chunkstore.Verify(t.Context(), d, ref.ID) == nil {
			n++
		}
	}
	return n
}

// Whatever happens to the files of a disk, running or not, they come back from the others.
func TestFilesThatAreLostOrDamagedComeBack(t *testing.T) {
	body := []byte(strings.Repeat("d", 100_000))
	harm := map[string]func(t *testing.T, root, file string){
		"the directory is removed": func(t *testing.T, root, _ string) { must(t, os.RemoveAll(root)) },
		"the directory is emptied": func(t *testing.T, root, _ string) {
			all, err := filepath.Glob(filepath.Join(root, "*"))
			must(t, err)
			for _, dir := range all {
				must(t, os.RemoveAll(dir))
			}
		},
		"a file is removed":   func(t *testing.T, _, file string) { must(t, os.Remove(file)) },
		"a file is truncated": func(t *testing.T, _, file string) { must(t, os.Truncate(file, 100)) },
		"a file is emptied":   func(t *testing.T, _, file string) { must(t, os.Truncate(file, 0)) },
		"a bit is flipped":    flip,
	}
	for name, do := range harm {
		for _, running := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", running", false: ", stopped"}[running], func(t *testing.T) {
				root := filepath.Join(t.TempDir(), "chunks")
				synctest.Test(t, func(t *testing.T) {
					r := newRoom(t, 2, Config{Scrub: 1 << 20})
					defer r.net.Close()
					refs := r.image(r.ctls[1], "a", "b", string(body))
					r.putImage(refs)
					p := r.ctls[0]
					d := r.onDisk(p, root)
					stop := run(t, p)
					time.Sleep(3 * time.Minute)
					if n := whole(t, d, refs); n != len(refs) {
						t.Fatalf("%d of %d chunks came", n, len(refs))
					}
					if !running {
						stop()
					}
					do(t, root, d.Path(refs[2].ID))
					if !running {
						d = r.onDisk(p, root)
						stop = run(t, p)
					}
					defer stop()
					// A loss is found by the next look, a flipped bit by the next scrub.
					wait := followAgain + time.Minute
					if name == "a bit is flipped" && running {
						wait = scrubAgain + 10*time.Minute
					}
					time.Sleep(wait)
					if n := whole(t, d, refs); n != len(refs) {
						t.Errorf("%s later %d of %d chunks are whole; problems %q", wait, n, len(refs), p.Problems())
					}
				})
			})
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, _, file string) {
	b, err := os.ReadFile(file)
	must(t, err)
	b[len(b)/2] ^= 1
	must(t, os.WriteFile(file, b, 0o600))
}

// Nobody is sent wrong bytes, and who asks need not wait for a scrub.
func TestAReaderHasADamagedOrMissingChunkRepairedAtOnce(t *testing.T) {
	root := filepath.Join(t.TempDir(), "chunks")
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 2, Config{})
		defer r.net.Close()
		refs := r.image(r.ctls[1], "a", "b", "c")
		r.putImage(refs)
		p := r.ctls[0]
		d := r.onDisk(p, root)
		defer run(t, p)()
		time.Sleep(10 * time.Second)
		read := func(ref chunk.Ref) error {
			f, err := p.Store().Open(t.Context(), ref.ID)
			if err != nil {
				return err
			}
			defer f.Close()
			b, err := io.ReadAll(f)
			if chunk.Of(b) != ref.ID {
				t.Errorf("wrong bytes are sent")
			}
			return err
		}
		must(t, read(refs[0]))
		flip(t, "", d.Path(refs[0].ID))
		must(t, os.Remove(d.Path(refs[1].ID)))
		for _, ref := range refs[:2] {
			if err := read(ref); !errors.Is(err, fault.NotFound) {
				t.Errorf("the first reader: %v", err)
			}
		}
		time.Sleep(3 * time.Second)
		if n := whole(t, d, refs); n != len(refs) {
			t.Errorf("seconds later %d of %d chunks are whole", n, len(refs))
		}
		must(t, read(refs[0]))
		if say := p.Problems(); len(say) != 1 || !strings.Contains(say[0], "1 chunk found damaged") {
			t.Errorf("problems %q", say)
		}
	})
}

func TestWhatNobodyHasIsSaidWithItsImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 2, Config{})
		defer r.net.Close()
		p, other := r.ctls[0], r.ctls[1]
		refs := r.image(p, "a", "b", "c")
		r.putImage(refs)
		content := r.put(p, []byte("overlay"))
		r.apply(catalog.PutOverlay{Overlay: catalog.Overlay{Name: "site", Content: content}})
		r.apply(catalog.PutSiteFile{File: catalog.SiteFile{Path: "/etc/motd", Content: content}})
		defer run(t, p, other)()
		time.Sleep(10 * time.Second)
		for _, q := range r.ctls {
			must(t, q.mem.Delete(t.Context(), refs[1].ID))
			must(t, q.mem.Delete(t.Context(), content.ID))
		}
		time.Sleep(10 * time.Minute)
		version := "image rocky version " + refs[3].ID.Short()
		for _, q := range r.ctls {
			say := strings.Join(q.Problems(), "\n")
			if !strings.Contains(say, "no controller has 2 chunks of "+version+", overlay site, site file /etc/motd") {
				t.Errorf("%s says %q", q.name, say)
			}
		}
		r.net.Cut("c2")
		time.Sleep(10 * time.Minute)
		if say := strings.Join(p.Problems(), "\n"); !strings.Contains(say, version) || !strings.Contains(say, "not here yet: from controller c2") {
			t.Errorf("with the other away it says %q", say)
		}
		r.net.Heal()
		r.put(other, []byte("b")) // somebody imports the same again
		r.put(other, []byte("overlay"))
		time.Sleep(2 * time.Minute)
		if p.has(refs) != len(refs) || len(p.Problems()) != 0 {
			t.Errorf("%d of %d chunks, problems %q", p.has(refs), len(refs), p.Problems())
		}
	})
}

func TestANewControllerGetsEverythingAndCountsForNothingBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 3, Config{})
		defer r.net.Close()
		refs := r.image(r.ctls[0], "a", "b", "c")
		r.putImage(refs)
		late := r.ctls[2]
		for _, ref := range refs { // it says that it has none of them, and asks nobody else in order to say it
			if _, err := late.Store().Stat(t.Context(), ref.ID); !errors.Is(err, fault.NotFound) {
				t.Errorf("Stat = %v", err)
			}
		}
		r.net.Cut("c2")
		if err := r.ctls[0].Push(t.Context(), refs, nil); err != nil || late.has(refs) != len(refs) {
			t.Errorf("a push to it counts with %d of %d chunks: %v", late.has(refs), len(refs), err)
		}
		r.net.Heal()
		defer run(t, r.ctls[1])()
		time.Sleep(10 * time.Second)
		if n := r.ctls[1].has(refs); n != len(refs) {
			t.Errorf("a new controller has %d of %d chunks", n, len(refs))
		}
		// It may publish what is made of chunks that it lacks.
		must(t, late.mem.Delete(t.Context(), refs[0].ID))
		if err := late.Push(t.Context(), refs, nil); err != nil || late.has(refs) != len(refs) {
			t.Errorf("a push of what is not here: %v", err)
		}
	})
}

func TestOnlyWhoHasAllBytesCountsForAMajority(t *testing.T) {
	root := filepath.Join(t.TempDir(), "chunks")
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 2, Config{})
		defer r.net.Close()
		d := r.onDisk(r.ctls[1], root)
		refs := r.image(r.ctls[0], "aaaa", "bbbb", "cccc")
		must(t, r.ctls[0].Push(t.Context(), refs, nil))
		must(t, os.Truncate(d.Path(refs[0].ID), 1))
		flip(t, "", d.Path(refs[1].ID))
		if err := r.ctls[0].Push(t.Context(), refs, nil); err != nil || whole(t, d, refs) != len(refs) {
			t.Errorf("%v, and %d of %d chunks are whole there", err, whole(t, d, refs), len(refs))
		}
		if b, err := chunkstore.ReadAll(t.Context(), d, refs[0].ID, 100); err != nil || !bytes.Equal(b, []byte("aaaa")) {
			t.Errorf("%q, %v", b, err)
		}
	})
}

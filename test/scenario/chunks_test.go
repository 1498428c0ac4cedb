package scenario

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/test/memnet"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// Two bytes of a chunk rot on a relay's disk: of the kernel, which firmware cannot verify, and of a segment. Not one
// wrong byte reaches a machine; the chunks are fetched again, and every controller is told.
func TestADamagedChunkNeverReachesANode(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3, Relays: 2, Nodes: 6}, func(t *testing.T, m *mesh.Mesh, dice *rand.Rand) {
		version := m.Publish(mesh.Image, m.Seed()+1000)
		m.Settle()
		refs := m.Chunks(version)
		segment := refs[1+dice.IntN(version.Segments-1)]
		for _, r := range m.Relays {
			damage(t, dice, r, version.Kernels[0].Kernel.ID)
			damage(t, dice, r, segment.ID)
		}
		m.PowerOn(m.Nodes...)
		m.WaitUp(3*time.Minute, m.Nodes...)
		for _, n := range m.Nodes {
			if c := n.Counts(); c.Wrong > 0 || c.Starts != 1 {
				t.Errorf("%s: %+v", n.Name(), c)
			}
		}
		found := int64(0)
		for _, r := range m.Relays {
			found += r.Status().Cache.Corrupt
		}
		if found < 2 {
			t.Errorf("%d damaged chunks were found, want at least 2", found)
		}
		for _, r := range m.Relays {
			st := r.Status()
			if st.Cache.Corrupt == 0 {
				continue // nobody asked it for either
			}
			m.Eventually(r.Name+" to be whole again", func() bool { return r.Status().Cache.Missing == 0 })
			for _, c := range m.Controllers {
				m.Eventually(c.Name+" to be told", func() bool {
					list, err := get[api.List[api.RelayView]](t, m, api.PathRelays, c)
					return err == nil && slices.ContainsFunc(list.Items, func(v api.RelayView) bool {
						return string(v.Name) == r.Name && v.Status != nil && v.Status.Cache.Corrupt > 0 &&
							slices.ContainsFunc(v.Status.Problems, func(p string) bool { return strings.Contains(p, "was damaged (on disk)") })
					})
				})
			}
		}
	})
}

// damage flips two bytes of a chunk on a relay's disk.
func damage(t *testing.T, dice *rand.Rand, r *mesh.Relay, id chunk.ID) {
	t.Helper()
	f, err := os.OpenFile(r.ChunkFile(id), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	i, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b := make([]byte, 1)
		at := dice.Int64N(i.Size())
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1 << dice.IntN(8)
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(r.ChunkFile(id))
	if err != nil || chunk.Of(whole) == id {
		t.Fatalf("chunk %s of %s is not damaged, %v", id.Short(), r.Name, err)
	}
}

// A relay whose whole cache was lost, or is full of somebody else's bytes, serves right ones all the same.
func TestARelayWithoutItsCacheBootsNodes(t *testing.T) {
	tell(t, mesh.Size{Controllers: 1, Relays: 2, Nodes: 4}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		lost := m.Relays[0]
		m.Stop(lost.Name)
		for i, ref := range m.Chunks(m.Version(mesh.Image)) {
			var err error
			if i%2 == 0 {
				err = os.WriteFile(lost.ChunkFile(ref.ID), bytes.Repeat([]byte{0x42}, int(ref.Size)), 0o600)
			} else {
				err = os.Remove(lost.ChunkFile(ref.ID))
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // no relay keeps the file index, which no node needs
				t.Fatal(err)
			}
		}
		m.Restart(lost.Name)
		time.Sleep(2 * time.Second)
		m.PowerOn(m.Nodes...)
		m.WaitUp(3*time.Minute, m.Nodes...)
	})
}

// Whatever the number of relays, controllers send each chunk of a new image about once; the relays have it from one
// another, before any node asks.
func TestControllersSendEachChunkAboutOnce(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3, Relays: 4, Nodes: 8, Image: 4 << 20}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		sent := func(ref chunk.Ref) (n int64) {
			for _, c := range m.Controllers {
				n += c.ChunksServed()[ref.ID.String()]
			}
			return n
		}
		version := m.Publish(mesh.Image, m.Seed()+2000)
		before := fromControllers(m)
		m.Settle()
		size, total, refs := int64(0), int64(0), m.Chunks(version)
		for _, ref := range refs {
			size += ref.Size
			n := sent(ref)
			total += n
			if n > 2 {
				t.Errorf("chunk %s was sent %d times", ref.ID.Short(), n)
			}
		}
		if most := int64(len(refs)) + 3; total > most {
			t.Errorf("%d chunks were sent %d times, want at most %d", len(refs), total, most)
		}
		m.PowerOn(m.Nodes...)
		m.WaitUp(3*time.Minute, m.Nodes...)
		later := int64(0)
		for _, ref := range refs {
			later += sent(ref)
		}
		if later != total {
			t.Errorf("%d more chunks were sent while nodes booted", later-total)
		}
		if got := fromControllers(m) - before; got > size*3/2 {
			t.Errorf("controllers sent relays %d bytes for an image of %d", got, size)
		}
		told(t, m, m.Nodes...)
	})
}

// fromControllers counts the bytes that controllers have sent to relays.
func fromControllers(m *mesh.Mesh) int64 {
	return m.Net.Sent(func(f memnet.Flow) bool { return f.Net == "tcp" && f.From[0] == 'c' && f.To[0] == 'r' }).Bytes
}

// A new version is published while a node boots the old one: it comes up with the old one, and the next boot takes the
// new one.
func TestANewVersionDoesNotDisturbABoot(t *testing.T) {
	tell(t, mesh.Size{Controllers: 1, Relays: 2, Nodes: 2}, func(t *testing.T, m *mesh.Mesh, dice *rand.Rand) {
		for _, r := range m.Relays {
			r.SetBandwidth(1 << 20)
		}
		old := m.Version(mesh.Image)
		m.PowerOn(m.Nodes...)
		m.Eventually("the first to fetch its image", func() bool { return m.Nodes[0].Stage() == boot.StageStageOne })
		next := m.Publish(mesh.Image, m.Seed()+3000)
		m.WaitUp(3*time.Minute, m.Nodes[0])
		told(t, m, m.Nodes[0])
		if got := boots(t, m, m.Leader())[m.Nodes[0].Hardware()].Manifest; got != old.Manifest.ID {
			t.Errorf("it booted %s, want %s", got.Short(), old.Manifest.ID.Short())
		}
		m.Settle()
		m.Nodes[0].Reset()
		m.WaitUp(3*time.Minute, m.Nodes...)
		m.Eventually("the new version to be known", func() bool {
			return boots(t, m, m.Leader())[m.Nodes[0].Hardware()].Manifest == next.Manifest.ID
		})
	})
}

// The controller that imports an image dies at any moment of it. Either the image is not there, or all of it is to be
// had from the others; and the import can be repeated.
func TestAControllerDiesWhilePublishing(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3}, func(t *testing.T, m *mesh.Mesh, dice *rand.Rand) {
		for _, c := range m.Controllers {
			c.SetBandwidth(1 << 20) // it takes some seconds
		}
		at := m.Controllers[dice.IntN(3)]
		client := m.ClientOf(at)
		done := make(chan error, 1)
		go func() {
			_, err := m.PublishAt(client, "other", m.Seed()+4000)
			done <- err
		}()
		time.Sleep(between(dice, 500*time.Millisecond, 7*time.Second))
		m.Kill(at.Name)
		acked := <-done == nil
		left := slices.DeleteFunc(slices.Clone(m.Controllers), func(c *mesh.Controller) bool { return c == at })
		for _, c := range left {
			c.SetBandwidth(0)
		}
		images, err := get[api.List[catalog.Image]](t, m, api.PathImages, left...)
		for err != nil { // an election
			time.Sleep(time.Second)
			images, err = get[api.List[catalog.Image]](t, m, api.PathImages, left...)
		}
		there := slices.ContainsFunc(images.Items, func(i catalog.Image) bool { return i.Name == "other" })
		t.Logf("it was acknowledged: %v, and is there: %v", acked, there)
		if acked && !there {
			t.Error("an image was acknowledged and is not there")
		}
		if there {
			for _, ref := range m.Chunks(m.Version("other")) {
				fetch(t, m, ref)
			}
		}
		m.Publish("other", m.Seed()+4000)
		m.Restart(at.Name)
		m.Settle()
	})
}

// fetch reads a chunk from whichever controller has it.
func fetch(t *testing.T, m *mesh.Mesh, ref chunk.Ref) {
	t.Helper()
	body, err := m.Client.Chunk(m.Ctx(), ref)
	if err != nil {
		t.Errorf("chunk %s: %v", ref.ID.Short(), err)
		return
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil || chunk.RefOf(b) != ref {
		t.Errorf("chunk %s came as %d bytes, %v", ref.ID.Short(), len(b), err)
	}
}

// Two controllers lose different files, one of them all it has. They mend each other while nodes boot.
func TestControllersThatLostChunksMendEachOther(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3, Relays: 2, Nodes: 4}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		version := m.Publish(mesh.Image, m.Seed()+5000)
		refs := append(m.Chunks(version), version.Manifest)
		whole := func(c *mesh.Controller) (n int) {
			for _, ref := range refs {
				if b, err := os.ReadFile(c.ChunkFile(ref.ID)); err == nil && chunk.RefOf(b) == ref {
					n++
				}
			}
			return n
		}
		all := func() bool {
			return !slices.ContainsFunc(m.Controllers, func(c *mesh.Controller) bool { return whole(c) < len(refs) })
		}
		m.Eventually("every controller to have the version", all)
		for i, ref := range refs { // while it runs: every second one is gone or cut off
			c := m.Controllers[0]
			switch i % 4 {
			case 0:
				must(t, os.Remove(c.ChunkFile(ref.ID)))
			case 2:
				must(t, os.Truncate(c.ChunkFile(ref.ID), ref.Size/2))
			}
		}
		lost := m.Controllers[1]
		m.Stop(lost.Name)
		must(t, os.RemoveAll(filepath.Dir(filepath.Dir(lost.ChunkFile(refs[0].ID)))))
		m.Restart(lost.Name)
		m.PowerOn(m.Nodes...)
		m.WaitUp(3*time.Minute, m.Nodes...)
		for began := time.Now(); !all() && time.Since(began) < 6*time.Minute; {
			time.Sleep(time.Second)
		}
		for _, c := range m.Controllers {
			if n := whole(c); n != len(refs) {
				t.Errorf("%s has %d of %d chunks and says %q", c.Name, n, len(refs), c.Status().Problems)
			}
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

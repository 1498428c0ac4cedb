package scenario

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// faultsOfRelays are about relays and controllers.
func faultsOfRelays() []injected {
	single := mesh.Size{Controllers: 1, Relays: 1, Nodes: 2}
	return []injected{
		{
			name: "boot program not installed on the relays", stage: boot.StageLoader, cause: []string{"boot program undionly.kpxe is not installed"}, fix: []string{"install iPXE", "ipxe"},
			inject: func(f *faulty) {
				for _, r := range f.m.Relays {
					r.SetLoaders(f.t.TempDir())
				}
				f.m.Stop(f.relays()...)
				f.m.Restart(f.relays()...)
				f.m.Settle()
				f.on()
			},
		},
		{
			name: "chunk damaged on a relay's disk", cause: fine(),
			inject: func(f *faulty) {
				v := f.m.Version(mesh.Image)
				for _, ref := range append(f.m.Chunks(v), v.Kernels[0].Kernel) {
					f.spoil(f.m.Relays[0].ChunkFile(ref.ID))
				}
				f.on()
			},
		},
		{
			name: "chunk of the image nowhere to be had", stage: boot.StageImage, cause: []string{"chunk"}, fix: []string{"controller"},
			inject: func(f *faulty) {
				v := f.m.Version(mesh.Image)
				f.lose(f.m.Chunks(v)[1])
				f.on()
			},
		},
		{
			name: "kernel nowhere to be had", stage: boot.StageKernel, cause: []string{"cannot give it what it boots from"}, fix: []string{"controller"},
			inject: func(f *faulty) {
				f.lose(f.m.Version(mesh.Image).Kernels[0].Kernel)
				f.on()
			},
		},
		{
			name: "chunk damaged everywhere", stage: boot.StageImage, cause: []string{"chunk"}, fix: []string{"controller"},
			inject: func(f *faulty) {
				ref := f.m.Chunks(f.m.Version(mesh.Image))[1]
				for _, r := range f.m.Relays {
					f.spoil(r.ChunkFile(ref.ID))
				}
				for _, c := range f.m.Controllers {
					f.spoil(c.ChunkFile(ref.ID))
				}
				f.on()
			},
		},
		{
			name: "relays' disks full", cause: fine(),
			inject: func(f *faulty) {
				for _, r := range f.m.Relays {
					r.BreakDisk(syscall.ENOSPC)
				}
				f.m.Publish(mesh.Image, 97)
				time.Sleep(time.Minute)
				f.on()
			},
		},
		{
			name: "a relay dies in the middle of a boot", cause: fine(),
			inject: func(f *faulty) {
				f.halfway()
				f.m.PowerCut(f.m.Relays[0].Name)
			},
		},
		{
			name: "all relays of the network down", stage: boot.StageDHCP, cause: []string{"no relay of network rack is heard any more", "r1 for", "r2 for"}, fix: []string{"systemctl restart wulf-relay on r"},
			inject: func(f *faulty) {
				f.m.PowerCut(f.relays()...)
				f.on()
			},
		},
		{
			name: "all relays die in the middle of a boot", stage: boot.StageImage, cause: []string{"no relay of network rack is heard any more"}, fix: []string{"systemctl restart wulf-relay"},
			inject: func(f *faulty) {
				f.halfway()
				time.Sleep(5 * time.Second)
				f.m.PowerCut(f.relays()...)
			},
		},
		{
			name: "controllers away while a relay is cold", cause: fine(), size: single, after: 20 * time.Minute,
			inject: func(f *faulty) {
				r := f.m.Relays[0]
				f.m.Stop(r.Name)
				if err := os.RemoveAll(filepath.Join(r.Dir(), "chunks")); err != nil {
					f.t.Fatal(err)
				}
				f.m.CutControllers()
				f.m.Net.Heal(r.Name)
				f.m.CutControllers()
				f.m.Restart(r.Name)
				f.node.PowerOn()
				time.Sleep(5 * time.Minute)
				f.m.Net.Heal()
			},
		},
		{
			name: "relay whose clock is an hour behind", cause: fine(), size: single,
			inject: func(f *faulty) {
				f.m.Relays[0].SetClock(-time.Hour)
				time.Sleep(time.Minute)
				f.on()
			},
		},
	}
}

// halfway switches the node on and returns while its image comes.
func (f *faulty) halfway() {
	f.t.Helper()
	f.node.SetBandwidth(100_000)
	f.node.PowerOn()
	f.m.Eventually("the image to come", func() bool { return f.node.Stage() == boot.StageStageOne })
	time.Sleep(time.Second)
}

// spoil changes a byte of a file on disk, if it is there.
func (f *faulty) spoil(path string) {
	f.t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil && len(b) > 0 {
		b[len(b)/2] ^= 1
		err = errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, b, 0o600))
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// lose removes a chunk from every disk.
func (f *faulty) lose(ref chunk.Ref) {
	f.t.Helper()
	for _, r := range f.m.Relays {
		f.remove(r.ChunkFile(ref.ID))
	}
	for _, c := range f.m.Controllers {
		f.remove(c.ChunkFile(ref.ID))
	}
}

func (f *faulty) remove(path string) {
	f.t.Helper()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		f.t.Fatal(err)
	}
}

package stageone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/image"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/session"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/storage"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// disks makes the node's disks hold what is declared of them, before there is a root.
func (b *booter) disks(ctx context.Context, declared *api.Storage) error {
	if declared == nil {
		return nil
	}
	began := time.Now()
	programs := &storage.Borrowed{Dir: home + "/programs", Open: func() (fs.FS, error) { return b.files(ctx) }}
	s := storage.New(storage.Config{
		Declared: *declared, Programs: programs, Probe: b.drivers.coldplug, Load: b.drivers.byName,
		Mark: storage.Mark(b.trust.Cluster, b.params.Node), Log: b.log,
	})
	err := s.Prepare(ctx)
	programs.Close()
	debug.FreeOSMemory() // the image's list of files was there, and the image needs the memory
	if err != nil {
		return err
	}
	b.storage = s
	e := boot.Event{Stage: boot.StageStageOne, Took: time.Since(began), Message: strings.Join(s.Steps(), "; ")}
	if e.Message == "" {
		e.Message = "the disks are as declared"
	}
	b.reporter.Record(e)
	return nil
}

// ownDisks is disks for a boot of one stage: what is declared lies beside the overlays, and the image is there already. What
// it holds below the place of a file system is hidden by it.
func (b *booter) ownDisks(state *session.State) error {
	body, err := os.ReadFile("/" + api.OneStageStorage)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var declared api.Storage
	if err := json.Unmarshal(body, &declared); err != nil {
		return fault.Wrap(fault.Corrupt, err, "reading what the disks are to hold")
	}
	if b.drivers, err = newDrivers(b.log); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s := storage.New(storage.Config{Declared: declared, Programs: storage.Own{}, Probe: b.drivers.coldplug, Load: b.drivers.byName, Log: b.log})
	if err := s.Prepare(ctx); err != nil {
		return err
	}
	if err := s.Mount("/"); err != nil {
		return err
	}
	if err := s.Finish("/"); err != nil {
		return err
	}
	state.Without = strings.Join(s.Without(), "; ")
	return nil
}

// files opens the image, to read single files of it until ctx ends.
func (b *booter) files(ctx context.Context) (fs.FS, error) {
	m, err := b.signed(ctx)
	if err != nil {
		return nil, err
	}
	i, err := segment.OpenImage(ctx, m, func(ctx context.Context, ref chunk.Ref) (io.ReadCloser, error) {
		body, err := b.mesh.Fetch(ctx, ref)
		return io.NopCloser(bytes.NewReader(body)), err
	})
	if err != nil {
		return nil, err
	}
	return segment.FS(i), nil
}

// signed is the manifest of the image, fetched once.
func (b *booter) signed(ctx context.Context) (*chunk.Manifest, error) {
	if b.manifest != nil {
		return b.manifest, nil
	}
	var err error
	b.manifest, err = image.Manifest(ctx, b.mesh, b.params.Image, b.trust.ManifestKeys)
	return b.manifest, err
}

// root mounts what becomes the node's root, and what lies below it on disks, if the image fits.
func (b *booter) root(m *chunk.Manifest) error {
	if b.storage == nil {
		return mountRoot(b.params.Root, m, true)
	}
	if !b.storage.HasRoot() {
		if err := mountRoot(b.params.Root, m, !b.storage.Mounts()); err != nil {
			return err
		}
		return b.storage.Mount(newRoot)
	}
	if err := os.MkdirAll(newRoot, 0o755); err != nil {
		return err
	}
	free, err := b.storage.MountRoot(newRoot)
	if err != nil {
		return err
	}
	if !b.storage.Mounts() && free < m.Unpacked {
		return fault.New(fault.Full, "the image does not fit into the root's file system: it needs %s, and there are %s", mib(m.Unpacked), mib(free)).
			WithFix("give the root a larger one, or the node a smaller image")
	}
	return b.storage.Mount(newRoot)
}

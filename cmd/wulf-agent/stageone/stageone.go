// Package stageone is the agent as the first program of a node: it finds the network, fetches the image and the
// overlays, and becomes the node's own init.
package stageone

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/files"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/image"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/mesh"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/params"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/session"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/storage"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// patience is how long a boot goes on without progress: long enough for relays to come back. To wait for its turn in a storm
// is progress as long as a relay tells how long that will be; a node that gives up starts from its firmware again, by
// which nothing would go faster.
const patience = 30 * time.Minute

// onFailure is how long the reason stays on the screen before the node restarts.
const onFailure = 20 * time.Second

// Main boots the node. It never returns: it becomes the node's init, or restarts the machine.
func Main() {
	// All memory that this program does not take is the image's.
	debug.SetMemoryLimit(image.Memory)
	b := &booter{console: newConsole(os.Stdout)}
	b.log = slog.New(b.console)
	err := b.boot()
	b.log.Error("this boot failed: " + err.Error())
	if fix := fault.Fix(err); fix != "" {
		b.log.Error("fix: " + fix)
	}
	if b.reporter != nil {
		b.reporter.Record(boot.Event{Stage: boot.StageFailed, Error: err.Error(), Fix: fault.Fix(err), Console: b.console.last()})
		b.reporter.Flush(5 * time.Second)
	}
	if b.params.Node != "" {
		b.log.Error("more on a controller: wulf node why " + string(b.params.Node))
	}
	if b.params.Debug {
		b.log.Error("wulf.debug is set: staying here")
		select {}
	}
	b.log.Error(fmt.Sprintf("restarting in %s", onFailure))
	time.Sleep(onFailure)
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {} // PID 1 must not end: the kernel would panic over the reason on the screen
}

// booter is one boot.
type booter struct {
	console  *console
	log      *slog.Logger
	params   params.Params
	trust    api.NodeTrust
	mesh     *mesh.Mesh
	reporter *mesh.Reporter
	drivers  *drivers
	manifest *chunk.Manifest // of the image, once it was fetched
	storage  *storage.Storage
}

func (b *booter) boot() error {
	if err := mountAPI(); err != nil {
		return err
	}
	line, err := cmdline()
	if err != nil {
		return err
	}
	if b.params, err = params.Parse(line); err != nil {
		return err
	}
	raw, err := os.ReadFile(filepath.Join(home, "trust.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &b.trust); err != nil {
		return fault.Wrap(fault.Corrupt, err, "reading trust.json")
	}
	b.log.Info("stage one", "node", b.params.Node, "image", b.params.Image.Short(), "revision", b.params.Revision)
	if b.params.Method == catalog.MethodOneStage {
		return b.oneStage()
	}
	return b.twoStage()
}

// state is what the service is told, by both ways to boot.
func (b *booter) state() *session.State {
	p := b.params
	return &session.State{
		Node: p.Node, Hardware: p.Hardware, Boot: p.Boot, Method: p.Method, Revision: p.Revision, Manifest: p.Image,
		Relays: p.Relays, Trust: b.trust, Ticket: p.Ticket, Booted: time.Now().UTC(),
	}
}

// oneStage finds the whole root around it: the kernel has unpacked the image, stage one and the overlays into it.
// The network is left to the node's own init, so the service claims the boot and reports.
func (b *booter) oneStage() error {
	state := b.state()
	if err := b.ownDisks(state); err != nil {
		return err
	}
	for _, kind := range overlayKinds {
		raw, err := os.ReadFile("/" + api.OneStageOverlay + kind + ".json")
		if err != nil {
			return fault.Wrap(fault.NotFound, err, "the %s overlays are missing", kind).WithFix("boot through a wulfmesh relay's script")
		}
		l, err := overlay.DecodeListing(raw)
		if err != nil {
			return err
		}
		if err := lay(context.Background(), "/", l, "", state, nothingFetched); err != nil {
			return err
		}
	}
	if err := installAgent("/"); err != nil {
		return err
	}
	if err := session.Save("/", state); err != nil {
		return err
	}
	for _, leftover := range []string{"/init", home} {
		if err := os.RemoveAll(leftover); err != nil {
			b.log.Info("left behind", "path", leftover, "err", err)
		}
	}
	b.log.Info("starting " + b.params.Init)
	return become(b.params.Init, nil)
}

// nothingFetched is the fetch of a boot without a network: relays put all into the listing.
func nothingFetched(_ context.Context, ref chunk.Ref, _ func(io.Reader) error) error {
	return fault.New(fault.Corrupt, "content %s is not in the listing", ref.ID.Short())
}

func (b *booter) twoStage() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stuck := time.AfterFunc(patience, cancel)
	defer stuck.Stop()
	began := time.Now()
	link, err := b.network(ctx)
	if err != nil {
		return err
	}
	if err := b.connect(func() { stuck.Reset(patience) }); err != nil {
		return err
	}
	go b.reporter.Run(context.Background()) // it outlives a boot that fails, to tell so
	held, err := b.mesh.Claim(ctx, b.params.Ticket)
	if err != nil {
		return err
	}
	free, total := image.Free()
	b.reporter.Record(boot.Event{Stage: boot.StageStageOne, Took: time.Since(began), Memory: total - free})
	if err := b.disks(ctx, held.Storage); err != nil {
		return err
	}
	held.Storage = nil // it is nothing to the service
	if err := b.image(ctx); err != nil {
		return err
	}
	state := b.state()
	state.Session, state.Ticket = &held, ""
	if len(held.Relays) > 0 {
		state.Relays = held.Relays
	}
	if err := b.overlays(ctx, state); err != nil {
		return err
	}
	if err := installAgent(newRoot); err != nil {
		return err
	}
	if err := session.Save("/", state); err != nil { // in /run, which moves to the new root
		return err
	}
	if b.storage != nil {
		if err := b.storage.Finish(newRoot); err != nil {
			return err
		}
		if lacks := b.storage.Without(); len(lacks) > 0 {
			b.reporter.Record(boot.Event{Stage: boot.StageOverlay, Without: strings.Join(lacks, "; ")})
		}
	}
	if err := b.hasInit(); err != nil { // after this nobody could be told
		return err
	}
	b.reporter.Flush(10 * time.Second)
	b.mesh.Close()
	if err := release(link); err != nil {
		b.log.Info("network device is handed over as it is", "err", err)
	}
	b.log.Info("starting " + b.params.Init)
	return switchRoot(b.params.Init, nil)
}

// network loads the drivers and configures the device that the machine booted from.
func (b *booter) network(ctx context.Context) (netlink.Link, error) {
	var err error
	if b.drivers, err = newDrivers(b.log); err != nil {
		return nil, err
	}
	b.drivers.byName("af_packet", "virtio_net")
	link, err := findDevice(ctx, b.params.Hardware, b.drivers.coldplug)
	if err != nil {
		return nil, err
	}
	// A machine that has just started may have no randomness yet. Somebody must wait for it (getrandom(2) without
	// GRND_NONBLOCK) for the kernel to gather some; the DHCP client only ever asks whether there is any.
	if _, err := rand.Read(make([]byte, 16)); err != nil {
		return nil, err
	}
	ack, err := configure(ctx, link)
	if err != nil {
		return nil, err
	}
	b.log.Info("network is up", "device", link.Attrs().Name, "address", ack.YourIPAddr)
	return link, nil
}

func (b *booter) connect(progress func()) error {
	trust, err := pki.ParseTrust([]byte(b.trust.CA))
	if err != nil {
		return err
	}
	trust.UnsetClock = true
	b.mesh = mesh.New(mesh.Config{Trust: trust, Relays: b.params.Relays, Log: b.log, Progress: progress, Trouble: func(what string, err error, waiting bool) {
		b.reporter.Trouble(what, err, waiting)
	}})
	b.reporter = mesh.NewReporter(b.mesh, boot.Event{
		Node: b.params.Node, Hardware: b.params.Hardware, Boot: b.params.Boot, Revision: b.params.Revision, Manifest: b.params.Image,
	})
	return nil
}

// image fetches, verifies and unpacks the image.
func (b *booter) image(ctx context.Context) error {
	began := time.Now()
	m, err := b.signed(ctx)
	if err != nil {
		return err
	}
	if err := b.root(m); err != nil {
		return err
	}
	b.log.Info("unpacking the image", "fetch", mib(m.Size()), "unpacked", mib(m.Unpacked), "segments", len(m.Segments))
	meter := image.NewMeter()
	var done atomic.Int64
	stop := b.progress(&done, m.Size())
	err = image.Unpack(ctx, b.mesh, m, newRoot, image.Options{Done: &done, Over: b.storage != nil && b.storage.Mounts(), Lost: func(path, attribute string) {
		b.log.Info("the root cannot hold an attribute", "path", path, "attribute", attribute)
	}})
	stop()
	peak := meter.Stop()
	if errors.Is(err, fault.Full) {
		if b.storage != nil && b.storage.HasRoot() {
			return fault.Wrap(fault.Full, err, "the image filled the root's file system").WithFix("give the root a larger one, or the node a smaller image")
		}
		free, total := image.Free()
		return fault.Wrap(fault.Full, err, "the image filled the root: of the machine's %s %s are left", mib(total), mib(free)).
			WithFix("give the node more memory, or a smaller image")
	}
	if err != nil {
		return err
	}
	from, bytes := b.mesh.From()
	took := time.Since(began)
	b.log.Info("the image is unpacked", "seconds", fmt.Sprintf("%.1f", took.Seconds()), "relay", from, "memory", mib(peak))
	b.reporter.Record(boot.Event{Stage: boot.StageImage, Took: took, Bytes: bytes, Memory: peak, From: from, Image: m.Image})
	return nil
}

// progress says every few seconds how far the image has come, until it is stopped.
func (b *booter) progress(done *atomic.Int64, total int64) (stop func()) {
	ticker, end := time.NewTicker(5*time.Second), make(chan struct{})
	go func() {
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				n := done.Load()
				b.log.Info(fmt.Sprintf("%3d %% of the image, %s of %s", 100*n/max(total, 1), mib(n), mib(total)))
			case <-end:
				return
			}
		}
	}()
	return func() { close(end) }
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// overlays fetches both kinds and puts them over the image, the runtime ones last, as they will be later too.
func (b *booter) overlays(ctx context.Context, state *session.State) error {
	began := time.Now()
	total := int64(0)
	for _, kind := range overlayKinds {
		o, err := b.mesh.Overlays(ctx, b.params.Node, kind, "", 0)
		if err != nil {
			return err
		}
		if err := lay(ctx, newRoot, o.Listing, o.Tag, state, func(ctx context.Context, ref chunk.Ref, use func(io.Reader) error) error {
			return b.mesh.Content(ctx, b.params.Node, kind, ref, use)
		}); err != nil {
			return err
		}
		total += o.Bytes
	}
	b.reporter.Record(boot.Event{Stage: boot.StageOverlay, Took: time.Since(began), Bytes: total})
	return nil
}

// overlayKinds are the kinds of overlays in the order in which they are put over the image.
var overlayKinds = []string{overlay.KindSystem, overlay.KindRuntime}

// lay puts the files of a listing below a root. What those of runtime overlays replace is kept where the service finds it.
func lay(ctx context.Context, at string, l *overlay.Listing, tag string, state *session.State, fetch func(context.Context, chunk.Ref, func(io.Reader) error) error) error {
	root, err := os.OpenRoot(at)
	if err != nil {
		return err
	}
	defer root.Close()
	tree := files.Tree{Root: root, Fetch: fetch}
	if l.Kind == overlay.KindRuntime {
		if tree.Kept, err = session.OpenKept("/"); err != nil {
			return err
		}
		defer tree.Kept.Close()
	}
	return state.Lay(ctx, tree, l, tag)
}

// installAgent copies this program to where the node's init starts it as a service.
func installAgent(root string) error {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	path := filepath.Join(root, session.Agent)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, program, 0o755)
}

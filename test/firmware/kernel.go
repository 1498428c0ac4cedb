package firmware

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/files"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/mesh"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/params"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/service"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/session"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// trustFile is where stage one carries whom it believes.
const trustFile = ".wulf/trust.json"

// kinds are the kinds of overlays in the order in which they are applied.
var kinds = []string{"system", "runtime"}

// node is the running kernel with the agent on it. It does what cmd/wulf-agent's stage one does, in the same order and
// with the same code below: only drivers, mounts and unpacking are left out, for which there is no machine here.
type node struct {
	*Machine
	log      *slog.Logger
	params   params.Params
	trust    api.NodeTrust
	mesh     *mesh.Mesh
	reporter *mesh.Reporter
	unpacked map[string][]byte // files of the initial file systems that matter here
}

// kernel starts the kernel and returns when the node is gone.
func (m *Machine) kernel(ctx context.Context, k *started) error {
	n := &node{Machine: m, log: slog.New(screen{m: m})}
	var err error
	if n.params, err = params.Parse(k.cmdline); err != nil {
		return err
	}
	if n.params.Hardware != m.cfg.Hardware {
		return fmt.Errorf("the command line is for the card %s", n.params.Hardware)
	}
	if err := n.unpackArchives(k); err != nil {
		return err
	}
	state := n.state()
	if n.params.Method == catalog.MethodOneStage {
		if err := n.oneStage(ctx, state); err != nil {
			return err
		}
	} else if err := n.twoStage(ctx, state); err != nil {
		return err
	}
	if err := session.Save(m.cfg.Dir, state); err != nil {
		return err
	}
	return n.init(ctx)
}

// unpackArchives looks into the initial file systems for what the agent needs of them.
func (n *node) unpackArchives(k *started) error {
	found := map[string][]byte{}
	n.unpacked = found
	for _, a := range k.archives {
		if a.Name == "image" { // many archives one after the other
			continue
		}
		if err := find(a.Data, found, "init", trustFile, overlayFile("system"), overlayFile("runtime")); err != nil {
			return fmt.Errorf("unpacking %s: %w", a.Name, err)
		}
	}
	if len(found["init"]) == 0 {
		return errors.New("kernel panic: there is no /init in the initial file systems")
	}
	if err := json.Unmarshal(found[trustFile], &n.trust); err != nil {
		return fmt.Errorf("stage one's trust.json: %w", err)
	}
	if n.params.Method != catalog.MethodOneStage {
		return nil
	}
	for _, a := range k.archives {
		if a.Name == "image" {
			return n.checkImage(a.Data)
		}
	}
	return errors.New("a one-stage boot without an image")
}

// overlayFile is where the overlays of a kind lie in the initial file systems of a one-stage boot.
func overlayFile(kind string) string { return api.OneStageOverlay + kind + ".json" }

// oneStage finds everything unpacked already, but for the overlays, which are laid over it here. The network is for the
// node's own init to configure.
func (n *node) oneStage(ctx context.Context, state *session.State) error {
	for _, kind := range kinds {
		raw, ok := n.unpacked[overlayFile(kind)]
		if !ok {
			return fmt.Errorf("the %s overlays are missing", kind)
		}
		l, err := overlay.DecodeListing(raw)
		if err != nil {
			return err
		}
		if err := n.lay(ctx, l, "", state); err != nil {
			return err
		}
	}
	_, err := n.dhcp(ctx, n.stageOne())
	return err
}

// lay puts the files of a listing below the machine's directory.
func (n *node) lay(ctx context.Context, l *overlay.Listing, tag string, state *session.State) error {
	root, err := os.OpenRoot(n.cfg.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	kept, err := session.OpenKept(n.cfg.Dir)
	if err != nil {
		return err
	}
	defer kept.Close()
	return state.Lay(ctx, files.Tree{Root: root, Kept: kept, Fetch: func(ctx context.Context, ref chunk.Ref, use func(io.Reader) error) error {
		if n.mesh == nil {
			return fmt.Errorf("content %s is not in the listing, and there is no network", ref.ID.Short())
		}
		return n.mesh.Content(ctx, n.params.Node, l.Kind, ref, use)
	}}, l, tag)
}

// find reads one archive, compressed or not, for the contents of some files.
func find(archive []byte, into map[string][]byte, paths ...string) error {
	plain, _, err := segment.Decompress(bytes.NewReader(archive))
	if err != nil {
		return err
	}
	defer plain.Close()
	r := segment.NewReader(plain)
	for {
		e, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for _, p := range paths {
			if e.Path == p {
				if into[p], err = io.ReadAll(r); err != nil {
					return err
				}
			}
		}
	}
}

// checkImage looks whether an image that came as one file can be unpacked by a kernel.
func (n *node) checkImage(image []byte) error {
	plain, _, err := segment.Decompress(bytes.NewReader(image))
	if err != nil {
		return err
	}
	defer plain.Close()
	if _, err := io.Copy(io.Discard, plain); err != nil { // each frame carries a check sum
		n.wrong("the image as one file: " + err.Error())
	}
	return nil
}

// state is what stage one hands to the service.
func (n *node) state() *session.State {
	p := n.params
	return &session.State{
		Node: p.Node, Hardware: p.Hardware, Boot: p.Boot, Method: p.Method, Revision: p.Revision, Manifest: p.Image,
		Relays: p.Relays, Trust: n.trust, Ticket: p.Ticket, Booted: time.Now().UTC(),
	}
}

// twoStage gets the image and the overlays.
func (n *node) twoStage(ctx context.Context, state *session.State) (err error) {
	began := time.Now()
	ack, err := n.dhcp(ctx, n.stageOne())
	if err != nil {
		return err
	}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil {
		n.host.SetMTU(int(mtu))
	}
	trust, err := pki.ParseTrust([]byte(n.trust.CA))
	if err != nil {
		return err
	}
	trust.UnsetClock, trust.Now = true, n.clock
	n.mesh = mesh.New(mesh.Config{Trust: trust, Relays: n.params.Relays, Dial: n.host.Dial, Log: n.log, Trouble: func(what string, err error, waiting bool) {
		n.reporter.Trouble(what, err, waiting)
	}})
	defer n.mesh.Close()
	n.reporter = mesh.NewReporter(n.mesh, boot.Event{
		Node: n.params.Node, Hardware: n.params.Hardware, Boot: n.params.Boot, Revision: n.params.Revision, Manifest: n.params.Image,
	})
	reports, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { n.reporter.Run(reports); close(ended) }()
	defer func() {
		if err != nil && err != errReset && ctx.Err() == nil {
			n.reporter.Record(boot.Event{Stage: boot.StageFailed, Error: err.Error(), Fix: fault.Fix(err)})
			n.reporter.Flush(5 * time.Second)
		}
		stop()
		<-ended
	}()

	if n.flawed().Robbed {
		if _, err := n.mesh.Claim(ctx, n.params.Ticket); err != nil {
			return err
		}
		n.mesh.SetSession(api.Session{})
	}
	held, err := n.mesh.Claim(ctx, n.params.Ticket)
	if err != nil {
		return err
	}
	n.reporter.Record(boot.Event{Stage: boot.StageStageOne, Took: time.Since(began)})
	if err := n.passes(ctx, boot.StageStageOne); err != nil {
		return err
	}
	if err := n.disks(ctx, held.Storage); err != nil {
		return err
	}
	held.Storage = nil
	if err := n.image(ctx); err != nil {
		return err
	}
	if err := n.passes(ctx, boot.StageImage); err != nil {
		return err
	}
	state.Session, state.Ticket = &held, ""
	if len(held.Relays) > 0 {
		state.Relays = held.Relays
	}
	if err := n.overlays(ctx, state); err != nil {
		return err
	}
	n.reporter.Flush(10 * time.Second)
	return n.passes(ctx, boot.StageOverlay)
}

// image fetches the manifest and all chunks of the image; the first alone, then several at once.
func (n *node) image(ctx context.Context) error {
	began := time.Now()
	b, err := n.mesh.FetchID(ctx, n.params.Image, chunk.MaxManifest)
	if err != nil {
		return err
	}
	keys := (&catalog.Cluster{ManifestKeys: n.trust.ManifestKeys}).SigningKeys()
	m, err := chunk.Open(b, keys)
	if err != nil {
		return err
	}
	if err := n.room(m); err != nil {
		return err
	}
	refs := make([]chunk.Ref, 0, len(m.Segments)+1)
	for _, s := range m.Segments {
		refs = append(refs, s.Ref)
	}
	if !m.Extras.ID.IsZero() {
		refs = append(refs, m.Extras)
	}
	if len(refs) == 0 {
		return errors.New("the image has no content")
	}
	one := func(ctx context.Context, ref chunk.Ref) error {
		b, err := n.mesh.Fetch(ctx, ref)
		if err == nil && chunk.RefOf(b) != ref {
			n.wrong("the agent took chunk " + ref.ID.Short())
		}
		return err
	}
	if err := one(ctx, refs[0]); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, ref := range refs[1:] {
		g.Go(func() error { return one(gctx, ref) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	from, size := n.mesh.From()
	n.note("has the image: %d chunks, %d bytes in %s, most from %s", len(refs), size, time.Since(began).Round(time.Millisecond), from)
	n.reporter.Record(boot.Event{Stage: boot.StageImage, Took: time.Since(began), Bytes: size, From: from, Image: m.Image})
	return nil
}

// overlays puts the overlays' files below the machine's directory.
func (n *node) overlays(ctx context.Context, state *session.State) error {
	began := time.Now()
	total := int64(0)
	for _, kind := range kinds {
		o, err := n.mesh.Overlays(ctx, n.params.Node, kind, "", 0)
		if err != nil {
			return err
		}
		if err := n.lay(ctx, o.Listing, o.Tag, state); err != nil {
			return err
		}
		total += o.Bytes
	}
	n.note("has its overlays, %d bytes", total)
	n.reporter.Record(boot.Event{Stage: boot.StageOverlay, Took: time.Since(began), Bytes: total})
	return nil
}

// init is the node's own init, with the agent's service under it, until the machine has no power.
func (n *node) init(ctx context.Context) error {
	n.reach(boot.StageInit)
	return service.Run(ctx, service.Config{
		Root: n.cfg.Dir, Dial: n.host.Dial, Log: n.log,
		Reached: func(ctx context.Context) error {
			if err := n.passes(ctx, boot.StageInit); err != nil {
				return err
			}
			if err := sleep(ctx, initTime); err != nil {
				return err
			}
			n.note("is up")
			n.reach(boot.StageUp)
			n.setUp(true)
			if n.flawed().Mute {
				go n.mute(ctx)
			}
			return nil
		},
	})
}

// screen is the log of the agent: it becomes part of the machine's story, and what it says of failures is counted.
type screen struct {
	m     *Machine
	attrs []slog.Attr
}

// Enabled takes everything from Info on.
func (s screen) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// Handle notes a line.
func (s screen) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	each := func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		if err, ok := a.Value.Any().(error); ok {
			s.failure(err)
		}
		return true
	}
	for _, a := range s.attrs {
		each(a)
	}
	r.Attrs(each)
	s.m.note("agent: %s", b.String())
	return nil
}

// failure counts a request that a relay did not answer well.
func (s screen) failure(err error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.counts.Retries++
	if errors.Is(err, fault.Corrupt) {
		s.m.counts.Wrong++
	}
}

// WithAttrs adds to every line.
func (s screen) WithAttrs(attrs []slog.Attr) slog.Handler {
	s.attrs = append(append([]slog.Attr(nil), s.attrs...), attrs...)
	return s
}

// WithGroup has no meaning on a screen.
func (s screen) WithGroup(string) slog.Handler { return s }

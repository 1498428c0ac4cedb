package storm

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/mesh"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/params"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// trustFile is where stage one carries whom it believes.
const trustFile = ".wulf/trust.json"

// workers are how many chunks a machine fetches at once.
const workers = 4

// agent is the kernel with the agent on it. It does what stage one and the service do, in the same order: only drivers,
// mounts and unpacking are left out, for which there is no machine here.
func (m *machine) agent(ctx context.Context, cmdline, stageOne string) error {
	p, err := params.Parse(cmdline)
	if err != nil {
		return err
	}
	if p.Hardware != m.Hardware || p.Node != m.Name {
		return fmt.Errorf("the command line is for node %s with the card %s", p.Node, p.Hardware)
	}
	trust, err := m.storm.trusts.get(ctx, m, stageOne)
	if err != nil {
		return step(err, "reading stage one")
	}
	if _, err := m.dhcp(ctx, m.stageOne()); err != nil {
		return err
	}
	mm := mesh.New(mesh.Config{Trust: trust.ca, Relays: p.Relays, Dial: m.dial, Log: slog.New(complaints{m})})
	defer mm.Close()
	reporter := mesh.NewReporter(mm, boot.Event{Node: p.Node, Hardware: p.Hardware, Boot: p.Boot, Revision: p.Revision, Manifest: p.Image})
	reports, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { reporter.Run(reports); close(ended) }()
	defer func() { stop(); <-ended }()

	if _, err := mm.Claim(ctx, p.Ticket); err != nil {
		return err
	}
	m.reach(atStageOne, 0)
	reporter.Record(boot.Event{Stage: boot.StageStageOne, Took: m.took[atStageOne]})
	image, err := m.image(ctx, mm, p, trust)
	if err != nil {
		return m.lost(reporter, err)
	}
	from, n := mm.From()
	m.reach(atImage, n)
	reporter.Record(boot.Event{Stage: boot.StageImage, Took: m.took[atImage], Bytes: n, From: from, Image: image})
	total := int64(0)
	for _, kind := range []string{"system", "runtime"} {
		o, err := mm.Overlays(ctx, p.Node, kind, "", 0)
		if err != nil {
			return m.lost(reporter, err)
		}
		total += o.Bytes
	}
	m.reach(atOverlay, total)
	m.count(string(from), n+total)
	m.storm.tally.bytes.Add(total)
	reporter.Record(boot.Event{Stage: boot.StageOverlay, Took: m.took[atOverlay], Bytes: total})
	reporter.Record(boot.Event{Stage: boot.StageInit})
	reporter.Record(boot.Event{Stage: boot.StageUp})
	reporter.Flush(10 * time.Second)
	m.reach(atUp, 0)
	return nil
}

// lost tells the relays why a boot ended.
func (m *machine) lost(r *mesh.Reporter, err error) error {
	r.Record(boot.Event{Stage: boot.StageFailed, Error: err.Error()})
	r.Flush(5 * time.Second)
	return err
}

// image fetches the manifest and all chunks of the image; the first alone, then several at once. All are verified. It
// returns what the image is called.
func (m *machine) image(ctx context.Context, mm *mesh.Mesh, p params.Params, trust *trusted) (string, error) {
	t := m.storm.tally
	b, err := mm.FetchID(ctx, p.Image, chunk.MaxManifest)
	if err != nil {
		return "", err
	}
	t.verified(p.Image, int64(len(b)))
	manifest, err := chunk.Open(b, trust.keys)
	if err != nil {
		return "", err
	}
	refs := make([]chunk.Ref, 0, len(manifest.Segments)+1)
	for _, s := range manifest.Segments {
		refs = append(refs, s.Ref)
	}
	if !manifest.Extras.ID.IsZero() {
		refs = append(refs, manifest.Extras)
	}
	if len(refs) == 0 {
		return "", errors.New("the image has no content")
	}
	one := func(ctx context.Context, ref chunk.Ref) error {
		err := mm.Stream(ctx, ref, m.discard)
		if err == nil {
			t.verified(ref.ID, ref.Size)
			t.bytes.Add(ref.Size)
		}
		return err
	}
	if err := one(ctx, refs[0]); err != nil {
		return "", err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, ref := range refs[1:] {
		g.Go(func() error { return one(gctx, ref) })
	}
	return manifest.Image, g.Wait()
}

// discard reads a stream to its end, with a buffer that other machines use too.
func (m *machine) discard(r io.Reader) error {
	buffer := m.storm.buffers.Get().(*[]byte)
	defer m.storm.buffers.Put(buffer)
	for {
		switch _, err := r.Read(*buffer); err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

// trusts are what stage ones say of the cluster, read once for all machines that boot the same one.
type trusts struct {
	turn chan struct{} // held by the machine that looks or reads
	of   map[string]*trusted
}

type trusted struct {
	keys []ed25519.PublicKey // that sign manifests
	ca   *pki.Trust
}

// get is what the stage one at a URL, which is named by its digest, trusts.
func (t *trusts) get(ctx context.Context, m *machine, url string) (*trusted, error) {
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	name := url[max(0, len(url)-64):]
	if have := t.of[name]; have != nil {
		return have, nil
	}
	archive, _, err := m.get(ctx, url, connectTime, true)
	if err != nil {
		return nil, err
	}
	raw, err := file(archive, trustFile)
	if err != nil {
		return nil, err
	}
	var node api.NodeTrust
	if err := json.Unmarshal(raw, &node); err != nil {
		return nil, step(err, "%s", trustFile)
	}
	have := &trusted{keys: (&catalog.Cluster{ManifestKeys: node.ManifestKeys}).SigningKeys()}
	if have.ca, err = pki.ParseTrust([]byte(node.CA)); err != nil {
		return nil, err
	}
	t.of[name] = have
	return have, nil
}

// file is the content of a file in an archive, which may be compressed.
func file(archive []byte, path string) ([]byte, error) {
	plain, _, err := segment.Decompress(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	for r := segment.NewReader(plain); ; {
		e, err := r.Next()
		if err != nil {
			return nil, step(err, "looking for %s", path)
		}
		if e.Path == path {
			return io.ReadAll(r)
		}
	}
}

// complaints is the log of a machine's agent: what it says of failures is counted.
type complaints struct{ m *machine }

// Enabled takes everything from Info on.
func (complaints) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// Handle counts a failure: a request that a relay did not answer well, and that is made again.
func (c complaints) Handle(ctx context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		err, ok := a.Value.Any().(error)
		if !ok {
			return true
		}
		t := c.m.storm.tally
		t.retry("agent")
		if errors.Is(err, fault.Corrupt) {
			t.wrong.Add(1)
		}
		t.fail(c.m.Name, err, false)
		return false
	})
	return nil
}

// WithAttrs has no meaning here.
func (c complaints) WithAttrs([]slog.Attr) slog.Handler { return c }

// WithGroup has no meaning here.
func (c complaints) WithGroup(string) slog.Handler { return c }

package httpd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
	"github.com/wulfmesh/wulfmesh/relay/feed"
)

// Bounds of rendering.
const (
	renderTime = 20 * time.Second
	maxBundles = 256      // parsed overlays kept
	maxTars    = 64 << 20 // bytes of rendered overlays kept

	// A secret that was set a moment ago comes after the catalog that names it. A node that boots is made to wait so long
	// for it; then it boots without.
	secretsWait = 5 * time.Second
)

// overlays renders nodes' overlays. It keeps what all nodes of one revision share: parsed overlays, which their
// digest names for ever, and the list of all nodes; and what it rendered last for a node, which asks for its runtime
// overlays again and again.
type overlays struct {
	cfg Config

	mu      sync.Mutex
	bundles map[chunk.ID]*overlay.Bundle
	hosts   func() []overlay.Host
	of      catalog.Revision // that hosts was made for
	tars    map[tarKey]*rendered
	bytes   int           // of tars
	secrets *feed.Secrets // with which tars were made
}

type tarKey struct {
	node catalog.NodeName
	kind string
}

// rendered are a node's overlays of a kind, and what they were made of: any change of that makes them old.
type rendered struct {
	catalog  *catalog.Catalog
	secrets  *feed.Secrets
	body     []byte // a tar
	tag      string // ETag: equal bytes have an equal one, on every relay
	withheld bool   // it asks for secrets that this relay does not hold
	pending  bool   // and that it may hold: it has not been given them yet
}

func newOverlays(cfg Config) *overlays {
	return &overlays{cfg: cfg, bundles: map[chunk.ID]*overlay.Bundle{}, tars: map[tarKey]*rendered{}}
}

// bundle returns an overlay's content.
func (o *overlays) bundle(ctx context.Context, ref chunk.Ref) (*overlay.Bundle, error) {
	o.mu.Lock()
	b := o.bundles[ref.ID]
	o.mu.Unlock()
	if b != nil {
		return b, nil
	}
	raw, err := o.cfg.Chunks.ReadAll(ctx, ref, overlay.MaxBundle)
	if err != nil {
		return nil, err
	}
	if b, err = overlay.Decode(raw); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.bundles) >= maxBundles {
		clear(o.bundles)
	}
	o.bundles[ref.ID] = b
	return b, nil
}

// content returns what nodes get of an overlay: the site's files over those that come with wulfmesh.
func (o *overlays) content(ctx context.Context, declared *catalog.Overlay) (*overlay.Bundle, error) {
	base, own := declared.Layers()
	if own.ID.IsZero() {
		return o.bundle(ctx, base)
	}
	site, err := o.bundle(ctx, own)
	if err != nil || base.ID.IsZero() {
		return site, err
	}
	shipped, err := o.bundle(ctx, base)
	if err != nil {
		return nil, err
	}
	return overlay.Lay(shipped, site)
}

func (o *overlays) allHosts(c *catalog.Catalog) func() []overlay.Host {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.hosts == nil || o.of != c.Revision {
		o.hosts, o.of = overlay.Hosts(c), c.Revision
	}
	return o.hosts
}

// patient is tar for a node that boots: what it does not get now, it may have to do without for long.
func (o *overlays) patient(ctx context.Context, node catalog.NodeName, kind string) (*rendered, error) {
	giveUp := time.NewTimer(secretsWait)
	defer giveUp.Stop()
	for {
		changed := o.cfg.Feed.SecretsChanged()
		made, err := o.tar(ctx, node, kind)
		if err != nil || !made.pending {
			return made, err
		}
		select {
		case <-changed:
		case <-giveUp.C:
			return made, nil
		case <-ctx.Done():
			return made, nil
		}
	}
}

// tar renders a node's overlays of a kind.
func (o *overlays) tar(ctx context.Context, node catalog.NodeName, kind string) (*rendered, error) {
	made := rendered{catalog: o.cfg.Feed.Catalog(), secrets: o.cfg.Feed.Secrets()}
	key := tarKey{node, kind}
	o.mu.Lock()
	have := o.tars[key]
	o.mu.Unlock()
	if have != nil && have.catalog == made.catalog && have.secrets == made.secrets {
		return have, nil
	}
	files, err := o.render(ctx, &made, node, kind)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := overlay.WriteTar(&b, files); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b.Bytes())
	made.body, made.tag = b.Bytes(), `"`+hex.EncodeToString(sum[:])+`"`
	o.keep(key, &made)
	return &made, nil
}

// keep remembers a rendering, at the cost of others if need be.
func (o *overlays) keep(key tarKey, made *rendered) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.secrets != made.secrets { // nothing is kept of secrets that this relay may perhaps no longer hold
		o.secrets, o.bytes = made.secrets, 0
		clear(o.tars)
	}
	o.drop(key)
	for old := range o.tars {
		if o.bytes+len(made.body) <= maxTars {
			break
		}
		o.drop(old)
	}
	if len(made.body) <= maxTars {
		o.tars[key] = made
		o.bytes += len(made.body)
	}
}

func (o *overlays) drop(key tarKey) {
	if old := o.tars[key]; old != nil {
		o.bytes -= len(old.body)
		delete(o.tars, key)
	}
}

// render makes a node's files of one kind, from the catalog and secrets of made, and notes in it whether secrets were
// asked for that are not held here.
func (o *overlays) render(ctx context.Context, made *rendered, node catalog.NodeName, kind string) ([]overlay.Rendered, error) {
	ctx, cancel := context.WithTimeout(ctx, renderTime)
	defer cancel()
	c := made.catalog
	r, err := c.Resolve(node)
	if err != nil {
		return nil, err
	}
	names := r.Settings.Overlays.System
	if kind == kindRuntime {
		names = r.Settings.Overlays.Runtime
	}
	var bundles []*overlay.Bundle
	for _, name := range names {
		declared, ok := c.Overlay(catalog.OverlayName(name))
		if !ok {
			return nil, fault.New(fault.NotFound, "overlay %s of node %s does not exist", name, node)
		}
		b, err := o.content(ctx, declared)
		if err != nil {
			return nil, fault.Wrap(fault.KindOf(err), err, "overlay %s", name)
		}
		bundles = append(bundles, b)
	}
	allowed := o.mayHold(c, r)
	var secrets overlay.Secrets
	if allowed {
		if secrets, err = secretsOf(made.secrets, r); err != nil {
			return nil, err
		}
	}
	data := overlay.NewData(c, r, o.allHosts(c), secrets)
	files, err := overlay.Render(ctx, bundles, data)
	made.withheld = data.Withheld()
	made.pending = made.withheld && allowed
	return files, err
}

// mayHold tells whether the catalog lets this relay hold the node's secrets. What it was given before may be of another
// time, so that alone says nothing.
func (o *overlays) mayHold(c *catalog.Catalog, r *catalog.Resolved) bool {
	self, ok := c.Relay(o.cfg.Name)
	return ok && r.Primary != nil && r.Primary.Network != nil && r.Primary.Network.Secrets == catalog.SecretsRelay &&
		slices.Contains(self.Networks, r.Primary.Network.Name)
}

// secretsOf are the secrets of a node, as far as they are held.
func secretsOf(held *feed.Secrets, r *catalog.Resolved) (overlay.Secrets, error) {
	key, ok := held.Networks[r.Primary.Network.Name]
	if !ok {
		return overlay.Secrets{}, nil
	}
	k, err := key.SSHHostKey(string(r.Node.Name), pki.SSHEd25519)
	if err != nil {
		return overlay.Secrets{}, err
	}
	return overlay.Secrets{
		SSHHostKeys: []overlay.HostKey{{Type: pki.SSHEd25519, Private: string(k.Private.Reveal()), Public: strings.TrimSpace(k.Public)}},
		Open: func(s catalog.Secret) (string, bool) {
			v, ok := held.Value(s)
			return string(v.Reveal()), ok
		},
	}, nil
}

// The kinds of overlays.
const (
	kindSystem  = "system"
	kindRuntime = "runtime"
)

// nodeOverlay serves a node its own overlays of a kind, as a tar.
func (s *Server) nodeOverlay(w http.ResponseWriter, r *http.Request) error {
	node, kind := catalog.NodeName(r.PathValue("node")), r.PathValue("kind")
	h := held(r)
	if node != catalog.NodeName(h.Node) {
		return fault.New(fault.Denied, "node %s may not have the overlays of %.80q", h.Node, node)
	}
	if kind != kindSystem && kind != kindRuntime {
		return fault.New(fault.NotFound, "overlays are of the kind system or runtime, not %.80q", kind)
	}
	render, has := s.overlays.patient, r.Header.Get("If-None-Match")
	if has != "" {
		render = s.overlays.tar
	}
	made, err := render(r.Context(), node, kind)
	if err != nil {
		s.cfg.Record(boot.Event{Stage: boot.StageImage, Node: node, Boot: h.Boot, Error: err.Error()})
		return err
	}
	w.Header().Set("Cache-Control", "private, no-cache")
	if made.pending && has != "" { // what the node has is better than a rendering that lacks a file
		w.Header().Set("ETag", has)
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("ETag", made.tag)
	w.Header().Set("Content-Type", "application/x-tar")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(made.body))
	if made.withheld && has == "" {
		s.cfg.Record(boot.Event{Stage: boot.StageImage, Node: node, Boot: h.Boot, Message: "its secrets are not held by relay " + string(s.cfg.Name) + ": it boots without"})
	}
	return nil
}

// bootOverlay serves the overlays of both kinds to the boot loader of a one-stage boot, which puts them after the
// image. Plain HTTP is all that it speaks; the ticket is good for this once.
func (s *Server) bootOverlay(w http.ResponseWriter, r *http.Request) error {
	t, _, err := s.openTicket(r.URL.Query().Get("ticket"))
	if err != nil {
		return err
	}
	if hw, err := catalog.ParseHardwareAddr(r.PathValue("hw")); err != nil || hw != hardware(t) {
		return fault.New(fault.Denied, "the ticket is another machine's")
	}
	// iPXE asks for a size first (HEAD), and again when a relay breaks off: within one boot, by one address, that is the
	// same use.
	if !s.claims.take(t, "overlay", remote(r).String()) {
		return fault.New(fault.Denied, "the overlays of boot %s were fetched already", t.Boot)
	}
	var b bytes.Buffer
	if err := s.overlays.archive(r.Context(), &b, catalog.NodeName(t.Node)); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.Write(b.Bytes()) // a reader that is gone asks again
	return nil
}

// archive writes a node's overlays as a cpio archive that the kernel unpacks. The files in it are tars, which the agent
// applies before it starts the node's init: a kernel that unpacks makes no missing directories, and would replace a
// symbolic link to a directory, as /lib is one, by a directory.
func (o *overlays) archive(ctx context.Context, out io.Writer, node catalog.NodeName) error {
	w := segment.NewWriter(out)
	if err := w.WriteEntry(&segment.Entry{Path: path.Dir(api.OneStageOverlay), Type: segment.Dir, Mode: 0o755}, nil); err != nil {
		return err
	}
	for _, kind := range []string{kindSystem, kindRuntime} {
		made, err := o.patient(ctx, node, kind)
		if err != nil {
			return err
		}
		e := segment.Entry{Path: api.OneStageOverlay + kind + ".tar", Type: segment.File, Mode: 0o600, Size: int64(len(made.body))}
		if err := w.WriteEntry(&e, bytes.NewReader(made.body)); err != nil {
			return err
		}
	}
	return w.Close()
}

func contextWith(r *http.Request, h holder) context.Context {
	return context.WithValue(r.Context(), holderKey{}, h)
}

package httpd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/render"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
	"github.com/wulfmesh/wulfmesh/relay/feed"
)

// Bounds of rendering.
const (
	renderTime  = time.Minute
	maxMemory   = 64 << 20 // bytes of what templates made
	maxListings = 64 << 20 // bytes of what nodes are told
	maxContents = 64 << 20 // bytes of large files, compressed

	// A secret that was set a moment ago comes after the catalog that names it. A node that boots is made to wait so long
	// for it; then it boots without.
	secretsWait = 5 * time.Second
)

// overlays renders nodes' overlays, and keeps what it rendered last for a node, which asks for its runtime overlays
// again and again. What many nodes have alike is made once, and kept once.
type overlays struct {
	cfg      Config
	renderer *render.Renderer
	press    *segment.Compressor

	mu       sync.Mutex
	listings map[listingKey]*rendered
	bytes    int                 // of listings
	secrets  *feed.Secrets       // with which listings were made
	contents map[chunk.ID][]byte // of large files, compressed
	held     int                 // bytes of contents
}

type listingKey struct {
	node catalog.NodeName
	kind string
}

// rendered are a node's overlays of a kind, and what they were made of: any change of that makes them old.
type rendered struct {
	catalog  *catalog.Catalog
	secrets  *feed.Secrets
	result   *overlay.Result
	asked    time.Time // see overlay.Listing
	id       chunk.ID  // of what the node gets: equal files have an equal one, on every relay
	body     []byte    // its listing, compressed
	withheld bool      // it asks for secrets that this relay does not hold
	pending  bool      // and that it may hold: it has not been given them yet
	bare     bool      // whoever asks is to have no secret
}

// tag is the ETag of the listing.
func (r *rendered) tag() string { return `"` + hex.EncodeToString(r.id[:]) + `"` }

// file finds a large file of the listing by the digest of its content.
func (r *rendered) file(id chunk.ID) *overlay.Rendered {
	i := slices.IndexFunc(r.result.Files, func(f overlay.Rendered) bool { return f.Type == overlay.TypeFile && f.ContentID() == id })
	if i < 0 {
		return nil
	}
	return &r.result.Files[i]
}

func newOverlays(cfg Config) *overlays {
	press, err := segment.NewCompressor()
	if err != nil {
		panic(err) // its options are constants
	}
	return &overlays{
		cfg: cfg, renderer: render.New(cfg.Chunks, maxMemory), press: press, listings: map[listingKey]*rendered{}, contents: map[chunk.ID][]byte{},
	}
}

// patient is now for a node that boots: what it does not get now, it may have to do without for long.
func (o *overlays) patient(ctx context.Context, node catalog.NodeName, kind string) (*rendered, error) {
	return o.withSecrets(ctx, func() (*rendered, error) { return o.now(ctx, node, kind) })
}

// withSecrets renders, and does so again while secrets are on their way, for so long as a node that boots is made to wait.
func (o *overlays) withSecrets(ctx context.Context, render func() (*rendered, error)) (*rendered, error) {
	giveUp := time.NewTimer(secretsWait)
	defer giveUp.Stop()
	for {
		changed := o.cfg.Feed.SecretsChanged()
		made, err := render()
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

// now is what a node is to have of its overlays of a kind as they are declared now.
func (o *overlays) now(ctx context.Context, node catalog.NodeName, kind string) (*rendered, error) {
	made := rendered{catalog: o.cfg.Feed.Catalog(), secrets: o.cfg.Feed.Secrets()}
	key := listingKey{node, kind}
	o.mu.Lock()
	have := o.listings[key]
	o.mu.Unlock()
	if have != nil && have.catalog == made.catalog && have.secrets == made.secrets {
		return have, nil
	}
	if err := o.render(ctx, &made, node, kind); err != nil {
		return nil, err
	}
	made.id = identity(made.result, made.asked)
	if have != nil && have.id == made.id {
		made.body = have.body
	} else {
		l := overlay.List(kind, made.result.Files, made.result.Hooks, overlay.MaxInline)
		l.Asked = made.asked
		plain, err := json.Marshal(l)
		if err != nil {
			return nil, err
		}
		made.body = o.press.Compress(plain)
	}
	o.keep(key, &made)
	return &made, nil
}

// identity is a digest of all that a node gets, which takes no look at contents.
func identity(r *overlay.Result, asked time.Time) chunk.ID {
	h := sha256.New()
	e := json.NewEncoder(h)
	for i := range r.Files {
		f := &r.Files[i]
		l := overlay.Listed{Path: f.Path, Type: f.Type, Mode: f.Mode, UID: f.UID, GID: f.GID, Target: f.Target, Xattrs: f.Xattrs, Overlay: f.Overlay}
		if f.Type == overlay.TypeFile {
			l.Digest = f.ContentID()
		}
		e.Encode(l) // a digest takes everything
	}
	e.Encode(r.Hooks)
	e.Encode(asked)
	return chunk.ID(h.Sum(nil))
}

// keep remembers a rendering, at the cost of others if need be.
func (o *overlays) keep(key listingKey, made *rendered) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.under(made.secrets)
	o.drop(key)
	size := made.size()
	for old := range o.listings {
		if o.bytes+size <= maxListings {
			break
		}
		o.drop(old)
	}
	if size <= maxListings {
		o.listings[key] = made
		o.bytes += size
	}
}

func (o *overlays) drop(key listingKey) {
	if old := o.listings[key]; old != nil {
		o.bytes -= old.size()
		delete(o.listings, key)
	}
}

// size is about how many bytes a rendering takes for itself. What many nodes have alike is held once, by the renderer: a file
// of which nothing was read of this node.
func (r *rendered) size() int {
	n := len(r.body)
	for i := range r.result.Files {
		f := &r.result.Files[i]
		if slices.ContainsFunc(f.Inputs, func(in overlay.Input) bool { return in.Scope == overlay.ScopeNode || in.Scope == overlay.ScopeSecret }) {
			n += len(f.Content)
		}
	}
	return n
}

// content is the content of a large file of a node's overlays, compressed; nil if it has no such file. It is compressed
// once for all nodes.
func (o *overlays) content(ctx context.Context, node catalog.NodeName, kind string, id chunk.ID) ([]byte, error) {
	made, err := o.now(ctx, node, kind)
	if err != nil {
		return nil, err
	}
	f := made.file(id)
	if f == nil {
		return nil, nil
	}
	o.mu.Lock()
	b := o.contents[id]
	o.mu.Unlock()
	if b != nil {
		return b, nil
	}
	b = o.press.Compress(f.Content)
	o.keepContent(id, b, made.secrets)
	return b, nil
}

// keepContent remembers the compressed content of a large file, at the cost of others if need be.
func (o *overlays) keepContent(id chunk.ID, b []byte, with *feed.Secrets) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.under(with)
	if o.contents[id] != nil || len(b) > maxContents {
		return
	}
	for old, c := range o.contents {
		if o.held+len(b) <= maxContents {
			break
		}
		delete(o.contents, old)
		o.held -= len(c)
	}
	o.contents[id] = b
	o.held += len(b)
}

// under forgets everything when secrets are others: nothing is kept of those that this relay may perhaps no longer hold.
// It is called with mu held.
func (o *overlays) under(secrets *feed.Secrets) {
	if o.secrets != secrets {
		o.secrets, o.bytes, o.held = secrets, 0, 0
		clear(o.listings)
		clear(o.contents)
	}
}

// render makes a node's files of one kind, from the catalog and secrets of made, and notes in it whether secrets were
// asked for that are not held here.
func (o *overlays) render(ctx context.Context, made *rendered, node catalog.NodeName, kind string) error {
	// What is begun is brought to its end, even if the node goes: most of it is made for all nodes, and the next one to ask
	// would begin anew. Where a template takes longer than nodes wait, because the relay has no processor to spare, none of
	// them would ever get it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renderTime)
	defer cancel()
	c := made.catalog
	r, err := c.Resolve(node)
	if err != nil {
		return err
	}
	names := r.Settings.Overlays.System
	if kind == overlay.KindRuntime {
		names, made.asked = r.Settings.Overlays.Runtime, r.Node.Synced
	}
	allowed := !made.bare && o.mayHold(c, r)
	subject := render.Subject{Node: r}
	if allowed {
		if subject.Secrets, err = secretsOf(made.secrets, r); err != nil {
			return err
		}
	}
	if subject.Server, err = o.serverOf(ctx, c, r); err != nil {
		return err
	}
	if made.result, err = o.renderer.Node(ctx, c, subject, names); err != nil {
		return mendable(err, node)
	}
	made.withheld = made.result.Withheld
	made.pending = made.withheld && allowed
	return nil
}

// mendable says how the failure of a template is mended, for it goes to whoever asks why the node does not boot.
func mendable(err error, node catalog.NodeName) error {
	if !errors.Is(err, fault.Invalid) {
		return err
	}
	fix := "mend the template, and see that it works: wulf overlay check --node " + string(node)
	if had := fault.Fix(err); had != "" {
		fix = had + "; then: wulf overlay check --node " + string(node)
	}
	return fault.Wrap(fault.Invalid, err, "").WithFix("%s", fix)
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
	keys, err := hostKeys(key, r)
	if err != nil {
		return overlay.Secrets{}, err
	}
	return overlay.Secrets{SSHHostKeys: keys, Open: func(s catalog.Secret) (string, bool) {
		v, ok := held.Value(s)
		return string(v.Reveal()), ok
	}}, nil
}

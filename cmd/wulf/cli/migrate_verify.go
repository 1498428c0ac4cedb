package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/render"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

// Bounds of what a verification tells.
const (
	maxUnlike     = 10_000 // kinds of differences that are kept, whatever is shown of them
	shownUnlike   = 40     // that are shown where not all are asked for
	shownDiff     = 12     // lines of a textual difference
	verifyMemory  = 256 << 20
	veiledSecret  = "(a secret)" // what both sides are rendered with in place of one
	exceptionsDoc = "docs/from-warewulf.md"
)

// verification is how nodes as Warewulf has them compare with what they are here.
type verification struct {
	Nodes       int      `json:"nodes"`
	Unlike      int      `json:"unlike"` // nodes that differ
	Files       int      `json:"files"`  // compared, of all nodes
	Differences []unlike `json:"differences"`
	Excepted    []unlike `json:"excepted"` // differences that are meant to be; What says why
}

// unlike is a difference that nodes have in common.
type unlike struct {
	Nodes   string   `json:"nodes"` // folded
	Count   int      `json:"count"`
	Kind    string   `json:"kind"`              // node, setting, boot or file
	Subject string   `json:"subject,omitempty"` // a setting's path, a file's
	What    string   `json:"what"`              // in a line
	Of      string   `json:"of,omitempty"`      // the node that Diff, or the values in What, are of
	Diff    []string `json:"diff,omitempty"`    // of contents: "-" Warewulf's lines, "+" ours
}

// verifier compares nodes. Any number of them may be compared at once.
type verifier struct {
	cl      *client
	catalog *catalog.Catalog
	back    *warewulf.Nodes // what is declared here, in Warewulf's words
	nodes   *warewulf.Nodes
	there   *offline
	here    *render.Renderer
	bundles map[string]*layer

	mu       sync.Mutex
	unlike   map[unlikeKey]*unlikeNodes
	excepted map[unlikeKey]*unlikeNodes
	files    int
}

type unlikeKey struct{ kind, subject, what string }

type unlikeNodes struct {
	names []string
	unlike
}

// layer is an overlay of Warewulf's, or why there is none.
type layer struct {
	overlay.Layer
	site bool // not one that came with Warewulf
	err  error
}

func (p *program) migrateVerify(c *cli.Context) error {
	l, err := p.readLegacy(c)
	if err != nil {
		return err
	}
	inv, err := l.inventory(c)
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(l.nodes.Nodes))
	if c.NArg() > 0 {
		if names, err = newNames(c.Args().Slice()); err != nil {
			return err
		}
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	v, err := newVerifier(cl, l, inv)
	if err != nil {
		return err
	}
	count := len(names)
	if c.NArg() == 0 {
		count += v.strangers()
	}
	group, ctx := errgroup.WithContext(c.Context)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, name := range names {
		group.Go(func() error { return v.compare(ctx, name) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	out := v.found(count)
	if err := p.show(c, out, func(r *report) { out.print(r, c.Bool("all")) }); err != nil {
		return err
	}
	if len(out.Differences) > 0 {
		return fault.New(fault.NotFound, "%s of %d differ from what Warewulf has", plural(out.Unlike, "node"), out.Nodes)
	}
	p.say("%s: all is as Warewulf has it; %s compared", plural(out.Nodes, "node"), plural(out.Files, "file"))
	return nil
}

func newVerifier(cl *client, l *legacy, inv inventory) (*verifier, error) {
	c, err := cl.wholeCatalog()
	if err != nil {
		return nil, err
	}
	veil(l.nodes)
	there, err := l.offline(inv)
	if err != nil {
		return nil, err
	}
	there.world.Mesh = c.Cluster.Name // so that who asks who renders gets one answer
	profiles, nodes := values(c.Profiles()), values(c.Nodes())
	v := &verifier{
		cl: cl, catalog: c, back: warewulf.Back(c.NetworkOf, profiles, nodes), nodes: l.nodes, there: there, here: render.New(chunksOf{cl}, verifyMemory),
		bundles: map[string]*layer{}, unlike: map[unlikeKey]*unlikeNodes{}, excepted: map[unlikeKey]*unlikeNodes{},
	}
	there.memo = overlay.NewMemo(verifyMemory)
	return v, nil
}

// wholeCatalog is all that is declared. What controllers send as a whole may be some changes old; they follow.
func (cl *client) wholeCatalog() (*catalog.Catalog, error) {
	var c *catalog.Catalog
	for {
		var since catalog.Revision
		if c != nil {
			since = c.Revision
		}
		news, err := cl.Catalog(cl.ctx, since, 0)
		switch {
		case err != nil:
			return nil, err
		case news.Snapshot != nil:
			c = news.Snapshot
		case c == nil:
			return nil, fault.New(fault.Internal, "the controller did not send its whole catalog")
		case len(news.Delta.Entries) == 0:
			return c, nil
		default:
			if c, err = api.Follow(c, news.Delta); err != nil {
				return nil, err
			}
		}
	}
}

// veil puts one text in the place of every password, for those that are declared here nobody can read.
func veil(nodes *warewulf.Nodes) {
	for _, p := range nodes.Profiles {
		if p.IPMI != nil && p.IPMI.Password != "" {
			p.IPMI.Password = veiledSecret
		}
	}
	for _, n := range nodes.Nodes {
		if n.IPMI != nil && n.IPMI.Password != "" {
			n.IPMI.Password = veiledSecret
		}
	}
}

// values are copies of what a catalog holds.
func values[T any](all func(yield func(*T) bool)) []T {
	var out []T
	for v := range all {
		out = append(out, *v)
	}
	return out
}

// chunksOf reads chunks from the controllers.
type chunksOf struct{ cl *client }

func (r chunksOf) ReadAll(ctx context.Context, ref chunk.Ref, limit int64) ([]byte, error) {
	if ref.Size > limit {
		return nil, fault.New(fault.Invalid, "chunk %s has %d bytes, more than %d", ref.ID.Short(), ref.Size, limit)
	}
	return fetchChunk(ctx, r.cl, ref)
}

// strangers tells of the nodes here that Warewulf does not have, and how many there are.
func (v *verifier) strangers() int {
	found := 0
	for n := range v.catalog.Nodes() {
		if v.nodes.Nodes[string(n.Name)] == nil {
			v.differ(string(n.Name), unlike{Kind: "node", What: "Warewulf does not have it"})
			found++
		}
	}
	return found
}

// compare compares a node in all that it gets.
func (v *verifier) compare(ctx context.Context, name string) error {
	m, _, _, err := v.nodes.Merged(name)
	if err != nil {
		return err
	}
	r, err := v.catalog.Resolve(catalog.NodeName(name))
	if err != nil {
		v.differ(name, unlike{Kind: "node", What: "it is not declared here"})
		return nil
	}
	if err := v.settings(m, r); err != nil {
		return err
	}
	v.boot(m, r)
	return v.compareFiles(ctx, m, r)
}

// boot tells what keeps a node from booting here what it boots there.
func (v *verifier) boot(m warewulf.Merged, r *catalog.Resolved) {
	switch {
	case m.ImageName == "":
	case r.Image == nil:
		v.differ(m.Name, unlike{Kind: "boot", Subject: "image", What: fmt.Sprintf("there is no image %s here", m.ImageName)})
	default:
		version, _, err := r.Kernel()
		if err != nil {
			v.differ(m.Name, unlike{Kind: "boot", Subject: "kernel", What: err.Error()})
			return
		}
		kernel := v.there.kernel[m.ImageName]
		if m.Kernel != nil && m.Kernel.Version != "" {
			kernel = m.Kernel.Version
		}
		if kernel != "" && !strings.HasPrefix(version, kernel) && !strings.Contains(kernel, "/") {
			v.differ(m.Name, unlike{Kind: "boot", Subject: "kernel", What: fmt.Sprintf("Warewulf boots %s, and here it is %s", kernel, version)})
		}
	}
}

func (v *verifier) differ(node string, u unlike) { v.note(&v.unlike, node, u) }

func (v *verifier) except(node string, u unlike) { v.note(&v.excepted, node, u) }

// note adds a node to a difference. Of those who share it the first one by name is shown.
func (v *verifier) note(all *map[unlikeKey]*unlikeNodes, node string, u unlike) {
	v.mu.Lock()
	defer v.mu.Unlock()
	what := u.What
	if u.Of != "" {
		what = "" // it is of one node
	}
	key := unlikeKey{u.Kind, u.Subject, what}
	n := (*all)[key]
	if n == nil {
		if len(*all) >= maxUnlike {
			key = unlikeKey{u.Kind, "…", ""}
			u.Subject, u.What, u.Diff = "…", "and others", nil
		}
		if n = (*all)[key]; n == nil {
			n = &unlikeNodes{unlike: u}
			(*all)[key] = n
		}
	}
	n.names = append(n.names, node)
	if u.Of != "" && (n.Of == "" || nodeset.Compare(u.Of, n.Of) < 0) {
		n.unlike = u
	}
}

func (v *verifier) found(nodes int) verification {
	out := verification{Nodes: nodes, Files: v.files, Differences: gathered(v.unlike), Excepted: gathered(v.excepted)}
	differing := map[string]bool{}
	for _, u := range v.unlike {
		for _, n := range u.names {
			differing[n] = true
		}
	}
	out.Unlike = len(differing)
	return out
}

// gathered are differences, those of most nodes first.
func gathered(all map[unlikeKey]*unlikeNodes) []unlike {
	out := []unlike{}
	for _, n := range all {
		slices.Sort(n.names)
		n.names = slices.Compact(n.names)
		n.Nodes, n.Count = nodeset.Fold(n.names), len(n.names)
		out = append(out, n.unlike)
	}
	kinds := []string{"node", "boot", "setting", "file"}
	slices.SortFunc(out, func(a, b unlike) int {
		return cmp.Or(cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), cmp.Compare(b.Count, a.Count), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.What, b.What))
	})
	return out
}

func (out *verification) print(r *report, all bool) {
	shown := out.Differences
	if !all && len(shown) > shownUnlike {
		shown = shown[:shownUnlike]
	}
	for _, u := range shown {
		of := ""
		if u.Of != "" && u.Count > 1 {
			of = ", as of " + u.Of
		}
		about := u.Kind + " " + u.Subject + ": "
		if u.Kind == "node" {
			about = ""
		}
		r.line("%s: %s%s%s", u.Nodes, about, u.What, of)
		for _, l := range u.Diff {
			r.line("    %s", l)
		}
	}
	if more := len(out.Differences) - len(shown); more > 0 {
		r.line("%s more: --all shows them", plural(more, "difference"))
	}
	if len(out.Excepted) == 0 {
		return
	}
	r.line("not counted, for they are meant to be (%s):", exceptionsDoc)
	for i, u := range out.Excepted {
		if !all && i == shownUnlike {
			r.line("  %s more", plural(len(out.Excepted)-i, "exception"))
			break
		}
		r.line("  %s of %s: %s", u.Subject, plural(u.Count, "node"), u.What)
	}
}

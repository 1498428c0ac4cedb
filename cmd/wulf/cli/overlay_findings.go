package cli

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/render"
)

// checker gathers what is found of overlays while nodes are rendered. Its methods may be called by many goroutines.
type checker struct {
	catalog  *catalog.Catalog
	renderer *render.Renderer
	only     map[string]bool // overlays; empty: all
	nodes    int

	mu     sync.Mutex
	found  map[foundKey][]string // names of nodes
	failed map[catalog.NodeName]bool
	used   map[string]bool            // overlays that nodes have
	apart  map[string][]overlay.Layer // see parts
}

type foundKey struct{ severity, text, fix string }

func newChecker(c *catalog.Catalog, r *render.Renderer) *checker {
	return &checker{
		catalog: c, renderer: r, only: map[string]bool{}, found: map[foundKey][]string{}, failed: map[catalog.NodeName]bool{}, apart: map[string][]overlay.Layer{},
		used: map[string]bool{},
	}
}

// note remembers a finding, of a node if there is one.
func (k *checker) note(severity, text, fix string, node catalog.NodeName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := foundKey{severity, text, fix}
	if node == "" {
		k.found[key] = nil
		return
	}
	k.found[key] = append(k.found[key], string(node))
}

// hidden notes that one overlay of a node puts a file in the place of another's.
func (k *checker) hidden(node catalog.NodeName, made *overlay.Result, f *overlay.Rendered) {
	by := fileAt(made, f.Path)
	if by == nil || by.Overlay == f.Overlay {
		return
	}
	k.note(severityWarning, fmt.Sprintf("/%s of overlay %s is hidden by that of overlay %s", f.Path, f.Overlay, by.Overlay),
		"of two that write the same file, the later one counts", node)
}

// fileAt finds what a node gets at a path.
func fileAt(made *overlay.Result, p string) *overlay.Rendered {
	i, ok := sort.Find(len(made.Files), func(i int) int { return strings.Compare(p, made.Files[i].Path) })
	if !ok {
		return nil
	}
	return &made.Files[i]
}

// link notes that a link leads beside the files that its overlay has where it leads to: most likely their name is another.
func (k *checker) link(node catalog.NodeName, made *overlay.Result, f *overlay.Rendered) {
	to := f.Target
	if !path.IsAbs(to) {
		to = path.Join("/", path.Dir(f.Path), to)
	}
	to = strings.TrimPrefix(path.Clean(to), "/")
	if fileAt(made, to) != nil {
		return
	}
	dir := path.Dir(to)
	beside := slices.ContainsFunc(made.Files, func(o overlay.Rendered) bool {
		return o.Overlay == f.Overlay && o.Type == overlay.TypeFile && path.Dir(o.Path) == dir
	})
	if beside {
		k.note(severityWarning, fmt.Sprintf("/%s of overlay %s leads to /%s, which no overlay has", f.Path, f.Overlay, to), "if the image has it, all is well", node)
	}
}

// inputs notes what a template reads that makes it dear, or what it makes dangerous.
func (k *checker) inputs(node catalog.NodeName, f *overlay.Rendered) {
	var all, own *overlay.Input
	secret := false
	for i := range f.Inputs {
		switch in := &f.Inputs[i]; in.Scope {
		case overlay.ScopeAll:
			all = in
		case overlay.ScopeNode:
			own = in
		case overlay.ScopeSecret:
			secret = true
		}
	}
	if all != nil && own != nil {
		k.note(severityWarning, fmt.Sprintf("template %s of overlay %s reads all nodes (%s) and its own (%s): relays render it anew for every node", f.Template, f.Overlay, *all, *own),
			"part it into two files, or read one of them only", node)
	}
	if secret && f.Mode&0o044 != 0 {
		k.note(severityWarning, fmt.Sprintf("/%s of overlay %s has a secret in it, and its mode %04o lets others read it", f.Path, f.Overlay, f.Mode),
			fmt.Sprintf("wulf overlay chmod %s %s 0600", f.Overlay, f.Template), node)
	}
}

// privateKey is how keys begin that nobody else may have.
var privateKey = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----`)

// look looks at the site's part of the overlays that nodes have, or that somebody named. What comes with wulfmesh does
// without the files that it includes where there are none.
func (k *checker) look(ctx context.Context) error {
	for o := range k.catalog.Overlays() {
		if name := string(o.Name); !k.used[name] && !k.only[name] || o.Content.ID.IsZero() {
			continue
		}
		b, err := k.renderer.Bundle(ctx, &catalog.Overlay{Name: o.Name, Content: o.Content})
		if err != nil {
			return err
		}
		optional, err := k.shippedIncludes(ctx, o)
		if err != nil {
			return err
		}
		for _, p := range b.Includes() {
			if _, ok := k.catalog.FollowSiteFile(p); !ok && !slices.Contains(optional, p) {
				k.note(severityWarning, fmt.Sprintf("overlay %s includes the site file %s, which is not there", o.Name, p), "wulf file put "+p+" FILE", "")
			}
		}
		for i := range b.Files {
			if f := &b.Files[i]; privateKey.Match(f.Content) && !bytes.Contains(f.Content, []byte("{{")) {
				k.note(severityWarning, fmt.Sprintf("%s of overlay %s has a private key in the open", written(f), o.Name), "make it a secret of nodes or profiles, and a template of the file: --secret NAME=@FILE", "")
			}
		}
	}
	return nil
}

// shippedIncludes are the site files that the shipped part of an overlay includes. It does without those that are not there.
func (k *checker) shippedIncludes(ctx context.Context, o *catalog.Overlay) ([]string, error) {
	if o.Base.ID.IsZero() {
		return nil, nil
	}
	b, err := k.renderer.Bundle(ctx, &catalog.Overlay{Name: o.Name, Base: o.Base})
	if err != nil {
		return nil, err
	}
	return b.Includes(), nil
}

// result is all that was found: errors first, then by how many nodes it is about.
func (k *checker) result() *checkResult {
	stats := k.renderer.Stats()
	out := &checkResult{Revision: k.catalog.Revision, Nodes: k.nodes, Failed: len(k.failed), Rendered: stats.Rendered, Reused: stats.Reused, Findings: []finding{}}
	for key, nodes := range k.found {
		slices.Sort(nodes)
		nodes = slices.Compact(nodes)
		f := finding{Severity: key.severity, Text: key.text, Fix: key.fix, Count: len(nodes)}
		if len(nodes) > 0 {
			f.Nodes = nodeset.Fold(nodes)
		}
		out.Findings = append(out.Findings, f)
	}
	slices.SortFunc(out.Findings, func(a, b finding) int {
		if a.Severity != b.Severity {
			return strings.Compare(a.Severity, b.Severity)
		}
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return strings.Compare(a.Text, b.Text)
	})
	if len(out.Findings) > maxFindings {
		out.More = len(out.Findings) - maxFindings
		out.Findings = out.Findings[:maxFindings]
	}
	return out
}

package httpd

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/render"
)

// wwFile sends a site file to a node: one of those that lie where Warewulf's server has files for nodes. With ?render it is
// a template, rendered for the node that asks and for no other, without its secrets.
func (s *Server) wwFile(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	a, err := parseAsked("", r.URL.RawQuery)
	if err != nil {
		return err
	}
	c, err := s.caller(r, a)
	if errors.Is(err, fault.NotFound) { // Warewulf's server says so of who is nobody
		return fault.Wrap(fault.Denied, err, "files are for nodes")
	}
	if err != nil {
		return err
	}
	if err := c.boots(); err != nil {
		return err
	}
	server, err := s.overlays.renderer.Server(r.Context(), s.cfg.Feed.Catalog())
	if err != nil {
		return err
	}
	if port, _ := netip.ParseAddrPort(r.RemoteAddr); server.Warewulf.SecureFiles && port.Port() >= unprivileged {
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusForbidden)
		return nil
	}
	if !s.isAt(c) {
		return fault.New(fault.Denied, "%s is no address of node %s", c.addr, c.plan.Node)
	}
	f, ok := s.cfg.Feed.Catalog().FollowSiteFile(path.Join(server.Paths.WWFilesdir, path.Join("/", r.PathValue("path"))))
	if !ok || !strings.HasPrefix(f.Path, path.Clean(server.Paths.WWFilesdir)+"/") { // a link out of the directory leads nowhere
		return fault.New(fault.NotFound, "there is no file %.200q for nodes", r.PathValue("path")).WithFix("wulf file list")
	}
	body, err := s.overlays.renderer.ReadChunk(r.Context(), f.Content)
	if err != nil {
		return err
	}
	if query.Has("render") {
		if node := query.Get("render"); node != "" && node != string(c.plan.Node) {
			return fault.New(fault.Denied, "node %s may not have what is rendered for %.80q", c.plan.Node, node)
		}
		if body, err = s.overlays.renderSite(r.Context(), c.plan.Node, f, body); err != nil {
			s.refused(c, wwRuntime, err)
			return err
		}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", `"`+chunk.Of(body).String()+`"`)
	changed := f.Changed
	if query.Has("render") {
		changed = time.Time{} // the file's is not that of what it reads
	}
	http.ServeContent(w, r, "", changed, bytes.NewReader(body))
	return nil
}

// renderSite renders a site file for a node, without secrets.
func (o *overlays) renderSite(ctx context.Context, node catalog.NodeName, f *catalog.SiteFile, text []byte) ([]byte, error) {
	name, ok := strings.CutSuffix(path.Base(f.Path), overlay.TemplateSuffix)
	if !ok {
		return nil, fault.New(fault.Invalid, "%s is no template: its name does not end in %s", f.Path, overlay.TemplateSuffix)
	}
	ctx, cancel := context.WithTimeout(ctx, renderTime)
	defer cancel()
	c := o.cfg.Feed.Catalog()
	r, err := c.Resolve(node)
	if err != nil {
		return nil, err
	}
	subject := render.Subject{Node: r}
	if subject.Server, err = o.serverOf(ctx, c, r); err != nil {
		return nil, err
	}
	b, err := overlay.NewBundle([]overlay.File{{Path: name, Type: overlay.TypeFile, Mode: 0o644, Template: true, Content: text}})
	if err != nil {
		return nil, err
	}
	made, err := o.renderer.Layers(ctx, c, subject, overlay.Layer{Name: "files", Bundle: b, Changed: f.Changed, Dir: path.Dir(f.Path)})
	if err != nil {
		return nil, err
	}
	for _, file := range made.Files {
		if file.Path == name && file.Type == overlay.TypeFile {
			return file.Content, nil
		}
	}
	return nil, fault.New(fault.NotFound, "the template %s makes no file for node %s", f.Path, node)
}

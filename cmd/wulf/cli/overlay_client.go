package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// bundle fetches the content of an overlay, as nodes get it.
func (cl *client) bundle(name string) (*overlay.Bundle, error) { return cl.layer(name, url.Values{}) }

// layer fetches the content of an overlay with the parameters of api.PathOverlay.
func (cl *client) layer(name string, q url.Values) (*overlay.Bundle, error) {
	if cl.stale != "" {
		q.Set("consistency", "stale")
	}
	path := pathOf(api.PathOverlay, name)
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	var b *overlay.Bundle
	err := cl.ask(func() error {
		a, err := cl.Do(cl.ctx, api.Request{Method: http.MethodGet, Path: path})
		if err != nil {
			return err
		}
		defer a.Body.Close()
		raw, err := io.ReadAll(io.LimitReader(a.Body, overlay.MaxBundle+1))
		if err != nil {
			return fault.Wrap(fault.Unavailable, err, "the overlay broke off")
		}
		b, err = overlay.Decode(raw)
		return err
	})
	return b, err
}

// layers fetches both parts of an overlay: what comes with wulfmesh, and what is the site's.
func (cl *client) layers(name string) (base, own *overlay.Bundle, err error) {
	if base, err = cl.layer(name, url.Values{"layer": {api.LayerBase}}); err == nil {
		own, err = cl.layer(name, url.Values{"layer": {api.LayerOwn}})
	}
	return base, own, err
}

// described fetches what the catalog knows of an overlay.
func (cl *client) described(name string) (catalog.Overlay, error) {
	list, err := fetch[catalog.Overlay](cl, api.PathOverlays)
	if err != nil {
		return catalog.Overlay{}, err
	}
	found, err := find("overlay", list.Items, []string{name}, func(o catalog.Overlay) string { return string(o.Name) })
	if err != nil {
		return catalog.Overlay{}, err
	}
	return found[0], nil
}

// put is how the whole of the site's part of an overlay is written.
type put struct {
	laid bool // over what comes with wulfmesh
	new  bool // only if there is no such overlay
}

// putBundle gives an overlay new files of the site's, and makes it if need be.
func (p *program) putBundle(c *cli.Context, cl *client, name string, b *overlay.Bundle, how put) error {
	raw, err := b.Encode()
	if err != nil {
		return err
	}
	// The same content twice is the same overlay, so another controller may be asked after one that did not answer.
	q := api.Request{Method: http.MethodPut, Header: http.Header{}, Once: how.new}
	if how.new {
		q.Header.Set("If-None-Match", "*")
	}
	params := url.Values{}
	if how.laid {
		params.Set("laid", "true")
	}
	return p.writeOverlay(c, cl, name, q, params, raw)
}

// editOverlay changes some files of an overlay. It is sent once: what it takes away is not there a second time.
func (p *program) editOverlay(c *cli.Context, cl *client, name string, e overlay.Edit) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "encoding the edit")
	}
	q := api.Request{Method: http.MethodPatch, Header: http.Header{"Content-Type": {"application/json"}}, Once: true}
	return p.writeOverlay(c, cl, name, q, url.Values{}, raw)
}

// writeOverlay sends a write, and says what came of it.
func (p *program) writeOverlay(c *cli.Context, cl *client, name string, q api.Request, params url.Values, raw []byte) error {
	if err := cl.reach(); err != nil {
		return err
	}
	if c.IsSet("message") {
		params.Set("message", c.String("message"))
	}
	if c.Bool("force") {
		params.Set("force", "true")
	}
	q.Path, q.Size = pathOf(api.PathOverlay, name), int64(len(raw))
	if len(params) > 0 {
		q.Path += "?" + params.Encode()
	}
	q.Body = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
	a, err := cl.Do(cl.ctx, q)
	if err != nil {
		return unreached(err)
	}
	defer a.Body.Close()
	var made api.ChangeResult
	if err := decodeJSON(a.Body, &made); err != nil {
		return err
	}
	if made.Warning != "" {
		fmt.Fprintln(p.err, "warning: "+plain(made.Warning))
	}
	if made.Same {
		p.say("nothing changes")
		return p.waitIfTold(c, cl, made.Revision)
	}
	return p.changed(c, cl, made)
}

// fileOf finds a file of a bundle; the ending of a template may be there or not.
func fileOf(b *overlay.Bundle, name, path string) (*overlay.File, error) {
	path = overlayPath(path)
	var known []string
	for i := range b.Files {
		f := &b.Files[i]
		if f.Path == path || f.Template && f.Path+overlay.TemplateSuffix == path {
			return f, nil
		}
		known = append(known, f.Path)
	}
	err := fault.New(fault.NotFound, "overlay %s has no file %q", name, path)
	if best := closest(path, known); best != "" {
		return nil, err.WithFix("did you mean %q?", best)
	}
	return nil, err.WithFix("see its files with: wulf overlay show %s", name)
}

// overlayPath is a path as overlays have it.
func overlayPath(path string) string { return strings.Trim(path, "/") }

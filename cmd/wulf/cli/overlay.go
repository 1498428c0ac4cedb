package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/render"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

func (p *program) overlay() *cli.Command {
	return noun("overlay", "files and templates that make an image a node's own",
		verb{
			name: "list", aliases: []string{"ls"}, usage: "list overlays",
			examples: []string{"wulf overlay list"}, flags: listFlags(), run: p.overlayList,
		},
		verb{
			name: "show", usage: "list an overlay's files, or print one, as it is or as a node would get it", args: "OVERLAY [PATH]", least: 1, most: 2,
			about: "With --render, secrets are shown as <secret>, and SSH host keys are left out.",
			examples: []string{
				"wulf overlay show hosts",
				"wulf overlay show hosts etc/hosts",
				"wulf overlay show hosts etc/hosts --render n1",
			},
			flags: showFlags(text("render", "as `NODE` would get it")), run: p.overlayShow,
		},
		verb{
			name: "import", usage: "make an overlay of a directory, or replace it", args: "OVERLAY DIR", least: 2, most: 2,
			about:    "A file whose name ends in " + overlay.TemplateSuffix + " is a template, and loses that ending. Files are root's, whoever owns them here.",
			examples: []string{"wulf overlay import site ./overlay"},
			flags:    []cli.Flag{toggle("keep-owner", "let the files have the owners that they have here"), waitFlag(), waitTimeFlag()}, run: p.overlayImport,
		},
		verb{
			name: "edit", usage: "edit a file of an overlay with $EDITOR", args: "OVERLAY PATH", least: 2, most: 2,
			examples: []string{"wulf overlay edit site etc/motd"}, flags: []cli.Flag{waitFlag(), waitTimeFlag()}, run: p.overlayEdit,
		},
		verb{
			name: "delete", aliases: []string{"rm"}, usage: "delete overlays that nothing uses", args: "OVERLAY…", least: 1, most: unlimited,
			examples: []string{"wulf overlay delete site"}, flags: changeFlags(), run: p.overlayDelete,
		},
	)
}

func (p *program) overlayList(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := fetch[catalog.Overlay](cl, api.PathOverlays)
	if err != nil {
		return err
	}
	return printList(p, c, listing[catalog.Overlay]{
		list: list,
		name: func(o catalog.Overlay) string { return string(o.Name) },
		columns: []column[catalog.Overlay]{
			{name: "NAME", cell: func(o catalog.Overlay) string { return string(o.Name) }},
			{name: "FILES", cell: func(o catalog.Overlay) string { return fmt.Sprint(o.Files) }},
			{name: "FROM", cell: func(o catalog.Overlay) string {
				if o.Shipped {
					return "wulfmesh"
				}
				return "site"
			}},
			{name: "SIZE", wide: true, cell: func(o catalog.Overlay) string { return size(o.Content.Size) }},
			{name: "CONTENT", wide: true, cell: func(o catalog.Overlay) string { return o.Content.ID.Short() }},
		},
	})
}

// bundle fetches the content of an overlay.
func (cl *client) bundle(name string) (*overlay.Bundle, error) {
	a, err := cl.Do(cl.ctx, api.Request{Method: http.MethodGet, Path: pathOf(api.PathOverlay, name) + cl.stale})
	if err != nil {
		return nil, unreached(err)
	}
	defer a.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(a.Body, overlay.MaxBundle+1))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the overlay broke off")
	}
	return overlay.Decode(raw)
}

// putBundle makes an overlay, or replaces its content.
func (p *program) putBundle(c *cli.Context, cl *client, name string, b *overlay.Bundle) error {
	raw, err := b.Encode()
	if err != nil {
		return err
	}
	if err := cl.reach(); err != nil {
		return err
	}
	// The same content twice is the same overlay, so another controller may be asked after one that did not answer.
	a, err := cl.Do(cl.ctx, api.Request{
		Method: http.MethodPut, Path: pathOf(api.PathOverlay, name), Size: int64(len(raw)),
		Body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
	})
	if err != nil {
		return unreached(err)
	}
	defer a.Body.Close()
	var result api.ChangeResult
	if err := decodeJSON(a.Body, &result); err != nil {
		return err
	}
	return p.changed(c, cl, result)
}

func (p *program) overlayShow(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	b, err := cl.bundle(c.Args().First())
	if err != nil {
		return err
	}
	if node := c.String("render"); node != "" {
		if b, err = cl.render(c.Args().First(), b, node); err != nil {
			return err
		}
	}
	if path := c.Args().Get(1); path != "" {
		f, err := fileOf(b, c.Args().First(), path)
		if err != nil {
			return err
		}
		_, err = p.out.Write(f.Content)
		return err
	}
	return p.show(c, b, func(r *report) {
		rows := [][]string{{"MODE", "OWNER", "SIZE", "PATH"}}
		for _, f := range b.Files {
			path := f.Path
			switch {
			case f.Type == overlay.TypeLink:
				path += " -> " + f.Target
			case f.Type == overlay.TypeDir:
				path += "/"
			case f.Template:
				path += overlay.TemplateSuffix
			}
			rows = append(rows, []string{fmt.Sprintf("%04o", f.Mode), fmt.Sprintf("%d:%d", f.UID, f.GID), size(int64(len(f.Content))), path})
		}
		r.rows(rows)
	})
}

// render makes of a bundle what a node would get. Rendering is pure, so it happens here, on the catalog. Secrets are
// sealed in it; where a template asks for one, it shows that there is one.
func (cl *client) render(name string, b *overlay.Bundle, node string) (*overlay.Bundle, error) {
	c, err := cl.catalog()
	if err != nil {
		return nil, err
	}
	layer := overlay.Layer{Name: name, Bundle: b}
	if o, ok := c.Overlay(catalog.OverlayName(name)); ok {
		layer.Changed = o.Changed.UTC()
	}
	made, err := cl.renderAll(c, node, layer)
	if err != nil {
		return nil, err
	}
	out := &overlay.Bundle{Format: overlay.Format}
	for _, f := range made.Files {
		out.Files = append(out.Files, overlay.File{Path: f.Path, Type: f.Type, Mode: f.Mode, UID: f.UID, GID: f.GID, Content: f.Content, Target: f.Target})
	}
	return out, nil
}

// renderAll makes of overlays what a node would get of all together.
func (cl *client) renderAll(c *catalog.Catalog, node string, layers ...overlay.Layer) (*overlay.Result, error) {
	r, err := c.Resolve(catalog.NodeName(node))
	if err != nil {
		return nil, err
	}
	secrets := overlay.Secrets{Open: func(catalog.Secret) (string, bool) { return catalog.Hidden, true }}
	return render.New(clientChunks{cl}, 0).Layers(cl.ctx, c, render.Subject{Node: r, Secrets: secrets}, layers...)
}

// clientChunks are the controllers' chunks as pkg/render asks for them.
type clientChunks struct{ cl *client }

// ReadAll reads a chunk whole.
func (c clientChunks) ReadAll(ctx context.Context, ref chunk.Ref, limit int64) ([]byte, error) {
	if ref.Size > limit {
		return nil, fault.New(fault.Invalid, "chunk %s has %d bytes, more than %d", ref.ID.Short(), ref.Size, limit)
	}
	return fetchChunk(ctx, c.cl, ref)
}

// catalog fetches the whole declared state. The snapshot that a controller has at hand may be some changes old, so it
// is asked for those, too.
func (cl *client) catalog() (*catalog.Catalog, error) {
	news, err := cl.Catalog(cl.ctx, 0, 0)
	if err == nil && news.Snapshot == nil {
		err = fault.New(fault.Internal, "the controller sent no catalog")
	}
	if err != nil {
		return nil, unreached(err)
	}
	c := news.Snapshot
	if news, err = cl.Catalog(cl.ctx, c.Revision, 0); err != nil {
		return nil, unreached(err)
	}
	if news.Snapshot != nil {
		return news.Snapshot, nil
	}
	return api.Follow(c, news.Delta)
}

// fileOf finds a file of a bundle; the ending of a template may be there or not.
func fileOf(b *overlay.Bundle, name, path string) (*overlay.File, error) {
	path = strings.TrimPrefix(path, "/")
	var known []string
	for i := range b.Files {
		f := &b.Files[i]
		if f.Type == overlay.TypeFile && (f.Path == path || f.Template && f.Path+overlay.TemplateSuffix == path) {
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

func (p *program) overlayImport(c *cli.Context) error {
	name, err := catalog.ParseName[catalog.OverlayName]("overlay", c.Args().First())
	if err != nil {
		return err
	}
	b, err := readBundle(c.Args().Get(1), c.Bool("keep-owner"))
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	return p.putBundle(c, cl, string(name), b)
}

// readBundle makes a bundle of a directory.
func readBundle(dir string, keepOwner bool) (*overlay.Bundle, error) {
	tree, err := segment.OpenDir(dir, segment.Limits{Entries: overlay.MaxFiles, Bytes: overlay.MaxBundle})
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	var files []overlay.File
	for _, e := range tree.Entries() {
		f := overlay.File{Path: e.Path, Mode: e.Mode}
		if keepOwner {
			f.UID, f.GID = int(e.UID), int(e.GID)
		}
		switch e.Type {
		case segment.Dir:
			f.Type = overlay.TypeDir
		case segment.Symlink:
			f.Type, f.Target, f.Mode = overlay.TypeLink, e.Link, 0
		case segment.File:
			f.Type = overlay.TypeFile
			f.Path, f.Template = strings.CutSuffix(e.Path, overlay.TemplateSuffix)
			if f.Content, err = readAll(tree, e); err != nil {
				return nil, err
			}
		default:
			return nil, fault.New(fault.Invalid, "%s is a %s, which overlays cannot hold", filepath.Join(dir, e.Path), e.Type)
		}
		files = append(files, f)
	}
	return overlay.NewBundle(files)
}

func readAll(tree segment.Source, e segment.Entry) ([]byte, error) {
	f, err := tree.Open(e.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, overlay.MaxBundle))
}

func (p *program) overlayEdit(c *cli.Context) error {
	if !p.tty.in || !p.tty.out {
		return fault.New(fault.Invalid, "overlay edit needs a terminal").WithFix("change the files and use: wulf overlay import")
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	name := c.Args().First()
	b, err := cl.bundle(name)
	if err != nil {
		return err
	}
	f, err := fileOf(b, name, c.Args().Get(1))
	if err != nil {
		return err
	}
	content, err := p.editFile(c, f)
	if err != nil {
		return err
	}
	if bytes.Equal(content, f.Content) {
		return errors.New("nothing was changed")
	}
	f.Content = content
	if b, err = overlay.NewBundle(b.Files); err != nil {
		return err
	}
	cl.again(c)
	return p.putBundle(c, cl, name, b)
}

// editFile lets somebody change a file's content in their editor.
func (p *program) editFile(c *cli.Context, f *overlay.File) ([]byte, error) {
	dir, err := os.MkdirTemp("", "wulf-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, filepath.Base(f.Path))
	if err := os.WriteFile(path, f.Content, 0o600); err != nil {
		return nil, err
	}
	if err := p.runEditor(c, path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

func (p *program) overlayDelete(c *cli.Context) error {
	return p.deleteEach(c, "overlay", func(name string) catalog.Change {
		return catalog.DeleteOverlay{Name: catalog.OverlayName(name)}
	})
}

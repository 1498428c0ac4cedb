package cli

import (
	"fmt"
	"net/url"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

func (p *program) overlayShow(c *cli.Context) error {
	layer := c.String("layer")
	if !slices.Contains([]string{"", api.LayerBase, api.LayerOwn}, layer) {
		return fault.New(fault.Invalid, "there is no layer %q", layer).WithFix("there are %s and %s", api.LayerOwn, api.LayerBase)
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	name := c.Args().First()
	q := url.Values{}
	if layer != "" {
		q.Set("layer", layer)
	}
	b, err := cl.layer(name, q)
	if err != nil {
		return err
	}
	if node := c.String("render"); node != "" {
		return p.showRendered(c, cl, name, b, node)
	}
	if path := c.Args().Get(1); path != "" {
		f, err := fileOf(b, name, path)
		if err != nil {
			return err
		}
		_, err = p.out.Write(f.Content)
		return err
	}
	_, own, err := cl.layers(name)
	if err != nil {
		return err
	}
	return p.show(c, b, func(r *report) { r.files(b, own) })
}

// files lists an overlay's files and hooks, and says which are the site's.
func (r *report) files(b, own *overlay.Bundle) {
	from := func(isOwn bool) string {
		if isOwn {
			return "site"
		}
		return "wulfmesh"
	}
	rows := [][]string{{"MODE", "OWNER", "SIZE", "FROM", "PATH"}}
	for i := range b.Files {
		f := &b.Files[i]
		_, mine := own.File(f.Path)
		rows = append(rows, []string{fmt.Sprintf("%04o", f.Mode), fmt.Sprintf("%d:%d", f.UID, f.GID), size(int64(len(f.Content))), from(mine), written(f)})
	}
	for i := range own.Files {
		if f := &own.Files[i]; f.Type == overlay.TypeGone {
			if _, listed := b.File(f.Path); listed { // it is the site's part itself that is listed
				continue
			}
			rows = append(rows, []string{"-", "-", "-", "site", f.Path + " (gone)"})
		}
	}
	r.rows(rows)
	for _, h := range b.Hooks {
		r.line("hook %s: %s (%s)", h.Path, action(h), from(slices.Contains(own.Hooks, h)))
	}
}

// action is what a hook does, in words.
func action(h overlay.Hook) string {
	switch {
	case h.Reload != "":
		return "reload " + h.Reload
	case h.Restart != "":
		return "restart " + h.Restart
	}
	return "nothing"
}

// written is a file's path with what it is.
func written(f *overlay.File) string {
	switch {
	case f.Type == overlay.TypeLink:
		return f.Path + " -> " + f.Target
	case f.Type == overlay.TypeDir:
		return f.Path + "/"
	case f.Type == overlay.TypeGone:
		return f.Path + " (gone)"
	case f.Template:
		return f.Path + overlay.TemplateSuffix
	}
	return f.Path
}

// showRendered prints what a node would get of an overlay, or of one of its files.
func (p *program) showRendered(c *cli.Context, cl *client, name string, b *overlay.Bundle, node string) error {
	if path := c.Args().Get(1); path != "" {
		f, err := fileOf(b, name, path)
		if err != nil {
			return err
		}
		if b, err = overlay.NewBundle([]overlay.File{*f}); err != nil {
			return err
		}
	}
	now, err := cl.catalog()
	if err != nil {
		return err
	}
	made, err := cl.renderAll(now, node, layerOf(now, name, b))
	if err != nil {
		return err
	}
	files := made.Files
	if c.Args().Get(1) == "" {
		out := asBundle(made)
		own, err := cl.layer(name, url.Values{"layer": {api.LayerOwn}})
		if err != nil {
			return err
		}
		return p.show(c, out, func(r *report) { r.files(out, own) })
	}
	for _, f := range files {
		if (len(files) > 1 || f.Type == overlay.TypeLink) && !c.Bool("quiet") {
			if _, err := fmt.Fprintln(p.out, heading(&f)); err != nil {
				return err
			}
		}
		if _, err := p.out.Write(f.Content); err != nil {
			return err
		}
	}
	if len(files) == 0 {
		p.say("node %s gets no file of it", node)
	}
	return nil
}

// heading is what stands before a file where several are printed, as head(1) and tail(1) have it.
func heading(f *overlay.Rendered) string {
	if f.Type == overlay.TypeLink {
		return "==> " + f.Path + " -> " + f.Target + " <=="
	}
	return "==> " + f.Path + " <=="
}

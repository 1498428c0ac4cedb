package cli

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

func (p *program) overlayCreate(c *cli.Context) error {
	name, err := catalog.ParseName[catalog.OverlayName]("overlay", c.Args().First())
	if err != nil {
		return err
	}
	b, err := overlay.NewBundle(nil)
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	return p.putBundle(c, cl, string(name), b, put{new: true})
}

func (p *program) overlayImport(c *cli.Context) error {
	name, err := catalog.ParseName[catalog.OverlayName]("overlay", c.Args().First())
	if err != nil {
		return err
	}
	source := c.Args().Get(1)
	info, err := os.Stat(source)
	if err != nil {
		return fault.Wrap(fault.NotFound, err, "reading what is to be imported")
	}
	if c.Bool("over") && (!info.IsDir() || c.NArg() > 2) {
		return fault.New(fault.Invalid, "--over is for a directory that becomes all of the site's part")
	}
	if !info.IsDir() || c.NArg() > 2 {
		return p.importInto(c, string(name), source, info.IsDir())
	}
	b, err := readBundle(source, c.Bool("keep-owner"))
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	if err := p.putBundle(c, cl, string(name), b, put{laid: c.Bool("over")}); err != nil {
		return err
	}
	if o, err := cl.described(string(name)); err == nil && o.Shipped && !o.Laid {
		p.say("overlay %s comes with wulfmesh; its files are hidden now, until: wulf overlay reset %s", name, name)
	}
	return nil
}

// importInto puts a file or a directory beside what an overlay has.
func (p *program) importInto(c *cli.Context, name, source string, dir bool) error {
	to := c.Args().Get(2)
	if to == "" { // as wwctl: the path that it has here
		abs, err := filepath.Abs(source)
		if err != nil {
			return err
		}
		to = abs
	} else if strings.HasSuffix(to, "/") && !dir {
		to = path.Join(to, filepath.Base(source))
	}
	to = overlayPath(path.Clean(to))
	var e overlay.Edit
	var err error
	if dir {
		e.Put, err = readFiles(source, to, c.Bool("keep-owner"))
	} else {
		e.Put = make([]overlay.File, 1)
		e.Put[0], err = readFile(source, to, c.Bool("keep-owner"))
	}
	if err != nil {
		return err
	}
	if !c.Bool("overwrite") {
		e.Was = map[string]chunk.ID{}
		for _, f := range e.Put {
			if f.Type != overlay.TypeDir {
				e.Was[f.Path] = chunk.ID{}
			}
		}
	}
	return p.overlayEdited(c, name, e)
}

// overlayEdited makes an edit.
func (p *program) overlayEdited(c *cli.Context, name string, e overlay.Edit) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	return p.editOverlay(c, cl, name, e)
}

func (p *program) overlayMkdir(c *cli.Context) error {
	mode, err := modeFlag(c, 0o755)
	if err != nil {
		return err
	}
	var e overlay.Edit
	for _, dir := range c.Args().Tail() {
		e.Put = append(e.Put, overlay.File{Path: overlayPath(dir), Type: overlay.TypeDir, Mode: mode})
	}
	return p.overlayEdited(c, c.Args().First(), e)
}

func modeFlag(c *cli.Context, usual uint32) (uint32, error) {
	if !c.IsSet("mode") {
		return usual, nil
	}
	return parseMode(c.String("mode"))
}

// parseMode reads permissions as chmod has them in numbers.
func parseMode(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n > 0o7777 {
		return 0, fault.New(fault.Invalid, "%q is no mode", text).WithFix("write it in octal digits, such as 0644 or 1777")
	}
	return uint32(n), nil
}

func (p *program) overlayChmod(c *cli.Context) error {
	mode, err := parseMode(c.Args().Get(2))
	if err != nil {
		return err
	}
	return p.overlayEdited(c, c.Args().First(), overlay.Edit{Set: []overlay.Attributes{{Path: c.Args().Get(1), Mode: &mode}}})
}

func (p *program) overlayChown(c *cli.Context) error {
	a := overlay.Attributes{Path: c.Args().Get(1)}
	user, group, both := strings.Cut(c.Args().Get(2), ":")
	for _, part := range []struct {
		text string
		into **int
		said bool
	}{{user, &a.UID, user != "" || !both}, {group, &a.GID, both}} {
		if !part.said {
			continue
		}
		n, err := strconv.ParseUint(part.text, 10, 31)
		if err != nil {
			return fault.New(fault.Invalid, "%q is no owner", c.Args().Get(2)).WithFix("write numbers, as UID, UID:GID or :GID: names mean other numbers on other machines")
		}
		*part.into = new(int(n))
	}
	return p.overlayEdited(c, c.Args().First(), overlay.Edit{Set: []overlay.Attributes{a}})
}

func (p *program) overlayHook(c *cli.Context) error {
	h := overlay.Hook{Path: overlayPath(c.Args().Get(1)), Reload: c.String("reload"), Restart: c.String("restart")}
	var e overlay.Edit
	switch {
	case c.Bool("none") == (h.Reload+h.Restart != "") || h.Reload != "" && h.Restart != "":
		return fault.New(fault.Invalid, "it is not said what to do, or too much").WithFix("say one of --reload UNIT, --restart UNIT and --none")
	case c.Bool("none"):
		e.Unhook = []string{h.Path}
	default:
		e.Hook = []overlay.Hook{h}
	}
	return p.overlayEdited(c, c.Args().First(), e)
}

func (p *program) overlayReset(c *cli.Context) error {
	name := c.Args().First()
	if c.NArg() > 1 {
		return p.editPaths(c, "Reset", overlay.Edit{Reset: c.Args().Tail(), Below: c.Bool("force")})
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	o, err := cl.described(name)
	if err != nil {
		return err
	}
	if !o.Shipped {
		return fault.New(fault.Invalid, "overlay %s does not come with wulfmesh: all of it is the site's", name).WithFix("to be rid of it: wulf overlay delete %s", name)
	}
	return p.dropOwn(c, cl, o)
}

func (p *program) overlayDelete(c *cli.Context) error {
	if c.NArg() > 1 {
		return p.editPaths(c, "Delete", overlay.Edit{Remove: c.Args().Tail(), Below: c.Bool("force")})
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	o, err := cl.described(c.Args().First())
	if err != nil {
		return err
	}
	if o.Shipped && !o.Content.ID.IsZero() {
		p.say("overlay %s comes with wulfmesh, which stays; only what is the site's goes", o.Name)
		return p.dropOwn(c, cl, o)
	}
	return p.perform(c, cl, mutation{change: catalog.DeleteOverlay{Name: o.Name}, diff: []string{"delete overlay " + string(o.Name)}, count: 1})
}

// dropOwn takes the site's part of an overlay away that comes with wulfmesh.
func (p *program) dropOwn(c *cli.Context, cl *client, o catalog.Overlay) error {
	return p.perform(c, cl, mutation{
		change: catalog.DeleteOverlay{Name: o.Name}, count: 1,
		diff: []string{fmt.Sprintf("overlay %s: %s of the site's", o.Name, plural(o.Files, "file"))},
	})
}

// editPaths takes files away, or resets them. What is lost can be brought back by a revert, so it asks only where there may
// be more than is named.
func (p *program) editPaths(c *cli.Context, what string, e overlay.Edit) error {
	name := c.Args().First()
	if c.Bool("dry-run") || c.IsSet("if-revision") {
		return fault.New(fault.Invalid, "--dry-run and --if-revision are not for single files").WithFix("look first: wulf overlay show %s", name)
	}
	if n := c.NArg() - 1; n > 1 || e.Below {
		ask := fmt.Sprintf("%s %s of overlay %s?", what, plural(n, "file"), name)
		if e.Below {
			ask = fmt.Sprintf("%s %s of overlay %s, with all that lies below?", what, plural(n, "path"), name)
		}
		if err := p.confirm(c, mutation{ask: ask, count: n}); err != nil {
			return err
		}
	}
	return p.overlayEdited(c, name, e)
}

package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) file() *cli.Command {
	return noun("file", "files of the site that templates of overlays include",
		verb{
			name: "list", usage: "list site files", args: "[DIRECTORY]", most: 1,
			examples: []string{"wulf file list", "wulf file list /etc/warewulf -o wide"}, flags: listFlags(), run: p.fileList,
		},
		verb{
			name: "show", aliases: []string{"cat"}, usage: "print a site file, or with -o json or yaml what is known of it", args: "PATH", least: 1, most: 1,
			about:    pathsAbout,
			examples: []string{"wulf file show authorized_keys", "wulf file show /etc/hosts"}, flags: showFlags(), run: p.fileShow,
		},
		verb{
			name: "put", aliases: []string{"import"}, usage: "make a site file of a file of this machine, or of standard input (-), or replace it", args: "PATH [FILE]", least: 1, most: 2,
			about: pathsAbout + " Without FILE it is the file of that path on this machine. Operators and all relays can read every site file, so secrets belong into settings: wulf node set --secret.",
			examples: []string{
				"wulf file put /etc/hosts",
				"wulf file put authorized_keys ./keys --mode 600",
				"date | wulf file put /etc/issue -",
			},
			flags: []cli.Flag{text("mode", "permission bits in `OCTAL` (default: those of FILE; of standard input 644)"), messageFlag(), waitFlag(), waitTimeFlag()},
			run:   p.filePut,
		},
		verb{
			name: "diff", usage: "show what putting a file would change", args: "PATH [FILE]", least: 1, most: 2,
			about:    pathsAbout + " Without FILE it is held against the file of that path on this machine.",
			examples: []string{"wulf file diff /etc/hosts", "wulf file diff authorized_keys ./keys"},
			flags:    []cli.Flag{toggle("detailed-exitcode", "end with 2 if there is a difference"), staleFlag()}, run: p.fileDiff,
		},
		verb{
			name: "edit", usage: "edit a site file with $EDITOR", args: "PATH", least: 1, most: 1, about: pathsAbout,
			examples: []string{"wulf file edit authorized_keys"}, flags: []cli.Flag{messageFlag(), waitFlag(), waitTimeFlag()}, run: p.fileEdit,
		},
		verb{
			name: "link", aliases: []string{"ln"}, usage: "make a site file that is a symbolic link", args: "PATH TARGET", least: 2, most: 2,
			about:    pathsAbout + " Templates follow it where they include it, and take its target where they ask for that: {{ImportLink}}.",
			examples: []string{"wulf file link /etc/localtime ../usr/share/zoneinfo/Europe/Berlin"}, flags: changeFlags(), run: p.fileLink,
		},
		verb{
			name: "rename", usage: "give a site file another path", args: "PATH TO", least: 2, most: 2, about: pathsAbout,
			examples: []string{"wulf file rename motd /etc/motd"}, flags: changeFlags(), run: p.fileRename,
		},
		verb{
			name: "delete", usage: "delete site files", args: "PATH…", least: 1, most: unlimited, about: pathsAbout,
			examples: []string{"wulf file delete /etc/hosts"}, flags: changeFlags(), run: p.fileDelete,
		},
	)
}

const pathsAbout = "A PATH that does not begin with a slash lies in " + catalog.SiteDirectory + ", as in templates."

func messageFlag() cli.Flag { return text("message", "say why, for the history, in a `TEXT`", "m") }

func (p *program) fileList(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := fetch[catalog.SiteFile](cl, api.PathSiteFiles)
	if err != nil {
		return err
	}
	if c.NArg() > 0 {
		dir := strings.TrimSuffix(catalog.SitePath(c.Args().First()), "/") + "/"
		below := list.Items[:0]
		for _, f := range list.Items {
			if strings.HasPrefix(f.Path, dir) {
				below = append(below, f)
			}
		}
		list.Items = below
	}
	of := func(cell func(f catalog.SiteFile) string) func(catalog.SiteFile) string {
		return func(f catalog.SiteFile) string {
			if f.IsLink() {
				return ""
			}
			return cell(f)
		}
	}
	return printList(p, c, listing[catalog.SiteFile]{
		list: list,
		name: func(f catalog.SiteFile) string { return f.Path },
		columns: []column[catalog.SiteFile]{
			{name: "PATH", cell: func(f catalog.SiteFile) string { return f.Path }},
			{name: "TARGET", cell: func(f catalog.SiteFile) string { return f.Target }},
			{name: "SIZE", cell: of(func(f catalog.SiteFile) string { return size(f.Content.Size) })},
			{name: "MODE", cell: of(func(f catalog.SiteFile) string { return fmt.Sprintf("%04o", f.Mode) })},
			{name: "CHANGED", cell: func(f catalog.SiteFile) string { return ago(f.Changed) }},
			{name: "BY", wide: true, cell: func(f catalog.SiteFile) string { return f.By }},
			{name: "CONTENT", wide: true, cell: of(func(f catalog.SiteFile) string { return f.Content.ID.Short() })},
		},
	})
}

// siteFile finds a site file by the path that somebody wrote.
func (cl *client) siteFile(arg string) (catalog.SiteFile, error) {
	list, err := fetch[catalog.SiteFile](cl, api.PathSiteFiles)
	if err != nil {
		return catalog.SiteFile{}, err
	}
	found, err := find("file", list.Items, []string{catalog.SitePath(arg)}, func(f catalog.SiteFile) string { return f.Path })
	if err != nil {
		return catalog.SiteFile{}, err
	}
	return found[0], nil
}

// siteContent fetches what a template would include of a path.
func (cl *client) siteContent(path string) ([]byte, error) {
	a, err := cl.Do(cl.ctx, api.Request{Method: http.MethodGet, Path: sitePathOf(path) + cl.stale})
	if err != nil {
		return nil, unreached(err)
	}
	defer a.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(a.Body, catalog.MaxSiteFile+1))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the file broke off")
	}
	return raw, nil
}

// sitePathOf is the path of the API for a site file.
func sitePathOf(path string) string {
	return strings.Replace(api.PathSiteFile, "{path}", url.PathEscape(path), 1)
}

func (p *program) fileShow(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	f, err := p.format(c, showFormats()...)
	if err != nil {
		return err
	}
	known, err := cl.siteFile(c.Args().First())
	if err != nil {
		return err
	}
	if f != formatTable {
		return p.printValue(f, known)
	}
	raw, err := cl.siteContent(known.Path)
	if err != nil {
		return err
	}
	_, err = p.out.Write(raw)
	return err
}

func (p *program) fileDiff(c *cli.Context) error {
	path := catalog.SitePath(c.Args().First())
	now, _, source, err := p.newContent(c, path)
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	known, err := cl.siteFile(path)
	if err != nil {
		return err
	}
	old, err := cl.siteContent(known.Path)
	if err != nil {
		return err
	}
	text := diffContent("site file "+path, old, source, now)
	if _, err := p.out.Write(text); err != nil {
		return err
	}
	if len(text) > 0 && c.Bool("detailed-exitcode") {
		return errDifferent
	}
	return nil
}

func (p *program) fileLink(c *cli.Context) error {
	return p.changeFile(c, catalog.LinkSiteFile{Path: catalog.SitePath(c.Args().First()), Target: c.Args().Get(1)})
}

func (p *program) fileRename(c *cli.Context) error {
	path := catalog.SitePath(c.Args().First())
	return p.changeFile(c, catalog.RenameSiteFile{Path: path, To: catalog.SitePath(c.Args().Get(1))}, path)
}

func (p *program) changeFile(c *cli.Context, change catalog.Change, gone ...string) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	p.tellIncluding(cl, gone)
	return p.perform(c, cl, mutation{change: change})
}

func (p *program) fileDelete(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	var b catalog.Batch
	var gone []string
	for _, arg := range c.Args().Slice() {
		gone = append(gone, catalog.SitePath(arg))
		b.Changes = append(b.Changes, catalog.Step{Change: catalog.DeleteSiteFile{Path: catalog.SitePath(arg)}})
	}
	p.tellIncluding(cl, gone)
	m := mutation{change: b, count: len(b.Changes)}
	if len(b.Changes) == 1 {
		m.change = b.Changes[0].Change
	} else {
		m.ask = fmt.Sprintf("Delete %s?", plural(len(b.Changes), "site file"))
	}
	return p.perform(c, cl, m)
}

// tellIncluding warns of overlays whose templates include site files that are to be no more, by themselves or by links.
// Names that templates compute are not known here.
func (p *program) tellIncluding(cl *client, gone []string) {
	if len(gone) == 0 {
		return
	}
	files, err := fetch[catalog.SiteFile](cl, api.PathSiteFiles)
	if err != nil {
		return // the change will say it
	}
	links := map[string]string{}
	for _, f := range files.Items {
		if f.IsLink() {
			links[f.Path] = f.LinkPath()
		}
	}
	overlays, err := fetch[catalog.Overlay](cl, api.PathOverlays)
	if err != nil {
		return
	}
	for _, o := range overlays.Items {
		b, err := cl.bundle(string(o.Name))
		if err != nil {
			p.say("warning: whether overlay %s includes it cannot be told: %s", o.Name, sentence(err))
			continue
		}
		for _, path := range b.Includes() {
			for at, turns := path, 0; at != "" && turns <= len(links); at, turns = links[at], turns+1 {
				if slices.Contains(gone, at) {
					p.say("warning: a template of overlay %s includes %s, and will get nothing", o.Name, path)
					break
				}
			}
		}
	}
}

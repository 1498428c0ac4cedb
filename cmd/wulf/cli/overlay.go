package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

func (p *program) overlay() *cli.Command {
	return noun("overlay", "files and templates that make an image a node's own", append(p.overlayViews(), p.overlayChanges()...)...)
}

func (p *program) overlayViews() []verb {
	return []verb{
		{
			name: "list", aliases: []string{"ls"}, usage: "list overlays",
			examples: []string{"wulf overlay list"}, flags: listFlags(), run: p.overlayList,
		},
		{
			name: "show", usage: "list an overlay's files, or print one, as it is or as a node would get it", args: "OVERLAY [PATH]", least: 1, most: 2,
			about: "With --render, secrets are shown as <secret>, and SSH host keys are left out. Of a template that makes several files, each comes after a line with its path.",
			examples: []string{
				"wulf overlay show hosts",
				"wulf overlay show hosts etc/hosts",
				"wulf overlay show hosts etc/hosts --render n1",
			},
			flags: showFlags(
				text("render", "as `NODE` would get it", "r"),
				text("layer", "only what is in `LAYER`: own, the site's, or base, what comes with wulfmesh"),
				toggle("quiet", "print nothing but what the files hold", "q"),
			), run: p.overlayShow,
		},
		{
			name: "info", usage: "say what a file of an overlay is, and what its template reads", args: "OVERLAY PATH", least: 2, most: 2,
			examples: []string{"wulf overlay info hosts etc/hosts"}, flags: showFlags(), run: p.overlayInfo,
		},
		{
			name: "diff", usage: "show what the site changed of an overlay that comes with wulfmesh", args: "OVERLAY [DIR]", least: 1, most: 2,
			about: "With DIR, what importing that directory would change. With --at, what changed since a revision. With --render, it is about what a node would get.",
			examples: []string{
				"wulf overlay diff hosts",
				"wulf overlay diff site ./overlay",
				"wulf overlay diff site --at 4711",
			},
			flags: []cli.Flag{
				number("at", "since `REVISION`"), text("render", "of what `NODE` would get", "r"),
				toggle("keep-owner", "of DIR, let the files have the owners that they have here"),
				toggle("detailed-exitcode", "end with 2 if there is a difference"), staleFlag(),
			}, run: p.overlayDiff,
		},
		overlayCheck(p.overlayCheck),
		overlayTrace(p.overlayTrace),
	}
}

func (p *program) overlayChanges() []verb {
	return []verb{
		{
			name: "create", usage: "make an overlay with no files", args: "OVERLAY", least: 1, most: 1,
			examples: []string{"wulf overlay create site"}, flags: overlayFlags("m"), run: p.overlayCreate,
		},
		{
			name: "import", usage: "put a directory or a file into an overlay", args: "OVERLAY SOURCE [PATH]", least: 2, most: 3,
			about: "A directory without PATH becomes all of the overlay; with PATH it is put there, beside what there is. One with rootfs in it is an overlay as " +
				"Warewulf keeps them. A file keeps the path that it has here if PATH is not given. A file whose name ends in " + overlay.TemplateSuffix +
				" is a template, and loses that ending. Files are root's, whoever owns them here.",
			examples: []string{
				"wulf overlay import site ./overlay",
				"wulf overlay import site motd.ww /etc/motd.ww",
				"wulf overlay import site ./certs /etc/pki/",
			},
			flags: overlayFlags("m",
				toggle("keep-owner", "let the files have the owners that they have here"),
				toggle("overwrite", "replace a file that is there already"),
				toggle("over", "a directory lies over the files that come with wulfmesh, and does not hide them"),
				parentsFlag(), forceFlag("though a template fails for nodes"),
			), run: p.overlayImport,
		},
		{
			name: "edit", usage: "edit a file of an overlay with $EDITOR", args: "OVERLAY PATH", least: 2, most: 2,
			about:    "Of an overlay that comes with wulfmesh, this file alone becomes the site's; upgrades go on to replace the others.",
			examples: []string{"wulf overlay edit site etc/motd", "wulf overlay edit site etc/profile.d/site.sh.ww --parents"},
			flags: overlayFlags("", text("mode", "the file gets these permissions, in octal `DIGITS`", "m"),
				toggle("parents", "make the file if it is not there"), forceFlag("though a template fails for nodes")), run: p.overlayEdit,
		},
		{
			name: "mkdir", usage: "put directories into an overlay", args: "OVERLAY PATH…", least: 2, most: unlimited,
			about:    "Directories of files come by themselves. One that is named has its mode and owner on nodes, whatever the image says.",
			examples: []string{"wulf overlay mkdir site /scratch -m 1777"},
			flags:    overlayFlags("", text("mode", "its permissions, in octal `DIGITS` (default 0755)", "m"), parentsFlag()), run: p.overlayMkdir,
		},
		{
			name: "chmod", usage: "set the permissions of a file of an overlay", args: "OVERLAY PATH MODE", least: 3, most: 3,
			examples: []string{"wulf overlay chmod site etc/munge/munge.key 0400"}, flags: overlayFlags("m"), run: p.overlayChmod,
		},
		{
			name: "chown", usage: "set the owner of a file of an overlay, by numbers", args: "OVERLAY PATH UID[:GID]", least: 3, most: 3,
			examples: []string{"wulf overlay chown site etc/munge/munge.key 966:966"}, flags: overlayFlags("m"), run: p.overlayChown,
		},
		{
			name: "hook", usage: "say what a running node does when a file of a runtime overlay has changed", args: "OVERLAY PATTERN", least: 2, most: 2,
			examples: []string{
				"wulf overlay hook site etc/chrony.conf --restart chronyd.service",
				"wulf overlay hook site 'etc/ssh/sshd_config.d/*' --reload sshd.service",
				"wulf overlay hook site etc/chrony.conf --none",
			},
			flags: overlayFlags("m", text("reload", "tell `UNIT` to read it again"), text("restart", "start `UNIT` anew"), toggle("none", "do nothing, whatever comes with wulfmesh")), run: p.overlayHook,
		},
		{
			name: "reset", usage: "make files, or all of an overlay, what comes with wulfmesh", args: "OVERLAY [PATH…]", least: 1, most: unlimited,
			examples: []string{"wulf overlay reset hosts etc/hosts", "wulf overlay reset hosts"},
			flags:    changeFlags(forceFlag("with all that lies below the paths")), run: p.overlayReset,
		},
		{
			name: "delete", usage: "take files out of an overlay, or delete one that nothing uses", args: "OVERLAY [PATH…]", least: 1, most: unlimited,
			about:    "A file that comes with wulfmesh is gone from nodes, too, until it is reset. Of an overlay that comes with wulfmesh, what is the site's goes.",
			examples: []string{"wulf overlay delete site etc/motd", "wulf overlay delete site"},
			flags:    changeFlags(forceFlag("with all that lies below the paths"), parentsFlag()), run: p.overlayDelete,
		},
	}
}

// overlayFlags are those of the commands that write into an overlay; short is the short form of --message, which some need
// for another.
func overlayFlags(short string, more ...cli.Flag) []cli.Flag {
	message := text("message", "say why, for the history, in a `TEXT`")
	if short != "" {
		message = text("message", "say why, for the history, in a `TEXT`", short)
	}
	return append(more, message, waitFlag(), waitTimeFlag())
}

func forceFlag(usage string) cli.Flag { return toggle("force", usage) }

func parentsFlag() cli.Flag {
	return toggle("parents", "nothing: directories of files are made on nodes where they are missing; for scripts made for wwctl")
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
			{name: "FILES", cell: func(o catalog.Overlay) string { return overlayFiles(o) }},
			{name: "FROM", cell: func(o catalog.Overlay) string { return overlayFrom(o) }},
			{name: "SIZE", wide: true, cell: func(o catalog.Overlay) string { return size(o.Base.Size + o.Content.Size) }},
			{name: "CHANGED", wide: true, cell: func(o catalog.Overlay) string { return ago(o.Changed) }},
			{name: "BY", wide: true, cell: func(o catalog.Overlay) string { return or(o.By) }},
		},
	})
}

// overlayFiles is how many files an overlay has; of which some of the site's may be in the place of others.
func overlayFiles(o catalog.Overlay) string {
	base, own := o.Layers()
	switch {
	case own.ID.IsZero():
		return fmt.Sprint(o.BaseFiles)
	case base.ID.IsZero():
		return fmt.Sprint(o.Files)
	}
	return fmt.Sprintf("%d+%d", o.BaseFiles, o.Files)
}

// overlayFrom says whose an overlay's files are.
func overlayFrom(o catalog.Overlay) string {
	base, own := o.Layers()
	switch {
	case own.ID.IsZero():
		return "wulfmesh"
	case base.ID.IsZero() && o.Shipped:
		return "site, hides wulfmesh's"
	case base.ID.IsZero():
		return "site"
	}
	return "wulfmesh+site"
}

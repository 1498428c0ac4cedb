package cli

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

// Where Warewulf's packages put things.
const (
	usualWarewulfConf = "/etc/warewulf/warewulf.conf"
	usualNodesConf    = "/etc/warewulf/nodes.conf"
	usualChroots      = "/var/lib/warewulf/chroots"
	usualSiteOverlays = "/var/lib/warewulf/overlays"
	usualDistribution = "/usr/share/warewulf/overlays"
)

func (p *program) migrate() *cli.Command {
	from := func(more ...cli.Flag) []cli.Flag {
		return append([]cli.Flag{
			text("warewulf-conf", "the `FILE` warewulf.conf (default "+usualWarewulfConf+", if it is there)"),
			text("nodes-conf", "the `FILE` nodes.conf (default "+usualNodesConf+")"),
		}, more...)
	}
	places := []cli.Flag{
		text("overlays", "the `DIRECTORY` of the site's overlays (default: what warewulf.conf says, or "+usualSiteOverlays+")", "overlay-dir"),
		text("distribution-overlays", "the `DIRECTORY` of the overlays that came with Warewulf, to find those that the site's own hide (default "+usualDistribution+")"),
		text("server-root", "look for what no other flag names, and for the files that templates include, below `DIRECTORY`, a copy of the Warewulf server's disk (default /, if nodes.conf is read from its usual place)"),
		text("chroots", "the `DIRECTORY` of the images' root file systems (default: what warewulf.conf says, or "+usualChroots+")"),
	}
	return noun("migrate", "bring a cluster over from Warewulf 4",
		verb{
			name: "scan", usage: "read Warewulf's configuration and tell what to look at; asks and changes nothing",
			examples: []string{"wulf migrate scan", "wulf migrate scan --nodes-conf nodes.conf --warewulf-conf warewulf.conf --severity warning"},
			flags:    append(append(from(places...), listOnlyFlags()...), text("severity", "tell of `LEVEL` and worse: note, warning or error"), texts("hazard", "tell of hazard `ID` only")),
			run:      p.migrateScan,
		},
		verb{
			name: "show", usage: "print a node as Warewulf merges it, to compare with its own output; asks nobody", args: "[NODE…]", most: unlimited,
			examples: []string{"wulf migrate show n1", "wulf migrate show --nodes-conf nodes.conf --warewulf-conf warewulf.conf n1 -o json"},
			flags:    from(formatFlag("yaml or json"), toggle("blame", "say who decided each value instead")), run: p.migrateShow,
		},
		verb{
			name: "render", usage: "print what Warewulf makes of a template for a node, as wwctl overlay show --render does; asks nobody",
			about: "Templates see Warewulf's nodes.conf and warewulf.conf, and include the files of this machine, which is the Warewulf server, or of a copy of it.",
			args:  "NODE OVERLAY FILE", least: 3, most: 3,
			examples: []string{"wulf migrate render n1 hosts etc/hosts", "wulf migrate render --server-root /srv/old-server n1 site-ntp etc/chrony.conf.ww"},
			flags:    from(append(slices.Clone(places), toggle("quiet", "print the files without their names", "q"))...), run: p.migrateRender,
		},
		verb{
			name: "verify", usage: "compare nodes as Warewulf has them with what they are here, file by file", args: "[NODESET…]", most: unlimited,
			about: "Settings, image and kernel, and every file of both kinds of overlays, rendered there and here. What differs is told by the nodes that share it; " +
				"differences that are meant to be are told, and not counted. It ends with 1 if anything differs.",
			examples: []string{"wulf migrate verify", "wulf migrate verify --nodes-conf nodes.conf --warewulf-conf warewulf.conf n[1-4]"},
			flags:    from(append(slices.Concat(places, showFlags()), toggle("all", "show every difference"))...), run: p.migrateVerify,
		},
		verb{
			name: "import", usage: "declare Warewulf's nodes, profiles and network here, with its overlays and images",
			about:    "Without --apply it only tells what it would do. Hazards that are errors keep it from doing anything, unless they are accepted by name.",
			examples: []string{"wulf migrate import --plan", "wulf migrate import --apply", "wulf migrate import --apply --accept root-device"},
			flags: changeFlags(from(append(places, toggle("plan", "tell what it would do (the default)"), toggle("apply", "do it"),
				toggle("no-images", "import no image; those that are named must be here"), texts("accept", "go on in spite of hazard `ID`"))...)...), run: p.migrateImport,
		},
	)
}

// legacy is a Warewulf configuration that was read.
type legacy struct {
	root    string // the directory that stands for the server's /; "" is /
	nodes   *warewulf.Nodes
	config  *warewulf.Config // nil: there is none
	hazards []warewulf.Hazard

	configText []byte // of warewulf.conf
}

func (p *program) readLegacy(c *cli.Context) (*legacy, error) {
	l := legacy{root: c.String("server-root")}
	file := cmp.Or(c.String("nodes-conf"), filepath.Join(l.root, usualNodesConf))
	b, err := p.readDocument(file)
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "").WithFix("name it with --nodes-conf FILE")
	}
	if l.nodes, err = warewulf.ParseNodes(b); err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "%s", file)
	}
	file = cmp.Or(c.String("warewulf-conf"), filepath.Join(l.root, usualWarewulfConf))
	b, err = p.readDocument(file)
	switch {
	case err == nil:
		if l.config, err = warewulf.ParseConfig(b); err != nil {
			return nil, fault.Wrap(fault.KindOf(err), err, "%s", file)
		}
		l.hazards, l.configText = append(l.config.Hazards, l.nodes.AddMounts(l.config)...), b
	case c.IsSet("warewulf-conf"):
		return nil, err
	}
	l.hazards = append(l.hazards, l.nodes.Hazards...)
	return &l, nil
}

// dir is a directory of Warewulf's: as the flag says, else its configuration, else its packages; "" if it is not there.
func (l *legacy) dir(c *cli.Context, flag, configured, usual string) (string, error) {
	dir := cmp.Or(c.String(flag), filepath.Join(l.root, cmp.Or(configured, usual)))
	info, err := os.Stat(dir)
	if err == nil && info.IsDir() {
		return dir, nil
	}
	if c.IsSet(flag) {
		return "", fault.New(fault.NotFound, "%s is not a directory", dir)
	}
	return "", nil
}

func (l *legacy) paths() warewulf.Paths {
	if l.config == nil || l.config.Paths == nil {
		return warewulf.Paths{}
	}
	return *l.config.Paths
}

// inventory is what lies on the server's disk.
type inventory struct {
	site, distribution, images map[string]string // name to directory
}

func (l *legacy) inventory(c *cli.Context) (inventory, error) {
	var out inventory
	paths := l.paths()
	distribution := usualDistribution
	if paths.Datadir != "" {
		distribution = filepath.Join(paths.Datadir, "warewulf", "overlays")
	}
	for _, d := range []struct {
		flag, configured, usual string
		into                    *map[string]string
	}{
		{"overlays", paths.WWOverlaydir, usualSiteOverlays, &out.site},
		{"distribution-overlays", distribution, usualDistribution, &out.distribution},
		{"chroots", paths.WWChrootdir, usualChroots, &out.images},
	} {
		dir, err := l.dir(c, d.flag, d.configured, d.usual)
		if err != nil {
			return out, err
		}
		if *d.into, err = rootsIn(dir); err != nil {
			return out, err
		}
	}
	return out, nil
}

// rootsIn are the directories in one, each of which has its files in rootfs, or, as overlays of old had them, in itself.
func rootsIn(dir string) (map[string]string, error) {
	out := map[string]string{}
	if dir == "" {
		return out, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "reading %s", dir)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		root := filepath.Join(dir, e.Name())
		if info, err := os.Stat(filepath.Join(root, "rootfs")); err == nil && info.IsDir() {
			root = filepath.Join(root, "rootfs")
		}
		out[e.Name()] = root
	}
	return out, nil
}

// check is everything that a person should look at.
func (l *legacy) check(inv inventory) []warewulf.Hazard {
	have := warewulf.Inventory{Images: slices.Sorted(maps.Keys(inv.images))}
	if len(inv.distribution) > 0 { // else nobody can say which overlays there are
		have.Site, have.Distribution = slices.Sorted(maps.Keys(inv.site)), slices.Sorted(maps.Keys(inv.distribution))
	}
	return append(slices.Clone(l.hazards), warewulf.Check(l.nodes, l.config, have)...)
}

func (p *program) migrateScan(c *cli.Context) error {
	l, err := p.readLegacy(c)
	if err != nil {
		return err
	}
	inv, err := l.inventory(c)
	if err != nil {
		return err
	}
	shipped, err := shippedNames()
	if err != nil {
		return err
	}
	converted := warewulf.Convert(l.nodes, l.config, known(inv, shipped), overlay.DefaultSystem())
	files, err := l.serverFiles(c, inv, converted.Overlays)
	if err != nil {
		return err
	}
	all := slices.Concat(l.check(inv), converted.Hazards, files.hazards)
	all, err = chosenHazards(c, all)
	if err != nil {
		return err
	}
	if err := printList(p, c, hazardList(all)); err != nil {
		return err
	}
	p.say("%s, %s, %s; %s to look at", plural(len(l.nodes.Nodes), "node"), plural(len(l.nodes.Profiles), "profile"), plural(len(inv.images), "image"), plural(len(all), "hazard"))
	return nil
}

var severities = []warewulf.Severity{warewulf.Note, warewulf.Warning, warewulf.Error}

func chosenHazards(c *cli.Context, all []warewulf.Hazard) ([]warewulf.Hazard, error) {
	least := 0
	if c.IsSet("severity") {
		if least = slices.Index(severities, warewulf.Severity(c.String("severity"))); least < 0 {
			return nil, fault.New(fault.Invalid, "--severity %q is none", c.String("severity")).WithFix("it is note, warning or error")
		}
	}
	ids, err := hazardNames(c, "hazard")
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(h warewulf.Hazard) bool {
		return slices.Index(severities, h.Severity) < least || len(ids) > 0 && !slices.Contains(ids, string(h.ID))
	}), nil
}

// hazardNames are the hazards that a flag names.
func hazardNames(c *cli.Context, flag string) ([]string, error) {
	ids, all := names(c, flag), hazardWords()
	for _, id := range ids {
		if slices.Contains(all, id) {
			continue
		}
		err := fault.New(fault.Invalid, "--%s %q is no hazard", flag, clipped(id))
		if best := closest(id, all); best != "" {
			return nil, err.WithFix("did you mean %s?", best)
		}
		return nil, err.WithFix("their names are in: wulf migrate scan")
	}
	return ids, nil
}

func hazardWords() []string {
	var all []string
	for _, id := range warewulf.HazardIDs() {
		all = append(all, string(id))
	}
	return all
}

func hazardList(all []warewulf.Hazard) listing[warewulf.Hazard] {
	return listing[warewulf.Hazard]{
		list: api.List[warewulf.Hazard]{Items: all},
		name: func(h warewulf.Hazard) string { return string(h.ID) },
		columns: []column[warewulf.Hazard]{
			{name: "SEVERITY", cell: func(h warewulf.Hazard) string { return string(h.Severity) }},
			{name: "HAZARD", cell: func(h warewulf.Hazard) string { return string(h.ID) }},
			{name: "FILE", wide: true, cell: func(h warewulf.Hazard) string { return h.File }},
			{name: "LINE", cell: func(h warewulf.Hazard) string {
				if h.Line == 0 {
					return "-"
				}
				return fmt.Sprint(h.Line)
			}},
			{name: "ABOUT", cell: func(h warewulf.Hazard) string { return h.Subject }},
			{name: "WHAT", cell: func(h warewulf.Hazard) string { return h.What }},
			{name: "FIX", wide: true, cell: func(h warewulf.Hazard) string { return h.Fix }},
		},
	}
}

func (p *program) migrateShow(c *cli.Context) error {
	f := cmp.Or(c.String("output"), formatYAML)
	if f != formatYAML && f != formatJSON {
		return fault.New(fault.Invalid, "-o %s is not a format of this command", f).WithFix("choose yaml or json")
	}
	l, err := p.readLegacy(c)
	if err != nil {
		return err
	}
	wanted := c.Args().Slice()
	if len(wanted) == 0 {
		wanted = slices.Sorted(maps.Keys(l.nodes.Nodes))
	} else if wanted, err = newNames(wanted); err != nil {
		return err
	}
	var all []warewulf.Merged
	for _, name := range wanted {
		m, blame, _, err := l.nodes.Merged(name)
		if err != nil {
			return err
		}
		if c.Bool("blame") {
			if err := p.printBlame(name, blame); err != nil {
				return err
			}
			continue
		}
		all = append(all, m)
	}
	if c.Bool("blame") {
		return nil
	}
	encode := warewulf.Marshal
	if f == formatJSON {
		encode = warewulf.MarshalJSON
	}
	b, err := encode(all...)
	if err != nil {
		return err
	}
	_, err = p.out.Write(b)
	return err
}

func (p *program) printBlame(node string, blame warewulf.Blame) error {
	t := table{rows: [][]string{{"NODE", "FIELD", "DECIDED BY"}}, colour: p.colour()}
	for _, path := range slices.Sorted(maps.Keys(blame)) {
		t.rows = append(t.rows, []string{node, path, strings.Join(blame[path], ", ")})
	}
	return t.write(p.out)
}

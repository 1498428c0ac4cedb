package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func fileFlags() []cli.Flag {
	return []cli.Flag{
		texts("file", "what is to be: a `FILE` of YAML or JSON, all such files below a directory, or - for standard input; several: again", "f"),
		toggle("prune", "delete nodes, profiles and networks that the files do not declare"),
	}
}

func (p *program) plan() *cli.Command {
	c := verb{
		name: "plan", usage: "say what apply would change, or how long a boot storm will take",
		about:    "It exits with 0 if nothing is different; with --detailed-exitcode it exits with 2 if something is.",
		examples: []string{"wulf plan -f cluster/", "wulf plan -f cluster/ --prune --detailed-exitcode"},
		flags:    append(fileFlags(), toggle("detailed-exitcode", "exit with 2 if something would change"), formatFlag("table, json or yaml")), run: p.runPlan,
	}.command()
	c.Subcommands = append(c.Subcommands, p.planCapacity())
	return c
}

func (p *program) apply() *cli.Command {
	return verb{
		name: "apply", usage: "make the cluster as files declare it",
		about: "Networks, profiles and nodes become as they are declared, in one change that happens as a whole or not at all. Those that the files do not " +
			"declare stay, unless --prune is given. Images, overlays and relays are made by their own commands and are only named here.",
		examples: []string{"wulf apply -f cluster/", "wulf apply -f cluster/ --prune --if-revision 4711"},
		flags:    changeFlags(fileFlags()...), run: p.runApply,
	}.command()
}

func (p *program) export() *cli.Command {
	return verb{
		name: "export", usage: "print all networks, profiles and nodes, as apply takes them", args: "[KIND]", most: 1,
		about:    "KIND is all, or nodes.conf for what Warewulf 4 reads. Secrets are printed sealed; only this cluster can use them.",
		examples: []string{"wulf export > cluster.yaml", "wulf export nodes.conf > nodes.conf"},
		flags:    []cli.Flag{formatFlag("yaml or json"), staleFlag()}, run: p.runExport,
	}.command()
}

// readAll reads all files that are named, and those below directories.
func (p *program) readAll(files []string) (*declared, error) {
	if len(files) == 0 {
		return nil, fault.New(fault.Invalid, "no file is named").WithFix("say -f FILE or -f DIRECTORY")
	}
	all := &declared{Networks: map[string]networkDoc{}, Profiles: map[string]nodeDoc{}, Nodes: map[string]nodeDoc{}}
	for _, name := range files {
		found := []string{name}
		if info, err := os.Stat(name); name != "-" && err == nil && info.IsDir() {
			if found, err = below(name); err != nil {
				return nil, err
			}
		}
		for _, file := range found {
			b, err := p.readDocument(file)
			if err != nil {
				return nil, err
			}
			d, err := parseDeclared(file, b)
			if err != nil {
				return nil, err
			}
			if err := all.add(file, &declared{Networks: d.Networks, Profiles: d.Profiles}); err != nil {
				return nil, err
			}
			for node, doc := range d.Nodes { // sets and formulas are worked out
				if _, twice := all.Nodes[node]; twice {
					return nil, declaredTwice(file, "node", node)
				}
				all.Nodes[node] = doc
			}
		}
	}
	if len(all.Networks)+len(all.Profiles)+len(all.Nodes) == 0 { // with --prune that would be the end of everything
		return nil, fault.New(fault.Invalid, "%s: nothing is declared", strings.Join(files, ", "))
	}
	return all, nil
}

// below lists the files of declarations in a directory and those in it, in order.
func below(dir string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() != "." && d.Name()[0] == '.' && path != dir {
			if d.IsDir() {
				return filepath.SkipDir // .git
			}
			return nil
		}
		if !d.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "reading declarations")
	}
	if len(found) == 0 {
		return nil, fault.New(fault.NotFound, "no .yaml or .json file is below %s", dir)
	}
	slices.Sort(found)
	return found, nil
}

// everything is all that is declared in the cluster. The parts are of one revision.
func (cl *client) everything() (present, error) {
	for range 5 { // changes that come in between are rare
		networks, err := fetch[catalog.Network](cl, api.PathNetworks)
		if err != nil {
			return present{}, err
		}
		profiles, err := fetch[catalog.Profile](cl, api.PathProfiles)
		if err != nil {
			return present{}, err
		}
		nodes, err := cl.views(api.NodeQuery{})
		if err != nil {
			return present{}, err
		}
		if networks.Revision != profiles.Revision || profiles.Revision != nodes.Revision {
			continue
		}
		now := presentNodes(nodes)
		now.networks, now.profiles = map[string]catalog.Network{}, map[string]catalog.Profile{}
		for _, n := range networks.Items {
			now.networks[string(n.Name)] = n
		}
		for _, v := range profiles.Items {
			now.profiles[string(v.Name)] = v
		}
		return now, nil
	}
	return present{}, fault.New(fault.Conflict, "the cluster changes faster than it can be read").WithFix("try again")
}

// networkOf is the network in which an address lies.
func (now present) networkOf(a netip.Addr) (*catalog.Network, bool) {
	for _, n := range now.networks {
		if n.Holds(a) {
			return &n, true
		}
	}
	return nil, false
}

// errDifferent ends a plan whose exit code tells.
var errDifferent = errors.New("")

// wanted is the change that leads from what is declared now to what the files declare; nil if there is nothing to do.
func (p *program) wanted(c *cli.Context) (*client, present, catalog.Change, error) {
	want, err := p.readAll(c.StringSlice("file"))
	if err != nil {
		return nil, present{}, nil, err
	}
	cl, err := p.connect(c)
	if err != nil {
		return nil, present{}, nil, err
	}
	now, err := cl.everything()
	if err == nil {
		var change catalog.Change
		if change, err = reconcile(now, want, c.Bool("prune")); err == nil {
			return cl, now, change, nil
		}
	}
	cl.done()
	return nil, present{}, nil, err
}

func (p *program) runPlan(c *cli.Context) error {
	f, err := p.format(c, formatTable, formatJSON, formatYAML)
	if err != nil {
		return err
	}
	cl, now, change, err := p.wanted(c)
	if err != nil {
		return err
	}
	defer cl.done()
	v := &catalog.Preview{Groups: []catalog.PreviewGroup{}}
	if change != nil {
		if v, _, err = cl.preview(change, api.ChangeOptions{}); err != nil {
			return err
		}
	}
	if f != formatTable {
		if err := p.printValue(f, v); err != nil {
			return err
		}
	} else {
		for _, line := range previewLines(v) {
			fmt.Fprintln(p.out, plainIndented(line))
		}
	}
	if !v.Changed {
		return nil
	}
	if f == formatTable {
		command := "wulf apply"
		for _, name := range c.StringSlice("file") {
			command += " -f " + name
		}
		if c.Bool("prune") {
			command += " --prune"
		}
		fmt.Fprintf(p.out, "to do it: %s --if-revision %d\n", command, now.revision)
	}
	if c.Bool("detailed-exitcode") {
		return errDifferent
	}
	return nil
}

func (p *program) runApply(c *cli.Context) error {
	cl, now, change, err := p.wanted(c)
	if err != nil {
		return err
	}
	defer cl.done()
	m := mutation{seen: now.revision}
	if n := gone(change); n > 0 {
		m.count, m.ask = n, fmt.Sprintf("Delete %s that the files do not declare?", plural(n, "thing"))
	}
	return p.performIfAny(c, cl, change, m)
}

func (p *program) runExport(c *cli.Context) error {
	f := c.String("output")
	if f != "" && f != formatYAML && f != formatJSON {
		return fault.New(fault.Invalid, "-o %s is not a format of this command", f).WithFix("choose yaml or json")
	}
	kind := c.Args().First()
	if kind != "" && kind != "all" && kind != "nodes.conf" {
		return fault.New(fault.Invalid, "%q cannot be exported", kind).WithFix("export all or nodes.conf")
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	now, err := cl.everything()
	if err != nil {
		return err
	}
	if kind == "nodes.conf" {
		return p.exportNodesConf(now)
	}
	d := profilesDeclared(now)
	d.Networks = map[string]networkDoc{}
	for name, n := range now.networks {
		n.SSHAuthority = "" // it is this cluster's own
		d.Networks[name] = networkDoc{n}
	}
	all := make([]catalog.Node, 0, len(now.nodes))
	for _, n := range now.nodes {
		all = append(all, n)
	}
	d.Nodes = nodesDeclared(all).Nodes
	if f == formatJSON {
		return writeJSON(p.out, d)
	}
	return writeYAML(p.out, d)
}

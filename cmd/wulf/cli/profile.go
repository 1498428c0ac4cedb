package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) profile() *cli.Command {
	return noun("profile", "settings that nodes share",
		verb{
			name: "list", aliases: []string{"ls"}, usage: "list profiles",
			examples: []string{"wulf profile list"}, flags: listFlags(), run: p.profileList,
		},
		verb{
			name: "show", usage: "show what a profile decides", args: "PROFILE", least: 1, most: 1,
			examples: []string{"wulf profile show default"}, flags: showFlags(), run: p.profileShow,
		},
		verb{
			name: "add", usage: "make a profile", args: "PROFILE", least: 1, most: 1,
			examples: []string{"wulf profile add gpu -P default --image rocky -A nouveau.modeset=0"},
			flags:    changeFlags(settingFlags()...), run: p.profileAdd,
		},
		verb{
			name: "set", usage: "change what profiles decide; what is not named stays", args: "PROFILE…", least: 1, most: unlimited,
			examples: []string{
				"wulf profile set default --image debian",
				"wulf profile set cpu -A console=ttyS0,115200 -A quiet --dry-run",
			},
			flags: changeFlags(append(settingFlags(), unsetFlag())...), run: p.profileSet,
		},
		verb{
			name: "delete", aliases: []string{"rm"}, usage: "delete profiles that nothing uses", args: "PROFILE…", least: 1, most: unlimited,
			examples: []string{"wulf profile delete old"}, flags: changeFlags(), run: p.profileDelete,
		},
	)
}

func (p *program) profileList(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := fetch[catalog.Profile](cl, api.PathProfiles)
	if err != nil {
		return err
	}
	return printList(p, c, listing[catalog.Profile]{
		list: list,
		name: func(v catalog.Profile) string { return string(v.Name) },
		columns: []column[catalog.Profile]{
			{name: "NAME", cell: func(v catalog.Profile) string { return string(v.Name) }},
			{name: "PROFILES", cell: func(v catalog.Profile) string { return or(words(v.Profiles)) }},
			{name: "IMAGE", cell: func(v catalog.Profile) string { return or(deref(v.Settings.Image)) }},
			{name: "DECIDES", cell: func(v catalog.Profile) string { return or(strings.Join(v.Settings.Decided(), " ")) }},
			{name: "COMMENT", wide: true, cell: func(v catalog.Profile) string { return deref(v.Settings.Comment) }},
		},
	})
}

// findProfiles looks up profiles by name among all.
func findProfiles(cl *client, wanted []string) ([]catalog.Profile, error) {
	list, err := fetch[catalog.Profile](cl, api.PathProfiles)
	if err != nil {
		return nil, err
	}
	return find("profile", list.Items, wanted, func(v catalog.Profile) string { return string(v.Name) })
}

// find looks things up by their names. One that is not there is an error that says which was perhaps meant.
func find[T any](what string, all []T, wanted []string, name func(T) string) ([]T, error) {
	var found []T
	for _, w := range wanted {
		i := slices.IndexFunc(all, func(v T) bool { return name(v) == w })
		if i < 0 {
			var known []string
			for _, v := range all {
				known = append(known, name(v))
			}
			err := fault.New(fault.NotFound, "no %s is called %q", what, w)
			if best := closest(w, known); best != "" {
				return nil, err.WithFix("did you mean %q?", best)
			}
			return nil, err.WithFix("see all with: wulf %s list", what)
		}
		found = append(found, all[i])
	}
	return found, nil
}

func (p *program) profileShow(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	found, err := findProfiles(cl, c.Args().Slice())
	if err != nil {
		return err
	}
	v := found[0]
	return p.show(c, v, func(r *report) {
		r.line("profile %s", v.Name)
		rows := [][]string{{"SETTING", "VALUE"}, {"profiles", or(words(v.Profiles))}}
		values := flat(v.Settings)
		for _, path := range sortedKeys(values) {
			rows = append(rows, []string{path, values[path]})
		}
		r.rows(rows)
	})
}

// profileDecisions are decisions that hold for all who share them.
func profileDecisions(c *cli.Context) (decisions, error) {
	d, err := readDecisions(c)
	if err == nil && strings.Contains(deref(d.set.Rack), "{") {
		err = fault.New(fault.Invalid, "a profile has one rack, not one for each node").WithFix("set it on the nodes: wulf node set NODESET --rack …")
	}
	return d, err
}

func (p *program) profileAdd(c *cli.Context) error {
	name, err := catalog.ParseName[catalog.ProfileName]("profile", c.Args().First())
	if err != nil {
		return err
	}
	d, err := profileDecisions(c)
	if err != nil {
		return err
	}
	profile := catalog.Profile{Name: name, Settings: d.set}
	if d.profiles != nil {
		profile.Profiles = *d.profiles
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	return p.perform(c, cl, mutation{change: catalog.AddProfile{Profile: profile}, diff: []string{"add profile " + string(name)}})
}

func (p *program) profileSet(c *cli.Context) error {
	d, err := profileDecisions(c)
	if err != nil {
		return err
	}
	if d.empty() {
		return fault.New(fault.Invalid, "nothing is said about what to set").WithFix("see wulf profile set --help")
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	all, err := fetch[catalog.Profile](cl, api.PathProfiles)
	if err != nil {
		return err
	}
	found, err := find("profile", all.Items, c.Args().Slice(), func(v catalog.Profile) string { return string(v.Name) })
	if err != nil {
		return err
	}
	change := catalog.SetProfiles{Profiles: d.profiles, Set: d.set, Unset: d.unset}
	var diffs []difference
	for _, v := range found {
		change.Names = append(change.Names, v.Name)
		diff, err := settingsDiff(string(v.Name), v.Profiles, v.Settings, d, catalog.Settings{})
		if err != nil {
			return err
		}
		diffs = append(diffs, diff)
	}
	nodes, err := fetch[api.NodeView](cl, api.PathNodes)
	if err != nil {
		return err
	}
	affected := usersOf(change.Names, all.Items, nodes.Items)
	m := mutation{change: change, diff: grouped("profile", diffs)}
	if len(affected) > 0 {
		m.diff = append(m.diff, "affects "+counted(affected, "node"))
	}
	limit, err := p.confirmAbove(c)
	if err != nil {
		return err
	}
	if len(affected) > limit {
		m.ask = fmt.Sprintf("Change what %d nodes boot?", len(affected))
	}
	return p.perform(c, cl, m)
}

// usersOf are the nodes that take settings from one of the profiles, directly or through others.
func usersOf(wanted []catalog.ProfileName, profiles []catalog.Profile, nodes []api.NodeView) []string {
	uses := make(map[catalog.ProfileName]bool)
	for _, name := range wanted {
		uses[name] = true
	}
	any := func(names []catalog.ProfileName) bool {
		return slices.ContainsFunc(names, func(n catalog.ProfileName) bool { return uses[n] })
	}
	for grown := true; grown; {
		grown = false
		for _, v := range profiles {
			if !uses[v.Name] && any(v.Profiles) {
				uses[v.Name], grown = true, true
			}
		}
	}
	var names []string
	for _, n := range nodes {
		if any(n.Profiles) {
			names = append(names, string(n.Name))
		}
	}
	return names
}

func (p *program) profileDelete(c *cli.Context) error {
	return p.deleteEach(c, "profile", func(name string) catalog.Change {
		return catalog.DeleteProfile{Name: catalog.ProfileName(name)}
	})
}

// deleteEach deletes things one after the other, for kinds of which the log deletes one at a time. If one cannot be
// deleted after others were, that is told apart from a failure of everything.
func (p *program) deleteEach(c *cli.Context, what string, change func(name string) catalog.Change) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	names := c.Args().Slice()
	if len(names) > 1 && c.IsSet("if-revision") {
		return fault.New(fault.Invalid, "--if-revision is for one %s at a time, as each deletion makes a revision", what)
	}
	for i, name := range names {
		m := mutation{change: change(name), diff: []string{"delete " + what + " " + name}, count: len(names)}
		if len(names) > 1 && i == 0 {
			m.ask = fmt.Sprintf("Delete %d %ss?", len(names), what)
		}
		if err := p.perform(c, cl, m); err != nil {
			if i > 0 && !c.Bool("dry-run") {
				return &partialError{done: "deleted " + counted(names[:i], what), err: err}
			}
			return err
		}
	}
	return nil
}

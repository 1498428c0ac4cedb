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
			name: "add", aliases: []string{"new", "create"}, usage: "make a profile", args: "PROFILE", least: 1, most: 1,
			examples: []string{"wulf profile add gpu -P default --image rocky -A nouveau.modeset=0"},
			flags:    changeFlags(settingFlags(false)...), run: p.profileAdd,
		},
		verb{
			name: "set", aliases: []string{"modify"}, usage: "change what profiles decide; what is not named stays", args: "PROFILE…", least: 1, most: unlimited,
			examples: []string{
				"wulf profile set default --image debian",
				"wulf profile set cpu -A console=ttyS0,115200 -A quiet --dry-run",
			},
			flags: changeFlags(append(settingFlags(false), unsetFlag(), withoutFlag())...), run: p.profileSet,
		},
		verb{
			name: "unset", usage: "take back what profiles decide", args: "PROFILE…", least: 1, most: unlimited,
			examples: []string{"wulf profile unset gpu --kernelargs", "wulf profile unset gpu --inherited --image"},
			flags:    changeFlags(unsetFlags()...), run: p.profileUnset,
		},
		verb{
			name: "edit", usage: "change profiles as YAML in $EDITOR", args: "[PROFILE…]", most: unlimited,
			examples: []string{"wulf profile edit gpu"}, flags: changeFlags(), run: p.profileEdit,
		},
		overlayOf("profile", "PROFILE", p.profileOverlay),
		verb{
			name: "delete", aliases: []string{"rm", "del", "remove"}, usage: "delete profiles that nothing uses", args: "PROFILE…", least: 1, most: unlimited,
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
		values := v.Settings.Flat()
		for _, path := range sortedKeys(values) {
			rows = append(rows, []string{path, values[path]})
		}
		r.rows(rows)
	})
}

func (p *program) profileAdd(c *cli.Context) error {
	name, err := catalog.ParseName[catalog.ProfileName]("profile", c.Args().First())
	if err != nil {
		return err
	}
	d, err := p.readDecisions(c, false)
	if err != nil {
		return err
	}
	profile := catalog.Profile{Name: name, Settings: d.set}
	if d.profiles != nil {
		profile.Profiles = *d.profiles
	}
	if d.without != nil {
		profile.Settings.Without = d.without(nil)
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	return p.perform(c, cl, mutation{change: catalog.AddProfile{Profile: profile}})
}

func (p *program) profileSet(c *cli.Context) error {
	d, err := p.readDecisions(c, false)
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
	found, err := findProfiles(cl, c.Args().Slice())
	if err != nil {
		return err
	}
	change := catalog.SetProfiles{Profiles: d.profiles, Set: d.set, Unset: d.unset}
	for _, v := range found {
		change.Names = append(change.Names, v.Name)
	}
	if d.without != nil {
		if len(found) > 1 {
			return fault.New(fault.Invalid, "--without is for one profile at a time")
		}
		if change.Set.Without = d.without(found[0].Settings.Without); len(change.Set.Without) == 0 {
			change.Unset = append(change.Unset, "without")
		}
	}
	return p.perform(c, cl, mutation{change: change})
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

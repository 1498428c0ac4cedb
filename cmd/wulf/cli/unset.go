package cli

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// unsetFlags take back what the flags of the same names of set decide.
func unsetFlags() []cli.Flag {
	flags := []cli.Flag{
		toggle("inherited", "and have none of it, whatever profiles decide"),
		toggle("profile", "the profiles, all of them", "P"),
		texts("tag", "the tag `KEY`"), texts("nettag", "the tag `KEY` of the network device"), texts("ipmitag", "the tag `KEY` of the BMC"),
		texts("path", "the setting at `PATH`, as resources.fstab"),
		text("netname", "the network device `NAME` that its flags are about; with none of them, the device itself"),
		text("diskname", "the disk `DEVICE`, likewise"), text("partname", "the partition `LABEL`, likewise"), text("fsname", "the file system on `DEVICE`, likewise"),
	}
	for _, s := range settings() {
		flags = append(flags, toggle(s.flag, "what --"+s.flag+" decides", s.aliases...))
	}
	return flags
}

// unsetPaths are the settings that the flags of unset name.
func unsetPaths(c *cli.Context) ([]string, error) {
	paths := names(c, "path")
	whole := map[string]bool{} // places that are named, and of which no part is
	for part, flag := range places() {
		if c.IsSet(flag) {
			whole[part] = true
		}
	}
	add := func(path string) error {
		for part := range places() {
			if strings.Contains(path, "."+part+".") {
				delete(whole, part)
			}
		}
		placed, err := place(c, path)
		paths = append(paths, placed)
		return err
	}
	for _, s := range settings() {
		if c.Bool(s.flag) {
			if err := add(s.path); err != nil {
				return nil, err
			}
		}
	}
	for flag, path := range map[string]string{"tag": "tags.", "nettag": "nets.NET.tags.", "ipmitag": "bmc.tags."} {
		for _, key := range names(c, flag) {
			if err := add(path + key); err != nil {
				return nil, err
			}
		}
	}
	// As in wwctl: a name alone means the thing itself.
	for part, path := range map[string]string{"NET": "nets.NET.", "PART": "disks.DISK.partitions.PART.", "DISK": "disks.DISK.", "FS": "filesystems.FS."} {
		if !whole[part] || part == "DISK" && whole["PART"] {
			continue
		}
		placed, err := place(c, path)
		if err != nil {
			return nil, err
		}
		paths = append(paths, strings.TrimSuffix(placed, "."))
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

func (p *program) nodeUnset(c *cli.Context) error {
	change, err := readUnset(c, "node")
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	names, err := p.namedNodes(c, cl)
	if err != nil {
		return err
	}
	change.Nodes = nodeSet(names)
	if c.Bool("inherited") {
		paths := change.Unset
		if err := cl.setWithout(&change, func(now []string) []string { return changedList(now, paths) }); err != nil {
			return err
		}
	}
	return p.perform(c, cl, mutation{change: change})
}

func (p *program) profileUnset(c *cli.Context) error {
	change, err := readUnset(c, "profile")
	if err != nil {
		return err
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
	set := catalog.SetProfiles{Profiles: change.Profiles, Unset: change.Unset}
	for _, v := range found {
		set.Names = append(set.Names, v.Name)
	}
	if c.Bool("inherited") {
		if len(found) > 1 {
			return fault.New(fault.Invalid, "--inherited is for one profile at a time")
		}
		set.Set.Without = changedList(found[0].Settings.Without, change.Unset)
	}
	return p.perform(c, cl, mutation{change: set})
}

func readUnset(c *cli.Context, what string) (catalog.SetNodes, error) {
	var change catalog.SetNodes
	paths, err := unsetPaths(c)
	if err != nil {
		return change, err
	}
	if change.Unset = paths; c.Bool("profile") {
		change.Profiles = &[]catalog.ProfileName{}
	}
	if len(paths) == 0 && change.Profiles == nil {
		return change, fault.New(fault.Invalid, "nothing is said about what to unset").WithFix("see wulf %s unset --help", what)
	}
	return change, nil
}

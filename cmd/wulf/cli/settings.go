package cli

import (
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

const defaultNet = catalog.DefaultNet

// decisions are what the flags of a command decide.
type decisions struct {
	profiles *[]catalog.ProfileName // nil: nothing is said about them
	set      catalog.Settings
	unset    []string
	compute  map[string]string                     // settings by formula
	listed   map[string]listed                     // settings by a list or by counting up
	without  func([]string) []string               // changes the list of what is not inherited; nil: nothing is said about it
	each     map[catalog.NodeName]catalog.Settings // what differs from node to node
}

// listed is a value for each node, as it was written for a flag.
type listed struct{ flag, value string }

// readDecisions reads what the flags say. What differs from node to node is taken only where there are nodes.
func (p *program) readDecisions(c *cli.Context, ofNodes bool) (decisions, error) {
	d := decisions{compute: map[string]string{}, listed: map[string]listed{}}
	if err := d.readProfiles(c); err != nil {
		return d, err
	}
	for _, s := range settings() {
		if !c.IsSet(s.flag) {
			continue
		}
		path, err := place(c, s.path)
		if err != nil {
			return d, err
		}
		if err := p.readSetting(c, s, path, &d, ofNodes); err != nil {
			return d, err
		}
	}
	for _, s := range additions() {
		for _, kv := range c.StringSlice(s.flag) {
			if err := p.readAddition(c, s, kv, &d, ofNodes); err != nil {
				return d, err
			}
		}
	}
	for _, s := range removals() {
		for _, name := range names(c, s.flag) {
			path, err := place(c, s.path)
			if err != nil {
				return d, err
			}
			if s.flag == "fsdel" {
				name = fsDevice(name)
			}
			d.unset = append(d.unset, path+name)
		}
	}
	d.unset = append(d.unset, names(c, "unset")...)
	if paths := names(c, "without"); len(paths) > 0 {
		d.without = func(now []string) []string { return changedList(now, paths) }
	}
	return d, nil
}

func (d *decisions) readProfiles(c *cli.Context) error {
	if !c.IsSet("profile") {
		return nil
	}
	list := []catalog.ProfileName{}
	for _, name := range names(c, "profile") {
		if _, err := catalog.ParseName[catalog.ProfileName]("profile", strings.TrimPrefix(name, "~")); err != nil {
			return err
		}
		list = append(list, catalog.ProfileName(name))
	}
	d.profiles = &list
	return nil
}

// readSetting takes what one flag decides.
func (p *program) readSetting(c *cli.Context, s setting, path string, d *decisions, ofNodes bool) error {
	switch s.kind {
	case several:
		return d.decideList(path, names(c, s.flag))
	case phrases:
		var list []string
		for _, v := range c.StringSlice(s.flag) {
			if s.flag == "ssh-key" {
				list = append(list, strings.TrimSpace(v))
				continue
			}
			list = append(list, strings.Fields(v)...) // whoever writes "a b" means two words
		}
		return d.decideList(path, list)
	case yesNo:
		return d.decide(path, strconv.FormatBool(c.Bool(s.flag)), "--"+s.flag)
	}
	value := c.String(s.flag)
	if path == "bmc.password" {
		var err error
		if value, err = p.secretValue(value); err != nil {
			return err
		}
		return d.decide(path, value, "--"+s.flag)
	}
	return d.decideText(path, value, "--"+s.flag, ofNodes)
}

func (p *program) readAddition(c *cli.Context, s setting, kv string, d *decisions, ofNodes bool) error {
	k, v, ok := strings.Cut(kv, "=")
	if !ok || k == "" {
		if s.flag == "secret" { // what was meant for a value is not shown
			return fault.New(fault.Invalid, "--secret has no key").WithFix("write --secret KEY=VALUE, or KEY=@FILE")
		}
		return fault.New(fault.Invalid, "--%s %q is not KEY=VALUE", s.flag, kv)
	}
	path, err := place(c, s.path)
	if err != nil {
		return err
	}
	path += k
	if strings.HasPrefix(path, "secrets.") || path == "bmc.password" {
		if v, err = p.secretValue(v); err != nil {
			return err
		}
		return d.decide(path, v, "--"+s.flag)
	}
	if strings.HasPrefix(path, "resources.") { // JSON is full of braces
		return d.decide(path, v, "--"+s.flag)
	}
	return d.decideText(path, v, "--"+s.flag, ofNodes)
}

// decideText decides a setting by a text, which may be a formula or a list where there are nodes.
func (d *decisions) decideText(path, value, flag string, ofNodes bool) error {
	if u, err := catalog.ParseUUID(value); path == "uuid" && err == nil { // some write it in braces
		value = u
	}
	different := nodeset.IsFormula(value) && path != "comment" || isIdentity(path)
	switch {
	case !different:
		return d.decide(path, value, flag)
	case !ofNodes:
		return fault.New(fault.Invalid, "%s %q differs from node to node, and a profile is for all", flag, value).WithFix("set it on the nodes: wulf node set NODESET %s …", flag)
	case nodeset.IsFormula(value):
		if _, err := nodeset.ParseFormula(value); err != nil {
			return fault.Wrap(fault.Invalid, err, "%s", flag)
		}
		d.compute[path] = value
	case value == catalog.Auto:
		d.compute[path] = value
	default:
		d.listed[path] = listed{flag, value}
	}
	return nil
}

// isIdentity tells whether a setting is one that only one node can have, and that lists and counting are for.
func isIdentity(path string) bool {
	return path == "bmc.address" || path == "uuid" || path == "asset" || strings.HasPrefix(path, "nets.") &&
		(strings.HasSuffix(path, ".address") || strings.HasSuffix(path, ".hardware") || strings.HasSuffix(path, ".address6"))
}

func (d *decisions) decide(path, value, flag string) error {
	s, err := catalog.ParseSetting(path, value)
	if err != nil {
		fix := fault.Fix(err)
		if a, perr := netip.ParsePrefix(value); perr == nil {
			fix = "leave out the length of the prefix: the network has it; write " + a.Addr().String()
		}
		return fault.New(fault.Invalid, "%s: %s", flag, strings.TrimPrefix(err.Error(), path+": ")).WithFix("%s", fix)
	}
	return d.set.Patch(s, nil)
}

// decideList sets a list. Without words it is set to nothing at all, so that it is inherited.
func (d *decisions) decideList(path string, list []string) error {
	if len(list) == 0 || len(list) == 1 && list[0] == "" {
		d.unset = append(d.unset, path)
		return nil
	}
	sep := ","
	switch path {
	case "kernel.args":
		sep = " "
	case "ssh_keys":
		sep = "\n"
	}
	return d.decide(path, strings.Join(list, sep), path)
}

// changedList is a list with words added, and those taken out that have a ~ before them.
func changedList(now, words []string) []string {
	out := slices.Clone(now)
	for _, w := range words {
		if gone, is := strings.CutPrefix(w, "~"); is {
			out = slices.DeleteFunc(out, func(s string) bool { return s == gone })
		} else if !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

// spreadOver gives each node its own part of lists and of what is counted up.
func (d *decisions) spreadOver(nodes []string) error {
	for _, path := range sortedKeys(d.listed) {
		next := nextAddress
		if strings.HasSuffix(path, ".hardware") {
			next = nextHardware
		}
		values, err := spread(d.listed[path].flag, d.listed[path].value, nodes, next)
		if err != nil {
			return err
		}
		if d.each == nil {
			d.each = make(map[catalog.NodeName]catalog.Settings, len(nodes))
		}
		for i, name := range nodes {
			own := decisions{set: d.each[catalog.NodeName(name)]}
			if err := own.decide(path, values[i], d.listed[path].flag); err != nil {
				return err
			}
			d.each[catalog.NodeName(name)] = own.set
		}
	}
	return nil
}

// empty tells whether the flags decide nothing at all.
func (d *decisions) empty() bool {
	return d.profiles == nil && len(d.unset) == 0 && len(d.set.Decided()) == 0 && len(d.compute) == 0 && len(d.listed) == 0 && len(d.each) == 0 && d.without == nil
}

// secretValue is a secret as the command line gives it: itself, or from a file, so that it is in no shell history and in
// no list of processes.
func (p *program) secretValue(v string) (string, error) {
	if file, is := strings.CutPrefix(v, "@"); is {
		var err error
		if v, err = p.readSecret(file); err != nil {
			return "", err
		}
	}
	if v == "" {
		return "", fault.New(fault.Invalid, "a secret with nothing in it is none").WithFix("take it away with --unset or --secretdel")
	}
	return v, nil
}

func (p *program) readSecret(file string) (string, error) {
	in := p.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fault.Wrap(fault.NotFound, err, "reading the secret")
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, catalog.MaxSecret+2))
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "reading the secret")
	}
	return strings.TrimSuffix(string(b), "\n"), nil // what editors end a file with
}

func address(flag, s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		fix := "write it as 10.1.0.1"
		if _, perr := netip.ParsePrefix(s); perr == nil {
			fix = "leave out the length of the prefix: the network has it"
		}
		return a, fault.New(fault.Invalid, "--%s %q is not an IP address", flag, s).WithFix("%s", fix)
	}
	return a, nil
}

// names are the values of a flag whose values are names: with commas or one by one.
func names(c *cli.Context, flag string) []string {
	var all []string
	for _, v := range c.StringSlice(flag) {
		for n := range strings.SplitSeq(v, ",") {
			if n = strings.TrimSpace(n); n != "" {
				all = append(all, n)
			}
		}
	}
	return all
}

// said is what a flag was given, nil if it was not.
func said(c *cli.Context, flag string) *string {
	if !c.IsSet(flag) {
		return nil
	}
	return new(c.String(flag))
}

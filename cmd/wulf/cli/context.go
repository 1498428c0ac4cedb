package cli

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) context() *cli.Command {
	habits := []cli.Flag{
		number("confirm-above", "there, ask before changing more than `N` nodes"),
		text("output", "there, print lists as `FORMAT` where nobody says otherwise"),
	}
	return noun("context", "clusters that this command line knows, and which of them it asks",
		verb{
			name: "list", usage: "list contexts", examples: []string{"wulf context list", "wulf context list -o wide"},
			flags: listOnlyFlags(), run: p.contextList,
		},
		verb{
			name: "show", usage: "show a context, or the one in use", args: "[CONTEXT]", most: 1,
			examples: []string{"wulf context show", "wulf context show prod -o yaml"},
			flags:    []cli.Flag{formatFlag("table, json or yaml")}, run: p.contextShow,
		},
		verb{
			name: "current", usage: "say which context is in use", examples: []string{"wulf context current"}, run: p.contextCurrent,
		},
		verb{
			name: "use", usage: "let a context be the one that is asked where nobody says otherwise", args: "CONTEXT", least: 1, most: 1,
			examples: []string{"wulf context use prod"}, run: p.contextUse,
		},
		verb{
			name: "add", usage: "make a context", args: "NAME", least: 1, most: 1,
			about: "The file of contexts is ~/.config/wulf/config.yaml, or what WULF_CONFIG names. Flags come before the " +
				"environment, that before the current context, and where there is none the controller of this machine is asked.",
			examples: []string{
				"wulf context add prod --endpoint c1:4400,c2:4400,c3:4400 --credentials prod.pem",
				"wulf context add lab --endpoint 10.0.0.1:4400 --credentials ~/lab.pem --confirm-above 500",
			},
			flags: habits, run: p.contextAdd,
		},
		verb{
			name: "set", usage: "change a context; what is not named stays", args: "CONTEXT", least: 1, most: 1,
			examples: []string{"wulf context set prod --endpoint c1:4400,c4:4400"}, flags: habits, run: p.contextSet,
		},
		verb{
			name: "delete", usage: "forget a context", args: "CONTEXT", least: 1, most: 1,
			examples: []string{"wulf context delete lab"}, run: p.contextDelete,
		},
	)
}

// listOnlyFlags are those of a list that no controller makes.
func listOnlyFlags() []cli.Flag {
	all := listFlags()
	return all[:len(all)-1] // without --stale
}

func (p *program) contextList(c *cli.Context) error {
	all, err := p.contexts()
	if err != nil {
		return err
	}
	return printList(p, c, listing[namedContext]{
		list: api.List[namedContext]{Items: append([]namedContext{}, all.list...)},
		name: func(v namedContext) string { return v.Name },
		columns: []column[namedContext]{
			{name: "NAME", cell: func(v namedContext) string { return v.Name }},
			{name: "CURRENT", cell: func(v namedContext) string {
				if v.Current {
					return "yes"
				}
				return ""
			}},
			{name: "ENDPOINTS", cell: func(v namedContext) string { return strings.Join(v.Endpoints, ",") }},
			{name: "CREDENTIALS", wide: true, cell: func(v namedContext) string { return or(v.Credentials) }},
			{name: "CONFIRM-ABOVE", wide: true, cell: func(v namedContext) string { return or(confirmText(v)) }},
			{name: "OUTPUT", wide: true, cell: func(v namedContext) string { return or(v.Output) }},
		},
	})
}

func confirmText(v namedContext) string {
	if v.ConfirmAbove == nil {
		return ""
	}
	return strconv.Itoa(*v.ConfirmAbove)
}

// inUse is the name of the context that a command here would use.
func (p *program) inUse(c *cli.Context) (string, error) {
	t, err := p.target(c)
	if err == nil && t.context == "" {
		err = fault.New(fault.NotFound, "no context is in use").WithFix("choose one: wulf context use NAME; see all with: wulf context list")
	}
	if err != nil {
		return "", err
	}
	return t.context, nil
}

func (p *program) contextCurrent(c *cli.Context) error {
	name, err := p.inUse(c)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.out, name)
	return err
}

func (p *program) contextShow(c *cli.Context) error {
	name := c.Args().First()
	if name == "" {
		var err error
		if name, err = p.inUse(c); err != nil {
			return err
		}
	}
	all, err := p.contexts()
	if err != nil {
		return err
	}
	v, err := all.named(name)
	if err != nil {
		return err
	}
	return p.show(c, v, func(r *report) {
		r.line("context %s of %s", v.Name, all.path)
		r.rows([][]string{
			{"  endpoints", strings.Join(v.Endpoints, ",")},
			{"  credentials", or(v.Credentials)},
			{"  confirm above", or(confirmText(v))},
			{"  output", or(v.Output)},
		})
	})
}

func (p *program) contextUse(c *cli.Context) error {
	all, err := p.contexts()
	if err != nil {
		return err
	}
	name := c.Args().First()
	if _, err := all.named(name); err != nil {
		return err
	}
	all.doc.use(name)
	return all.save()
}

func (p *program) contextAdd(c *cli.Context) error {
	name, err := parseContextName(c.Args().First())
	if err != nil {
		return err
	}
	path, _ := p.configPath()
	all, err := p.readContexts(path)
	if err != nil {
		return err
	}
	if _, err := all.named(name); err == nil {
		return fault.New(fault.Conflict, "there is a context %q already", name).WithFix("change it: wulf context set %s", name)
	}
	v, err := contextFlags(c)
	if err != nil {
		return err
	}
	if len(v.Endpoints) == 0 {
		return fault.New(fault.Invalid, "wulf context add needs endpoints").WithFix("name the controllers: --endpoint HOST:%d,HOST:%d", api.PortController, api.PortController)
	}
	v.Name = name
	all.doc.put(v)
	if err := all.save(); err != nil {
		return err
	}
	if p.hints() {
		fmt.Fprintf(p.err, "next: wulf context use %s\n", name)
	}
	return nil
}

func (p *program) contextSet(c *cli.Context) error {
	all, err := p.contexts()
	if err != nil {
		return err
	}
	if _, err := all.named(c.Args().First()); err != nil {
		return err
	}
	v, err := contextFlags(c)
	if err != nil {
		return err
	}
	if len(v.Endpoints) == 0 && v.Credentials == "" && v.ConfirmAbove == nil && v.Output == "" {
		return fault.New(fault.Invalid, "nothing is said about what to set").WithFix("see wulf context set --help")
	}
	v.Name = c.Args().First()
	all.doc.put(v)
	return all.save()
}

func (p *program) contextDelete(c *cli.Context) error {
	all, err := p.contexts()
	if err != nil {
		return err
	}
	name := c.Args().First()
	if _, err := all.named(name); err != nil {
		return err
	}
	all.doc.drop(name)
	if all.current == name {
		all.doc.use("")
	}
	return all.save()
}

// contextFlags are what the flags say of a context. Some of them are flags of every command, and mean here what is to
// be kept.
func contextFlags(c *cli.Context) (v namedContext, err error) {
	if c.IsSet("endpoint") {
		if v.Endpoints, err = parseEndpoints(c.String("endpoint")); err != nil {
			return v, err
		}
	}
	if file := c.String("credentials"); file != "" {
		if v.Credentials, err = filepath.Abs(file); err != nil {
			return v, fault.Wrap(fault.Invalid, err, "--credentials")
		}
	}
	if c.IsSet("confirm-above") {
		n := c.Int("confirm-above")
		if n < 0 {
			return v, fault.New(fault.Invalid, "--confirm-above %d is less than nothing", n)
		}
		v.ConfirmAbove = &n
	}
	if v.Output = c.String("output"); v.Output != "" && !slices.Contains(listFormats(), v.Output) {
		return v, fault.New(fault.Invalid, "%q is not a format", v.Output).WithFix("choose %s", strings.Join(listFormats(), ", "))
	}
	return v, nil
}

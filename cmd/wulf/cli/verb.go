package cli

import (
	"errors"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// verb is a command as the nouns declare it. It keeps them free of the library's details, of which version 3 has
// others.
type verb struct {
	name     string
	aliases  []string
	usage    string // one line, without a full stop
	about    string // more, for its own help
	args     string // what follows it, as NODE or [NODESET…]; completion goes by these words
	least    int    // how many words must follow
	most     int    // and how many may; unlimited: as many as one likes
	examples []string
	flags    []cli.Flag
	hidden   bool
	run      func(*cli.Context) error
}

// unlimited, as verb.most, is no limit.
const unlimited = -1

func (v verb) command() *cli.Command {
	c := &cli.Command{
		Name: v.name, Aliases: v.aliases, Usage: v.usage, ArgsUsage: v.args, Flags: v.flags, Hidden: v.hidden,
		Description: v.about, UsageText: strings.Join(v.examples, "\n"), HideHelp: true, OnUsageError: usageError,
	}
	c.Action = func(ctx *cli.Context) error {
		if n := ctx.NArg(); n < v.least || v.most >= 0 && n > v.most {
			return v.miscounted(ctx)
		}
		return v.run(ctx)
	}
	return c
}

// miscounted says that a command was given too little or too much.
func (v verb) miscounted(c *cli.Context) error {
	path := strings.TrimPrefix(c.Command.HelpName, "wulf ")
	fix := "see wulf " + path + " --help"
	if n := c.NArg(); n < v.least {
		return fault.New(fault.Invalid, "wulf %s needs %s", path, v.args).WithFix("%s", fix)
	}
	if v.most == 0 {
		return fault.New(fault.Invalid, "wulf %s takes nothing more, and %q was given", path, c.Args().First()).WithFix("%s", fix)
	}
	return fault.New(fault.Invalid, "wulf %s takes %s, and %q is more", path, v.args, c.Args().Get(v.most)).WithFix("%s", fix)
}

// noun is a command that has others.
func noun(name, usage string, verbs ...verb) *cli.Command {
	c := &cli.Command{Name: name, Aliases: nounNamesOfOld(name), Usage: usage, HideHelp: true, OnUsageError: usageError}
	for _, v := range withOtherNames(name, verbs) {
		c.Subcommands = append(c.Subcommands, v.command())
	}
	return c
}

// usageError is what the library says about a flag's value, as one line of ours.
func usageError(_ *cli.Context, err error, _ bool) error {
	// invalid value "x" for flag -timeout: parse error
	text := strings.ReplaceAll(err.Error(), "for flag -", "for --")
	if strings.HasSuffix(text, ": parse error") || strings.Contains(text, "strconv.") {
		text = text[:strings.LastIndex(text, ": ")]
	}
	return fault.Wrap(fault.Invalid, errors.New(text), "")
}

// The kinds of flags. A word in back quotes in the usage stands for the value.

func text(name, usage string, aliases ...string) cli.Flag {
	return &cli.StringFlag{Name: name, Aliases: aliases, Usage: usage}
}

func texts(name, usage string, aliases ...string) cli.Flag {
	return &cli.StringSliceFlag{Name: name, Aliases: aliases, Usage: usage}
}

func toggle(name, usage string, aliases ...string) cli.Flag {
	return &cli.BoolFlag{Name: name, Aliases: aliases, Usage: usage}
}

func number(name, usage string, aliases ...string) cli.Flag {
	return &cli.IntFlag{Name: name, Aliases: aliases, Usage: usage}
}

func duration(name string, value time.Duration, usage string, aliases ...string) cli.Flag {
	return &cli.DurationFlag{Name: name, Aliases: aliases, Usage: usage, Value: value}
}

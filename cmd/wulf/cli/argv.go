package cli

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// line is a command line that was understood: what is asked for, with which flags, about what.
type line struct {
	path    []*cli.Command // the noun and the verb; empty if there was none
	global  []string       // flags of the program, each one word: --name=value
	local   []string       // flags of the command, likewise
	args    []string
	help    bool
	version bool
}

// arrange understands a command line. Flags may stand anywhere, before the noun and after the node set: people type
// wulf node set n1 --image x -y, of which urfave/cli v2 would take --image x -y for names of nodes and do something
// else than was asked (urfave/cli#1177). So all is sorted here, and what is not known is refused here, with exit code
// 2 and what was perhaps meant.
//
// Every flag is passed on as one word under its own name, because the library refuses one that is given under its
// name and its short form (-A a --kernelargs b), and would take a value that begins with a hyphen for a flag.
func arrange(app *cli.App, argv []string) (line, error) {
	a := arrangement{commands: app.Commands, known: valued(app)}
	if err := a.split(argv); err != nil {
		return line{}, err
	}
	l := line{args: a.words}
	for level := app.Commands; len(level) > 0 && len(l.args) > 0; l.args = l.args[1:] {
		next := named(level, l.args[0])
		if next == nil {
			return line{}, unknownCommand(level, l.spoken(app), l.args[0])
		}
		l.path, level = append(l.path, next), next.Subcommands
	}
	if len(l.path) > 0 && runs(l.path[len(l.path)-1]) {
		l.args = append(l.args, a.rest...)
	} else if len(a.rest) > 0 {
		return line{}, fault.New(fault.Invalid, "%s needs a command before --", l.spoken(app))
	}
	return l, l.assign(app, a.flags)
}

// runs tells whether a command does something by itself: nouns do not, but plan has a command below it and does.
func runs(c *cli.Command) bool { return len(c.Subcommands) == 0 || c.UsageText != "" }

// words are the line as the library reads it without a doubt.
func (l *line) words(app *cli.App) []string {
	words := append([]string{app.Name}, l.global...)
	for _, c := range l.path {
		words = append(words, c.Name)
	}
	words = append(words, l.local...)
	return append(append(words, "--"), l.args...)
}

// spoken is the command as people call it: wulf node set.
func (l *line) spoken(app *cli.App) string {
	s := app.Name
	for _, c := range l.path {
		s += " " + c.Name
	}
	return s
}

// assign gives each flag to the program or to the command, whichever knows it.
func (l *line) assign(app *cli.App, given []flagWord) error {
	var own []cli.Flag
	if len(l.path) > 0 {
		own = l.path[len(l.path)-1].Flags
	}
	for _, f := range given {
		switch f.name {
		case "help", "h":
			if !owns(own, f.name) {
				l.help = true
				continue
			}
		case "version":
			if len(l.path) == 0 {
				l.version = true
				continue
			}
		}
		if err := f.readBool(own, app.Flags); err != nil {
			return err
		}
		if name, ok := canonical(own, f.name); ok {
			l.local = append(l.local, f.as(name))
		} else if name, ok := canonical(app.Flags, f.name); ok {
			l.global = append(l.global, f.as(name))
		} else {
			return unknownFlag(append(slices.Clone(own), app.Flags...), l.spoken(app), f.typed)
		}
	}
	return nil
}

// flagWord is a flag as it was given.
type flagWord struct {
	typed string // with its hyphens, for errors
	name  string
	value *string // nil: none was given, and it needs none
}

// readBool reads the value of a flag that is true or false as settings of that kind are read: --onboot=no.
func (f *flagWord) readBool(flags ...[]cli.Flag) error {
	for _, flag := range slices.Concat(flags...) {
		if _, is := flag.(*cli.BoolFlag); !is || f.value == nil || !slices.Contains(flag.Names(), f.name) {
			continue
		}
		b, err := catalog.ParseBool(*f.value)
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "%s", f.typed)
		}
		f.value = new(strconv.FormatBool(b))
		return nil
	}
	return nil
}

func (f flagWord) as(name string) string {
	if f.value == nil {
		return "--" + name
	}
	return "--" + name + "=" + *f.value
}

// arrangement sorts the words of a command line.
type arrangement struct {
	commands []*cli.Command
	known    map[string]bool // every flag of every command; true: it takes a value
	words    []string        // names of commands, and what they are about
	flags    []flagWord
	rest     []string // after --
}

// takes tells whether a flag takes a value, and whether there is such a flag at all. The command that was named before it
// knows best: of unset, --image takes none.
func (a *arrangement) takes(flag string) (takes, known bool) {
	level, words := a.commands, a.words
	var own []cli.Flag
	for len(level) > 0 && len(words) > 0 {
		c := named(level, words[0])
		if c == nil {
			break
		}
		own, level, words = c.Flags, c.Subcommands, words[1:]
	}
	for _, f := range own {
		if slices.Contains(f.Names(), flag) {
			return takesValue(f), true
		}
	}
	takes, known = a.known[flag]
	return takes, known
}

func (a *arrangement) split(argv []string) error {
	for i := 0; i < len(argv); i++ {
		w := argv[i]
		switch {
		case w == "--":
			a.rest = argv[i+1:]
			return nil
		case len(w) < 2 || w[0] != '-': // "-" alone is standard input
			a.words = append(a.words, w)
			continue
		}
		typed, value, has := strings.Cut(w, "=")
		f := flagWord{typed: typed, name: strings.TrimPrefix(strings.TrimPrefix(typed, "-"), "-")}
		takes, known := a.takes(f.name)
		switch {
		case has:
			f.value = &value
		case known && takes:
			if i++; i == len(argv) {
				return fault.New(fault.Invalid, "%s needs a value", typed)
			}
			// A value may begin with a hyphen, but if it is a flag of ours the value was forgotten.
			if next := strings.TrimPrefix(argv[i], "--"); next != argv[i] && (next == "" || a.isFlag(next)) {
				return fault.New(fault.Invalid, "%s needs a value, and %s follows", typed, argv[i]).WithFix("if that is the value, write %s=%s", typed, argv[i])
			}
			f.value = &argv[i]
		}
		a.flags = append(a.flags, f)
	}
	return nil
}

func (a *arrangement) isFlag(word string) bool {
	name, _, _ := strings.Cut(word, "=")
	_, is := a.known[name]
	return is
}

// valued lists the flags of all commands, and whether they take a value: which is the same wherever a name occurs but
// for unset, or a line could not be read before its command is known. A test holds the tree to that.
func valued(app *cli.App) map[string]bool {
	known := map[string]bool{"help": false, "h": false, "version": false}
	var walk func([]cli.Flag, []*cli.Command)
	walk = func(flags []cli.Flag, commands []*cli.Command) {
		for _, f := range flags {
			for _, n := range f.Names() {
				known[n] = known[n] || takesValue(f)
			}
		}
		for _, c := range commands {
			walk(c.Flags, c.Subcommands)
		}
	}
	walk(app.Flags, app.Commands)
	return known
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}

func named(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// canonical is the name of the flag that is called name, or by it as an alias.
func canonical(flags []cli.Flag, name string) (string, bool) {
	for _, f := range flags {
		if names := f.Names(); slices.Contains(names, name) {
			return names[0], true
		}
	}
	return "", false
}

func owns(flags []cli.Flag, name string) bool {
	_, ok := canonical(flags, name)
	return ok
}

func unknownCommand(level []*cli.Command, under, word string) error {
	own := nounNames(level)
	var others []string
	for _, c := range level {
		if !c.Hidden {
			others = append(others, c.Aliases...)
		}
	}
	err := fault.New(fault.Invalid, "%s has no command %q", under, word)
	if best := cmp.Or(closest(word, own), closest(word, others)); best != "" {
		return err.WithFix("did you mean %q?", best)
	}
	return err.WithFix("see %s --help", under)
}

func unknownFlag(flags []cli.Flag, command, typed string) error {
	var names []string
	for _, f := range flags {
		for _, n := range f.Names() {
			if len(n) > 1 {
				names = append(names, n)
			}
		}
	}
	err := fault.New(fault.Invalid, "%s has no flag %s", command, typed)
	if best := closest(strings.TrimLeft(typed, "-"), names); best != "" {
		return err.WithFix("did you mean --%s?", best)
	}
	return err.WithFix("see %s --help", command)
}

// closest is the candidate that was perhaps meant by a word: few letters apart from it, or the only one that it begins;
// "" if there is none.
func closest(word string, candidates []string) string {
	best := catalog.Nearest(word, slices.Values(candidates), min(2, len(word)-1))
	if best != "" || len(word) < 2 {
		return best
	}
	for _, c := range candidates {
		if strings.HasPrefix(c, word) {
			if best != "" {
				return ""
			}
			best = c
		}
	}
	return best
}

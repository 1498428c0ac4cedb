package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) helpCommand() *cli.Command {
	return verb{
		name: "help", usage: "explain a command or a topic: " + strings.Join(topicNames(), ", "), args: "[COMMAND… | TOPIC]", most: 2,
		examples: []string{"wulf help node set", "wulf help nodesets"},
		run: func(c *cli.Context) error {
			if text, ok := topicText(c.Args().First()); ok && c.NArg() == 1 {
				_, err := io.WriteString(p.out, text)
				return err
			}
			app := p.tree()
			l, err := arrange(app, c.Args().Slice())
			if err != nil {
				if best := closest(c.Args().First(), topicNames()); c.NArg() == 1 && best != "" {
					return fault.New(fault.Invalid, "there is no help about %q", c.Args().First()).WithFix("did you mean %q?", best)
				}
				return err
			}
			return p.help(p.out, app, l.path)
		},
	}.command()
}

// mostExamples is how many lines to copy a help begins with.
const mostExamples = 4

// help explains a command, examples first: people look for the line that they can change.
func (p *program) help(w io.Writer, app *cli.App, path []*cli.Command) error {
	var r report
	if len(path) == 0 {
		r.line("%s: %s", app.Name, app.Usage)
		r.line("")
		r.line("  %s NOUN VERB [NODESET] [flags]", app.Name)
		r.WriteString("\n")
		r.commands(app.Commands)
		r.WriteString("\n")
		r.line("Flags of every command:")
		r.flags(app.Flags)
		r.WriteString("\n")
		r.line("More: wulf NOUN --help, wulf NOUN VERB --help, wulf help TOPIC (%s)", strings.Join(topicNames(), ", "))
		_, err := r.WriteTo(w)
		return err
	}
	c := path[len(path)-1]
	name := (&line{path: path}).spoken(app)
	r.line("%s", strings.TrimSpace(name+" "+c.ArgsUsage)+": "+c.Usage)
	if examples := examplesOf(c); len(examples) > 0 {
		r.WriteString("\n")
		for _, example := range examples[:min(len(examples), mostExamples)] {
			r.line("  %s", example)
		}
	}
	if c.Description != "" {
		r.WriteString("\n")
		for _, text := range wrap(c.Description, 100) {
			r.line("%s", text)
		}
	}
	r.WriteString("\n")
	if len(c.Subcommands) > 0 {
		r.commands(c.Subcommands)
	}
	if runs(c) {
		if len(c.Subcommands) > 0 {
			r.WriteString("\n")
		}
		if len(c.Flags) > 0 {
			for _, g := range flagGroups(c.Flags) {
				r.line("%s:", g.heading)
				r.flags(g.flags)
				r.WriteString("\n")
			}
		}
		r.line("Flags of every command:")
		r.flags(app.Flags)
	}
	_, err := r.WriteTo(w)
	return err
}

func (r *report) commands(all []*cli.Command) {
	var rows [][]string
	for _, c := range all {
		if !c.Hidden {
			rows = append(rows, []string{"  " + c.Name, c.Usage})
		}
	}
	r.rows(rows)
}

func (r *report) flags(all []cli.Flag) {
	var rows [][]string
	for _, f := range all {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		usage, value := placeholder(d.GetUsage())
		short, long := "   ", ""
		for _, n := range f.Names() {
			switch {
			case len(n) == 1:
				short = "-" + n + ","
			case long == "":
				long = "--" + n
			}
		}
		if d.TakesValue() {
			long += " " + value
		}
		if shown := defaultOf(d); shown != "" {
			usage += fmt.Sprintf(" (default %s)", shown)
		}
		rows = append(rows, []string{"  " + short + " " + long, usage})
	}
	r.rows(rows)
}

// defaultOf is the value that a flag has where none is given, if that is worth saying: nothing is not.
func defaultOf(d cli.DocGenerationFlag) string {
	if text := d.GetDefaultText(); d.TakesValue() && text != "0" && text != "0s" && d.GetValue() != "" {
		return strings.Trim(text, `"`)
	}
	return ""
}

// placeholder takes the word for the value out of a usage, where it stands in back quotes.
func placeholder(usage string) (text, value string) {
	before, value, after := parts(usage)
	if before == usage {
		return usage, value
	}
	return before + value + after, value
}

// parts are what stands before the word for the value, that word, and what stands after it. Where there is no such
// word all of the usage stands before it.
func parts(usage string) (before, value, after string) {
	before, rest, ok := strings.Cut(usage, "`")
	word, after, closed := strings.Cut(rest, "`")
	if !ok || !closed {
		return usage, "VALUE", ""
	}
	return before, word, after
}

// wrap breaks a text into lines of at most width characters.
func wrap(text string, width int) []string {
	var lines []string
	current := ""
	for _, word := range strings.Fields(text) {
		if current != "" && len(current)+1+len(word) > width {
			lines = append(lines, current)
			current = ""
		}
		current = strings.TrimSpace(current + " " + word)
	}
	return append(lines, current)
}

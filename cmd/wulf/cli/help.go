package cli

import (
	"embed"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// topics are the texts of wulf help TOPIC: the same words as in the documentation.
//
//go:embed topics/*.txt
var topics embed.FS

func topicNames() []string { return []string{"exit-codes", "nodesets", "output"} }

func (p *program) helpCommand() *cli.Command {
	return verb{
		name: "help", usage: "explain a command or a topic: " + strings.Join(topicNames(), ", "), args: "[COMMAND… | TOPIC]", most: 2,
		examples: []string{"wulf help node set", "wulf help nodesets"},
		run: func(c *cli.Context) error {
			if text, err := topics.ReadFile("topics/" + c.Args().First() + ".txt"); err == nil && c.NArg() == 1 {
				_, err := p.out.Write(text)
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
	if c.UsageText != "" {
		r.WriteString("\n")
		for example := range strings.SplitSeq(c.UsageText, "\n") {
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
	} else {
		if len(c.Flags) > 0 {
			r.line("Flags:")
			r.flags(c.Flags)
			r.WriteString("\n")
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
		if text := d.GetDefaultText(); d.TakesValue() && text != "" && text != "0" && d.GetValue() != "" {
			usage += fmt.Sprintf(" (default %s)", strings.Trim(text, `"`))
		}
		rows = append(rows, []string{"  " + short + " " + long, usage})
	}
	r.rows(rows)
}

// placeholder takes the word for the value out of a usage, where it stands in back quotes.
func placeholder(usage string) (text, value string) {
	before, rest, ok := strings.Cut(usage, "`")
	word, after, closed := strings.Cut(rest, "`")
	if !ok || !closed {
		return usage, "VALUE"
	}
	return before + word + after, word
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

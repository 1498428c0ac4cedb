package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// page is a page of the manual, as roff.go and markdown.go write it.
type page struct {
	name     string // wulf-node-set
	section  int    // of the manual: 1 commands, 5 files, 7 the rest
	usage    string // in one line
	chapters []chapter
}

// chapter is a heading and what is below it.
type chapter struct {
	heading string
	blocks  []block
}

// block is one piece of text: a paragraph, terms that are explained, or lines to be kept as they are; or a heading of
// a lesser kind.
type block struct {
	heading string
	text    []span
	terms   []term
	lines   []string
}

type term struct{ name, text []span }

// span is a run of characters in one style.
type span struct {
	style style
	text  string
}

type style byte

const (
	inRoman  style = iota
	inBold         // what is typed so
	inItalic       // what stands for something
)

func plainText(s string) []span { return []span{{inRoman, s}} }

// manual is every page: one for each command that is shown, and one for each topic.
func (p *program) manual() []page {
	app := p.tree()
	pages := []page{programPage(app)}
	var below func(path, commands []*cli.Command)
	below = func(path, commands []*cli.Command) {
		for _, c := range commands {
			if !c.Hidden {
				here := append(slices.Clone(path), c)
				pages = append(pages, commandPage(app, here))
				below(here, c.Subcommands)
			}
		}
	}
	below(nil, app.Commands)
	for _, t := range topicTable() {
		pages = append(pages, topicPage(t))
	}
	return pages
}

// programPage is wulf(1).
func programPage(app *cli.App) page {
	see := []string{}
	for _, t := range topicTable() {
		see = append(see, t.page())
	}
	return page{name: app.Name, section: 1, usage: app.Usage, chapters: []chapter{
		{"SYNOPSIS", []block{{text: []span{{inBold, app.Name}, {inRoman, " "}, {inItalic, "NOUN VERB"}, {inRoman, " ["}, {inItalic, "NODESET"}, {inRoman, "] ["}, {inItalic, "flags"}, {inRoman, "]"}}}}},
		{"DESCRIPTION", []block{
			{text: plainText("wulf is the command line of wulfmesh, and its controllers and relays. Flags may stand anywhere; what follows -- is no flag. " +
				"Data goes to standard output, and everything that is said about it to standard error.")},
			{heading: "Commands"}, {terms: commandTerms(app.Name, app.Commands)},
		}},
		{"OPTIONS", []block{{terms: flagTerms(app.Flags)}}},
		{"EXAMPLES", []block{{lines: []string{
			"wulf node list @state:failed -o nodeset", "wulf node set @rack:r07 --image rocky --dry-run", "wulf node why n1", "wulf help nodesets",
		}}}},
		{"EXIT STATUS", []block{{terms: exitTerms()}}},
		{"FILES", []block{{terms: factTerms(files())}}},
		{"ENVIRONMENT", []block{{terms: factTerms(environment())}}},
		{"SEE ALSO", seeAlso(see)},
	}}
}

// commandPage is the page of a noun or of a verb.
func commandPage(app *cli.App, path []*cli.Command) page {
	c := path[len(path)-1]
	spoken := (&line{path: path}).spoken(app)
	synopsis := []span{{inBold, spoken}}
	about := []block{{text: plainText(sentenceOfUsage(c.Usage))}}
	if c.Description != "" {
		about = append(about, block{text: plainText(c.Description)})
	}
	out := page{name: strings.ReplaceAll(spoken, " ", "-"), section: 1, usage: c.Usage}
	if len(c.Subcommands) > 0 {
		before, after := " ", ""
		if runs(c) { // by itself, too
			before, after = " [", "]"
		}
		synopsis = append(synopsis, span{inRoman, before}, span{inItalic, "VERB"}, span{inRoman, after})
		about = append(about, block{heading: "Commands"}, block{terms: commandTerms(spoken, c.Subcommands)})
	} else if c.ArgsUsage != "" {
		synopsis = append(synopsis, span{inRoman, " "}, span{inItalic, c.ArgsUsage})
	}
	synopsis = append(synopsis, span{inRoman, " ["}, span{inItalic, "flags"}, span{inRoman, "]"})
	if names := c.Names()[1:]; len(names) > 0 {
		about = append(about, block{text: plainText("Also called " + strings.Join(names, ", ") + ".")})
	}
	out.chapters = append(out.chapters, chapter{"SYNOPSIS", []block{{text: synopsis}}}, chapter{"DESCRIPTION", about}, chapter{"OPTIONS", options(app, c)})
	if examples := examplesOf(c); len(examples) > 0 {
		out.chapters = append(out.chapters, chapter{"EXAMPLES", []block{{lines: examples}}})
	}
	out.chapters = append(out.chapters,
		chapter{"EXIT STATUS", []block{{terms: exitTerms()}}},
		chapter{"FILES", []block{{terms: factTerms(concern(files(), c))}}},
		chapter{"ENVIRONMENT", []block{{terms: factTerms(concern(environment(), c))}}},
		chapter{"SEE ALSO", seeAlso(related(app, path))},
	)
	return out
}

// options are the flags of a command in their groups, and those that every command has.
func options(app *cli.App, c *cli.Command) []block {
	var blocks []block
	if len(c.Flags) > 0 {
		for _, g := range flagGroups(c.Flags) {
			blocks = append(blocks, block{heading: g.heading}, block{terms: flagTerms(g.flags)})
		}
	}
	return append(blocks, block{heading: "Flags of every command"}, block{terms: flagTerms(app.Flags)})
}

// examplesOf are the lines to copy; those of a noun are the first of each of its verbs.
func examplesOf(c *cli.Command) []string {
	if c.UsageText != "" {
		return strings.Split(c.UsageText, "\n")
	}
	var out []string
	for _, verb := range c.Subcommands {
		if first, _, _ := strings.Cut(verb.UsageText, "\n"); first != "" && !verb.Hidden {
			out = append(out, first)
		}
	}
	return out
}

// related are the pages that belong to a command: its noun, its siblings, and the topics it touches.
func related(app *cli.App, path []*cli.Command) []string {
	pages := []string{app.Name + "(1)"}
	noun, within := path[0], path[max(0, len(path)-2)]
	prefix := app.Name
	for i, c := range path {
		prefix += "-" + c.Name
		if i < len(path)-1 {
			pages = append(pages, prefix+"(1)")
		}
		if c == within {
			break
		}
	}
	for _, verb := range within.Subcommands {
		if verb != path[len(path)-1] && !verb.Hidden {
			pages = append(pages, prefix+"-"+verb.Name+"(1)")
		}
	}
	last := path[len(path)-1]
	for _, t := range topicTable() {
		switch t.name {
		case "nodesets":
			if !strings.Contains(last.ArgsUsage, "NODE") {
				continue
			}
		case "output":
			if !owns(last.Flags, "output") {
				continue
			}
		case "settings":
			if !owns(last.Flags, "kernelargs") {
				continue
			}
		case "config":
			if noun.Name != "context" {
				continue
			}
		}
		pages = append(pages, t.page())
	}
	return pages
}

func seeAlso(pages []string) []block {
	var text []span
	for i, name := range pages {
		if i > 0 {
			text = append(text, span{inRoman, ", "})
		}
		at := strings.Index(name, "(")
		text = append(text, span{inBold, name[:at]}, span{inRoman, name[at:]})
	}
	return []block{{text: text}}
}

func commandTerms(spoken string, commands []*cli.Command) []term {
	var terms []term
	for _, c := range commands {
		if !c.Hidden {
			terms = append(terms, term{[]span{{inBold, spoken + " " + c.Name}}, plainText(c.Usage)})
		}
	}
	return terms
}

func exitTerms() []term {
	var terms []term
	for code, text := range exitMeanings() {
		terms = append(terms, term{[]span{{inBold, fmt.Sprint(code)}}, plainText(text)})
	}
	return terms
}

func factTerms(all []fact) []term {
	var terms []term
	for _, f := range all {
		terms = append(terms, term{[]span{{inBold, f.name}}, plainText(f.text)})
	}
	return terms
}

// flagTerms explain flags: every name that they have, and what the value stands for.
func flagTerms(flags []cli.Flag) []term {
	var terms []term
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		names := slices.SortedStableFunc(slices.Values(f.Names()), func(a, b string) int { return min(len(a), 2) - min(len(b), 2) })
		var name []span
		for i, n := range names {
			if i > 0 {
				name = append(name, span{inRoman, ", "})
			}
			name = append(name, span{inBold, strings.Repeat("-", min(len(n), 2)) + n})
		}
		before, value, after := parts(d.GetUsage())
		if d.TakesValue() {
			name = append(name, span{inRoman, " "}, span{inItalic, value})
		}
		text := []span{{inRoman, before}}
		if after != "" || before != d.GetUsage() {
			text = append(text, span{inItalic, value}, span{inRoman, after})
		}
		if shown := defaultOf(d); shown != "" {
			text = append(text, span{inRoman, " (default " + shown + ")"})
		}
		terms = append(terms, term{name, text})
	}
	return terms
}

// sentenceOfUsage makes a sentence of a command's line of usage.
func sentenceOfUsage(usage string) string {
	return strings.ToUpper(usage[:1]) + usage[1:] + "."
}

package cli

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

// shells are the scripts that make a shell ask wulf for what may follow.
//
//go:embed shells
var shells embed.FS

// Bounds of completion: what takes longer, or is more, does not help somebody who types.
const (
	completionTime = 500 * time.Millisecond
	maxCandidates  = 100
)

func (p *program) completion() *cli.Command {
	return verb{
		name: "completion", usage: "print the completion script of a shell: bash, zsh or fish", args: "SHELL", least: 1, most: 1,
		examples: []string{"wulf completion bash > /etc/bash_completion.d/wulf", "source <(wulf completion zsh)", "wulf completion fish | source"},
		run: func(c *cli.Context) error {
			script, err := shells.ReadFile("shells/wulf." + c.Args().First())
			if err != nil {
				return fault.New(fault.Invalid, "there is no completion for the shell %q", c.Args().First()).WithFix("choose bash, zsh or fish")
			}
			_, err = p.out.Write(script)
			return err
		},
	}.command()
}

// complete is what those scripts call: wulf __complete -- WORD…, the last of which is being typed. It prints what may
// stand there, one a line, and never an error: somebody is typing.
func (p *program) complete() *cli.Command {
	return verb{
		name: "__complete", hidden: true, most: unlimited,
		run: func(c *cli.Context) error {
			typed := c.Args().Slice()
			if len(typed) == 0 {
				return nil
			}
			word := typed[len(typed)-1]
			shown := 0
			for _, candidate := range p.candidates(c, typed[:len(typed)-1], word) {
				if strings.HasPrefix(candidate, word) && shown < maxCandidates {
					fmt.Fprintln(p.out, candidate)
					shown++
				}
			}
			return nil
		},
	}.command()
}

// candidates are what may follow the words before, in order.
func (p *program) candidates(c *cli.Context, before []string, word string) []string {
	app := p.tree()
	last := ""
	if n := len(before); n > 0 {
		last = before[n-1]
	}
	if flag := strings.TrimLeft(last, "-"); flag != last && valued(app)[flag] { // the value of a flag
		return p.values(c, app, before[:len(before)-1], flag, word)
	}
	if name, value, ok := strings.Cut(word, "="); ok && strings.HasPrefix(name, "-") && valued(app)[strings.TrimLeft(name, "-")] {
		return prefixed(name+"=", p.values(c, app, before, strings.TrimLeft(name, "-"), value))
	}
	l, err := arrange(app, before)
	if err != nil {
		return nil
	}
	level := app.Commands
	var flags []cli.Flag
	args := ""
	if len(l.path) > 0 {
		at := l.path[len(l.path)-1]
		level, flags, args = at.Subcommands, at.Flags, at.ArgsUsage
	}
	if strings.HasPrefix(word, "-") && !slices.Contains(before, "--") {
		return flagNames(append(slices.Clone(flags), app.Flags...))
	}
	if len(level) > 0 || len(l.path) == 0 {
		return nounNames(level)
	}
	if l.path[0].Name == "help" {
		return p.helpCandidates(app, l.args)
	}
	if l.path[0].Name == "completion" {
		return []string{"bash", "zsh", "fish"}
	}
	want := strings.Fields(strings.NewReplacer("[:TAG]", "", "[", "", "]", "", "…", "").Replace(args))
	if len(want) == 0 || len(l.args) >= len(want) && !strings.Contains(args, "…") && !strings.Contains(args, "NODESET") {
		return nil
	}
	return p.live(c, app, before, want[min(len(l.args), len(want)-1)], word)
}

// helpCandidates are what may be explained: commands and topics, then the commands of a noun.
func (p *program) helpCandidates(app *cli.App, words []string) []string {
	if len(words) == 0 {
		return append(nounNames(app.Commands), topicNames()...)
	}
	if noun := named(app.Commands, words[0]); noun != nil && len(words) == 1 {
		return nounNames(noun.Subcommands)
	}
	return nil
}

// values are what the value of a flag may be. Of names with commas between them the last one is completed.
func (p *program) values(c *cli.Context, app *cli.App, before []string, flag, word string) []string {
	kind := flagValues(flag)
	head := ""
	if takesNames(flag) {
		head = word[:strings.LastIndex(word, ",")+1]
	}
	return prefixed(head, p.live(c, app, before, kind, word[len(head):]))
}

func prefixed(head string, all []string) []string {
	if head == "" {
		return all
	}
	out := make([]string, len(all))
	for i := range all {
		out[i] = head + all[i]
	}
	return out
}

// takesNames tells whether a flag takes names with commas between them.
func takesNames(flag string) bool {
	switch flag {
	case "P", "profile", "O", "R", "system-overlays", "runtime-overlays", "networks", "columns", "unset", "without", "groups", "role", "tagdel", "hazard", "accept", "l", "select":
		return true
	}
	return false
}

// nounNames are the commands that are shown.
func nounNames(commands []*cli.Command) []string {
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return names
}

func flagNames(flags []cli.Flag) []string {
	var names []string
	for _, f := range flags {
		names = append(names, "--"+f.Names()[0])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// flagValues is the kind of thing that is the value of a flag; "" if it is nothing that can be listed.
func flagValues(flag string) string {
	switch flag {
	case "o", "output":
		return "FORMAT"
	case "P", "profile":
		return "PROFILE"
	case "O", "R", "system-overlays", "runtime-overlays", "overlay":
		return "OVERLAY"
	case "x", "exclude", "nodes":
		return "NODESET"
	case "node", "render":
		return "NODE"
	case "networks":
		return "NETWORK"
	case "rack", "zone", "cluster", "role":
		return "GROUP:" + flag
	case "groups":
		return "GROUP"
	case "by":
		return "SOURCE"
	case "C":
		return "IMAGE"
	case "sort":
		return "COLUMNS"
	case "l", "select":
		return "NODECOLUMNS"
	case "format": // of a file
		return "FILEFORMAT"
	case "hazard", "accept":
		return "HAZARD"
	case "without":
		return "UNSET"
	case "layer":
		return "LAYER"
	case "image", "network", "context", "columns", "unset", "method", "root", "type", "match", "dhcp", "secrets", "severity":
		return strings.ToUpper(flag)
	}
	return ""
}

// fixedValues are what a value of a kind may be where nobody need be asked for it; nil of any other.
func fixedValues(noun, kind string) []string {
	switch kind {
	case "FORMAT":
		return listFormats()
	case "FILEFORMAT":
		return []string{formatYAML, formatJSON, formatCSV}
	case "COLUMNS":
		return listColumns(noun)
	case "NODECOLUMNS":
		return listColumns("node")
	case "METHOD":
		return []string{catalog.MethodTwoStage, catalog.MethodOneStage, catalog.MethodWarewulf}
	case "ROOT":
		return []string{catalog.RootTmpfs, catalog.RootRamfs}
	case "MATCH":
		return []string{catalog.MatchFirst, catalog.MatchSerial, catalog.MatchUUID, catalog.MatchPort}
	case "TYPE":
		return catalog.NetTypes
	case "DHCP":
		return []string{catalog.DHCPAuthoritative, catalog.DHCPProxy, catalog.DHCPOff}
	case "LAYER":
		return []string{api.LayerOwn, api.LayerBase}
	case "SECRETS":
		return []string{catalog.SecretsRelay, catalog.SecretsRefuse}
	case "SEVERITY":
		return []string{string(warewulf.Note), string(warewulf.Warning), string(warewulf.Error)}
	case "HAZARD":
		return hazardWords()
	case "KIND":
		return []string{"all", "nodes.conf"}
	}
	if strings.Contains(kind, "|") { // one of these words
		return strings.Split(kind, "|")
	}
	if kind == "UNSET" && noun == "network" {
		return networkParts()
	}
	return nil
}

// live lists the names of a kind of thing, most of which the controllers know. Where they do not answer at once, there
// are none.
func (p *program) live(c *cli.Context, app *cli.App, before []string, kind, word string) []string {
	l, _ := arrange(app, before)
	noun := ""
	if len(l.path) > 0 {
		noun = l.path[0].Name
	}
	if words := fixedValues(noun, kind); words != nil {
		return words
	}
	switch kind {
	case "CONTEXT":
		if all, err := p.contexts(); err == nil {
			return all.names()
		}
		return nil
	case "SOURCE": // of an image it is a file
		if noun == "group" {
			return groupSources()
		}
		return nil
	case "PATH": // of an overlay it is another one
		if noun == "file" {
			kind = "SITEFILE"
		}
	case "":
		return nil
	}
	ctx, cancel := context.WithTimeout(c.Context, completionTime)
	defer cancel()
	api, err := p.newClient(completionContext(c, app, before))
	if err != nil {
		if kind == "UNSET" {
			return decidedPaths(nil, noun, l.args)
		}
		return nil
	}
	defer api.Close()
	cl := &client{Client: api, ctx: ctx, cancel: cancel, stale: "?consistency=stale"}
	if kind == "UNSET" {
		return decidedPaths(cl, noun, l.args)
	}
	if kind == "PATH" && noun == "overlay" && len(l.args) > 0 {
		return overlayPaths(cl, l.args[0])
	}
	return namesOf(cl, kind, word)
}

// completionContext has the flags that the typed words give to the program, such as --endpoint.
func completionContext(c *cli.Context, app *cli.App, before []string) *cli.Context {
	out := c
	l, err := arrange(app, before)
	if err != nil {
		return out
	}
	probe := &cli.App{Name: app.Name, Flags: app.Flags, HideHelp: true, HideVersion: true, Writer: app.Writer, ErrWriter: app.ErrWriter,
		ExitErrHandler: app.ExitErrHandler, Action: func(inner *cli.Context) error { out = inner; return nil }}
	_ = probe.Run(append([]string{app.Name}, l.global...)) // what it does not understand is as if it were not there
	return out
}

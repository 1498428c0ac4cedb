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
)

// shells are the scripts that make a shell ask wulf for what may follow.
//
//go:embed shells
var shells embed.FS

// Bounds of completion: what takes longer, or is more, does not help somebody who types.
const (
	completionTime = 300 * time.Millisecond
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
		return p.live(c, before[:len(before)-1], flagValues(flag))
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
	if strings.HasPrefix(word, "-") {
		return flagNames(append(slices.Clone(flags), app.Flags...))
	}
	if len(level) > 0 || len(l.path) == 0 {
		var names []string
		for _, sub := range level {
			if !sub.Hidden {
				names = append(names, sub.Name)
			}
		}
		return names
	}
	if l.path[0].Name == "help" {
		return append(nounNames(app), topicNames()...)
	}
	if l.path[0].Name == "completion" {
		return []string{"bash", "zsh", "fish"}
	}
	want := strings.Fields(strings.NewReplacer("[:TAG]", "", "[", "", "]", "", "…", "").Replace(args))
	if len(want) == 0 {
		return nil
	}
	return p.live(c, before, want[min(len(l.args), len(want)-1)])
}

func nounNames(app *cli.App) []string {
	var names []string
	for _, c := range app.Commands {
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
	case "O", "R", "system-overlays", "runtime-overlays":
		return "OVERLAY"
	case "x", "exclude":
		return "NODESET"
	case "node", "render":
		return "NODE"
	case "networks":
		return "NETWORK"
	case "image", "network":
		return strings.ToUpper(flag)
	}
	return ""
}

// live asks the controllers for names of a kind. Where they do not answer at once, there are none.
func (p *program) live(c *cli.Context, before []string, kind string) []string {
	switch kind {
	case "FORMAT":
		return listFormats()
	case "":
		return nil
	}
	ctx, cancel := context.WithTimeout(c.Context, completionTime)
	defer cancel()
	api, err := p.newClient(completionContext(c, p.tree(), before))
	if err != nil {
		return nil
	}
	defer api.Close()
	return namesOf(&client{Client: api, ctx: ctx, cancel: cancel, stale: "?consistency=stale"}, kind)
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

// namesOf lists the names of a kind of thing, as the arguments of commands are called.
func namesOf(cl *client, kind string) []string {
	switch kind {
	case "NODE", "NODESET":
		return listNames(cl, api.PathNodes, func(v api.NodeView) string { return string(v.Name) })
	case "PROFILE":
		return listNames(cl, api.PathProfiles, func(v catalog.Profile) string { return string(v.Name) })
	case "NETWORK":
		return listNames(cl, api.PathNetworks, func(v catalog.Network) string { return string(v.Name) })
	case "IMAGE":
		return listNames(cl, api.PathImages, imageName)
	case "OVERLAY":
		return listNames(cl, api.PathOverlays, func(v catalog.Overlay) string { return string(v.Name) })
	case "RELAY":
		return listNames(cl, api.PathRelays, relayName)
	case "CONTROLLER":
		return listNames(cl, api.PathControllers, func(v api.ControllerView) string { return string(v.Name) })
	}
	return nil
}

func listNames[T any](cl *client, path string, name func(T) string) []string {
	list, err := fetch[T](cl, path)
	if err != nil {
		return nil
	}
	names := make([]string, len(list.Items))
	for i, item := range list.Items {
		names[i] = name(item)
	}
	return names
}

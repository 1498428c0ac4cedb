// Package cli is the command line of wulfmesh: wulf NOUN VERB [NODESET] [flags].
//
// A file holds a noun. What all nouns share is apart: argv.go puts the words of a command line into order, connect.go
// finds a controller, names.go reads node sets, settings.go turns flags into settings, change.go shows, confirms and
// makes a change, output.go prints what was asked for, exit.go says how it went.
//
// Standard output carries data only, in one of the formats of -o; everything that is said about it goes to standard
// error. Nothing waits for an answer from somebody who is not there.
package cli

import (
	"context"
	"io"
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Env is what a process gives a command. Stdin, Stdout and Stderr are asked whether they are terminals if they are
// *os.File, and are taken for files otherwise.
type Env struct {
	Args    []string // without the program's name
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Getenv  func(string) string
	Version string
}

// Run carries out a command line and returns the exit code (see ExitCode). It blocks until the command is done or ctx
// ends; what serves (controller run, relay run, up) runs until then.
func Run(ctx context.Context, env Env) int {
	p := &program{env: env, in: env.Stdin, out: env.Stdout, err: env.Stderr}
	p.tty = terminals{in: isTerminal(env.Stdin) && !p.said("WULF_NO_INPUT"), out: isTerminal(env.Stdout), err: isTerminal(env.Stderr)}
	return p.finish(ctx, p.run(ctx))
}

// program is one command line being carried out.
type program struct {
	env Env
	in  io.Reader
	out io.Writer // data
	err io.Writer // what is said about it
	tty terminals

	asked *target // whom this command asks, once it is known
}

type terminals struct{ in, out, err bool }

func (p *program) run(ctx context.Context) error {
	app := p.tree()
	l, err := arrange(app, p.env.Args)
	switch {
	case err != nil:
		return err
	case l.version:
		return app.RunContext(ctx, []string{app.Name, "version"})
	case l.help:
		return p.help(p.out, app, l.path)
	case len(l.path) == 0, !runs(l.path[len(l.path)-1]):
		if err := p.help(p.err, app, l.path); err != nil {
			return err
		}
		return fault.New(fault.Invalid, "%s needs a command", l.spoken(app)).WithFix("choose one of those above")
	}
	return app.RunContext(ctx, l.words(app))
}

// tree is every command there is.
func (p *program) tree() *cli.App {
	return &cli.App{
		Name:                      "wulf",
		Usage:                     "boot clusters of diskless machines",
		Flags:                     p.globalFlags(),
		Reader:                    p.in,
		Writer:                    p.out,
		ErrWriter:                 p.err,
		HideHelp:                  true, // help.go has ours
		HideVersion:               true,
		DisableSliceFlagSeparator: true, // console=ttyS0,115200 is one word, and node sets have commas
		OnUsageError:              usageError,
		ExitErrHandler:            func(*cli.Context, error) {}, // Run decides
		Commands: []*cli.Command{
			p.node(), p.profile(), p.group(), p.network(), p.image(), p.overlay(), p.file(), p.boot(), p.discover(),
			p.plan(), p.apply(), p.export(), p.history(), p.revert(), p.migrate(),
			p.relay(), p.controller(), p.storm(), p.up(), p.context(),
			p.versionCommand(), p.completion(), p.complete(), p.helpCommand(), p.docs(),
		},
	}
}

func (p *program) versionCommand() *cli.Command {
	return verb{
		name: "version", usage: "say which wulf this is", flags: []cli.Flag{formatFlag("table, json or yaml")},
		run: func(c *cli.Context) error {
			v := struct {
				Version  string `json:"version"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{p.env.Version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return p.show(c, v, func(w *report) { w.line("wulf %s (%s, %s)", v.Version, v.Go, v.Platform) })
		},
	}.command()
}

// said tells whether an environment variable switches something on.
func (p *program) said(name string) bool {
	v := p.env.Getenv(name)
	return v != "" && v != "0"
}

// hints tells whether a next step may be suggested: to people only, and to those who want it.
func (p *program) hints() bool { return p.tty.err && p.env.Getenv("WULF_HINTS") != "0" }

// colour tells whether what goes to standard output may have colours.
func (p *program) colour() bool {
	return p.tty.out && p.env.Getenv("NO_COLOR") == "" && p.env.Getenv("TERM") != "dumb"
}

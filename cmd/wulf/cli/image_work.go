package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/cmd/wulf/workdir"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// defaultWork is where versions are unpacked to work in.
const defaultWork = "/var/lib/wulf/work"

func workFlags(more ...cli.Flag) []cli.Flag {
	return append(more,
		texts("bind", "bring a directory of this machine along: `SRC[:DST[:ro]]`"),
		text("node", "lay the overlays of `NODE` over the image, to see it as the node would; nothing is kept then"),
		toggle("discard", "make no version of what has changed"),
		text("message", "say why, for the history, in a `TEXT`", "m"),
		text("work-dir", "unpack below `DIRECTORY` (WULF_WORK; default "+defaultWork+")"),
		waitFlag(), waitTimeFlag(),
	)
}

// work is somebody's work in a version.
type work struct {
	*program
	c   *cli.Context
	cl  *client
	v   *published
	dir *workdir.Dir
	bar *progress
	m   *making
}

func (p *program) imageShell(c *cli.Context) error {
	return p.workIn(c, c.Args().First(), func(w *work) []string {
		for _, shell := range []string{"/bin/bash", "/bin/sh"} {
			if fi, err := fs.Stat(segment.FS(w.v), strings.TrimPrefix(shell, "/")); err == nil && fi.Mode().IsRegular() {
				if shell == "/bin/bash" {
					return []string{shell, "--rcfile", workdir.RCFile}
				}
				return []string{shell}
			}
		}
		return []string{"sh"}
	})
}

// prompt is what bash reads when it starts: the usual, and then a prompt that says where one is, as the machine's own looks
// like the image's.
func prompt(name catalog.ImageName) string {
	return "for f in /etc/bash.bashrc /etc/bashrc ~/.bashrc; do [ -r $f ] && . $f; done; unset f\nPS1='[wulf:" + string(name) + "] \\w\\$ '\n"
}

func (p *program) imageExec(c *cli.Context) error {
	argv := c.Args().Tail()
	return p.workIn(c, c.Args().First(), func(*work) []string { return argv })
}

// workIn unpacks a version, runs a command in it, and makes a version of what the command changed.
func (p *program) workIn(c *cli.Context, ref string, argv func(*work) []string) error {
	var binds []workdir.Bind
	for _, s := range c.StringSlice("bind") {
		b, err := workdir.ParseBind(s)
		if err != nil {
			return err
		}
		binds = append(binds, b)
	}
	w, err := p.openWork(c, ref)
	if err != nil {
		return err
	}
	defer w.cl.done()
	kept := false
	defer func() {
		if kept {
			w.dir.Close()
		} else if err := w.dir.Remove(); err != nil {
			p.say("warning: the work directory could not be removed: %v", err)
		}
	}()
	if err := w.unpack(); err != nil {
		return err
	}
	throwAway := c.Bool("discard")
	if node := c.String("node"); node != "" {
		throwAway = true
		if err := w.asNode(node); err != nil {
			return err
		}
	}
	if p.tty.in && !throwAway {
		p.say("what changes in %s becomes a version when the command ends well", w.v.label())
	}
	spec := workdir.Spec{Root: w.dir.Root(), Name: string(w.v.image.Name), Argv: argv(w), Binds: binds, RC: prompt(w.v.image.Name)}
	if term := p.env.Getenv("TERM"); term != "" {
		spec.Env = append(spec.Env, "TERM="+term)
	}
	code, err := w.run(spec)
	if err != nil {
		return err
	}
	if code == 0 && !throwAway {
		code, err = w.exitHook(spec)
		if err != nil {
			return err
		}
	}
	switch {
	case throwAway && code == 0:
		return nil
	case throwAway:
		return endedWith(code)
	case code != 0 && !p.commitAnyway(c.Context, code):
		if err := w.dir.Keep(fmt.Sprintf("the command ended with %d", code)); err != nil {
			return err
		}
		kept = true
		p.say("the command ended with %d: nothing is committed, and its work stays in %s", code, w.dir.Root())
		p.say("to commit it: wulf image import %s %s; else delete the directory", w.v.image.Name, w.dir.Root())
		return endedWith(code)
	}
	if err := w.commit(); err != nil {
		if w.m.draft.Segments == nil { // no version holds it
			if keep := w.dir.Keep("it could not be committed: " + err.Error()); keep == nil {
				kept = true
				p.say("the work stays in %s", w.dir.Root())
			}
		}
		return err
	}
	return nil
}

// openWork opens a version and makes a directory for it.
func (p *program) openWork(c *cli.Context, ref string) (*work, error) {
	base := cmp.Or(c.String("work-dir"), p.env.Getenv("WULF_WORK"), defaultWork)
	left, err := workdir.Sweep(base)
	if err != nil {
		return nil, err
	}
	for _, k := range left {
		p.say("note: %s holds work in image %s that was not committed, of %s: %s", k.Root, k.Image, ago(k.Since), k.Kept)
	}
	cl, err := p.connect(c)
	if err != nil {
		return nil, err
	}
	w := &work{program: p, c: c, cl: cl, bar: &progress{out: p.err, tty: p.tty.err}}
	if w.v, err = openImage(c.Context, cl, ref); err == nil {
		w.dir, err = workdir.Create(base, workdir.Note{Image: string(w.v.image.Name), Version: w.v.version.Manifest.ID.String(), Since: time.Now()})
	}
	if err != nil {
		cl.done()
		return nil, err
	}
	w.m = makingOf(cl, w.v, w.bar, "work in "+w.v.label(), c.String("message"))
	return w, nil
}

// unpack fills the directory, and notes in which state its files are.
func (w *work) unpack() error {
	defer w.bar.end()
	ctx := w.c.Context
	err := workdir.Unpack(ctx, w.dir.Root(), w.v.manifest, opener(w.cl), func(done, total int64) { w.bar.report("unpacking", done, total, true) })
	if err != nil {
		return fault.Wrap(fault.KindOf(err), err, "unpacking %s", w.v.label())
	}
	w.m.known.Learn(w.v.Image)
	d, err := segment.OpenDir(w.dir.Root(), segment.Limits{})
	if err != nil {
		return err
	}
	defer d.Close()
	w.m.known.LearnDir(d, w.v.Sum)
	return pause(ctx, 20*time.Millisecond) // see LearnDir
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *work) run(s workdir.Spec) (int, error) {
	return workdir.Run(w.c.Context, s, w.in, w.out, w.err)
}

// exitHooks are scripts of the image that run when work in it is done; the first two are Warewulf's.
var exitHooks = []string{"/etc/warewulf/image_exit.sh", "/etc/warewulf/container_exit.sh", "/etc/wulf/image_exit"}

// exitHook runs the first that is there.
func (w *work) exitHook(s workdir.Spec) (int, error) {
	root, err := os.OpenRoot(w.dir.Root())
	if err != nil {
		return 0, err
	}
	defer root.Close()
	for _, hook := range exitHooks {
		fi, err := root.Stat(strings.TrimPrefix(hook, "/"))
		if err != nil || !fi.Mode().IsRegular() {
			continue
		}
		s.Argv = []string{"/bin/sh", hook}
		if fi.Mode()&0o111 != 0 {
			s.Argv = []string{hook}
		}
		code, err := w.run(s)
		if code != 0 {
			w.say("%s of the image ended with %d", hook, code)
		}
		return code, err
	}
	return 0, nil
}

// commitAnyway asks whether work is to be kept though its command failed: a shell ends with the code of its last command.
func (p *program) commitAnyway(ctx context.Context, code int) bool {
	if !p.tty.in || !p.tty.err {
		return false
	}
	yes, err := p.askYes(ctx, fmt.Sprintf("It ended with %d. Make a version of what has changed all the same?", code))
	return err == nil && yes
}

// commit makes a version of the directory.
func (w *work) commit() error {
	d, err := segment.OpenDir(w.dir.Root(), segment.Limits{})
	if err != nil {
		return err
	}
	defer d.Close()
	end, err := w.m.make(w.c.Context, d)
	w.bar.end()
	if err != nil {
		return err
	}
	w.remember(w.m)
	return w.made(w.c, w.cl, w.m, end)
}

// asNode puts a node's overlays into the directory, as they would be on the node but for its secrets.
func (w *work) asNode(name string) error {
	c, err := w.cl.catalog()
	if err != nil {
		return err
	}
	r, err := c.Resolve(catalog.NodeName(name))
	if err != nil {
		return err
	}
	var layers []overlay.Layer
	for _, o := range slices.Concat(r.Settings.Overlays.System, r.Settings.Overlays.Runtime) {
		b, err := w.cl.bundle(o)
		if err != nil {
			return fault.Wrap(fault.KindOf(err), err, "overlay %s of node %s", o, name)
		}
		layers = append(layers, overlay.Layer{Name: o, Bundle: b})
	}
	made, err := w.cl.renderAll(c, name, layers...)
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := overlay.WriteTar(&archive, made.Files); err != nil {
		return err
	}
	tar, err := segment.OpenTar(&archive, os.TempDir(), segment.Limits{})
	if err != nil {
		return err
	}
	defer tar.Close()
	return workdir.Over(w.c.Context, w.dir.Root(), tar)
}

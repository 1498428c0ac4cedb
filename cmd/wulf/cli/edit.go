package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) nodeEdit(c *cli.Context) error {
	q, err := p.query(c, true)
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	read := func() (present, error) {
		list, err := cl.views(q)
		if err == nil {
			list.Items, err = chosen(c, q, list.Items)
		}
		return presentNodes(list), err
	}
	return p.edit(c, cl, "nodes", read, func(now present) declared {
		all := make([]catalog.Node, 0, len(now.nodes))
		for _, name := range sortedKeys(now.nodes) {
			all = append(all, now.nodes[name])
		}
		return nodesDeclared(all)
	})
}

func (p *program) profileEdit(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	read := func() (present, error) {
		list, err := fetch[catalog.Profile](cl, api.PathProfiles)
		now := present{revision: list.Revision, profiles: map[string]catalog.Profile{}}
		if err != nil {
			return now, err
		}
		found := list.Items
		if c.NArg() > 0 {
			if found, err = find("profile", list.Items, c.Args().Slice(), func(v catalog.Profile) string { return string(v.Name) }); err != nil {
				return now, err
			}
		}
		for _, v := range found {
			now.profiles[string(v.Name)] = v
		}
		return now, nil
	}
	return p.edit(c, cl, "profiles", read, profilesDeclared)
}

func profilesDeclared(now present) declared {
	d := declared{Profiles: map[string]nodeDoc{}}
	for name, v := range now.profiles {
		list := v.Profiles
		doc := nodeDoc{Settings: v.Settings}
		if len(list) > 0 {
			doc.Profiles = &list
		}
		d.Profiles[name] = doc
	}
	return d
}

// edit lets somebody change declarations in an editor, and makes the changes. What cannot be read goes back to the
// editor with the reason above it. What is taken out of the text is deleted. If somebody else changed the same things
// meanwhile, nothing happens, and the text is kept.
func (p *program) edit(c *cli.Context, cl *client, what string, read func() (present, error), show func(present) declared) error {
	before, err := read()
	if err != nil {
		return err
	}
	text, err := show(before).yaml()
	if err != nil {
		return err
	}
	file, err := os.CreateTemp("", "wulf-"+what+"-*.yaml")
	if err != nil {
		return fault.Wrap(fault.Full, err, "making a file to edit")
	}
	file.Close()
	name := file.Name()
	kept := false
	defer func() {
		if !kept {
			os.Remove(name)
		}
	}()
	want, err := p.editUntilRead(c, name, what, text)
	if err != nil {
		if b, read := os.ReadFile(name); read == nil && bytes.Equal(uncommented(b), uncommented(text)) {
			return err // nothing was written that could be lost
		}
		kept = true
		return withText(err, name)
	}
	if want == nil {
		return nil
	}
	cl.again(c) // the time that somebody takes to think is not the command's
	now, err := read()
	if err != nil {
		kept = true
		return withText(err, name)
	}
	if !equalJSON(show(before), show(now)) {
		kept = true
		return withText(fault.New(fault.Conflict, "somebody else changed these %s meanwhile", what), name)
	}
	change, err := reconcile(now, want, true)
	if err == nil {
		m := mutation{seen: now.revision}
		if n := gone(change); n > 0 {
			m.count, m.ask = n, fmt.Sprintf("Delete %s that the text does not name any more?", plural(n, strings.TrimSuffix(what, "s")))
		}
		err = p.performIfAny(c, cl, change, m)
	}
	kept = err != nil
	return withText(err, name)
}

// only refuses declarations of other things than are edited: they would be made, and what is edited be deleted.
func (d *declared) only(what string) error {
	if len(d.Networks) > 0 || what == "nodes" && len(d.Profiles) > 0 || what == "profiles" && len(d.Nodes) > 0 {
		return fault.New(fault.Invalid, "the text declares more than %s", what).WithFix("apply it from a file: wulf apply -f FILE")
	}
	return nil
}

// gone counts what a change deletes.
func gone(change catalog.Change) int {
	b, _ := change.(catalog.Batch)
	n := 0
	for _, s := range b.Changes {
		switch x := s.Change.(type) {
		case catalog.DeleteNodes:
			n += len(x.Nodes)
		case catalog.DeleteProfile, catalog.DeleteNetwork:
			n++
		}
	}
	return n
}

func withText(err error, file string) error {
	if err == nil {
		return nil
	}
	fix := "what you wrote is in " + file
	if had := fault.Fix(err); had != "" {
		fix = had + "; " + fix
	}
	return fault.Wrap(fault.KindOf(err), err, "").WithFix("%s", fix)
}

// editUntilRead runs the editor until its text can be read; nil if the text is as it was, or empty.
func (p *program) editUntilRead(c *cli.Context, name, what string, text []byte) (*declared, error) {
	trouble := "Change the " + what + " below, save, and leave the editor."
	const head = "# What you take out is deleted. An empty text changes nothing. Settings are listed by: wulf help settings\n"
	for {
		if err := os.WriteFile(name, append([]byte("# "+trouble+"\n"+head), text...), 0o600); err != nil {
			return nil, fault.Wrap(fault.Full, err, "writing the text to edit")
		}
		if err := p.runEditor(c, name); err != nil {
			return nil, err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fault.Wrap(fault.NotFound, err, "reading what was edited")
		}
		body := uncommented(b)
		if len(body) == 0 || bytes.Equal(body, uncommented(text)) {
			p.say("nothing changes")
			return nil, nil
		}
		want, err := parseDeclared(what, b) // all of it, so that the lines are counted as the editor does
		if err == nil {
			err = want.only(what)
		}
		if err == nil {
			return want, nil
		}
		if !p.tty.in {
			return nil, err
		}
		fmt.Fprintln(p.err, "error: "+sentence(err))
		trouble, text = sentence(err), body // on one line, so that no other moves
	}
}

// uncommented is a text without the comments that it begins with.
func uncommented(b []byte) []byte {
	for bytes.HasPrefix(b, []byte("#")) {
		_, rest, _ := bytes.Cut(b, []byte("\n"))
		b = rest
	}
	return bytes.TrimSpace(b)
}

// runEditor runs $VISUAL or $EDITOR, whose words are separated by spaces as in all programs that use it.
func (p *program) runEditor(c *cli.Context, file string) error {
	editor := ""
	for _, name := range []string{"EDITOR", "VISUAL", "WULF_EDITOR"} {
		if v := strings.TrimSpace(p.env.Getenv(name)); v != "" {
			editor = v
		}
	}
	if editor == "" {
		if !p.tty.in { // an editor that somebody named may be a script; this one would read the end of the input for ever
			return fault.New(fault.Invalid, "nobody is there to edit: standard input is no terminal").WithFix("change it with set; or name a program that does it in EDITOR")
		}
		editor = "vi"
	}
	words := append(strings.Fields(editor), file)
	cmd := exec.CommandContext(c.Context, words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.in, p.err, p.err
	if err := cmd.Run(); err != nil {
		if _, failed := errors.AsType[*exec.ExitError](err); failed {
			return fault.Wrap(fault.Invalid, err, "the editor %s gave up; nothing was changed", words[0])
		}
		return fault.Wrap(fault.NotFound, err, "running the editor").WithFix("set EDITOR to one that is installed")
	}
	return nil
}

// say tells people something about what goes on.
func (p *program) say(format string, args ...any) { fmt.Fprintf(p.err, format+"\n", args...) }

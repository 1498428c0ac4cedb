package cli

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// starter is what a new template begins with.
const starter = `{{- /* {{ .Id }} is the node, {{ .Tags.x }} one of its tags; docs/overlays.md lists the rest. */ -}}
`

func (p *program) overlayEdit(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	name := c.Args().First()
	b, err := cl.bundle(name)
	if err != nil {
		return err
	}
	f, was, err := editedFile(c, b)
	if err != nil {
		return err
	}
	if f.Mode, err = modeFlag(c, f.Mode); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "wulf-")
	if err != nil {
		return err
	}
	text := filepath.Join(dir, filepath.Base(f.Path))
	if f.Template { // editors go by the ending
		text += overlay.TemplateSuffix
	}
	content, err := p.editFile(c, text, f.Content)
	if same := bytes.Equal(content, f.Content) && !(c.IsSet("mode") && !was.IsZero()); err != nil || same {
		if err == nil {
			p.say("nothing changes")
		}
		os.RemoveAll(dir)
		return err
	}
	e := overlay.Edit{Put: []overlay.File{*f}, Was: map[string]chunk.ID{f.Path: was}}
	e.Put[0].Content = content
	cl.again(c) // the time that somebody takes to think is not the command's
	if err := p.editOverlay(c, cl, name, e); err != nil {
		return withText(err, text)
	}
	os.RemoveAll(dir)
	return nil
}

// editedFile is the file that a command is to edit, and what it is now; zero: there is none yet.
func editedFile(c *cli.Context, b *overlay.Bundle) (*overlay.File, chunk.ID, error) {
	name := c.Args().First()
	f, err := fileOf(b, name, c.Args().Get(1))
	switch {
	case err == nil && f.Type != overlay.TypeFile:
		return nil, chunk.ID{}, fault.New(fault.Invalid, "%s is a %s, which nobody can edit", f.Path, f.Type)
	case err == nil:
		return f, chunk.Of(f.Content), nil
	case !c.Bool("parents"):
		return nil, chunk.ID{}, fault.Wrap(fault.NotFound, err, "").WithFix("%s; to make it: --parents", fault.Fix(err))
	}
	at := overlayPath(path.Clean(c.Args().Get(1)))
	f = &overlay.File{Type: overlay.TypeFile, Mode: 0o644}
	if f.Path, f.Template = strings.CutSuffix(at, overlay.TemplateSuffix); f.Template {
		f.Content = []byte(starter)
	}
	return f, chunk.ID{}, overlay.CheckPath(f.Path)
}

// editFile lets somebody change a text in their editor.
func (p *program) editFile(c *cli.Context, name string, text []byte) ([]byte, error) {
	if err := os.WriteFile(name, text, 0o600); err != nil {
		return nil, err
	}
	if err := p.runEditor(c, name); err != nil {
		return nil, err
	}
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, fault.Wrap(fault.NotFound, err, "reading what was edited")
	case info.Size() > overlay.MaxBundle:
		return nil, fault.New(fault.Invalid, "the text has %d bytes, more than the %d that an overlay holds", info.Size(), overlay.MaxBundle)
	}
	return os.ReadFile(name)
}

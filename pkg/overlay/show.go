package overlay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
)

// Shown is what one template makes of a node, with what Warewulf tells of it besides: `wulf migrate render` prints it as
// Warewulf's own command does.
type Shown struct {
	Backup  bool   // Warewulf keeps what the files replace; here nobody does
	Aborted bool   // nothing is written
	Before  []byte // what the template wrote before it named a file; where it aborted, all there is to see
	Files   []ShownFile
}

// ShownFile is a file that a template makes, under the name that it gave: "" for its own.
type ShownFile struct {
	Name    string
	Link    bool
	Target  string
	Content []byte
}

// Show renders one template of a layer, number i of its bundle. One that fails is fault.Invalid, as in Render; so is one
// that asks for a secret which is not held here.
func Show(ctx context.Context, v View, l Layer, i int) (*Shown, error) {
	t := l.Bundle.templates[i]
	x := t.take(ctx, &v, &l)
	defer t.give(x)
	err := x.text.Execute(x, x.dot)
	s := &Shown{Backup: !x.nobackup, Before: x.files[0].Content}
	switch {
	case errors.Is(err, errAbort):
		s.Aborted = true
		return s, nil
	case err != nil:
		return nil, x.failed(err)
	}
	for i, r := range x.files {
		if i > 0 || len(x.files) == 1 || r.Type == TypeLink {
			s.Files = append(s.Files, ShownFile{Name: x.names[i], Link: r.Type == TypeLink, Target: r.Target, Content: r.Content})
		}
	}
	return s, nil
}

// Text is what `wwctl overlay show --render` prints: for each file two lines that are the same for all of them, its name,
// and its text, which ends with its line. FileName is the template's path. A quiet one tells the texts only.
func (s *Shown) Text(fileName string, quiet bool) string {
	var b strings.Builder
	line := func(text string) {
		b.WriteString(text)
		if !strings.HasSuffix(text, "\n") {
			b.WriteByte('\n')
		}
	}
	tell := func(format string, args ...any) {
		if !quiet {
			line(fmt.Sprintf(format, args...))
		}
	}
	if s.Aborted {
		tell("backupFile: %t\nwriteFile: false", s.Backup)
		line(string(s.Before))
		tell("Aborted")
		return b.String()
	}
	for _, f := range s.Files {
		tell("backupFile: %t\nwriteFile: true\nFilename: %s", s.Backup, cmp.Or(f.Name, strings.TrimSuffix(fileName, TemplateSuffix)))
		if f.Link {
			tell("Symlink: %s", f.Target)
		} else {
			line(string(f.Content))
		}
	}
	return b.String()
}

package cli

import (
	"bytes"
	"fmt"
	"net/url"
	"strconv"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

func (p *program) overlayDiff(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	before, after, err := p.compared(c, cl)
	if err != nil {
		return err
	}
	if node := c.String("render"); node != "" {
		now, err := cl.catalog()
		if err != nil {
			return err
		}
		for _, b := range []**overlay.Bundle{&before, &after} {
			made, err := cl.renderAll(now, node, layerOf(now, c.Args().First(), *b))
			if err != nil {
				return err
			}
			*b = asBundle(made)
		}
	}
	text := diffBundles(before, after)
	if _, err := p.out.Write(text); err != nil {
		return err
	}
	if len(text) > 0 && c.Bool("detailed-exitcode") {
		return errDifferent
	}
	return nil
}

// compared are the two states of an overlay that a command is about.
func (p *program) compared(c *cli.Context, cl *client) (before, after *overlay.Bundle, err error) {
	name := c.Args().First()
	dir := c.Args().Get(1)
	if dir != "" && c.IsSet("at") {
		return nil, nil, fault.New(fault.Invalid, "a directory has no revisions").WithFix("name it, or say --at")
	}
	switch {
	case dir != "":
		if before, err = cl.bundle(name); err == nil {
			after, err = readBundle(dir, c.Bool("keep-owner"))
		}
	case c.IsSet("at"):
		if before, err = cl.layer(name, url.Values{"at": {strconv.Itoa(c.Int("at"))}}); err == nil {
			after, err = cl.bundle(name)
		}
	default:
		o, err := cl.described(name)
		if err != nil {
			return nil, nil, err
		}
		if !o.Shipped {
			return nil, nil, fault.New(fault.Invalid, "overlay %s does not come with wulfmesh: all of it is the site's", name).
				WithFix("name what it is to be compared with: a directory, or --at REVISION")
		}
		if before, err = cl.layer(name, url.Values{"layer": {api.LayerBase}}); err != nil {
			return nil, nil, err
		}
		after, err = cl.bundle(name)
		return before, after, err
	}
	return before, after, err
}

// diffBundles says what differs: first what each file is, where that differs, then its lines.
func diffBundles(before, after *overlay.Bundle) []byte {
	var out bytes.Buffer
	old, now := map[string]*overlay.File{}, map[string]*overlay.File{}
	for i := range before.Files {
		old[written(&before.Files[i])] = &before.Files[i]
	}
	for i := range after.Files {
		now[written(&after.Files[i])] = &after.Files[i]
	}
	all := map[string]bool{}
	for name := range old {
		all[name] = true
	}
	for name := range now {
		all[name] = true
	}
	for _, name := range sortedKeys(all) {
		diffFile(&out, name, old[name], now[name])
	}
	for _, side := range []struct {
		sign      string
		has, lack []overlay.Hook
	}{{"-", before.Hooks, after.Hooks}, {"+", after.Hooks, before.Hooks}} {
		for _, h := range side.has {
			if !containsHook(side.lack, h) {
				fmt.Fprintf(&out, "%shook %s: %s\n", side.sign, h.Path, action(h))
			}
		}
	}
	return out.Bytes()
}

func containsHook(all []overlay.Hook, h overlay.Hook) bool {
	for _, o := range all {
		if o == h {
			return true
		}
	}
	return false
}

func diffFile(out *bytes.Buffer, name string, old, now *overlay.File) {
	empty := &overlay.File{}
	a, b := name, name
	switch {
	case old == nil:
		old, a = empty, "/dev/null"
		fmt.Fprintf(out, "new %s %s\n", typeOf(now), attributes(now))
	case now == nil:
		now, b = empty, "/dev/null"
		fmt.Fprintf(out, "gone %s %s\n", typeOf(old), attributes(old))
	case attributes(old) != attributes(now):
		fmt.Fprintf(out, "changed %s: %s → %s\n", name, attributes(old), attributes(now))
	}
	if bytes.Equal(old.Content, now.Content) {
		if old == empty || now == empty {
			fmt.Fprintf(out, "--- %s\n+++ %s\n", a, b)
		}
		return
	}
	out.Write(diffContent(a, old.Content, b, now.Content))
}

// diffContent says what differs between two contents, as diff -u does; nothing if they are the same.
func diffContent(a string, old []byte, b string, now []byte) []byte {
	switch {
	case bytes.Equal(old, now):
		return nil
	case !utf8.Valid(old) || !utf8.Valid(now):
		return fmt.Appendf(nil, "--- %s\n+++ %s\nthey are not text: %s and %s\n", a, b, size(int64(len(old))), size(int64(len(now))))
	}
	text := diff.Diff(a, old, b, now)
	_, text, _ = bytes.Cut(text, []byte("\n")) // a line that is no part of the format: diff a b
	return text
}

func typeOf(f *overlay.File) string {
	if f.Template {
		return "template"
	}
	return string(f.Type)
}

func attributes(f *overlay.File) string {
	if f.Type == overlay.TypeLink {
		return fmt.Sprintf("%d:%d", f.UID, f.GID)
	}
	return fmt.Sprintf("%04o %d:%d", f.Mode, f.UID, f.GID)
}

package cli

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// overlayFile is a file of an overlay, described.
type overlayFile struct {
	Path      string             `json:"path"`
	Type      overlay.Type       `json:"type"`
	Mode      string             `json:"mode,omitempty"`
	UID       int                `json:"uid"`
	GID       int                `json:"gid"`
	Target    string             `json:"target,omitempty"`
	Size      int64              `json:"size"`
	Digest    chunk.ID           `json:"digest,omitzero"`
	From      string             `json:"from"` // wulfmesh or site
	Hides     bool               `json:"hides,omitempty"`
	Hooks     []overlay.Hook     `json:"hooks,omitempty"`
	Template  bool               `json:"template,omitempty"`
	Described *overlay.Described `json:"described,omitempty"`
}

func (p *program) overlayInfo(c *cli.Context) error {
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
	f, err := fileOf(b, name, c.Args().Get(1))
	if err != nil {
		return err
	}
	base, own, err := cl.layers(name)
	if err != nil {
		return err
	}
	v := overlayFile{Path: f.Path, Type: f.Type, UID: f.UID, GID: f.GID, Target: f.Target, Size: int64(len(f.Content)), From: "wulfmesh", Template: f.Template}
	if f.Type != overlay.TypeLink {
		v.Mode = fmt.Sprintf("%04o", f.Mode)
	}
	if f.Type == overlay.TypeFile {
		v.Digest = chunk.Of(f.Content)
	}
	if _, mine := own.File(f.Path); mine {
		v.From = "site"
		_, v.Hides = base.File(f.Path)
	}
	for _, h := range b.Hooks {
		if h.Matches(f.Path) {
			v.Hooks = append(v.Hooks, h)
		}
	}
	if f.Template {
		if v.Described, err = overlay.Describe(f); err != nil {
			return err
		}
	}
	return p.show(c, v, func(r *report) { r.overlayFile(&v) })
}

func (r *report) overlayFile(v *overlayFile) {
	rows := [][]string{{"path", v.Path}, {"type", string(v.Type)}, {"owner", fmt.Sprintf("%d:%d", v.UID, v.GID)}, {"from", v.From}}
	if v.Template {
		rows[1][1] = "template"
	}
	if v.Hides {
		rows[3][1] += ", in the place of one that comes with wulfmesh"
	}
	if v.Mode != "" {
		rows = append(rows, []string{"mode", v.Mode})
	}
	if v.Target != "" {
		rows = append(rows, []string{"leads to", v.Target})
	}
	if v.Type == overlay.TypeFile {
		rows = append(rows, []string{"size", size(v.Size)}, []string{"digest", v.Digest.String()})
	}
	for _, h := range v.Hooks {
		rows = append(rows, []string{"when changed", action(h)})
	}
	if v.Described == nil {
		r.rows(rows)
		return
	}
	for _, about := range v.Described.About {
		rows = append(rows, []string{"about", about})
	}
	if len(v.Described.Functions) > 0 {
		rows = append(rows, []string{"calls", strings.Join(v.Described.Functions, " ")})
	}
	r.rows(rows)
	vars := [][]string{{"READS", "ABOUT"}}
	for _, x := range v.Described.Variables {
		vars = append(vars, []string{x.Name, or(x.Help)})
	}
	if len(vars) > 1 {
		r.line("")
		r.rows(vars)
	}
}

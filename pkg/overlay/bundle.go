// Package overlay makes a node's own files out of overlays: plain files, and templates over the node's settings.
//
// Rendering is pure: the same bundle and data give the same files. It reaches no file, environment variable,
// clock or network of the machine that renders, and it ends, whatever the template says.
package overlay

import (
	"bytes"
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Format is the version of the encoding of a Bundle that this program writes.
//
// History: 1 (2026-11) first. 2 (2026-11) extended attributes, files that take shipped ones away, hooks.
const Format = 2

// Bounds of a bundle.
const (
	MaxBundle = 64 << 20
	MaxFiles  = 20_000
)

// Type is what a file is.
type Type string

// The types of files that overlays hold.
const (
	TypeFile Type = "file"
	TypeDir  Type = "dir"
	TypeLink Type = "link" // symbolic
	TypeGone Type = "gone" // in a site's part of a shipped overlay: takes the shipped file away
)

// File is a file of an overlay. Path is relative to the node's root, with slashes and without "." or "..".
type File struct {
	Path     string `json:"path"`
	Type     Type   `json:"type"`
	Mode     uint32 `json:"mode,omitempty"` // permission bits, with setuid, setgid and sticky as in chmod(2)
	UID      int    `json:"uid,omitempty"`
	GID      int    `json:"gid,omitempty"`
	Content  []byte `json:"content,omitempty"`  // of a file; of a template its text
	Target   string `json:"target,omitempty"`   // of a link
	Template bool   `json:"template,omitempty"` // Content is rendered; Path has lost its suffix .ww already

	Xattrs map[string][]byte `json:"xattrs,omitempty"` // extended attributes, such as security.capability
}

// TemplateSuffix marks a template among the files of a directory; rendering drops it.
const TemplateSuffix = ".ww"

// Bundle is the content of an overlay: the chunk that the catalog names.
type Bundle struct {
	Format int    `json:"format"`
	Files  []File `json:"files"` // in the order of their paths, each once
	Hooks  []Hook `json:"hooks,omitempty"`

	templates []*prepared // by place among Files; nil for what is none
	contents  []chunk.ID  // digests of contents, likewise
}

// NewBundle checks files and hooks, and puts the files in order. A wrong or doubled path, or a template that cannot be
// parsed, is fault.Invalid.
func NewBundle(files []File, hooks ...Hook) (*Bundle, error) {
	if len(files) > MaxFiles {
		return nil, fault.New(fault.Invalid, "the overlay has %d files, more than %d", len(files), MaxFiles)
	}
	if len(hooks) > MaxHooks {
		return nil, fault.New(fault.Invalid, "the overlay has %d hooks, more than %d", len(hooks), MaxHooks)
	}
	for _, h := range hooks {
		if err := h.check(); err != nil {
			return nil, err
		}
	}
	b := &Bundle{Format: Format, Files: slices.Clone(files), Hooks: slices.Clone(hooks)}
	slices.SortFunc(b.Files, func(a, c File) int { return strings.Compare(a.Path, c.Path) })
	b.templates, b.contents = make([]*prepared, len(b.Files)), make([]chunk.ID, len(b.Files))
	for i, f := range b.Files {
		if err := CheckPath(f.Path); err != nil {
			return nil, err
		}
		if i > 0 && b.Files[i-1].Path == f.Path {
			return nil, fault.New(fault.Invalid, "the overlay has %s twice", f.Path)
		}
		switch f.Type {
		case TypeFile, TypeDir, TypeGone:
		case TypeLink:
			if f.Target == "" {
				return nil, fault.New(fault.Invalid, "the link %s has no target", f.Path)
			}
		default:
			return nil, fault.New(fault.Invalid, "%s is a %q, which overlays cannot hold", f.Path, f.Type)
		}
		if f.Mode&^0o7777 != 0 {
			return nil, fault.New(fault.Invalid, "%s has the mode %o", f.Path, f.Mode)
		}
		if !f.Template {
			b.contents[i] = chunk.Of(f.Content)
			continue
		}
		var err error
		if b.templates[i], err = parseTemplate(&b.Files[i]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// CheckPath refuses paths that a node could not hold under its root, with fault.Invalid.
func CheckPath(p string) error {
	if p == "" || p == "." || p != path.Clean(p) || path.IsAbs(p) || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsRune(p, 0) || len(p) > 4000 {
		return fault.New(fault.Invalid, "%.200q is not a path inside a node's root", p)
	}
	return nil
}

// Encode writes the bundle as the chunk that the catalog names. Equal bundles give equal bytes.
func (b *Bundle) Encode() ([]byte, error) {
	out, err := json.Marshal(b)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "encoding overlay")
	}
	if len(out) > MaxBundle {
		return nil, fault.New(fault.Invalid, "the overlay takes %d bytes, more than %d", len(out), MaxBundle).WithFix("put large files into an image")
	}
	return append(out, '\n'), nil
}

// Decode reads what Encode wrote and checks it as NewBundle does.
func Decode(raw []byte) (*Bundle, error) {
	var b Bundle
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "this is not an overlay")
	}
	if b.Format < 1 || b.Format > Format {
		return nil, fault.New(fault.Invalid, "the overlay has format %d; this program reads 1 to %d", b.Format, Format)
	}
	return NewBundle(b.Files, b.Hooks...)
}

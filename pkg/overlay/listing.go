package overlay

import (
	"encoding/json"
	"path"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Bounds of a Listing.
const (
	MaxInline  = 16 << 10  // bytes of a file that travels in the listing; what is larger, many nodes may share
	MaxListing = 256 << 20 // bytes of an encoded listing
)

// Listing is what a node has to have of its overlays of one kind: what a relay tells the agent. Which files the agent
// fetches follows from what it has already.
type Listing struct {
	Kind  string   `json:"kind"`  // KindSystem or KindRuntime
	Files []Listed `json:"files"` // in the order of their paths, each once
	Hooks []Hook   `json:"hooks,omitempty"`
	// Asked is when somebody asked the node last to look at once whether its files are right, and to try again what it could
	// not do. Another time makes another listing, of which the node is told as of any.
	Asked time.Time `json:"asked,omitzero"`
}

// The kinds of overlays.
const (
	KindSystem  = "system"  // applied before the node's init starts
	KindRuntime = "runtime" // applied then too, and kept as declared while the node runs
)

// Listed is a file of a Listing.
type Listed struct {
	Path    string            `json:"path"`
	Type    Type              `json:"type"`
	Mode    uint32            `json:"mode,omitempty"`
	UID     int               `json:"uid,omitempty"`
	GID     int               `json:"gid,omitempty"`
	Target  string            `json:"target,omitempty"` // of a link
	Xattrs  map[string][]byte `json:"xattrs,omitempty"`
	Overlay string            `json:"overlay,omitempty"` // that it is of
	Size    int64             `json:"size,omitempty"`
	Digest  chunk.ID          `json:"digest,omitzero"`   // of a file's content
	Content []byte            `json:"content,omitempty"` // if it is not larger than MaxInline, or has nowhere else to come from
}

// Inline tells whether the content of a file is in the listing: else it is fetched by its digest.
func (f *Listed) Inline() bool { return f.Type != TypeFile || int64(len(f.Content)) == f.Size }

// List makes of rendered files what a node is told of them. Contents larger than inline bytes are left out.
func List(kind string, files []Rendered, hooks []Hook, inline int) *Listing {
	l := &Listing{Kind: kind, Files: make([]Listed, 0, len(files)), Hooks: hooks}
	for _, f := range files {
		e := Listed{Path: f.Path, Type: f.Type, Mode: f.Mode, UID: f.UID, GID: f.GID, Target: f.Target, Xattrs: f.Xattrs, Overlay: f.Overlay}
		if f.Type == TypeFile {
			e.Size, e.Digest = int64(len(f.Content)), f.ContentID()
			if len(f.Content) <= inline {
				e.Content = f.Content
			}
		}
		l.Files = append(l.Files, e)
	}
	return l
}

// DecodeListing reads a listing and refuses, as fault.Corrupt, one that no relay makes: a path outside of the root, a
// content that is not what its digest says.
func DecodeListing(raw []byte) (*Listing, error) {
	var l Listing
	if err := json.Unmarshal(raw, &l); err != nil {
		return nil, fault.Wrap(fault.Corrupt, err, "reading a listing of overlays")
	}
	if len(l.Files) > MaxFiles {
		return nil, fault.New(fault.Corrupt, "the listing has %d files, more than %d", len(l.Files), MaxFiles)
	}
	for i := range l.Files {
		f := &l.Files[i]
		if err := f.check(); err != nil {
			return nil, err
		}
		if i > 0 && f.Path <= l.Files[i-1].Path {
			return nil, fault.New(fault.Corrupt, "the listing has %.200q out of order", f.Path)
		}
	}
	for _, h := range l.Hooks {
		if err := h.check(); err != nil {
			return nil, fault.Wrap(fault.Corrupt, err, "the listing")
		}
	}
	return &l, nil
}

func (f *Listed) check() error {
	if err := CheckPath(f.Path); err != nil {
		return fault.Wrap(fault.Corrupt, err, "the listing")
	}
	if f.Mode&^0o7777 != 0 {
		return fault.New(fault.Corrupt, "%s has the mode %o", f.Path, f.Mode)
	}
	switch f.Type {
	case TypeDir:
	case TypeLink:
		if f.Target == "" || strings.ContainsRune(f.Target, 0) {
			return fault.New(fault.Corrupt, "the link %s has no target", f.Path)
		}
	case TypeFile:
		if f.Size < 0 || f.Size > MaxBundle {
			return fault.New(fault.Corrupt, "%s has %d bytes", f.Path, f.Size)
		}
		if f.Inline() && f.Digest != chunk.Of(f.Content) {
			return fault.New(fault.Corrupt, "%s is not what its digest says", f.Path)
		}
	default:
		return fault.New(fault.Corrupt, "%s is a %.80q, which overlays cannot hold", f.Path, f.Type)
	}
	return nil
}

// Hook is what a running node does when a file of a runtime overlay has changed there. In a site's part of a shipped
// overlay, one without a unit takes a shipped one away.
type Hook struct {
	Path    string `json:"path"`              // of the file, or a pattern of path.Match
	Reload  string `json:"reload,omitempty"`  // the unit that reads the file again when it is told so
	Restart string `json:"restart,omitempty"` // or the one that has to start anew
}

// MaxHooks bounds the hooks of an overlay.
const MaxHooks = 100

// Matches tells whether the hook is about that path.
func (h Hook) Matches(p string) bool {
	ok, err := path.Match(h.Path, p)
	return ok && err == nil
}

func (h Hook) check() error {
	if _, err := path.Match(h.Path, ""); err != nil || CheckPath(h.Path) != nil {
		return fault.New(fault.Invalid, "a hook is about %.200q, which is no path inside a node's root and no pattern of one", h.Path)
	}
	unit := h.Reload + h.Restart
	if h.Reload != "" && h.Restart != "" {
		return fault.New(fault.Invalid, "the hook of %s must name one unit, to reload or to restart", h.Path)
	}
	if unit == "" {
		return nil
	}
	// systemd.unit(5): letters, digits and these; the suffix says what it is. A first "-" would be an option of systemctl.
	if len(unit) > 255 || !strings.Contains(unit, ".") || unit[0] == '-' || strings.ContainsFunc(unit, func(r rune) bool { return !strings.ContainsRune(unitCharacters, r) }) {
		return fault.New(fault.Invalid, "the hook of %s names the unit %.80q", h.Path, unit).WithFix("give its whole name, such as chrony.service")
	}
	return nil
}

const unitCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@"

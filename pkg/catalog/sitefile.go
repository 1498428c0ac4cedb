package catalog

import (
	"iter"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// SiteFile is a file of the site, or a symbolic link, that templates of overlays include. It has the path that it would
// have on a server, so that templates name it as they always did; no server need have it.
type SiteFile struct {
	Path    string    `json:"path"`             // absolute and clean
	Content chunk.Ref `json:"content,omitzero"` // of a file
	Target  string    `json:"target,omitempty"` // of a link, as it was written; a link has no content
	Mode    uint32    `json:"mode,omitempty"`   // permission bits of a file
	Changed time.Time `json:"changed,omitzero"` // when it became what it is
	By      string    `json:"by,omitempty"`     // who changed it last
}

// IsLink tells whether it is a symbolic link.
func (f *SiteFile) IsLink() bool { return f.Target != "" }

// LinkPath is the path that a link leads to.
func (f *SiteFile) LinkPath() string {
	if path.IsAbs(f.Target) {
		return path.Clean(f.Target)
	}
	return path.Join(path.Dir(f.Path), f.Target)
}

// same tells whether two are alike but for who made them so, and when.
func (f *SiteFile) same(o *SiteFile) bool {
	return f.Path == o.Path && f.Content == o.Content && f.Target == o.Target && f.Mode == o.Mode
}

// Bounds of site files. Every relay holds all of them.
const (
	MaxSiteFile   = 4 << 20   // bytes of one
	MaxSiteFiles  = 10_000    // files and links
	MaxSiteBytes  = 256 << 20 // bytes of all
	maxSitePath   = 1000
	maxSiteLinks  = 40 // that follow one another
	SiteDirectory = "/etc/warewulf"
)

// SiteServerFile says what templates are told of Warewulf's server. No node could be rendered by one that cannot be read, so
// controllers read it before they take it; it is no link, and no other file gets its name.
const SiteServerFile = SiteDirectory + "/warewulf.conf"

// SitePath is the path of the site file that a template means by name: what is not absolute lies in SiteDirectory.
func SitePath(name string) string {
	if !path.IsAbs(name) {
		name = SiteDirectory + "/" + name
	}
	return path.Clean(name)
}

// CheckSitePath refuses what cannot be the path of a site file, with fault.Invalid.
func CheckSitePath(p string) error {
	switch {
	case !path.IsAbs(p):
		return fault.New(fault.Invalid, "%q is not the path of a site file", clip(p)).WithFix("write it from the root: %s", clip(SitePath(p)))
	case p == "/" || !isSitePath(p):
		return fault.New(fault.Invalid, "%q is not the path of a site file", clip(p)).WithFix("use at most %d bytes of printable text", maxSitePath)
	case p != path.Clean(p):
		return fault.New(fault.Invalid, "%q is not the shortest way to write this path", clip(p)).WithFix("write %s", clip(path.Clean(p)))
	}
	return nil
}

// isSitePath tells whether a path is short and can be shown. JSON has utf8.RuneError for bytes that are no text.
func isSitePath(p string) bool {
	return len(p) <= maxSitePath && !strings.ContainsRune(p, utf8.RuneError) && !strings.ContainsFunc(p, unicode.IsControl)
}

// SiteFile returns the site file of that path, which may be a link.
func (c *Catalog) SiteFile(path string) (*SiteFile, bool) { return c.files.get(path) }

// SiteFiles yields all site files in the byte order of their paths.
func (c *Catalog) SiteFiles() iter.Seq[*SiteFile] { return c.files.values() }

// SiteFileCount is the number of site files.
func (c *Catalog) SiteFileCount() int { return c.files.len() }

// FollowSiteFile returns the file that a path stands for when its links are followed. It finds none where they lead to
// nothing, or in a circle. Links among the directories of a path are not looked for.
func (c *Catalog) FollowSiteFile(p string) (*SiteFile, bool) {
	for range maxSiteLinks {
		f, ok := c.SiteFile(p)
		if !ok || !f.IsLink() {
			return f, ok
		}
		p = f.LinkPath()
	}
	return nil, false
}

// siteFiles are the site files by their paths.
type siteFiles struct {
	table[*SiteFile]
	bytes int64 // of all contents, as often as they are named
}

func (s *siteFiles) put(f *SiteFile) {
	s.delete(f.Path)
	s.table.put(f.Path, f)
	s.bytes += f.Content.Size
}

func (s *siteFiles) delete(path string) {
	if old, ok := s.get(path); ok {
		s.table.delete(path)
		s.bytes -= old.Content.Size
	}
}

func (x PutSiteFile) apply(c *Catalog, e *Entry) error {
	f := x.File
	switch {
	case f.Content.ID.IsZero() || f.IsLink():
		return fault.New(fault.Invalid, "site file %s: it has no content", clip(f.Path)).WithFix("put it with its content: wulf file put")
	case f.Content.Size < 0 || f.Content.Size > MaxSiteFile:
		return fault.New(fault.Invalid, "site file %s: it has %d bytes, more than %d", clip(f.Path), f.Content.Size, MaxSiteFile).
			WithFix("put large files into an image")
	case f.Mode&^0o777 != 0:
		return fault.New(fault.Invalid, "site file %s: %o is not a mode", clip(f.Path), f.Mode).WithFix("use permission bits, such as 644")
	}
	if old, ok := c.SiteFile(f.Path); !x.Base.IsZero() && (!ok || old.Content.ID != x.Base && !old.same(&f)) {
		return fault.New(fault.Conflict, "site file %s: somebody changed it in the meantime", clip(f.Path)).WithFix("look at it as it is now: wulf file show %s", f.Path)
	}
	return c.putSiteFile(f, e)
}

func (x LinkSiteFile) apply(c *Catalog, e *Entry) error {
	if x.Path == SiteServerFile {
		return fault.New(fault.Invalid, "site file %s cannot be a link", x.Path).WithFix("put it with its content: wulf file put")
	}
	if x.Target == "" || !isSitePath(x.Target) {
		return fault.New(fault.Invalid, "site file %s: %q is not the target of a link", clip(x.Path), clip(x.Target)).
			WithFix("use a path of at most %d bytes of printable text", maxSitePath)
	}
	return c.putSiteFile(SiteFile{Path: x.Path, Target: x.Target}, e)
}

func (x DeleteSiteFile) apply(c *Catalog, _ *Entry) error {
	if _, ok := c.SiteFile(x.Path); !ok {
		return c.noSiteFile(x.Path)
	}
	c.files.delete(x.Path)
	c.touched.file(x.Path)
	return nil
}

func (x RenameSiteFile) apply(c *Catalog, e *Entry) error {
	old, ok := c.SiteFile(x.Path)
	if !ok {
		return c.noSiteFile(x.Path)
	}
	if _, ok := c.SiteFile(x.To); ok {
		return fault.New(fault.Conflict, "there is a site file %s already", x.To).WithFix("choose another path, or delete it first")
	}
	if x.To == SiteServerFile {
		return fault.New(fault.Invalid, "no other site file can become %s", x.To).WithFix("put it with its content: wulf file put")
	}
	c.files.delete(x.Path)
	c.touched.file(x.Path)
	next := *old
	next.Path = x.To
	return c.putSiteFile(next, e)
}

// putSiteFile makes a site file, or replaces one. What is so already stays as it is.
func (c *Catalog) putSiteFile(f SiteFile, e *Entry) error {
	if err := CheckSitePath(f.Path); err != nil {
		return err
	}
	old, was := c.SiteFile(f.Path)
	if was && old.same(&f) {
		return nil
	}
	if !was {
		if err := c.checkSitePlace(f.Path); err != nil {
			return err
		}
	}
	f.Changed, f.By = e.At, e.By
	c.files.put(&f)
	c.touched.file(f.Path)
	switch {
	case c.files.len() > MaxSiteFiles:
		return fault.New(fault.Full, "there would be more than %d site files", MaxSiteFiles).WithFix("delete some that no template includes")
	case c.files.bytes > MaxSiteBytes:
		return fault.New(fault.Full, "the site files would have more than %d MiB together", MaxSiteBytes>>20).WithFix("put large files into an image")
	}
	return nil
}

// checkSitePlace refuses a path that is a directory to other site files, or that has a site file for a directory.
func (c *Catalog) checkSitePlace(p string) error {
	for i := 1; i < len(p); i++ {
		if p[i] != '/' {
			continue
		}
		if _, ok := c.SiteFile(p[:i]); ok {
			return fault.New(fault.Conflict, "site file %s: %s is no directory, but a site file itself", p, p[:i]).WithFix("delete that first, or choose another path")
		}
	}
	for f := range c.files.below(p + "/") {
		return fault.New(fault.Conflict, "site file %s: it is a directory, there is a site file %s", p, f.Path).WithFix("choose another path")
	}
	return nil
}

func (c *Catalog) noSiteFile(p string) error {
	err := fault.New(fault.NotFound, "there is no site file %s", clip(p))
	best := Nearest(p, func(yield func(string) bool) {
		for f := range c.SiteFiles() {
			if !yield(f.Path) {
				return
			}
		}
	}, 2)
	if best == "" && !path.IsAbs(p) {
		if _, ok := c.SiteFile(SitePath(p)); ok {
			best = SitePath(p)
		}
	}
	if best != "" {
		return err.WithFix("did you mean %s?", best)
	}
	return err.WithFix("see all with: wulf file list")
}

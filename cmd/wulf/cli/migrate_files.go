package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

// maxFileHazards bounds what is told of files: templates of a site are many, and mostly alike.
const maxFileHazards = 1000

// serverFiles are the files of Warewulf's server that templates include, to be site files here.
type serverFiles struct {
	root    *os.Root // the server's; nil: it is not known where its files are
	sysconf string   // where what templates call by a relative name lies, from the root

	found   map[string]newSiteFile
	links   map[string]string // path to target
	seen    map[string]bool   // by path and whether its content is wanted
	hazards []warewulf.Hazard
}

// inclusion is a file that a template includes, and which template that is.
type inclusion struct {
	warewulf.Inclusion
	overlay, file string
	ours          bool // the overlay comes with wulfmesh
}

// sysconf is where what templates call by a relative name lies on the server.
func (l *legacy) sysconf() string {
	if dir := l.paths().Sysconfdir; dir != "" {
		return path.Join(dir, "warewulf")
	}
	return catalog.SiteDirectory
}

// serverFiles finds the files that the templates of some overlays include: of the site's, and of those that come with
// wulfmesh.
func (l *legacy) serverFiles(c *cli.Context, inv inventory, overlays []string) (*serverFiles, error) {
	s := &serverFiles{found: map[string]newSiteFile{}, links: map[string]string{}, seen: map[string]bool{}}
	s.sysconf = l.sysconf()
	root := c.String("server-root")
	if usual, err := filepath.Abs(cmp.Or(c.String("nodes-conf"), usualNodesConf)); root == "" && err == nil && usual == usualNodesConf {
		root = "/"
	}
	if root != "" {
		var err error
		if s.root, err = os.OpenRoot(root); err != nil {
			return nil, fault.Wrap(fault.NotFound, err, "").WithFix("name the directory that holds the server's /etc: --server-root DIRECTORY")
		}
		defer s.root.Close()
	}
	if l.config != nil {
		s.found[catalog.SitePath(warewulf.ConfigFile)] = newSiteFile{path: catalog.SitePath(warewulf.ConfigFile), mode: 0o644, content: l.configText}
	}
	shipped, err := overlay.Shipped()
	if err != nil {
		return nil, err
	}
	overlays = slices.Concat(overlays, overlay.DefaultSystem(), overlay.DefaultRuntime())
	slices.Sort(overlays)
	for _, name := range slices.Compact(overlays) {
		if dir, ok := inv.site[name]; ok {
			if err := s.ofDirectory(name, dir); err != nil {
				return nil, fault.Wrap(fault.KindOf(err), err, "overlay %s", name)
			}
			continue
		}
		for _, o := range shipped {
			if o.Name == name {
				for _, f := range o.Bundle.Files {
					if f.Template {
						s.ofTemplate(name, f.Path, f.Content, true)
					}
				}
			}
		}
	}
	return s, nil
}

// ofDirectory looks through the templates of an overlay of the site.
func (s *serverFiles) ofDirectory(name, dir string) error {
	tree, err := segment.OpenDir(dir, segment.Limits{Entries: overlay.MaxFiles, Bytes: overlay.MaxBundle})
	if err != nil {
		return err
	}
	defer tree.Close()
	for _, e := range tree.Entries() {
		if e.Type != segment.File || !strings.HasSuffix(e.Path, overlay.TemplateSuffix) {
			continue
		}
		text, err := readAll(tree, e)
		if err != nil {
			return err
		}
		s.ofTemplate(name, e.Path, text, false)
	}
	return nil
}

func (s *serverFiles) ofTemplate(name, file string, text []byte, ours bool) {
	all, err := warewulf.Includes(text)
	if err != nil {
		s.tell(warewulf.BrokenTemplate, warewulf.Error, inclusion{overlay: name, file: file}, "it cannot be read as a template: "+sentence(err), "mend it")
	}
	for _, i := range all {
		in := inclusion{i, name, file, ours}
		switch {
		case i.Name != "":
			s.add(in)
		case !ours:
			s.tell(warewulf.DynamicInclude, warewulf.Note, in, "which file "+i.Function+" reads is only known when it is rendered", "put the files that it may read: wulf file put")
		}
	}
}

// tell notes something about a template.
func (s *serverFiles) tell(id warewulf.HazardID, severity warewulf.Severity, in inclusion, what, fix string) {
	if len(s.hazards) < maxFileHazards {
		s.hazards = append(s.hazards, warewulf.Hazard{
			ID: id, Severity: severity, File: path.Join("overlays", in.overlay, in.file), Subject: "overlay " + in.overlay + " " + in.file,
			Position: warewulf.Position{Line: in.Line}, What: what, Fix: fix,
		})
	}
}

// add looks for a file on the server, and for what it leads to if it is a link.
func (s *serverFiles) add(in inclusion) {
	name := catalog.SitePath(in.Name)
	key := fmt.Sprint(in.Content(), name)
	if _, have := s.found[name]; have || s.seen[key] || len(s.seen) > catalog.MaxSiteFiles {
		return
	}
	s.seen[key] = true
	if err := catalog.CheckSitePath(name); err != nil {
		s.missing(in, warewulf.Warning, "it includes what cannot be a site file: "+sentence(err), "give the file another name")
		return
	}
	if s.root == nil {
		s.missing(in, warewulf.Note, "it includes "+name+", and where the server's files are is not known", "say where: --server-root DIRECTORY; or put it: wulf file put "+name)
		return
	}
	at := name // on the server
	if !path.IsAbs(in.Name) {
		at = path.Join(s.sysconf, in.Name)
	}
	links := map[string]string{}
	for range 40 {
		info, err := s.root.Lstat(at[1:])
		switch {
		case err != nil && name != catalog.SitePath(in.Name) && !in.Content():
			maps.Copy(s.links, links)
			return // a link may lead to what is only on nodes
		case errors.Is(err, fs.ErrNotExist):
			s.missing(in, warewulf.Note, "it includes "+name+", which is not there; Warewulf took nothing for it", "nothing is to be done, if it is meant so")
			return
		case err != nil:
			s.missing(in, warewulf.Warning, fmt.Sprintf("it includes %s, which cannot be read: %v", name, err), "put it: wulf file put "+name)
			return
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := s.root.Readlink(at[1:])
			if err != nil || target == "" {
				s.missing(in, warewulf.Warning, fmt.Sprintf("it includes %s, a link that cannot be read: %v", name, err), "put it: wulf file put "+name)
				return
			}
			links[name] = target
			if !path.IsAbs(target) {
				target = path.Join(path.Dir(at), target)
			}
			name = path.Clean(target)
			at = name
		case !in.Content():
			maps.Copy(s.links, links)
			return // where it leads is told by the links
		default:
			if s.take(in, name, at) {
				maps.Copy(s.links, links)
			}
			return
		}
	}
	s.missing(in, warewulf.Warning, "it includes "+in.Name+", a link that leads in a circle", "mend the link")
}

func (s *serverFiles) missing(in inclusion, severity warewulf.Severity, what, fix string) {
	if in.ours { // ours do without
		return
	}
	s.tell(warewulf.SiteFileLeftOut, severity, in, what, fix)
}

// take reads a file of the server, and tells whether it could.
func (s *serverFiles) take(in inclusion, name, at string) bool {
	f, err := s.root.Open(at[1:])
	if err == nil {
		defer f.Close()
		var info fs.FileInfo
		if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() {
			err = errors.New("it is not a file with content")
		}
		if err == nil {
			file := newSiteFile{path: name, mode: info.Mode().Perm()}
			if file.content, err = readSite(f, name); err == nil {
				s.found[name] = file
				if file.mode&0o004 == 0 {
					s.tell(warewulf.PrivateSiteFile, warewulf.Error, in, "it includes "+name+", which not everybody may read; of a site file, operators and relays see the content",
						"give what is secret to a profile, wulf profile set PROFILE --secret NAME=@FILE, and let the template ask for it, {{.Secret \"NAME\"}}")
				}
				return true
			}
		}
	}
	s.missing(in, warewulf.Warning, fmt.Sprintf("it includes %s, which cannot be taken over: %s", name, sentence(err)), "put it, if nodes need it: wulf file put "+name)
	return false
}

// paths are the site files that an import makes, in order.
func (s *serverFiles) paths() []string {
	return slices.Sorted(func(yield func(string) bool) {
		for _, all := range [][]string{sortedKeys(s.found), sortedKeys(s.links)} {
			for _, name := range all {
				if !yield(name) {
					return
				}
			}
		}
	})
}

// without leaves out the site files that are here, as they are. It returns those that are other ones than the server's.
func (s *serverFiles) without(here []catalog.SiteFile) (kept []string) {
	for _, f := range here {
		if found, ok := s.found[f.Path]; ok {
			if f.Content != chunk.RefOf(found.content) {
				kept = append(kept, f.Path)
			}
			delete(s.found, f.Path)
		}
		if target, ok := s.links[f.Path]; ok {
			if f.Target != target {
				kept = append(kept, f.Path)
			}
			delete(s.links, f.Path)
		}
	}
	return kept
}

// put makes the site files.
func (s *serverFiles) put(p *program, c *cli.Context, cl *client) error {
	for _, name := range s.paths() {
		p.say("site file %s", name)
		if target, ok := s.links[name]; ok {
			var made api.ChangeResult
			if err := cl.make(catalog.LinkSiteFile{Path: name, Target: target}, api.ChangeOptions{Message: c.String("message")}, &made); err != nil {
				return err
			}
			continue
		}
		f := s.found[name]
		f.message = c.String("message")
		if _, err := cl.putSiteFile(f); err != nil {
			return fault.Wrap(fault.KindOf(err), err, "site file %s", name)
		}
		cl.again(c)
	}
	return nil
}

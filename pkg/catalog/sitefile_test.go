package catalog_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func putFile(path, content string) catalog.PutSiteFile {
	return catalog.PutSiteFile{File: catalog.SiteFile{Path: path, Content: chunk.RefOf([]byte(content)), Mode: 0o644}}
}

func sitePaths(c *catalog.Catalog) (paths []string) {
	for f := range c.SiteFiles() {
		paths = append(paths, f.Path)
	}
	return paths
}

func TestSiteFilesArePutLinkedRenamedAndDeleted(t *testing.T) {
	l := started(t)
	l.must(
		putFile("/etc/warewulf/authorized_keys", "ssh-ed25519 A"),
		putFile("/etc/hosts", ""), // a file may be empty
		catalog.LinkSiteFile{Path: "/etc/localtime", Target: "../usr/share/zoneinfo/UTC"},
		catalog.RenameSiteFile{Path: "/etc/hosts", To: "/etc/hosts.site"},
	)
	if got, want := sitePaths(l.c), []string{"/etc/hosts.site", "/etc/localtime", "/etc/warewulf/authorized_keys"}; !slices.Equal(got, want) {
		t.Fatalf("the site files are %q, want %q", got, want)
	}
	f, _ := l.c.SiteFile("/etc/warewulf/authorized_keys")
	if f.By != "test" || !f.Changed.Equal(at) || f.IsLink() || f.Content.Size != 13 {
		t.Errorf("the file is %+v", f)
	}
	if f, _ = l.c.SiteFile("/etc/localtime"); !f.IsLink() || f.Target != "../usr/share/zoneinfo/UTC" {
		t.Errorf("the link is %+v", f)
	}
	l.must(putFile("/etc/localtime", "TZif"), catalog.DeleteSiteFile{Path: "/etc/hosts.site"})
	if f, _ = l.c.SiteFile("/etc/localtime"); f.IsLink() {
		t.Error("a file took the place of a link, and is a link")
	}
	if got := sitePaths(restored(t, l.c)); !slices.Equal(got, sitePaths(l.c)) || len(got) != 2 {
		t.Errorf("a snapshot brings back %q", got)
	}
}

func TestSiteFilesThatCannotBeAreRefused(t *testing.T) {
	large := catalog.SiteFile{Path: "/x", Content: chunk.Ref{ID: chunk.RefOf(nil).ID, Size: catalog.MaxSiteFile + 1}}
	for name, tc := range map[string]struct {
		change catalog.Change
		kind   fault.Kind
		text   string
	}{
		"a relative path":                  {putFile("etc/hosts", "x"), fault.Invalid, "not the path of a site file"},
		"the root":                         {putFile("/", "x"), fault.Invalid, "not the path"},
		"dots":                             {putFile("/etc/../hosts", "x"), fault.Invalid, "not the shortest"},
		"a slash at the end":               {putFile("/etc/hosts/", "x"), fault.Invalid, "not the shortest"},
		"a line end":                       {putFile("/etc/ho\nsts", "x"), fault.Invalid, "not the path"},
		"no text":                          {putFile("/etc/\xff", "x"), fault.Invalid, "not the path"},
		"a long path":                      {putFile("/"+strings.Repeat("a", 1000), "x"), fault.Invalid, "not the path"},
		"no content":                       {catalog.PutSiteFile{File: catalog.SiteFile{Path: "/x"}}, fault.Invalid, "no content"},
		"content and target":               {catalog.PutSiteFile{File: catalog.SiteFile{Path: "/x", Content: chunk.RefOf(nil), Target: "y"}}, fault.Invalid, "no content"},
		"too large":                        {catalog.PutSiteFile{File: large}, fault.Invalid, "more than 4194304"},
		"setuid":                           {catalog.PutSiteFile{File: catalog.SiteFile{Path: "/x", Content: chunk.RefOf(nil), Mode: 0o4755}}, fault.Invalid, "not a mode"},
		"a link to nowhere":                {catalog.LinkSiteFile{Path: "/x"}, fault.Invalid, "not the target"},
		"below a file":                     {putFile("/etc/motd/x", "x"), fault.Conflict, "/etc/motd is no directory"},
		"where others lie":                 {putFile("/etc", "x"), fault.Conflict, "there is a site file /etc/motd"},
		"a link where they lie":            {catalog.LinkSiteFile{Path: "/etc", Target: "/x"}, fault.Conflict, "it is a directory"},
		"made of another one":              {catalog.PutSiteFile{File: putFile("/etc/motd", "y").File, Base: chunk.RefOf([]byte("x")).ID}, fault.Conflict, "in the meantime"},
		"made of none":                     {catalog.PutSiteFile{File: putFile("/etc/new", "y").File, Base: chunk.RefOf([]byte("x")).ID}, fault.Conflict, "in the meantime"},
		"none to delete":                   {catalog.DeleteSiteFile{Path: "/etc/mutd"}, fault.NotFound, "no site file /etc/mutd"},
		"none to rename":                   {catalog.RenameSiteFile{Path: "/etc/x", To: "/y"}, fault.NotFound, "no site file"},
		"a name that is taken":             {catalog.RenameSiteFile{Path: "/etc/motd", To: "/srv/a"}, fault.Conflict, "already"},
		"what controllers read, by a name": {catalog.RenameSiteFile{Path: "/etc/motd", To: catalog.SiteServerFile}, fault.Invalid, "no other site file"},
		"what controllers read, by a link": {catalog.LinkSiteFile{Path: catalog.SiteServerFile, Target: "/etc/motd"}, fault.Invalid, "cannot be a link"},
		"a name below itself":              {catalog.RenameSiteFile{Path: "/srv/a", To: "/etc/motd/a"}, fault.Conflict, "no directory"},
	} {
		t.Run(name, func(t *testing.T) {
			l := started(t)
			l.must(putFile("/etc/motd", "hi"), putFile("/srv/a", "a"))
			before := dump(t, l.c)
			err := l.do(tc.change)
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.text) || fault.Fix(err) == "" {
				t.Errorf("got %v (%s), want %s with %q and a fix", err, fault.KindOf(err), tc.kind, tc.text)
			}
			if after := dump(t, l.c); after != before {
				t.Errorf("a rejected change left its mark:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

func TestAMistakenPathIsAnsweredWithTheOneThatIsMeant(t *testing.T) {
	l := started(t)
	l.must(putFile("/etc/warewulf/motd", "hi"))
	for _, path := range []string{"/etc/warewulf/motp", "motd"} {
		if err := l.do(catalog.DeleteSiteFile{Path: path}); !strings.Contains(fault.Fix(err), "/etc/warewulf/motd") {
			t.Errorf("%s: %v (%s)", path, err, fault.Fix(err))
		}
	}
}

func TestSiteFilesHaveBounds(t *testing.T) {
	l := started(t)
	var b catalog.Batch
	for i := range catalog.MaxSiteFiles {
		b.Changes = append(b.Changes, catalog.Step{Change: putFile(fmt.Sprintf("/f/%d", i), "x")})
	}
	l.must(b)
	if err := l.do(putFile("/one-more", "x")); !errors.Is(err, fault.Full) {
		t.Errorf("one file too many: %v", err)
	}
	l.must(putFile("/f/1", "y"), catalog.DeleteSiteFile{Path: "/f/1"}, putFile("/one-more", "x"))

	l = started(t)
	full := catalog.SiteFile{Content: chunk.Ref{ID: chunk.RefOf(nil).ID, Size: catalog.MaxSiteFile}}
	for i := range catalog.MaxSiteBytes / catalog.MaxSiteFile {
		full.Path = fmt.Sprintf("/f/%d", i)
		l.must(catalog.PutSiteFile{File: full})
	}
	l.c = restored(t, l.c)
	if err := l.do(putFile("/one-more", "x")); !errors.Is(err, fault.Full) {
		t.Errorf("a byte too many: %v", err)
	}
	l.must(putFile("/f/1", "x"), putFile("/one-more", "x"))
}

func TestLinksAmongSiteFilesAreFollowed(t *testing.T) {
	l := started(t)
	l.must(
		putFile("/srv/site/hosts", "h"),
		catalog.LinkSiteFile{Path: "/etc/hosts", Target: "../srv/site/hosts"},
		catalog.LinkSiteFile{Path: "/etc/again", Target: "hosts"},
		catalog.LinkSiteFile{Path: "/a", Target: "/b"},
		catalog.LinkSiteFile{Path: "/b", Target: "/a"},
		catalog.LinkSiteFile{Path: "/up", Target: "../../../../srv/site/hosts"},
		catalog.LinkSiteFile{Path: "/none", Target: "/etc/none"},
	)
	for path, want := range map[string]string{
		"/srv/site/hosts": "/srv/site/hosts", "/etc/hosts": "/srv/site/hosts", "/etc/again": "/srv/site/hosts",
		"/up": "/srv/site/hosts", "/a": "", "/none": "", "/etc": "", "/": "", "": "", "etc/hosts": "", "/srv/site/hosts/x": "",
	} {
		f, ok := l.c.FollowSiteFile(path)
		if ok != (want != "") || ok && f.Path != want {
			t.Errorf("%s leads to %+v, want %q", path, f, want)
		}
	}
}

func TestSitePathsAreThoseThatTemplatesMean(t *testing.T) {
	for name, want := range map[string]string{
		"authorized_keys": "/etc/warewulf/authorized_keys", "/root/.ssh/x": "/root/.ssh/x", "../hosts": "/etc/hosts", "/etc//a/": "/etc/a", "": "/etc/warewulf",
	} {
		if got := catalog.SitePath(name); got != want {
			t.Errorf("%q is %s, want %s", name, got, want)
		}
	}
}

func TestAChangeOfSiteFilesIsPreviewedRememberedAndTakenBack(t *testing.T) {
	l := started(t)
	l.must(putFile("/etc/motd", "hi"))
	before := l.c.Changed()
	if p := preview(t, l, putFile("/etc/motd", "hi")); p.Changed {
		t.Errorf("the same once more changes %+v", p)
	}
	steps := []catalog.Step{{Change: putFile("/etc/motd", "hello")}, {Change: putFile("/etc/issue", "x")}, {Change: catalog.DeleteSiteFile{Path: "/etc/issue"}}, {Change: catalog.LinkSiteFile{Path: "/etc/a[1]", Target: "b"}}}
	p := preview(t, l, catalog.Batch{Changes: steps})
	if len(p.Groups) != 2 || p.Groups[0].What != "file" || p.Groups[0].Names != "/etc/a[1]" || p.Groups[1].Names != "/etc/motd" || p.Groups[1].Lines[0].Path != "content" {
		t.Errorf("the preview is %+v", p.Groups)
	}
	l.must(catalog.Batch{Changes: steps})
	r, _ := l.c.RecordOf(l.c.Revision)
	if r.About() != "3 site files" || r.Undo == nil || len(r.Undo.Files) != 1 {
		t.Errorf("the record is %+v, about %q", r, r.About())
	}
	l.must(catalog.DeleteSiteFile{Path: "/etc/motd"})
	if r, _ = l.c.RecordOf(l.c.Revision); r.About() != "site file /etc/motd" {
		t.Errorf("the record is about %q", r.About())
	}
	l.c = restored(t, l.c)
	if p := preview(t, l, catalog.Revert{To: before}); p.Deleted != 1 {
		t.Errorf("going back deletes %d things: %+v", p.Deleted, p.Groups)
	}
	l.must(catalog.Revert{To: before})
	f, ok := l.c.SiteFile("/etc/motd")
	if !ok || f.Content != chunk.RefOf([]byte("hi")) || l.c.SiteFileCount() != 1 {
		t.Errorf("after going back there are %q", sitePaths(l.c))
	}
}

func FuzzSitePaths(f *testing.F) {
	for _, s := range []string{"/etc/hosts", "a/../b", "/", "//x", "/etc/\x00", "../../.."} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, path, target string) {
		if p := catalog.SitePath(path); !strings.HasPrefix(p, "/") || p != "/" && strings.HasSuffix(p, "/") {
			t.Fatalf("%q means %q", path, p)
		}
		l := started(t)
		if err := l.do(putFile(path, "x")); err == nil != (catalog.CheckSitePath(path) == nil) {
			t.Fatalf("%q: %v, but checked: %v", path, err, catalog.CheckSitePath(path))
		} else if err == nil {
			if got, ok := l.c.FollowSiteFile(path); !ok || got.Path != path {
				t.Fatalf("%q leads to %+v", path, got)
			}
		}
		if err := l.do(catalog.LinkSiteFile{Path: "/link", Target: target}); err == nil {
			l.c.FollowSiteFile("/link") // must end
		}
		if !slices.Equal(sitePaths(restored(t, l.c)), sitePaths(l.c)) {
			t.Fatal("a snapshot brings back something else")
		}
	})
}

package catalog_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestTheSecondOfTwoCommitsIsKeptAndMovesNoTag(t *testing.T) {
	l := started(t)
	a, b, d := version("a"), version("first"), version("second")
	l.must(catalog.PutImage{Name: "gpu", Version: a})
	l.must(catalog.PutImage{Name: "gpu", Version: b, Base: a.Manifest.ID})
	l.must(catalog.PutImage{Name: "gpu", Version: d, Base: a.Manifest.ID, Tags: []string{"mine"}})
	i, _ := l.c.Image("gpu")
	if latest, _ := i.Version(catalog.TagLatest); latest.Manifest != b.Manifest {
		t.Errorf("latest is %s", latest.Manifest.ID.Short())
	}
	if _, ok := i.Version(d.Manifest.ID.String()); !ok || len(i.Versions) != 3 {
		t.Errorf("the second commit is lost: %d versions", len(i.Versions))
	}
	if _, ok := i.Tags["mine"]; ok {
		t.Error("a tag moved to work that nobody decided on yet")
	}
}

func TestARenameTakesAlongWhoNamesTheImage(t *testing.T) {
	l := started(t)
	l.must(catalog.PutImage{Name: "old", Version: version("a"), Tags: []string{"stable"}},
		catalog.AddProfile{Profile: catalog.Profile{Name: "p", Settings: catalog.Settings{Image: new("old:stable")}}},
		catalog.AddNodes{Names: catalog.NodeSet{"x1", "x2"}, Set: catalog.Settings{Image: new("old")}})
	before := l.c.Revision
	l.must(catalog.RenameImage{Name: "old", To: "new"})
	images := func() (out []string) {
		p, _ := l.c.Profile("p")
		out = append(out, *p.Settings.Image)
		for _, name := range []catalog.NodeName{"x1", "x2"} {
			n, _ := l.c.Node(name)
			out = append(out, *n.Settings.Image)
		}
		return out
	}
	if got := strings.Join(images(), " "); got != "new:stable new new" {
		t.Errorf("after the rename they name %q", got)
	}
	if _, ok := l.c.Image("old"); ok {
		t.Error("the old name is still there")
	}
	l.must(catalog.Revert{To: before})
	if got := strings.Join(images(), " "); got != "old:stable old old" {
		t.Errorf("after the revert they name %q", got)
	}
	if i, ok := l.c.Image("old"); !ok || i.Name != "old" || i.Tags["stable"].IsZero() {
		t.Errorf("after the revert the image is %+v", i)
	}
	if _, ok := l.c.Image("new"); ok {
		t.Error("after the revert the new name is still there")
	}
	l.must(catalog.Revert{To: before + 1}) // a revert can be taken back
	if got := strings.Join(images(), " "); got != "new:stable new new" {
		t.Errorf("after the second revert they name %q", got)
	}
}

func TestWhatCannotBeDoneWithAnImageIsSaid(t *testing.T) {
	l := started(t)
	l.must(catalog.PutImage{Name: "one", Version: version("a"), Tags: []string{"stable", "free"}}, catalog.PutImage{Name: "two", Version: version("b")},
		catalog.AddNodes{Names: catalog.NodeSet{"x1"}, Set: catalog.Settings{Image: new("one:stable")}})
	for name, tc := range map[string]struct {
		change catalog.Change
		kind   fault.Kind
		say    string
	}{
		"rename to what is there":  {catalog.RenameImage{Name: "one", To: "two"}, fault.Conflict, "there is an image two"},
		"rename of nothing":        {catalog.RenameImage{Name: "oen", To: "three"}, fault.NotFound, `"oen"`},
		"rename to no name":        {catalog.RenameImage{Name: "one", To: "a/b"}, fault.Invalid, "a/b"},
		"copy to what is there":    {catalog.CopyImage{Name: "one", To: "two"}, fault.Conflict, "there is an image two"},
		"copy of another's":        {catalog.CopyImage{Name: "one", Version: version("b").Manifest.ID, To: "three"}, fault.NotFound, "no version"},
		"untag latest":             {catalog.UntagImage{Name: "one", Tag: "latest"}, fault.Invalid, "always has a latest"},
		"untag what a node names":  {catalog.UntagImage{Name: "one", Tag: "stable"}, fault.Conflict, "node x1"},
		"untag what is not there":  {catalog.UntagImage{Name: "one", Tag: "fre"}, fault.NotFound, `"fre"`},
		"delete what a node names": {catalog.DeleteImage{Name: "one"}, fault.Conflict, "node x1"},
	} {
		if err := l.do(tc.change); !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l.must(catalog.UntagImage{Name: "one", Tag: "free"}, catalog.CopyImage{Name: "one", To: "three"})
	if i, ok := l.c.Image("three"); !ok || len(i.Versions) != 1 || i.Tags[catalog.TagLatest] != version("a").Manifest.ID {
		t.Errorf("the copy is %+v", i)
	}
}

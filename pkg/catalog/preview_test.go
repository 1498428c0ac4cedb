package catalog_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// racks is a catalog with 20 nodes in two racks, which have the profile compute.
func racks(t testing.TB) *log {
	l := merging(t, []profile{{"compute", "", []string{"image=debian", "tags.t=p", "kernel.args=a", "comment=x"}}, {"other", "", nil}}, "")
	l.must(
		catalog.PutImage{Name: "new", Version: version("n")},
		catalog.AddNetwork{Network: catalog.Network{Name: "b", Prefix: netip.MustParsePrefix("10.2.0.0/24")}},
		catalog.AddNodes{Names: catalog.NodeSet{"a01", "a02", "a03", "a04", "a05", "a06", "a07", "a08", "a09", "a10"}, Profiles: &[]catalog.ProfileName{"compute"}, Set: settings(t, "rack=a")},
		catalog.AddNodes{Names: catalog.NodeSet{"b01", "b02", "b03", "b04", "b05", "b06", "b07", "b08", "b09", "b10"}, Profiles: &[]catalog.ProfileName{"compute"}, Set: settings(t, "rack=b"),
			Compute: map[string]string{"nets.default.address": "10.2.0.{n1}"}},
	)
	return l
}

func preview(t testing.TB, l *log, c catalog.Change) *catalog.Preview {
	t.Helper()
	p, err := l.c.Preview(encode(t, c))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPreviewCountsWhoComesOutDifferently(t *testing.T) {
	all := catalog.NodeSet{"a01", "a02", "a03", "b01"}
	to := func(names ...catalog.ProfileName) *[]catalog.ProfileName { return &names }
	profile := func(words ...string) catalog.SetProfiles {
		return catalog.SetProfiles{Names: []catalog.ProfileName{"compute"}, Set: settings(t, words...)}
	}
	for name, tc := range map[string]struct {
		before                  []catalog.Change
		change                  catalog.Change
		affected, reboot, racks int
		unchanged               bool
	}{
		"a tag":                            {change: catalog.SetNodes{Nodes: all, Set: settings(t, "tags.x=1")}, affected: 4, racks: 2},
		"a comment":                        {change: catalog.SetNodes{Nodes: all, Set: settings(t, "comment=1")}},
		"an image":                         {change: catalog.SetNodes{Nodes: all, Set: settings(t, "image=new")}, affected: 4, reboot: 4, racks: 2},
		"the image that the profile says":  {change: catalog.SetNodes{Nodes: all, Set: settings(t, "image=debian")}},
		"the method that is the default":   {change: catalog.SetNodes{Nodes: all, Set: settings(t, "method=two-stage")}},
		"a tag that the profile says":      {change: catalog.SetNodes{Nodes: all, Set: settings(t, "tags.t=p")}},
		"an argument more":                 {change: catalog.SetNodes{Nodes: all, Set: settings(t, "kernel.args=b")}, affected: 4, reboot: 4, racks: 2},
		"a formula":                        {change: catalog.SetNodes{Nodes: all, Compute: map[string]string{"tags.x": "{n1}"}}, affected: 4, racks: 2},
		"what is so already":               {change: catalog.SetNodes{Nodes: all[:3], Set: settings(t, "rack=a")}, unchanged: true},
		"unset what is not set":            {change: catalog.SetNodes{Nodes: all, Unset: []string{"zone"}}, unchanged: true},
		"new nodes":                        {change: catalog.AddNodes{Names: catalog.NodeSet{"c1", "c2"}}},
		"no nodes any more":                {change: catalog.DeleteNodes{Nodes: all}},
		"a tag of the profile":             {change: profile("tags.u=1"), affected: 20, racks: 2},
		"the image of the profile":         {change: profile("image=new"), affected: 20, reboot: 20, racks: 2},
		"the comment of the profile":       {change: profile("comment=z")},
		"a profile that nobody has":        {change: catalog.SetProfiles{Names: []catalog.ProfileName{"other"}, Set: settings(t, "image=new")}},
		"the profile, overridden by nodes": {before: []catalog.Change{catalog.SetNodes{Nodes: all, Set: settings(t, "image=debian")}}, change: profile("image=new"), affected: 16, reboot: 16, racks: 2},
		"the profile, and nodes without":   {before: []catalog.Change{catalog.SetNodes{Nodes: all, Set: settings(t, "-image")}}, change: profile("image=new"), affected: 16, reboot: 16, racks: 2},
		"a word that nodes negate":         {before: []catalog.Change{catalog.SetNodes{Nodes: all, Set: settings(t, "kernel.args=~z")}}, change: profile("kernel.args=a z"), affected: 16, reboot: 16, racks: 2},
		"another list of profiles":         {change: catalog.SetNodes{Nodes: all, Profiles: to("other")}, affected: 4, reboot: 4, racks: 2},
		"a list that comes to the same":    {change: catalog.SetNodes{Nodes: all, Profiles: to("compute", "other")}},
		"a list, with all in the node": {change: catalog.SetNodes{Nodes: all, Profiles: to("other"), Set: settings(t, "image=debian", "tags.t=p", "kernel.args=a")},
			affected: 0},
		"a new version of the image":     {change: catalog.PutImage{Name: "debian", Version: version("b")}, affected: 23, reboot: 23, racks: 2},
		"a version that nobody has":      {change: catalog.PutImage{Name: "new", Version: version("b")}},
		"the MTU of a network":           {change: catalog.SetNetwork{Network: catalog.Network{Name: "b", Prefix: netip.MustParsePrefix("10.2.0.0/24"), MTU: 9000}}, affected: 10, reboot: 10, racks: 1},
		"the comment of a network":       {change: catalog.SetNetwork{Network: catalog.Network{Name: "b", Prefix: netip.MustParsePrefix("10.2.0.0/24"), Comment: "x"}}},
		"an overlay":                     {change: catalog.PutOverlay{Overlay: catalog.Overlay{Name: "hosts", Content: chunk.RefOf([]byte("p"))}}},
		"made and deleted in one change": {change: catalog.Batch{Changes: []catalog.Step{{Change: catalog.AddNodes{Names: catalog.NodeSet{"c1"}}}, {Change: catalog.DeleteNodes{Nodes: catalog.NodeSet{"c1"}}}}}, unchanged: true},
	} {
		t.Run(name, func(t *testing.T) {
			l := racks(t)
			l.must(tc.before...)
			was := whole(t, l.c)
			p := preview(t, l, tc.change)
			if string(whole(t, l.c)) != string(was) {
				t.Error("the preview changed the catalog")
			}
			if p.Affected != tc.affected || p.Reboot != tc.reboot || p.Racks != tc.racks || p.Changed == tc.unchanged || len(p.Which) != p.Affected {
				t.Errorf("%d affected (%s), %d to boot, %d racks, changed %v; want %d, %d, %d, %v", p.Affected, p.Which, p.Reboot, p.Racks, p.Changed, tc.affected, tc.reboot, tc.racks, !tc.unchanged)
			}
			// What counts is what nodes get, found the long way.
			effective := func(c *catalog.Catalog) map[catalog.NodeName]string {
				all := map[catalog.NodeName]string{}
				for n := range c.Nodes() {
					s := c.Effective(n)
					s.Comment, s.Without = nil, nil
					r, err := c.Resolve(n.Name)
					if err != nil {
						t.Fatal(err)
					}
					all[n.Name] = fmt.Sprint(s.Flat(), r.Version.Manifest.ID)
					for _, d := range r.Nets {
						d.Network = nil
						all[n.Name] += fmt.Sprintf("%+v", d)
					}
				}
				return all
			}
			before, differ := effective(l.c), 0
			l.must(tc.change)
			for n, now := range effective(l.c) {
				if was, ok := before[n]; ok && was != now {
					differ++
				}
			}
			if differ != p.Affected {
				t.Errorf("%d are affected, %d come out differently", p.Affected, differ)
			}
		})
	}
}

func TestPreviewGroupsWhatChangesAlike(t *testing.T) {
	l := racks(t)
	l.must(catalog.SetNodes{Nodes: catalog.NodeSet{"a02", "a04"}, Set: settings(t, "zone=z")})
	p := preview(t, l, catalog.SetNodes{Nodes: catalog.NodeSet{"a01", "a02", "a03", "a04"}, Set: settings(t, "zone=y")})
	if len(p.Groups) != 2 || p.Groups[0].Names != "a[01,03]" || p.Groups[0].Count != 2 || p.Groups[1].Names != "a[02,04]" {
		t.Fatalf("groups %+v", p.Groups)
	}
	if got := p.Groups[0].Lines; len(got) != 1 || got[0] != (catalog.PreviewLine{Path: "zone", After: "y"}) {
		t.Errorf("lines %+v", got)
	}
	if got := p.Groups[1].Lines; len(got) != 1 || got[0] != (catalog.PreviewLine{Path: "zone", Before: "z", After: "y"}) {
		t.Errorf("lines %+v", got)
	}
	p = preview(t, l, catalog.DeleteNodes{Nodes: catalog.NodeSet{"a01", "a02"}})
	if len(p.Groups) != 1 || p.Groups[0].Action != "delete" || p.Groups[0].Names != "a[01-02]" || len(p.Groups[0].Lines) != 0 {
		t.Errorf("groups %+v", p.Groups)
	}
}

func TestPreviewFoldsManyGroupsIntoOneWithAnExample(t *testing.T) {
	l := racks(t)
	var names catalog.NodeSet
	for i := range 20 {
		names = append(names, catalog.NodeName(fmt.Sprintf("m%02d", i+1)))
	}
	l.must(catalog.AddNodes{Names: names})
	p := preview(t, l, catalog.SetNodes{Nodes: names, Compute: map[string]string{"position": "u{n1}", "tags.name": "x{n1}"}, Set: settings(t, "zone=z")})
	if len(p.Groups) != 1 || p.More != 0 || p.Groups[0].Count != 20 || p.Groups[0].Names != "m[01-20]" {
		t.Fatalf("groups %+v, %d more", p.Groups, p.More)
	}
	if got := p.Groups[0].Lines; len(got) != 3 || got[0] != (catalog.PreviewLine{Path: "position", After: "u1", Other: 19}) || got[2] != (catalog.PreviewLine{Path: "zone", After: "z"}) {
		t.Errorf("lines %+v", got)
	}
}

func TestPreviewFailsAsTheChangeWould(t *testing.T) {
	l := racks(t)
	for _, c := range []catalog.Change{
		catalog.DeleteNodes{Nodes: catalog.NodeSet{"zzz"}}, catalog.AddNodes{Names: catalog.NodeSet{"a01"}}, catalog.Revert{To: l.c.Changed()},
		catalog.SetNetwork{Network: catalog.Network{Name: "b", Prefix: netip.MustParsePrefix("10.99.0.0/24")}},
	} {
		_, got := l.c.Preview(encode(t, c))
		after := *l
		if want := after.do(c); got == nil || want == nil || got.Error() != want.Error() || fault.Fix(got) != fault.Fix(want) {
			t.Errorf("%s: previewed %v, made %v", catalog.KindOf(c), got, want)
		}
	}
	b, _ := catalog.Entry{At: at, If: l.c.Changed() - 1, Change: catalog.DeleteNodes{Nodes: catalog.NodeSet{"a01"}}}.Encode()
	if _, err := l.c.Preview(b); !errors.Is(err, fault.Conflict) {
		t.Errorf("on a stale revision: %v", err)
	}
}

func TestPreviewCountsWhatIsLost(t *testing.T) {
	l := racks(t)
	before := l.c.Revision
	l.must(
		catalog.AddNodes{Names: catalog.NodeSet{"c1", "c2"}},
		catalog.AddProfile{Profile: catalog.Profile{Name: "late"}},
		catalog.DeleteNodes{Nodes: catalog.NodeSet{"a01"}},
	)
	for _, tc := range []struct {
		change  catalog.Change
		deleted int
	}{
		{catalog.Revert{To: before}, 3}, // a01 comes back
		{catalog.DeleteNodes{Nodes: catalog.NodeSet{"a02", "a03"}}, 2},
		{catalog.SetNodes{Nodes: catalog.NodeSet{"a02"}, Set: settings(t, "comment=x")}, 0},
	} {
		if p := preview(t, l, tc.change); p.Deleted != tc.deleted {
			t.Errorf("%v: deleted %d, want %d", tc.change, p.Deleted, tc.deleted)
		}
	}
}

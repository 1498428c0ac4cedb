package catalog_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func content(text string) chunk.Ref { return chunk.RefOf([]byte(text)) }

func put(name catalog.OverlayName, text string, laid bool) catalog.PutOverlay {
	return catalog.PutOverlay{Overlay: catalog.Overlay{Name: name, Content: content(text), Files: 1, Laid: laid}}
}

func ship(name catalog.OverlayName, text string) catalog.ShipOverlay {
	return catalog.ShipOverlay{Name: name, Base: content(text), Files: 2}
}

// layers are what nodes get of an overlay.
func layers(t *testing.T, c *catalog.Catalog, name catalog.OverlayName) string {
	t.Helper()
	o, ok := c.Overlay(name)
	if !ok {
		return "none"
	}
	say := func(ref chunk.Ref) string {
		for _, text := range []string{"o", "old", "new", "mine", "theirs"} {
			if ref == content(text) {
				return text
			}
		}
		return "-"
	}
	base, own := o.Layers()
	return say(base) + " " + say(own)
}

func TestUpgradesReplaceWhatIsShippedAndLeaveTheSitesOwn(t *testing.T) {
	for name, tc := range map[string]struct {
		changes []catalog.Change
		want    string
	}{
		"shipped":                          {[]catalog.Change{ship("x", "old")}, "old -"},
		"shipped anew":                     {[]catalog.Change{ship("x", "old"), ship("x", "new")}, "new -"},
		"the site's files over it":         {[]catalog.Change{ship("x", "old"), put("x", "mine", true), ship("x", "new")}, "new mine"},
		"the site's files instead of it":   {[]catalog.Change{ship("x", "old"), put("x", "mine", false), ship("x", "new")}, "- mine"},
		"a name that was the site's first": {[]catalog.Change{put("x", "mine", true), ship("x", "new")}, "- mine"},
		"the site's part deleted":          {[]catalog.Change{ship("x", "old"), put("x", "mine", false), catalog.DeleteOverlay{Name: "x"}}, "old -"},
		"the site's part made empty":       {[]catalog.Change{ship("x", "old"), put("x", "mine", true), catalog.PutOverlay{Overlay: catalog.Overlay{Name: "x"}}}, "old -"},
		"an entry of before":               {[]catalog.Change{catalog.PutOverlay{Overlay: catalog.Overlay{Name: "x", Content: content("old"), Files: 2, Shipped: true}}}, "old -"},
		"entries of before, made the site's": {[]catalog.Change{catalog.PutOverlay{Overlay: catalog.Overlay{Name: "x", Content: content("old"), Files: 2, Shipped: true}},
			catalog.PutOverlay{Overlay: catalog.Overlay{Name: "x", Content: content("mine"), Files: 2}}}, "- mine"},
	} {
		l := started(t)
		l.must(tc.changes...)
		if got := layers(t, l.c, "x"); got != tc.want {
			t.Errorf("%s: nodes get %q, want %q", name, got, tc.want)
		}
	}
}

func TestASnapshotOfFormatTwoBringsShippedOverlaysBack(t *testing.T) {
	l := started(t)
	l.must(ship("x", "old"))
	var lines []string
	for line := range strings.Lines(string(whole(t, l.c))) {
		if strings.Contains(line, `"overlay":{"name":"x"`) {
			ref := content("old")
			line = fmt.Sprintf(`{"overlay":{"name":"x","content":{"id":%q,"size":%d},"files":2,"shipped":true}}`+"\n", ref.ID, ref.Size)
		}
		lines = append(lines, strings.Replace(line, `{"wulfmesh_catalog":4,`, `{"wulfmesh_catalog":2,`, 1))
	}
	c, err := catalog.ReadSnapshot(bytes.NewReader(signed(lines)))
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := c.Overlay("x"); o.Base != content("old") || !o.Content.ID.IsZero() || o.BaseFiles != 2 || o.Files != 0 {
		t.Errorf("got %+v", o)
	}
}

func TestAWriteOverWhatNobodySawIsRefused(t *testing.T) {
	l := started(t)
	l.must(ship("x", "old"))
	over := func(has chunk.ID, text string) error {
		x := put("x", text, true)
		x.Has = &has
		return l.do(x)
	}
	if err := over(content("old").ID, "mine"); !errors.Is(err, fault.Conflict) {
		t.Errorf("over what is shipped, as if it was the site's: %v", err)
	}
	if err := over(chunk.ID{}, "mine"); err != nil {
		t.Errorf("the first of the site's: %v", err)
	}
	if err := over(chunk.ID{}, "theirs"); !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "was changed by test in the meantime") {
		t.Errorf("the second, which did not see the first: %v", err)
	}
	if err := over(content("mine").ID, "theirs"); err != nil {
		t.Errorf("the second, which did: %v", err)
	}
}

func TestTheSitesFilesAreTakenBackAndShippedOnesAreNot(t *testing.T) {
	l := started(t)
	l.must(ship("x", "old"))
	first := l.c.Changed()
	l.must(put("x", "mine", true), put("site", "mine", false))
	second := l.c.Changed()
	l.must(ship("x", "new"), put("x", "theirs", false), catalog.DeleteOverlay{Name: "site"})
	at := func(name catalog.OverlayName, rev catalog.Revision) chunk.Ref {
		o, err := l.c.OverlayAt(name, rev)
		if err != nil {
			t.Fatal(err)
		}
		if o == nil {
			return chunk.Ref{}
		}
		return o.Content
	}
	for rev, want := range map[catalog.Revision][2]chunk.Ref{first: {}, second: {content("mine"), content("mine")}, l.c.Changed(): {content("theirs"), {}}} {
		if got := [2]chunk.Ref{at("x", rev), at("site", rev)}; got != want {
			t.Errorf("at %d the site had %v, want %v", rev, got, want)
		}
	}
	l.must(catalog.Revert{To: second})
	if x, site := layers(t, l.c, "x"), layers(t, l.c, "site"); x != "new mine" || site != "- mine" {
		t.Errorf("nodes get %q and %q", x, site)
	}
	l.must(catalog.Revert{To: first})
	if x, site := layers(t, l.c, "x"), layers(t, l.c, "site"); x != "new -" || site != "none" {
		t.Errorf("nodes get %q and %q", x, site)
	}
	if r, _ := l.c.RecordOf(l.c.Changed()); r.About() != "2 overlays" {
		t.Errorf("it was about %q", r.About())
	}
	former := []catalog.OverlayName{}
	for o := range l.c.FormerOverlays() {
		former = append(former, o.Name)
	}
	if !slices.Contains(former, "site") {
		t.Errorf("of what reverts bring back there is %v", former)
	}
}

func TestOverlaysInUseOrWithNothingOfTheSitesAreNotDeleted(t *testing.T) {
	l := started(t)
	l.must(ship("x", "old"), put("site", "mine", false),
		catalog.SetNodes{Nodes: catalog.NodeSet{"n1"}, Set: catalog.Settings{Overlays: catalog.OverlaySettings{System: []string{"site"}}}})
	for name, text := range map[catalog.OverlayName]string{"x": "nothing in it is the site's", "site": "node n1", "six": `"six"`} {
		if err := l.do(catalog.DeleteOverlay{Name: name}); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q", name, err, text)
		}
	}
}

func TestAPreviewCountsTheNodesThatGetOtherFiles(t *testing.T) {
	l := started(t)
	l.must(put("s", "mine", false), put("r", "mine", false),
		catalog.SetProfiles{Names: []catalog.ProfileName{"default"}, Set: catalog.Settings{Overlays: catalog.OverlaySettings{Runtime: []string{"r"}}}},
		catalog.SetNodes{Nodes: catalog.NodeSet{"n1"}, Set: catalog.Settings{Overlays: catalog.OverlaySettings{System: []string{"s"}}}})
	for name, want := range map[catalog.OverlayName][2]int{"s": {1, 1}, "r": {2, 0}, "hosts": {0, 0}} {
		b, err := (&catalog.Entry{By: "test", At: at, Change: put(name, "theirs", false)}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		p, err := l.c.Preview(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]int{p.Affected, p.Reboot}; got != want || len(p.Groups) != 1 || p.Groups[0].What != "overlay" {
			t.Errorf("%s: %v nodes affected and to boot again, want %v; %+v", name, got, want, p.Groups)
		}
	}
}

// signed are the lines of a snapshot with the last one, their digest, made anew.
func signed(lines []string) []byte {
	body := strings.Join(lines[:len(lines)-1], "")
	sum := sha256.Sum256([]byte(body))
	return fmt.Appendf([]byte(body), "{\"end\":%q}\n", hex.EncodeToString(sum[:]))
}

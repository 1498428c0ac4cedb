package catalog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// declared is what Revert restores.
type declared struct {
	Nodes    []catalog.Node
	Profiles []catalog.Profile
	Networks []catalog.Network
	Tags     map[catalog.ImageName]map[string]chunk.ID
	Files    []catalog.SiteFile
	Overlays []catalog.Overlay // of those that have something of the site's, that
}

func declaredIn(c *catalog.Catalog) declared {
	d := declared{Tags: map[catalog.ImageName]map[string]chunk.ID{}}
	for n := range c.Nodes() {
		d.Nodes = append(d.Nodes, *n)
	}
	for p := range c.Profiles() {
		d.Profiles = append(d.Profiles, *p)
	}
	for n := range c.Networks() {
		d.Networks = append(d.Networks, *n)
	}
	for i := range c.Images() {
		d.Tags[i.Name] = i.Tags
	}
	for f := range c.SiteFiles() {
		d.Files = append(d.Files, *f)
	}
	for o := range c.Overlays() {
		if !o.Content.ID.IsZero() {
			d.Overlays = append(d.Overlays, catalog.Overlay{Name: o.Name, Content: o.Content, Laid: o.Laid, Files: o.Files, By: o.By})
		}
	}
	return d
}

// unlike is the first difference, for people.
func (d declared) unlike(want declared) string {
	lines := func(d declared) (all []string) {
		for _, v := range []any{d.Nodes, d.Profiles, d.Networks, d.Tags, d.Files, d.Overlays} {
			b, _ := json.MarshalIndent(v, "", " ")
			all = append(all, strings.Split(string(b), "\n")...)
		}
		return all
	}
	got, was := lines(d), lines(want)
	for i := range min(len(got), len(was)) {
		if got[i] != was[i] {
			return fmt.Sprintf("%q, but it was %q, after %q", got[i], was[i], got[max(0, i-9):i])
		}
	}
	return fmt.Sprintf("%d lines, but there were %d", len(got), len(was))
}

func whole(t testing.TB, c *catalog.Catalog) []byte {
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// restored is the catalog from a snapshot of it.
func restored(t testing.TB, c *catalog.Catalog) *catalog.Catalog {
	b := whole(t, c)
	r, err := catalog.ReadSnapshot(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if again := whole(t, r); !bytes.Equal(again, b) {
		t.Fatalf("the snapshot of what was restored is another one:\n%s\nfirst:\n%s", again, b)
	}
	return r
}

// Changes at random, of few things that much can be done to.
var (
	someNodes    = rapid.SampledFrom([]catalog.NodeName{"n1", "n2", "n3", "n4", "x"})
	someProfiles = rapid.SampledFrom([]catalog.ProfileName{"default", "p1", "p2", "p3", "~p1"})
	someNetworks = rapid.SampledFrom([]catalog.NetworkName{"rack", "a", "b", "c"})
	somePrefixes = rapid.SampledFrom([]string{"10.2.0.0/16", "10.2.0.0/24", "10.2.1.0/24", "10.3.0.0/24", "10.1.0.0/24", "10.4.0.0/24", "10.5.0.0/24"})
	someOverlays = rapid.SampledFrom([]catalog.OverlayName{"hosts", "o1", "o2"})
	somePaths    = rapid.SampledFrom([]string{
		"rack", "kernel", "kernel.args", "nets", "nets.default", "nets.default.address", "nets.eth0.12", "nets.eth0.12.tags.a.b", "tags", "tags.a.b", "tags.a",
		"disks./dev/disk/by-id/x.y", "disks./dev/disk/by-id/x.y.partitions.swap", "filesystems./dev/a.b.options", "without", "roles", "bmc", "image", "resources.r",
	})
)

func someSettings(t *rapid.T, own bool) catalog.Settings {
	var s catalog.Settings
	put := func(path, text string) {
		one, err := catalog.ParseSetting(path, text)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Patch(one, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range rapid.IntRange(0, 4).Draw(t, "settings") {
		i := rapid.IntRange(1, 3).Draw(t, "i")
		text := fmt.Sprint(i)
		switch rapid.IntRange(0, 16).Draw(t, "setting") {
		case 0:
			put("rack", text)
		case 1:
			put("kernel.args", "a=1 ~quiet b="+text)
		case 2:
			put("nets.eth0.12.tags.a.b", text)
		case 3:
			put("nets.default.mtu", "150"+text)
		case 4:
			put("tags.a.b", text)
		case 5:
			put("tags.a", "")
		case 6:
			put("disks./dev/disk/by-id/x.y.partitions.swap.size_mib", text)
		case 7:
			put("filesystems./dev/a.b.options", text)
		case 8:
			put("roles", rapid.SampledFrom([]string{"", "x,y", "~x"}).Draw(t, "roles"))
		case 9:
			put("image", rapid.SampledFrom([]string{"debian", "debian:t1", "debian:t2"}).Draw(t, "image"))
		case 10:
			put("resources.r", `{"a":[`+text+`]}`)
		case 11:
			s.Without = []string{"rack", "tags.a"}
		case 12:
			s.Nets = maps.Clone(s.Nets)
			if s.Nets == nil {
				s.Nets = map[string]catalog.NetDev{}
			}
			s.Nets["empty"] = catalog.NetDev{Tags: map[string]string{}}
		case 14:
			put("overlays.runtime", string(someOverlays.Draw(t, "overlay")))
		case 13:
			put("nets.default.network", string(someNetworks.Draw(t, "net")))
		default:
			if own {
				put("nets.default.address", rapid.SampledFrom([]string{"10.1.0.", "10.2.0.", "10.2.1.", "10.3.0."}).Draw(t, "prefix")+text)
			}
		}
	}
	return s
}

func someChange(t *rapid.T, depth int) catalog.Change {
	name, profile := someNodes.Draw(t, "node"), someProfiles.Draw(t, "profile")
	names := rapid.SliceOfNDistinct(someNodes, 1, 4, rapid.ID[catalog.NodeName]).Draw(t, "nodes")
	list := rapid.SliceOfNDistinct(someProfiles, 0, 3, rapid.ID[catalog.ProfileName]).Draw(t, "profiles")
	lists := []*[]catalog.ProfileName{nil, nil, &list}[rapid.IntRange(0, 2).Draw(t, "which list")]
	if rapid.SampledFrom([]bool{false, false, false, false, false, false, false, true}).Draw(t, "a file") {
		return someFileChange(t)
	}
	network := func() catalog.Network {
		n := catalog.Network{Name: someNetworks.Draw(t, "network"), Prefix: netip.MustParsePrefix(somePrefixes.Draw(t, "prefix")), MTU: 1500}
		if rapid.Bool().Draw(t, "v6") {
			n.Prefix6 = netip.MustParsePrefix("fd00::/64")
		}
		return n
	}
	content := chunk.RefOf([]byte(rapid.SampledFrom([]string{"x", "y"}).Draw(t, "content")))
	switch rapid.IntRange(0, 17).Draw(t, "change") {
	case 0, 1:
		return catalog.AddNodes{Names: names, Profiles: lists, Set: someSettings(t, false), Each: map[catalog.NodeName]catalog.Settings{names[0]: someSettings(t, true)}}
	case 2:
		return catalog.AddNodes{Nodes: []catalog.Node{{Name: name, Settings: someSettings(t, true)}}}
	case 3, 4:
		return catalog.SetNodes{Nodes: names, Profiles: lists, Set: someSettings(t, len(names) == 1), Unset: rapid.SliceOfN(somePaths, 0, 2).Draw(t, "unset")}
	case 5:
		return catalog.DeleteNodes{Nodes: names}
	case 6:
		return catalog.AddProfile{Profile: catalog.Profile{Name: profile, Profiles: list, Settings: someSettings(t, false)}}
	case 7:
		return catalog.SetProfiles{Names: []catalog.ProfileName{profile}, Profiles: lists, Set: someSettings(t, false), Unset: rapid.SliceOfN(somePaths, 0, 2).Draw(t, "unset")}
	case 8:
		return catalog.DeleteProfile{Name: rapid.SampledFrom([]catalog.ProfileName{"p2", "p3"}).Draw(t, "gone")}
	case 9:
		return catalog.AddNetwork{Network: network()}
	case 10:
		return catalog.SetNetwork{Network: network()}
	case 11:
		return catalog.DeleteNetwork{Name: rapid.SampledFrom([]catalog.NetworkName{"a", "b"}).Draw(t, "gone")}
	case 12:
		return catalog.TagImage{Name: "debian", Tag: rapid.SampledFrom([]string{"t1", "t2"}).Draw(t, "tag"), Version: version("a").Manifest.ID}
	case 13:
		return someBatch(t, depth)
	}
	switch rapid.IntRange(0, 3).Draw(t, "overlay change") {
	case 0, 1:
		return catalog.PutOverlay{Overlay: catalog.Overlay{Name: someOverlays.Draw(t, "overlay"), Content: content, Files: 1, Laid: rapid.Bool().Draw(t, "laid")}}
	case 2:
		return catalog.ShipOverlay{Name: someOverlays.Draw(t, "overlay"), Base: content, Files: 1}
	case 3:
		return catalog.DeleteOverlay{Name: someOverlays.Draw(t, "overlay")}
	}
	panic("there is no other")
}

func someBatch(t *rapid.T, depth int) catalog.Change {
	if depth > 0 {
		return catalog.TagImage{Name: "debian", Tag: "t1", Version: version("b").Manifest.ID}
	}
	var b catalog.Batch
	for range rapid.IntRange(1, 5).Draw(t, "steps") {
		b.Changes = append(b.Changes, catalog.Step{Change: someChange(t, depth+1)})
	}
	return b
}

func someFileChange(t *rapid.T) catalog.Change {
	file := rapid.SampledFrom([]string{"/a", "/a/b", "/c", "/d"})
	switch rapid.SampledFrom([]string{"link", "rename", "delete", "put"}).Draw(t, "file change") {
	case "link":
		return catalog.LinkSiteFile{Path: file.Draw(t, "file"), Target: file.Draw(t, "target")}
	case "rename":
		return catalog.RenameSiteFile{Path: file.Draw(t, "file"), To: file.Draw(t, "to")}
	case "delete":
		return catalog.DeleteSiteFile{Path: file.Draw(t, "file")}
	}
	return putFile(file.Draw(t, "file"), rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "content"))
}

func TestAnySequenceOfChangesIsTakenBackWhole(t *testing.T) {
	start := started(t).c
	start = func() *catalog.Catalog {
		l := &log{t: t, c: start}
		l.must(catalog.PutImage{Name: "debian", Version: version("b")}, catalog.AddProfile{Profile: catalog.Profile{Name: "p2"}}, catalog.AddProfile{Profile: catalog.Profile{Name: "p3"}},
			catalog.AddNetwork{Network: catalog.Network{Name: "a", Prefix: netip.MustParsePrefix("10.2.0.0/24")}}, catalog.AddNetwork{Network: catalog.Network{Name: "b", Prefix: netip.MustParsePrefix("10.3.0.0/24")}},
			putFile("/a", "x"), putFile("/c", "y"))
		return l.c
	}()
	applied := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		l, twin := &log{t: t, c: start}, &log{t: t, c: start}
		past := map[catalog.Revision]declared{start.Changed(): declaredIn(start)}
		order := []catalog.Revision{start.Changed()}
		for range rapid.IntRange(4, 20).Draw(rt, "changes") {
			change := someChange(rt, 0)
			if len(order) > 2 && rapid.IntRange(0, 5).Draw(rt, "revert") == 0 {
				change = catalog.Revert{To: rapid.SampledFrom(order[:len(order)-1]).Draw(rt, "back to")}
			}
			before := whole(t, l.c)
			prior := l.c
			err := l.do(change)
			if errors.Is(err, fault.Internal) {
				rt.Fatalf("%s failed inside: %v", catalog.KindOf(change), err)
			}
			if !bytes.Equal(whole(t, prior), before) {
				rt.Fatalf("%s altered the revision before it", catalog.KindOf(change))
			}
			// A controller that was restored from a snapshot must go the same way.
			twin.c = restored(t, twin.c)
			if twinErr := twin.do(change); fmt.Sprint(twinErr) != fmt.Sprint(err) {
				rt.Fatalf("%s: %v here, %v where the catalog was restored", catalog.KindOf(change), err, twinErr)
			}
			if a, b := whole(t, l.c), whole(t, twin.c); !bytes.Equal(a, b) {
				rt.Fatalf("%s %+v: the catalogs differ:\n%s\nrestored before it:\n%s", catalog.KindOf(change), change, a, b)
			}
			if d := declaredIn(l.c); !reflect.DeepEqual(d, declaredIn(restored(t, l.c))) {
				rt.Fatalf("%s: a snapshot brings back something else", catalog.KindOf(change))
			}
			if err != nil {
				continue
			}
			applied[catalog.KindOf(change)]++
			if x, ok := change.(catalog.Revert); ok {
				if got := declaredIn(l.c); !reflect.DeepEqual(got, past[x.To]) {
					rt.Fatalf("back to %d: %s", x.To, got.unlike(past[x.To]))
				}
			}
			past[l.c.Changed()] = declaredIn(l.c)
			order = append(order, l.c.Changed())
		}
		to := rapid.SampledFrom(order).Draw(rt, "to")
		if to == l.c.Changed() {
			return
		}
		if err := l.do(catalog.Revert{To: to}); err != nil && !strings.Contains(err.Error(), "nothing that can be taken back") { // as after a batch that made and deleted one thing
			rt.Fatalf("revert to %d of %d: %v", to, order, err)
		}
		if got := declaredIn(l.c); !reflect.DeepEqual(got, past[to]) {
			rt.Fatalf("back to %d: %s", to, got.unlike(past[to]))
		}
	})
	for _, kind := range []string{"node.add", "node.set", "node.delete", "profile.add", "profile.set", "profile.delete", "network.add", "network.set", "network.delete", "image.tag",
		"overlay.put", "overlay.ship", "overlay.delete", "file.put", "file.link", "file.rename", "file.delete", "batch", "revert"} {
		if applied[kind] == 0 {
			t.Errorf("no %s was ever accepted: the test says nothing about it", kind)
		}
	}
}

func TestRevertSaysWhyItCannot(t *testing.T) {
	l := started(t)
	seen := l.c.Changed()
	l.must(
		catalog.PutImage{Name: "other", Version: version("o")},
		catalog.SetNodes{Nodes: catalog.NodeSet{"n1"}, Set: catalog.Settings{Image: new("other")}},
	)
	using := l.c.Changed()
	l.must(catalog.SetNodes{Nodes: catalog.NodeSet{"n1"}, Unset: []string{"image"}}, catalog.DeleteImage{Name: "other"})
	for name, tc := range map[string]struct {
		to   catalog.Revision
		kind fault.Kind
		text string
	}{
		"the present":             {l.c.Changed(), fault.Invalid, "nothing to take back"},
		"the future":              {l.c.Changed() + 10, fault.Invalid, "nothing to take back"},
		"only an image went":      {l.c.Changed() - 1, fault.Invalid, "nothing that can be taken back"},
		"an image that is gone":   {using, fault.NotFound, `no image is called "other"`},
		"over it, to before both": {seen, "", ""},
	} {
		c := *l
		err := c.do(catalog.Revert{To: tc.to})
		if tc.kind == "" && err != nil || tc.kind != "" && (!errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.text)) {
			t.Errorf("%s: %v, want %q", name, err, tc.text)
		}
	}
}

func TestRevertIsRefusedWhereARelayTookThePlace(t *testing.T) {
	l := started(t)
	before := l.c.Changed()
	l.must(catalog.AddNetwork{Network: catalog.Network{Name: "b", Prefix: netip.MustParsePrefix("10.5.0.0/24")}}, catalog.DeleteNodes{Nodes: catalog.NodeSet{"n1"}})
	withNetwork := l.c.Changed() - 1
	admit(l, "r1", "b", "10.1.0.1")
	for to, text := range map[catalog.Revision]string{before: "used by relay r1", withNetwork: "belongs to relay r1"} {
		c := *l
		if err := c.do(catalog.Revert{To: to}); !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), text) {
			t.Errorf("back to %d: %v, want %q", to, err, text)
		}
	}
}

func TestHistorySaysWhatHappened(t *testing.T) {
	l := started(t)
	out := l.entry(catalog.Entry{By: "alice", At: at, Message: "as agreed", Change: catalog.SetNodes{Nodes: catalog.NodeSet{"n1", "n2"}, Set: catalog.Settings{Rack: new("r9")}}})
	if out.Err != nil {
		t.Fatal(out.Err)
	}
	var newest *catalog.Record
	for r := range l.c.History() {
		newest = r
		break
	}
	if newest.Revision != l.c.Revision || newest.By != "alice" || newest.Message != "as agreed" || newest.Kind != "node.set" || newest.About() != "2 nodes n[1-2]" || len(newest.Nodes) != 2 {
		t.Errorf("the newest record is %+v, about %q", newest, newest.About())
	}
	if l.do(catalog.DeleteNodes{Nodes: catalog.NodeSet{"n9"}}) == nil {
		t.Fatal("a node that does not exist was deleted")
	}
	for r := range l.c.History() {
		if r.Revision == l.c.Revision {
			t.Error("a rejected change is in the history")
		}
	}
}

func TestHistoryIsBoundedAndItsFloorMovesUp(t *testing.T) {
	l := started(t)
	for i := range catalog.MaxHistory + 20 {
		l.must(catalog.SetNodes{Nodes: catalog.NodeSet{"n1"}, Set: catalog.Settings{Rack: new(fmt.Sprint(i))}})
	}
	l.c = restored(t, l.c)
	all := slices.Collect(l.c.History())
	if len(all) != catalog.MaxHistory {
		t.Fatalf("%d records, want %d", len(all), catalog.MaxHistory)
	}
	floor := l.c.HistoryFloor()
	if floor != all[len(all)-1].Revision-1 {
		t.Errorf("the floor is %d, the oldest record %d", floor, all[len(all)-1].Revision)
	}
	if err := l.do(catalog.Revert{To: floor - 1}); !errors.Is(err, fault.NotFound) || !strings.Contains(fault.Fix(err), fmt.Sprint(floor)) {
		t.Errorf("below the floor: %v (%s)", err, fault.Fix(err))
	}
	l.must(catalog.Revert{To: floor})
	if n, _ := l.c.Node("n1"); *n.Settings.Rack != "19" {
		t.Errorf("at the floor the rack was 19, now %s", *n.Settings.Rack)
	}
}

// What takes back changes to many nodes is forgotten before the records themselves are.
func TestUndoOfManyNodesIsForgottenFirst(t *testing.T) {
	l := started(t)
	var names catalog.NodeSet
	for i := range 30_000 {
		names = append(names, catalog.NodeName(fmt.Sprintf("m%05d", i)))
	}
	l.must(catalog.AddNodes{Names: names})
	for i := range 5 {
		l.must(catalog.SetNodes{Nodes: names, Set: catalog.Settings{Rack: new(fmt.Sprint(i))}})
	}
	with, without := 0, 0
	for r := range l.c.History() {
		switch {
		case len(r.Nodes) < 1000:
		case r.Undo == nil:
			without++
		default:
			with++
		}
	}
	if with != 3 || without != 3 {
		t.Errorf("%d changes of 30 000 nodes can be taken back and %d cannot, want 3 and 3", with, without)
	}
	l.must(catalog.Revert{To: l.c.HistoryFloor()})
	if n, _ := l.c.Node("m00007"); *n.Settings.Rack != "1" {
		t.Errorf("the rack at the floor was 1, now %s", *n.Settings.Rack)
	}
}

// admit lets a relay join that serves one network at one address.
func admit(l *log, name catalog.RelayName, network catalog.NetworkName, address string) {
	l.t.Helper()
	l.must(
		catalog.AddToken{Token: catalog.Token{ID: string(name), Hash: []byte("h"), Role: catalog.TokenRelay, Networks: []catalog.NetworkName{network}, Uses: 1, Expires: at.AddDate(0, 0, 1)}},
		catalog.AdmitRelay{Token: string(name), Hash: []byte("h"), Relay: catalog.Relay{Name: name, Addresses: []netip.Addr{netip.MustParseAddr(address)},
			BootPort: 4480, MeshPort: 4481, Mesh: address + ":4481", Gossip: address + ":4482", Key: []byte("k")}},
	)
}

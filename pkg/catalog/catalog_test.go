package catalog_test

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

var at = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// log applies changes one after the other.
type log struct {
	t testing.TB
	c *catalog.Catalog
}

func (l *log) entry(e catalog.Entry) catalog.Outcome {
	l.t.Helper()
	b, err := e.Encode()
	if err != nil {
		l.t.Fatal(err)
	}
	next, out, err := l.c.Apply(l.c.Revision+1, b)
	if err != nil {
		l.t.Fatal(err)
	}
	l.c = next
	return out
}

func (l *log) do(c catalog.Change) error {
	l.t.Helper()
	return l.entry(catalog.Entry{By: "test", At: at, Change: c}).Err
}

func (l *log) must(changes ...catalog.Change) {
	l.t.Helper()
	for _, c := range changes {
		if err := l.do(c); err != nil {
			l.t.Fatalf("%s: %v", catalog.KindOf(c), err)
		}
	}
}

func version(s string) catalog.ImageVersion {
	return catalog.ImageVersion{Manifest: chunk.RefOf([]byte(s)), Arch: "amd64", Kernels: []chunk.Kernel{{Version: "6.1.0-1"}}}
}

func nic(hw, ip string) map[string]catalog.NetDev {
	d := catalog.NetDev{}
	if hw != "" {
		d.Hardware = new(catalog.HardwareAddr(hw))
	}
	if ip != "" {
		d.Address = new(netip.MustParseAddr(ip))
	}
	return map[string]catalog.NetDev{catalog.DefaultNet: d}
}

func node(name, hw, ip string) catalog.Node {
	return catalog.Node{Name: catalog.NodeName(name), Settings: catalog.Settings{Nets: nic(hw, ip)}}
}

func started(t testing.TB) *log {
	l := &log{t: t, c: &catalog.Catalog{}}
	l.must(
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1", API: "10.0.0.1:4400"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.1.0.254"),
			Pool: catalog.Range{First: netip.MustParseAddr("10.1.0.200"), Last: netip.MustParseAddr("10.1.0.220")}}},
		catalog.PutImage{Name: "debian", Version: version("a")},
		catalog.PutOverlay{Overlay: catalog.Overlay{Name: "hosts", Content: chunk.RefOf([]byte("o"))}},
		catalog.SetProfiles{Names: []catalog.ProfileName{"default"}, Set: catalog.Settings{Image: new("debian"), Kernel: catalog.KernelSettings{Args: []string{"quiet", "a=1"}}}},
		catalog.AddNodes{Nodes: []catalog.Node{node("n1", "52:54:00:00:00:01", "10.1.0.1"), node("n2", "52:54:00:00:00:02", "10.1.0.2")}},
	)
	return l
}

func TestRejectedChangesSayWhyAndChangeNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		change catalog.Change
		kind   fault.Kind
		text   string
	}{
		"node exists":               {catalog.AddNodes{Nodes: []catalog.Node{node("n1", "", "")}}, fault.Conflict, `node "n1" exists already`},
		"hardware address taken":    {catalog.AddNodes{Nodes: []catalog.Node{node("n3", "52:54:00:00:00:01", "")}}, fault.Conflict, "belongs to node n1"},
		"address taken":             {catalog.AddNodes{Nodes: []catalog.Node{node("n3", "", "10.1.0.2")}}, fault.Conflict, "belongs to node n2"},
		"address in no network":     {catalog.AddNodes{Nodes: []catalog.Node{node("n3", "", "10.9.0.2")}}, fault.Invalid, "lies in no network"},
		"address outside":           {catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Set: catalog.Settings{Nets: map[string]catalog.NetDev{"default": {Network: new("rack"), Address: new(netip.MustParseAddr("10.2.0.1"))}}}}, fault.Invalid, "outside of network rack"},
		"address in the pool":       {catalog.AddNodes{Nodes: []catalog.Node{node("n3", "", "10.1.0.210")}}, fault.Invalid, "in the pool"},
		"address of the gateway":    {catalog.AddNodes{Nodes: []catalog.Node{node("n3", "", "10.1.0.254")}}, fault.Conflict, "gateway"},
		"two alike in one change":   {catalog.AddNodes{Nodes: []catalog.Node{node("n3", "", "10.1.0.3"), node("n4", "", "10.1.0.3")}}, fault.Conflict, "belongs to node n3"},
		"second of two is wrong":    {catalog.AddNodes{Nodes: []catalog.Node{node("n3", "", "10.1.0.3"), node("n1", "", "")}}, fault.Conflict, "exists"},
		"no such node":              {catalog.SetNodes{Nodes: []catalog.NodeName{"n11"}}, fault.NotFound, `no node is called "n11"`},
		"no such image":             {catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Set: catalog.Settings{Image: new("debain")}}, fault.NotFound, `no image is called "debain"`},
		"no such tag":               {catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Set: catalog.Settings{Image: new("debian:old")}}, fault.NotFound, "no version"},
		"no such overlay":           {catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Set: catalog.Settings{Overlays: catalog.OverlaySettings{System: []string{"host"}}}}, fault.NotFound, "no overlay"},
		"no such profile":           {catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Profiles: &[]catalog.ProfileName{"x"}}, fault.NotFound, "no profile"},
		"no such setting":           {catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Unset: []string{"imagine"}}, fault.Invalid, "no setting"},
		"profile in use":            {catalog.DeleteProfile{Name: "default"}, fault.Conflict, "used by node n1, node n2"},
		"image in use":              {catalog.DeleteImage{Name: "debian"}, fault.Conflict, "used by profile default"},
		"profile built on itself":   {catalog.SetProfiles{Names: []catalog.ProfileName{"default"}, Profiles: &[]catalog.ProfileName{"default"}}, fault.Invalid, "built on itself"},
		"address in a profile":      {catalog.SetProfiles{Names: []catalog.ProfileName{"default"}, Set: catalog.Settings{Nets: nic("", "10.1.0.9")}}, fault.Invalid, "only one node"},
		"white space in a word":     {catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Set: catalog.Settings{Kernel: catalog.KernelSettings{Args: []string{"a b"}}}}, fault.Invalid, "not one word"},
		"networks overlap":          {catalog.AddNetwork{Network: catalog.Network{Name: "b", Prefix: netip.MustParsePrefix("10.1.0.0/16")}}, fault.Conflict, "overlaps network rack"},
		"network away from address": {catalog.SetNetwork{Network: catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.3.0.0/24")}}, fault.Invalid, "lies in no network"},
		"token unknown":             {catalog.AdmitRelay{Token: "x", Hash: []byte("y")}, fault.Denied, "not known"},
		"second cluster":            {catalog.InitCluster{Cluster: catalog.Cluster{Name: "b"}}, fault.Conflict, "exists already"},
		"the only controller":       {catalog.DeleteController{Name: "c1"}, fault.Conflict, "only one"},
	} {
		t.Run(name, func(t *testing.T) {
			l := started(t)
			before := dump(t, l.c)
			err := l.do(tc.change)
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v (%s), want %s with %q", err, fault.KindOf(err), tc.kind, tc.text)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the message has more than one line: %q", err)
			}
			if after := dump(t, l.c); after != before {
				t.Errorf("a rejected change left its mark:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// dump is the catalog without its header, which holds revision and hash.
func dump(t *testing.T, c *catalog.Catalog) string {
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(b.String(), "\n")
	body, _, _ = strings.Cut(body, `{"end"`)
	return body
}

func TestDidYouMean(t *testing.T) {
	l := started(t)
	err := l.do(catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Set: catalog.Settings{Image: new("debain")}})
	if got, want := fault.Fix(err), `did you mean "debian"?`; got != want {
		t.Errorf("fix %q, want %q", got, want)
	}
}

func TestEqualEntriesGiveEqualHashesAndSnapshotsRestoreThem(t *testing.T) {
	a, b := started(t), started(t)
	if a.c.Hash != b.c.Hash {
		t.Fatal("equal changes gave two hashes")
	}
	var buf bytes.Buffer
	if _, err := a.c.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	restored, err := catalog.ReadSnapshot(bytes.NewReader(buf.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	r := &log{t: t, c: restored}
	// What depends on the indexes and on remembered requests must go on alike.
	for _, l := range []*log{a, r} {
		if err := l.do(catalog.AddNodes{Nodes: []catalog.Node{node("n9", "52:54:00:00:00:01", "")}}); !errors.Is(err, fault.Conflict) {
			t.Fatalf("duplicate hardware address: %v", err)
		}
		l.must(catalog.DeleteNodes{Nodes: []catalog.NodeName{"n1"}}, catalog.AddNodes{Nodes: []catalog.Node{node("n9", "52:54:00:00:00:01", "10.1.0.1")}})
	}
	if a.c.Hash != r.c.Hash || dump(t, a.c) != dump(t, r.c) {
		t.Fatal("the restored catalog went another way")
	}
}

func TestDamagedSnapshotIsRefused(t *testing.T) {
	var buf bytes.Buffer
	started(t).c.WriteTo(&buf)
	whole := buf.Bytes()
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 0x10
		if _, err := catalog.ReadSnapshot(bytes.NewReader(b)); !errors.Is(err, fault.Corrupt) {
			t.Fatalf("byte %d of %d changed (%q): %v", i, len(b), whole[i], err)
		}
		if _, err := catalog.ReadSnapshot(bytes.NewReader(whole[:i])); i < len(whole)-1 && !errors.Is(err, fault.Corrupt) {
			t.Fatalf("cut at %d of %d: %v", i, len(b), err)
		}
	}
}

func TestRepeatedRequestIsAnsweredAndNotApplied(t *testing.T) {
	l := started(t)
	e := catalog.Entry{Request: "r1", At: at, Change: catalog.DeleteNodes{Nodes: []catalog.NodeName{"n1"}}}
	first, second := l.entry(e), l.entry(e)
	if first.Err != nil || second.Err != nil || first.Revision != second.Revision {
		t.Errorf("first %+v, second %+v", first, second)
	}
	bad := catalog.Entry{Request: "r2", At: at, Change: catalog.DeleteNodes{Nodes: []catalog.NodeName{"n1"}}}
	first, second = l.entry(bad), l.entry(bad)
	if !errors.Is(first.Err, fault.NotFound) || !errors.Is(second.Err, fault.NotFound) || first.Err.Error() != second.Err.Error() {
		t.Errorf("rejections %v and %v", first.Err, second.Err)
	}
}

func TestStaleRevisionIsRefused(t *testing.T) {
	l := started(t)
	seen := l.c.Changed()
	l.must(catalog.DeleteNodes{Nodes: []catalog.NodeName{"n1"}})
	out := l.entry(catalog.Entry{At: at, If: seen, Change: catalog.DeleteNodes{Nodes: []catalog.NodeName{"n2"}}})
	if !errors.Is(out.Err, fault.Conflict) {
		t.Errorf("a change on a stale revision: %v", out.Err)
	}
	if out := l.entry(catalog.Entry{At: at, If: l.c.Changed(), Change: catalog.DeleteNodes{Nodes: []catalog.NodeName{"n2"}}}); out.Err != nil {
		t.Errorf("a change on the present revision: %v", out.Err)
	}
}

// What a list shows is the revision of the last entry, a rejected one included: whoever says it back saw it all.
func TestRejectedChangesMakeNoRevisionStale(t *testing.T) {
	l := started(t)
	if l.do(catalog.DeleteNodes{Nodes: []catalog.NodeName{"n9"}}) == nil {
		t.Fatal("a node that does not exist was deleted")
	}
	if out := l.entry(catalog.Entry{At: at, If: l.c.Revision + 1, Change: catalog.DeleteNodes{Nodes: []catalog.NodeName{"n1"}}}); !errors.Is(out.Err, fault.Conflict) {
		t.Errorf("a change on a revision to come: %v", out.Err)
	}
	if l.c.Revision == l.c.Changed() {
		t.Fatal("the rejected entry has no revision of its own")
	}
	if out := l.entry(catalog.Entry{At: at, If: l.c.Revision, Change: catalog.DeleteNodes{Nodes: []catalog.NodeName{"n1"}}}); out.Err != nil {
		t.Errorf("a change on the revision that is shown: %v", out.Err)
	}
}

func TestUndecodableEntryStops(t *testing.T) {
	c := &catalog.Catalog{}
	for name, b := range map[string]string{
		"torn":          `{"format":1,"kind":"node.del`,
		"unknown kind":  `{"format":1,"kind":"node.paint","at":"2026-01-01T00:00:00Z","change":{}}`,
		"unknown field": `{"format":1,"kind":"node.delete","at":"2026-01-01T00:00:00Z","change":{"nodes":["a"],"force":true}}`,
		"later format":  `{"format":5,"kind":"node.delete","at":"2026-01-01T00:00:00Z","change":{"nodes":["a"]}}`,
		"two values":    `{"format":1,"kind":"node.delete","at":"2026-01-01T00:00:00Z","change":{}} {}`,
		"empty":         ``,
		"not an object": `7`,
		"null change":   `{"format":1,"kind":"node.delete","at":"2026-01-01T00:00:00Z"}`,
	} {
		if _, _, err := c.Apply(1, []byte(b)); !errors.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMergeOrderListsAndBlame(t *testing.T) {
	l := started(t)
	l.must(
		catalog.AddProfile{Profile: catalog.Profile{Name: "base", Settings: catalog.Settings{Kernel: catalog.KernelSettings{Args: []string{"base"}}, Rack: new("r1"), Tags: map[string]string{"a": "base", "b": "base"}}}},
		catalog.AddProfile{Profile: catalog.Profile{Name: "gpu", Profiles: []catalog.ProfileName{"base"}, Settings: catalog.Settings{Kernel: catalog.KernelSettings{Args: []string{"~quiet", "gpu"}}, Tags: map[string]string{"b": ""}}}},
		catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Profiles: &[]catalog.ProfileName{"default", "gpu"}, Set: catalog.Settings{Rack: new("r2")}},
	)
	r, err := l.c.Resolve("n1")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(r.Settings.Kernel.Args, " "), "a=1 base gpu"; got != want {
		t.Errorf("kernel args %q, want %q", got, want)
	}
	_, blame, err := l.c.Explain("n1")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"rack": "node n1", "tags.a": "profile base", "tags.b": "profile gpu", "image": "profile default", "init": "default", "kernel.args": "profile default, profile base, profile gpu", "nets.default.address": "node n1"} {
		if got := blame[path]; got != want {
			t.Errorf("%s is blamed on %q, want %q", path, got, want)
		}
	}
	if b, ok := r.Settings.Tags["b"]; !ok || b != "" {
		t.Errorf("tag b is %q, %v", b, ok)
	}
	if r.Primary == nil || r.Primary.Address.String() != "10.1.0.1/24" || r.Primary.Gateway.String() != "10.1.0.254" {
		t.Errorf("primary device %+v", r.Primary)
	}
	l.must(catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Unset: []string{"rack", "nets.default.address"}})
	r, _ = l.c.Resolve("n1")
	if *r.Settings.Rack != "r1" || r.Primary.Address.IsValid() || r.Primary.Hardware == "" {
		t.Errorf("after unset: rack %s, device %+v", *r.Settings.Rack, r.Primary)
	}
}

func TestNodesMayExchangeTheirAddressesInOneChange(t *testing.T) {
	l := started(t)
	l.must(catalog.SetNodes{Nodes: []catalog.NodeName{"n1", "n2"}, Unset: []string{"nets.default.address"}})
	l.must(catalog.SetNodes{Nodes: []catalog.NodeName{"n2"}, Set: catalog.Settings{Nets: nic("", "10.1.0.1")}})
	if n, ok := l.c.NodeByAddress(netip.MustParseAddr("10.1.0.1")); !ok || n.Name != "n2" {
		t.Errorf("10.1.0.1 is found at %v", n)
	}
	if _, ok := l.c.NodeByAddress(netip.MustParseAddr("10.1.0.2")); ok {
		t.Error("10.1.0.2 is still found")
	}
}

func TestOneChangeSetsNodesAlikeAndEachApart(t *testing.T) {
	l := started(t)
	both := []catalog.NodeName{"n1", "n2"}
	l.must(catalog.SetNodes{Nodes: both, Set: catalog.Settings{Comment: new("moved")}, Each: map[catalog.NodeName]catalog.Settings{
		"n1": {Nets: nic("52:54:00:00:00:02", "")}, "n2": {Nets: nic("52:54:00:00:00:01", "")},
	}})
	for name, want := range map[catalog.NodeName]catalog.HardwareAddr{"n1": "52:54:00:00:00:02", "n2": "52:54:00:00:00:01"} {
		n, _ := l.c.Node(name)
		if got := *n.Settings.Nets["default"].Hardware; got != want || *n.Settings.Comment != "moved" {
			t.Errorf("%s has %s and %q, want %s", name, got, *n.Settings.Comment, want)
		}
	}
	err := l.do(catalog.SetNodes{Nodes: both[:1], Each: map[catalog.NodeName]catalog.Settings{"n2": {Comment: new("x")}}})
	if !errors.Is(err, fault.Invalid) {
		t.Errorf("settings for a node that is not named: %v", err)
	}
}

func TestTokensAdmitOnceAndExpire(t *testing.T) {
	l := started(t)
	add := func(id string, expires time.Time) {
		l.must(catalog.AddToken{Token: catalog.Token{ID: id, Hash: []byte("h"), Role: catalog.TokenRelay, Name: "r1", Rack: "rack1", Networks: []catalog.NetworkName{"rack"}, Uses: 1, Expires: expires}})
	}
	relay := catalog.Relay{Name: "liar", Rack: "elsewhere", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.253")}, BootPort: 4480, MeshPort: 4481, Mesh: "10.0.0.9:4481", Gossip: "10.0.0.9:4482", Key: []byte("k")}
	add("t1", at.Add(time.Hour))
	add("t2", at.Add(time.Minute))
	if out := l.entry(catalog.Entry{At: at.Add(time.Hour), Change: catalog.AdmitRelay{Token: "t2", Hash: []byte("h"), Relay: relay}}); !errors.Is(out.Err, fault.Denied) || !strings.Contains(out.Err.Error(), "expired") {
		t.Errorf("expired token: %v", out.Err)
	}
	if err := l.do(catalog.AdmitRelay{Token: "t1", Hash: []byte("no"), Relay: relay}); !errors.Is(err, fault.Denied) {
		t.Errorf("wrong secret: %v", err)
	}
	l.must(catalog.AdmitRelay{Token: "t1", Hash: []byte("h"), Relay: relay})
	r, ok := l.c.Relay("r1")
	if !ok || r.Rack != "rack1" {
		t.Fatalf("the relay is not what the token says: %+v", r)
	}
	if err := l.do(catalog.AdmitRelay{Token: "t1", Hash: []byte("h"), Relay: relay}); !errors.Is(err, fault.Denied) {
		t.Errorf("used up token: %v", err)
	}
	if err := l.do(catalog.AddNodes{Nodes: []catalog.Node{node("n7", "", "10.1.0.253")}}); !errors.Is(err, fault.Conflict) {
		t.Errorf("a node at a relay's address: %v", err)
	}
	add("t3", at.Add(time.Hour))
	relay.Key = []byte("another")
	if err := l.do(catalog.AdmitRelay{Token: "t3", Hash: []byte("h"), Relay: relay}); !errors.Is(err, fault.Denied) {
		t.Errorf("another key under the same name: %v", err)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	b, _ := catalog.Entry{Request: "r", At: at, Change: catalog.AddNodes{Nodes: []catalog.Node{node("n1", "52:54:00:00:00:01", "10.1.0.1")}}}.Encode()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := catalog.DecodeEntry(b)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil {
			t.Skip()
		}
		if _, err := catalog.DecodeEntry(again); err != nil {
			t.Fatalf("decoded, encoded, and then not decoded: %v\n%s", err, again)
		}
		c := &catalog.Catalog{}
		c.Apply(1, again) // must not panic
	})
}

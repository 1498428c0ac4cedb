package catalog_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// settings reads them from words path=text; "-path" is one to be without, and there are no others in a word.
func settings(t testing.TB, words ...string) (s catalog.Settings) {
	t.Helper()
	for _, w := range words {
		if path, ok := strings.CutPrefix(w, "-"); ok {
			s.Without = append(s.Without, path)
			continue
		}
		path, text, _ := strings.Cut(w, "=")
		one, err := catalog.ParseSetting(path, text)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Patch(one, nil); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

type profile struct {
	name  string
	list  string // profiles that it builds on, separated by spaces
	words []string
}

// merging is a catalog with profiles and one node n, which has them as its list says.
func merging(t testing.TB, profiles []profile, list string, own ...string) *log {
	t.Helper()
	l := started(t)
	names := func(list string) (all []catalog.ProfileName) {
		for _, f := range strings.Fields(list) {
			all = append(all, catalog.ProfileName(f))
		}
		return all
	}
	for _, p := range profiles {
		l.must(catalog.AddProfile{Profile: catalog.Profile{Name: catalog.ProfileName(p.name), Profiles: names(p.list), Settings: settings(t, p.words...)}})
	}
	all := names(list)
	l.must(catalog.AddNodes{Names: catalog.NodeSet{"n"}, Profiles: &all, Set: settings(t, own...)})
	return l
}

func TestProfilesMergeByWarewulfsRules(t *testing.T) {
	res := func(text string) string { return "resources.r=" + text }
	for name, tc := range map[string]struct {
		profiles []profile
		list     string
		own      []string
		want     map[string]string // Flat; "" is not decided
		blame    map[string]string
	}{
		"a nested profile comes before the one that nests it": {
			profiles: []profile{{"base", "", []string{"rack=b", "zone=b"}}, {"p", "base", []string{"rack=p"}}}, list: "p",
			want: map[string]string{"rack": "p", "zone": "b"}, blame: map[string]string{"rack": "profile p", "zone": "profile base"},
		},
		"three deep": {
			profiles: []profile{{"a", "", []string{"kernel.args=a"}}, {"b", "a", []string{"kernel.args=b"}}, {"c", "b", []string{"kernel.args=c"}}}, list: "c",
			want: map[string]string{"kernel.args": "[a b c]"}, blame: map[string]string{"kernel.args": "profile a, profile b, profile c"},
		},
		"each profile is merged once, at its first place": {
			profiles: []profile{{"base", "", []string{"rack=b", "kernel.args=base"}}, {"p", "base", []string{"kernel.args=p"}}, {"q", "base", []string{"kernel.args=q"}}}, list: "p q base",
			want: map[string]string{"kernel.args": "[base p q]", "rack": "b"}, blame: map[string]string{"kernel.args": "profile base, profile p, profile q"},
		},
		"later profiles win, the node last": {
			profiles: []profile{{"p", "", []string{"rack=p", "zone=p", "cluster=p"}}, {"q", "", []string{"rack=q", "zone=q"}}}, list: "p q", own: []string{"rack=n"},
			want: map[string]string{"rack": "n", "zone": "q", "cluster": "p"}, blame: map[string]string{"rack": "node n", "zone": "profile q", "cluster": "profile p"},
		},
		"a profile is negated wherever that stands": {
			profiles: []profile{{"p", "", []string{"rack=p"}}, {"q", "", []string{"zone=q"}}}, list: "~p p q",
			want: map[string]string{"rack": "", "zone": "q"}, blame: map[string]string{"rack": ""},
		},
		"a nested profile can be negated by the node": {
			profiles: []profile{{"base", "", []string{"rack=b"}}, {"p", "base", []string{"zone=p"}}}, list: "p ~base",
			want: map[string]string{"rack": "", "zone": "p"},
		},
		"lists are appended, without removing repetitions": {
			profiles: []profile{{"p", "", []string{"kernel.args=a b"}}, {"q", "", []string{"kernel.args=b c"}}}, list: "p q", own: []string{"kernel.args=d"},
			want: map[string]string{"kernel.args": "[a b b c d]"}, blame: map[string]string{"kernel.args": "profile p, profile q, node n"},
		},
		"an element is negated before it comes": {
			profiles: []profile{{"p", "", []string{"kernel.args=~b x"}}, {"q", "", []string{"kernel.args=a b"}}}, list: "p q",
			want: map[string]string{"kernel.args": "[x a]"},
		},
		"and after": {
			profiles: []profile{{"p", "", []string{"kernel.args=a b", "roles=x,y"}}}, list: "p", own: []string{"kernel.args=~a", "roles=~x,~y"},
			want: map[string]string{"kernel.args": "[b]", "roles": ""},
		},
		"maps merge key by key, at every depth": {
			profiles: []profile{{"p", "", []string{"tags.a=p", "tags.b=p", "nets.eth0.12.mtu=1500", "nets.eth0.12.tags.x.y=1", "disks./dev/sda.partitions.s.size_mib=1"}}}, list: "p",
			own: []string{"tags.b=n", "nets.eth0.12.tags.z=2", "nets.eth0.type=bond", "disks./dev/sda.partitions.s.number=3", "disks./dev/sda.partitions.t.number=4"},
			want: map[string]string{
				"tags.a": "p", "tags.b": "n", "nets.eth0.12.mtu": "1500", "nets.eth0.12.tags.x.y": "1", "nets.eth0.12.tags.z": "2", "nets.eth0.type": "bond",
				"disks./dev/sda.partitions.s.size_mib": "1", "disks./dev/sda.partitions.s.number": "3", "disks./dev/sda.partitions.t.number": "4",
			},
			blame: map[string]string{"tags.a": "profile p", "tags.b": "node n", "nets.eth0.12.mtu": "profile p", "nets.eth0.12.tags.z": "node n", "disks./dev/sda.partitions.s.size_mib": "profile p", "disks./dev/sda.partitions.s.number": "node n"},
		},
		"resources merge at every depth, and their lists are appended": {
			profiles: []profile{{"p", "", []string{res(`{"a":{"x":1,"l":[1]},"b":1.0}`)}}, {"q", "", []string{res(`{"a":{"y":2,"l":[2,1]}}`)}}}, list: "p q", own: []string{res(`{"b":[3]}`)},
			want:  map[string]string{"resources.r": `{"a":{"l":[1,2,1],"x":1,"y":2},"b":[3]}`},
			blame: map[string]string{"resources.r": "profile p, profile q, node n"},
		},
		"a negation in a resource's list is an element like others": {
			profiles: []profile{{"p", "", []string{res(`["a"]`)}}}, list: "p", own: []string{res(`["~a"]`)},
			want: map[string]string{"resources.r": `["a","~a"]`},
		},
		"false overrides true, and an empty text a text": {
			profiles: []profile{{"p", "", []string{"nets.d.onboot=true", "bmc.write=yes", "tags.a=x", "kernel.version=6"}}}, list: "p", own: []string{"nets.d.onboot=false", "bmc.write=no", "tags.a=", "kernel.version="},
			want:  map[string]string{"nets.d.onboot": "false", "bmc.write": "false", "tags.a": `""`, "kernel.version": `""`},
			blame: map[string]string{"nets.d.onboot": "node n", "tags.a": "node n"},
		},
		"a comment is not inherited": {
			profiles: []profile{{"p", "", []string{"comment=of p", "rack=p"}}}, list: "p",
			want: map[string]string{"comment": "", "rack": "p"}, blame: map[string]string{"comment": ""},
		},
		"without a scalar, a list and keys of maps": {
			profiles: []profile{{"p", "", []string{"rack=p", "kernel.args=a", "tags.a.b=p", "tags.a=p", "nets.eth0.12.mtu=1500", "nets.eth0.mtu=1600", "resources.r=1", "kernel.version=6"}}}, list: "p",
			own:   []string{"-rack", "-kernel.args", "-tags.a.b", "-nets.eth0.12", "-resources.r"},
			want:  map[string]string{"rack": "", "kernel.args": "", "tags.a.b": "", "tags.a": "p", "nets.eth0.12.mtu": "", "nets.eth0.mtu": "1600", "resources.r": "", "kernel.version": "6"},
			blame: map[string]string{"rack": "node n, which is without", "tags.a.b": "node n, which is without", "nets.eth0.12": "node n, which is without", "nets.eth0.12.mtu": ""},
		},
		"without what is inherited, and then something else": {
			profiles: []profile{{"p", "", []string{"kernel.args=a b", "rack=p", "nets.d.mtu=1500"}}}, list: "p", own: []string{"-kernel.args", "-rack", "-nets", "kernel.args=c", "rack=n", "nets.d.type=bond"},
			want:  map[string]string{"kernel.args": "[c]", "rack": "n", "nets.d.mtu": "", "nets.d.type": "bond"},
			blame: map[string]string{"kernel.args": "node n", "rack": "node n", "nets.d.type": "node n"},
		},
		"without is not inherited, but holds for what comes before": {
			profiles: []profile{{"base", "", []string{"rack=b", "zone=b"}}, {"p", "base", []string{"-rack"}}, {"q", "", []string{"rack=q"}}}, list: "p q", own: []string{"zone=n"},
			want: map[string]string{"rack": "q", "zone": "n", "without": ""}, blame: map[string]string{"rack": "profile q"},
		},
		"defaults are last": {
			list: "", want: map[string]string{"method": "two-stage", "init": "/sbin/init", "root": "tmpfs"}, blame: map[string]string{"method": "default", "init": "default", "root": "default"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := merging(t, tc.profiles, tc.list, tc.own...)
			n, _ := l.c.Node("n")
			s, blame, err := l.c.Explain("n")
			if err != nil {
				t.Fatal(err)
			}
			flat, effective := s.Flat(), l.c.Effective(n).Flat()
			if !maps.Equal(flat, effective) {
				t.Errorf("explained it is %v, in effect %v", flat, effective)
			}
			for path, want := range tc.want {
				if got := flat[path]; got != want {
					t.Errorf("%s is %q, want %q", path, got, want)
				}
			}
			for path, want := range tc.blame {
				if got := blame[path]; got != want {
					t.Errorf("%s is blamed on %q, want %q", path, got, want)
				}
			}
			for path := range flat {
				if blame[path] == "" {
					t.Errorf("nobody is blamed for %s", path)
				}
			}
			for _, path := range []string{"rack", "zone", "cluster"} {
				got := l.c.Scalar(n, func(s *catalog.Settings) *string {
					return map[string]*string{"rack": s.Rack, "zone": s.Zone, "cluster": s.Cluster}[path]
				})
				if got != flat[path] {
					t.Errorf("by itself %s is %q, among all %q", path, got, flat[path])
				}
			}
		})
	}
}

func TestMergeNeverChangesWhatItTakesFrom(t *testing.T) {
	words := []string{"tags.a=1", "nets.eth0.tags.x=1", "nets.eth0.mtu=1500", "disks./dev/a.partitions.s.number=1", "kernel.args=a", `resources.r={"a":[1]}`, "bmc.tags.v=1"}
	a, b := settings(t, words...), settings(t, "tags.a=2", "nets.eth0.tags.x=2", "disks./dev/a.partitions.s.number=2", "kernel.args=b", `resources.r={"a":[2]}`, "bmc.tags.v=2", "-nets.eth0.mtu", "-tags.a")
	before, _ := json.Marshal([]catalog.Settings{a, b})
	s := a
	catalog.Merge(&s, b, "b", catalog.Blame{})
	if err := s.Patch(settings(t, "tags.b=3", "nets.eth0.tags.z=3"), []string{"disks./dev/a.partitions.s", "nets.eth0.tags.x", "bmc"}); err != nil {
		t.Fatal(err)
	}
	if after, _ := json.Marshal([]catalog.Settings{a, b}); string(after) != string(before) {
		t.Errorf("before %s\nafter  %s", before, after)
	}
}

func TestSettingsOfAnotherNodeOrProfileOnlyAreRefused(t *testing.T) {
	l := started(t)
	for _, word := range []string{"asset=x", "discoverable=true", "nets.default.address=10.1.0.9", "nets.default.hardware=52:54:00:00:00:09", "bmc.address=10.1.0.9", "uuid=4c4c4544-0042-3510-8054-b4c04f564433"} {
		if err := l.do(catalog.SetProfiles{Names: []catalog.ProfileName{"default"}, Set: settings(t, word)}); fault.KindOf(err) != fault.Invalid {
			t.Errorf("a profile with %s: %v", word, err)
		}
	}
}

// Layers of profiles, each built on all of the layer below: more ways lead down than could be walked one by one.
func TestProfilesBuiltOnManyAreCheckedInNoTime(t *testing.T) {
	l := started(t)
	var below []catalog.ProfileName
	for layer := range 24 {
		var here []catalog.ProfileName
		for i := range 4 {
			name := catalog.ProfileName(fmt.Sprintf("l%d-%d", layer, i))
			l.must(catalog.AddProfile{Profile: catalog.Profile{Name: name, Profiles: below}})
			here = append(here, name)
		}
		below = here
	}
	if got := l.c.Expand(below[:1]); len(got) != 23*4+1 || !slices.Contains(got, "l0-3") {
		t.Errorf("%d profiles", len(got))
	}
	if err := l.do(catalog.SetProfiles{Names: []catalog.ProfileName{"l0-0"}, Profiles: &below}); err == nil || !strings.Contains(err.Error(), "built on itself") {
		t.Errorf("a circle through all layers: %v", err)
	}
}

func TestAProfileIsInUseWhereItIsNegated(t *testing.T) {
	l := merging(t, []profile{{"p", "", nil}, {"q", "p", nil}}, "q ~p")
	l.must(catalog.SetProfiles{Names: []catalog.ProfileName{"q"}, Profiles: &[]catalog.ProfileName{}})
	if err := l.do(catalog.DeleteProfile{Name: "p"}); err == nil || !strings.Contains(err.Error(), "used by node n") {
		t.Errorf("deleting a profile that a node negates: %v", err)
	}
}

// Scalar, List and Expand are shortcuts, and never another answer than all settings give.
func TestOneSettingByItselfIsTheOneAmongAll(t *testing.T) {
	l := started(t)
	l.must(
		catalog.AddProfile{Profile: catalog.Profile{Name: "base", Settings: catalog.Settings{Rack: new("r1"), Groups: []string{"io", "old"}, Roles: []string{"compute"}}}},
		catalog.AddProfile{Profile: catalog.Profile{Name: "gpu", Profiles: []catalog.ProfileName{"base"}, Settings: catalog.Settings{Groups: []string{"gpu", "~old"}}}},
	)
	settings := map[catalog.NodeName]catalog.Settings{
		"plain":   {},
		"own":     {Rack: new("r2"), Groups: []string{"mine"}},
		"negates": {Groups: []string{"~io"}, Roles: []string{"~compute", "login"}},
		"without": {Groups: []string{"only"}, Without: []string{"groups", "rack"}},
	}
	for name, s := range settings {
		for suffix, list := range map[string][]catalog.ProfileName{"0": {}, "1": {"base"}, "2": {"gpu"}, "3": {"gpu", "~base"}} {
			l.must(catalog.AddNodes{Nodes: []catalog.Node{{Name: name + catalog.NodeName(suffix), Profiles: list, Settings: s}}})
		}
	}
	groups := func(s *catalog.Settings) []string { return s.Groups }
	roles := func(s *catalog.Settings) []string { return s.Roles }
	rack := func(s *catalog.Settings) *string { return s.Rack }
	for n := range l.c.Nodes() {
		all := l.c.Effective(n)
		for what, field := range map[string]func(*catalog.Settings) []string{"groups": groups, "roles": roles} {
			if got, want := l.c.List(n, field), field(&all); !slices.Equal(got, want) {
				t.Errorf("%s: %s are %v, want %v", n.Name, what, got, want)
			}
		}
		want := ""
		if all.Rack != nil {
			want = *all.Rack
		}
		if got := l.c.Scalar(n, rack); got != want {
			t.Errorf("%s: rack is %q, want %q", n.Name, got, want)
		}
	}
	if got, want := l.c.Expand([]catalog.ProfileName{"gpu"}), []catalog.ProfileName{"base", "gpu"}; !slices.Equal(got, want) {
		t.Errorf("gpu comes to %v, want %v", got, want)
	}
	if got, want := l.c.Expand([]catalog.ProfileName{"gpu", "~base"}), []catalog.ProfileName{"gpu"}; !slices.Equal(got, want) {
		t.Errorf("gpu without base comes to %v, want %v", got, want)
	}
}

package nodeset_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// groupsOf reads "@source:name=expression" or "@name=expression".
func groupsOf(t *testing.T, texts ...string) []nodeset.Group {
	t.Helper()
	var all []nodeset.Group
	for _, text := range texts {
		call, members, _ := strings.Cut(text, "=")
		source, name, ok := strings.Cut(call[1:], ":")
		if !ok {
			source, name = "", source
		}
		all = append(all, nodeset.Group{Source: source, Name: name, Set: parse(t, members)})
	}
	return all
}

func TestRegroupTellsASetByItsGroups(t *testing.T) {
	groups := groupsOf(t, "@gpu=n[1-4]", "@rack:r1=n[1-8]", "@rack:r2=n[9-16]", "@rack:r3=n[17-24]", "@one=n30", "@none=a!a", "@odd=n[1-31/2]",
		"@role:login=login[1-2]", "@cpu=n[5-24]")
	for in, want := range map[string]string{
		"n[1-4]":               "@gpu",
		"n[1-8]":               "@rack:r1",
		"n[1-16]":              "@rack:r[1-2]",
		"n[1-17]":              "@rack:r[1-2],n17",
		"n[1-24]":              "@cpu,@gpu",
		"n[5-24],login[1-2]":   "@cpu,@role:login",
		"n[2-4]":               "n[2-4]",
		"n30":                  "n30",
		"n[1-4,30],login[1-3]": "@gpu,@role:login,login3,n30",
		"n[1-31/2]":            "@odd",
		"a!a":                  "",
	} {
		if got := nodeset.Regroup(parse(t, in), groups).String(); got != want {
			t.Errorf("%s = %q, want %q", in, got, want)
		}
	}
}

func TestRegroupDropsWhatBecameSuperfluous(t *testing.T) {
	// The largest is taken first, and then its names are all in others that are needed.
	c := nodeset.Regroup(parse(t, "n[1-12]"), groupsOf(t, "@middle=n[3-8]", "@left=n[1-5]", "@right=n[6-12]"))
	if got := c.String(); got != "@left,@right" {
		t.Errorf("%s", got)
	}
}

func TestRegroupTakesNoGroupThatCannotBeWritten(t *testing.T) {
	s := parse(t, "n[1-4]")
	for _, g := range []nodeset.Group{{Name: "a b"}, {Name: "a,b"}, {Name: "a[1]"}, {Name: ""}, {Name: "a:b"}, {Source: "a:b", Name: "c"}, {Source: "a!", Name: "c"}} {
		g.Set = s
		if got := nodeset.Regroup(s, []nodeset.Group{g}); len(got.Groups) > 0 || !got.Rest.Equal(s) {
			t.Errorf("%q:%q is taken", g.Source, g.Name)
		}
	}
	c := nodeset.Regroup(s, []nodeset.Group{{Source: "tag", Name: "k=v:w", Set: s}})
	if got := c.String(); got != "@tag:k=v:w" {
		t.Errorf("%q", got)
	}
}

// directory knows the groups that it has.
type directory []nodeset.Group

func (d directory) Group(source, name string) ([]string, error) {
	for _, g := range d {
		if g.Source == source && g.Name == name {
			return g.Set.Names(), nil
		}
	}
	return nil, fault.New(fault.NotFound, "no group %q of %q", name, source)
}

func TestRegroupedTextIsTheSameSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := setOf(t, anyNames().Draw(t, "names"))
		all := s.Names()
		var groups []nodeset.Group
		calls := rapid.SliceOfNDistinct(rapid.StringMatching(`(rack:|tag:|)[ab]?[0-1]{0,2}[*=é \[]?[0-2]?`), 0, 20, rapid.ID).Draw(t, "groups")
		for i, call := range calls {
			source, name, ok := strings.Cut(call, ":")
			if !ok {
				source, name = "", source
			}
			// Some groups are parts of the set, some have more.
			members := slices.DeleteFunc(slices.Clone(all), func(string) bool { return rapid.IntRange(0, 2).Draw(t, "in") > 0 })
			if i%4 == 3 {
				members = append(members, "other")
			}
			groups = append(groups, nodeset.Group{Source: source, Name: name, Set: setOf(t, members)})
		}
		c := nodeset.Regroup(s, groups)
		sum := c.Rest
		for _, g := range c.Groups {
			sum = sum.Union(g.Set)
		}
		if !sum.Equal(s) {
			t.Fatalf("%v is covered by %v", s, c)
		}
		if s.Len() == 0 {
			return
		}
		if got, err := (nodeset.Parser{Groups: directory(groups)}).Parse(c.String()); err != nil || !got.Equal(s) {
			t.Fatalf("%v is written %s, which is %v, %v", s, c, got, err)
		}
	})
}

func TestAFleetIsRegrouped(t *testing.T) {
	fleet, groups := fleetGroups(t)
	if got := nodeset.Regroup(fleet, groups).String(); got != "@rack:r[001-500]" {
		t.Errorf("%s", got)
	}
}

// fleetGroups are 40 000 names and 5 500 groups that have them: racks, and tags that cut across.
func fleetGroups(t testing.TB) (nodeset.Set, []nodeset.Group) {
	fleet, err := nodeset.Parse("r[001-500]n[01-80]")
	if err != nil {
		t.Fatal(err)
	}
	var groups []nodeset.Group
	for i, rack := range fleet.Split(500) {
		groups = append(groups, nodeset.Group{Source: "rack", Name: fmt.Sprintf("r%03d", i+1), Set: rack})
		for j, part := range rack.Split(10) {
			groups = append(groups, nodeset.Group{Source: "tag", Name: fmt.Sprintf("u%d=%d", i, j), Set: part})
		}
	}
	return fleet, groups
}

func BenchmarkRegroup(b *testing.B) {
	fleet, groups := fleetGroups(b)
	for b.Loop() {
		nodeset.Regroup(fleet, groups)
	}
}

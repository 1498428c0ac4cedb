package nodeset

import (
	"cmp"
	"slices"
	"strings"
)

// Group is a group of names, as an expression calls it: @Source:Name, or @Name without a source.
type Group struct {
	Source, Name string
	Set          Set
}

// Cover is a set told by the groups that are wholly in it.
type Cover struct {
	Groups []Group // together with Rest they are the set; in the order in which they were given
	Rest   Set     // the names that none of the groups has
}

// Regroup covers a set by few of the groups. Only groups that are wholly in it are taken, at each step the one that
// has most of the names not yet covered and of several such the one given first, until none has two more: a name says
// more than a group of one. The fewest groups of all cannot be found in reasonable time; these are close. Groups whose
// names the grammar could not read, such as those with a blank, are left out.
func Regroup(s Set, groups []Group) Cover {
	members := make([][]int, len(groups)) // of each group, the indices of its names in s
	most := make([][]int, len(s.names)+1) // by how many uncovered names a group has at most
	for i, g := range groups {
		if !g.writable() {
			continue
		}
		members[i] = s.indices(g.Set)
		most[len(members[i])] = append(most[len(members[i])], i)
	}
	covered := make([]int, len(s.names)) // by how many of the groups taken
	var taken []int
	for n := len(most) - 1; n >= 2; n-- {
		slices.Sort(most[n])
		for _, i := range most[n] {
			// Others may have covered some of it since; then its turn comes later.
			left := 0
			for _, m := range members[i] {
				if covered[m] == 0 {
					left++
				}
			}
			if left < n {
				most[left] = append(most[left], i)
				continue
			}
			for _, m := range members[i] {
				covered[m]++
			}
			taken = append(taken, i)
		}
	}
	// What was taken first may have been made superfluous by what came later.
	taken = slices.DeleteFunc(taken, func(i int) bool {
		if slices.ContainsFunc(members[i], func(m int) bool { return covered[m] == 1 }) {
			return false
		}
		for _, m := range members[i] {
			covered[m]--
		}
		return true
	})
	slices.Sort(taken)
	var c Cover
	for _, i := range taken {
		c.Groups = append(c.Groups, groups[i])
	}
	for m, name := range s.names {
		if covered[m] == 0 {
			c.Rest.names = append(c.Rest.names, name)
		}
	}
	return c
}

// indices are the places of o's names in s, or nil if not all of them are there.
func (s Set) indices(o Set) []int {
	if len(o.names) > len(s.names) {
		return nil
	}
	all := make([]int, len(o.names))
	from := 0
	for i, name := range o.names {
		at, ok := slices.BinarySearchFunc(s.names[from:], name, Compare)
		if !ok {
			return nil
		}
		all[i] = from + at
		from += at + 1
	}
	return all
}

// writable tells whether an expression can call the group by its name.
func (g Group) writable() bool {
	const ends = operators + space + "[]"
	return g.Name != "" && !strings.ContainsAny(g.Source+g.Name, ends) && !strings.Contains(g.Source, ":") &&
		(g.Source != "" || !strings.Contains(g.Name, ":"))
}

// String is the cover as an expression, the groups first and folded: @gpu,@rack:r[01-08],login1. It is "" for a set
// without names.
func (c Cover) String() string {
	var terms []string
	groups := slices.Clone(c.Groups)
	slices.SortStableFunc(groups, func(a, b Group) int { return cmp.Compare(a.Source, b.Source) })
	for len(groups) > 0 {
		source := groups[0].Source
		var names []string
		for len(groups) > 0 && groups[0].Source == source {
			names = append(names, groups[0].Name)
			groups = groups[1:]
		}
		mark := "@"
		if source != "" {
			mark += source + ":"
		}
		for _, t := range foldTerms(normal(names), FoldOptions{}) {
			terms = append(terms, mark+t.text)
		}
	}
	if c.Rest.Len() > 0 {
		terms = append(terms, c.Rest.String())
	}
	return strings.Join(terms, ",")
}

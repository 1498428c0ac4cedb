package nodeset

import (
	"iter"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// MaxName is the longest name in bytes: what DNS allows a host.
const MaxName = 253

// Set is a set of names, ordered by Compare. The zero Set is empty. It may be copied and used by any number of
// goroutines.
type Set struct {
	names []string // sorted, each once; never changed
}

// Of returns the set of the names as they are: no grammar. What is not a name is fault.Invalid.
func Of(names ...string) (Set, error) {
	for _, n := range names {
		if !IsName(n) {
			return Set{}, fault.New(fault.Invalid, "%.80q is not a name", n).WithFix("%s", nameRule)
		}
	}
	return Set{normal(slices.Clone(names))}, nil
}

const nameRule = "a name has letters, digits, '_', '-' and '.', and begins with a letter, a digit or '_'"

// IsName tells whether s could name a node.
func IsName(s string) bool {
	if s == "" || len(s) > MaxName || s[0] == '-' || s[0] == '.' {
		return false
	}
	for i := range len(s) {
		if !isNameByte(s[i]) {
			return false
		}
	}
	return true
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c) || c == '-' || c == '_' || c == '.'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// normal sorts names in place and drops repetitions.
func normal(names []string) []string {
	if !slices.IsSortedFunc(names, Compare) { // expansions mostly come in order
		slices.SortFunc(names, Compare)
	}
	return slices.Compact(names)
}

// Len is the number of names.
func (s Set) Len() int { return len(s.names) }

// IsZero tells whether the set has no names, for the JSON tag omitzero.
func (s Set) IsZero() bool { return len(s.names) == 0 }

// All yields the names in order.
func (s Set) All() iter.Seq[string] { return slices.Values(s.names) }

// Names returns the names in order, in a slice that the caller may change.
func (s Set) Names() []string { return slices.Clone(s.names) }

// Contains tells whether name is in the set.
func (s Set) Contains(name string) bool {
	_, ok := slices.BinarySearchFunc(s.names, name, Compare)
	return ok
}

// Equal tells whether both have the same names.
func (s Set) Equal(o Set) bool { return slices.Equal(s.names, o.names) }

// Union is what is in s or o.
func (s Set) Union(o Set) Set { return merge(s, o, true, true, true) }

// Minus is what is in s and not in o.
func (s Set) Minus(o Set) Set { return merge(s, o, true, false, false) }

// Intersect is what is in s and in o.
func (s Set) Intersect(o Set) Set { return merge(s, o, false, true, false) }

// Xor is what is in one of s and o only.
func (s Set) Xor(o Set) Set { return merge(s, o, true, false, true) }

// merge walks both and keeps what is in the left only, in both, in the right only, as the caller wants.
func merge(l, r Set, left, both, right bool) Set {
	a, b := l.names, r.names
	var out []string
	for len(a) > 0 && len(b) > 0 {
		c := Compare(a[0], b[0])
		if c < 0 && left || c == 0 && both {
			out = append(out, a[0])
		}
		if c > 0 && right {
			out = append(out, b[0])
		}
		if c <= 0 {
			a = a[1:]
		}
		if c >= 0 {
			b = b[1:]
		}
	}
	if left {
		out = append(out, a...)
	}
	if right {
		out = append(out, b...)
	}
	return Set{out}
}

package nodeset

import "math/rand/v2"

// Slice is the names from index i on up to, and without, index j. Indices beyond the ends mean the ends.
func (s Set) Slice(i, j int) Set {
	j = min(max(j, 0), len(s.names))
	return Set{s.names[min(max(i, 0), j):j]}
}

// First is the first n names, or all if there are fewer.
func (s Set) First(n int) Set { return s.Slice(0, n) }

// Pick is n names chosen by r with equal chances, or all if there are fewer. The same set and the same r give the same
// names, so that a caller who notes the seed can say later which they were.
func (s Set) Pick(n int, r *rand.Rand) Set {
	if n >= len(s.names) {
		return s
	}
	// Selection sampling (Knuth, TAOCP 2, 3.4.2, algorithm S): each name in turn with the chance that is left.
	out := make([]string, 0, max(n, 0))
	for i, name := range s.names {
		if r.IntN(len(s.names)-i) < n-len(out) {
			out = append(out, name)
		}
	}
	return Set{out}
}

// Split cuts the set into n parts, in order, whose lengths differ by one at most, the longer ones first. If there are
// fewer than n names, each is a part: none is empty.
func (s Set) Split(n int) []Set {
	n = min(max(n, 0), len(s.names))
	parts := make([]Set, n)
	for i, from := 0, 0; i < n; i++ {
		to := from + (len(s.names)-from+n-i-1)/(n-i)
		parts[i] = s.Slice(from, to)
		from = to
	}
	return parts
}

// Contiguous cuts the set, in order, into parts that are one range without a gap: n1, n2 and n4 are n[1-2] and n4.
// Within a part one number counts up by one from name to name, in its padding, and nothing else differs.
func (s Set) Contiguous() []Set {
	var parts []Set
	from, where := 0, -1 // of the names since from, the place of the number that counts up; -1 for one name
	for i := 1; i < len(s.names); i++ {
		at, ok := follows(s.names[i-1], s.names[i])
		if !ok || where >= 0 && at != where {
			parts = append(parts, s.Slice(from, i))
			from, where = i, -1
			continue
		}
		where = at
	}
	if from < len(s.names) {
		parts = append(parts, s.Slice(from, len(s.names)))
	}
	return parts
}

// follows tells whether b is a with one number more by one, and where in both that number begins.
func follows(a, b string) (at int, ok bool) {
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	for at > 0 && isDigit(a[at-1]) {
		at--
	}
	x, y := digits(a[at:]), digits(b[at:])
	if x == "" || y == "" || len(x) > maxDigits || len(y) > maxDigits || a[at+len(x):] != b[at+len(y):] {
		return 0, false
	}
	return at, string(appendNumber(nil, value(x)+1, len(x))) == y
}

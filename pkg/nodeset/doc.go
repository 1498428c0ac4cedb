// Package nodeset names many nodes in few characters. It reads and writes ClusterShell's grammar:
//
//	n1                     one name
//	n[1-48]                a range; n[1-8,12,20-24] a list of ranges
//	n[01-48]               zero padding is kept: n01 … n48
//	n[0-12/4]              with a step: n0 n4 n8 n12
//	r[01-40]n[1-48]        any number of dimensions, at any place of a name
//	a,b  a b               union; a line end is white space too
//	a!b                    minus: a without b
//	a&b                    and: what is in both
//	a^b                    exclusive or: what is in one of them only
//	@gpu  @rack:r07  @*    a group, a group of a source, all nodes; @rack:r[01-03] is three groups
//	~^login                all nodes whose name matches a regular expression (RE2), anywhere unless anchored
//	^file  -               the sets in a file or on standard input, one expression a line, # begins a comment
//
// Operators apply from left to right, with no precedence: a,b!c&d is ((a ∪ b) ∖ c) ∩ d. White space beside an
// operator means nothing. After a term, ^ is the operator; at the place of a term it is a file: a,^list. A regular
// expression ends at a comma, an exclamation mark, an ampersand or white space outside its brackets, so ^ within it
// is an anchor; a backslash keeps the character after it in the expression.
//
// Names consist of ASCII letters, digits, '_', '-' and '.', and begin with a letter, a digit or '_'.
//
// Ranges keep their zeros: both ends of n[08-11] have two digits, and n[8-011] is an error, since it could mean two
// things. n8 and n08 are different names.
//
// # Reading
//
// Parse knows names only. A Parser with Groups, Match and Read also knows what exists. Neither checks that a plain
// name names a node: that is the caller's, who can say "did you mean". An empty expression is an error, never
// "all"; an expression whose result is empty, such as a!a, is a Set without names, and a caller that would take an
// empty set for all nodes is wrong. So is everything malformed: n[], n[3-1] and n[1-2-3] are neither kept as they
// stand nor left out.
//
//	set, err := nodeset.Parse("r[01-02]n[1-48]!r01n7")
//	…
//	set.Len()           // 95
//	set.String()        // r01n[1-6,8-48],r02n[1-48]
//
// Errors are one line, fault.Invalid unless a hook of the Parser gave another kind, with the position of the mistake
// in bytes from 1 on, and mostly a fix:
//
//	node set "n[3-1]" at 3: the range 3-1 runs backwards
//
// # Sets
//
// A Set has its names in the order of Compare, which counts as people do: n2 before n10. Union, Minus, Intersect and
// Xor combine sets; Slice, First, Pick, Split and Contiguous take them apart; Regroup tells a set by the groups that
// are in it. String, Fold and Set.Fold write the grammar, and for whatever they write
//
//	Parse(set.String()) = set
//
// In JSON and wherever else encoding.TextMarshaler counts, a Set is that text.
//
// # Formulas
//
// A Formula computes a text for each name from the numbers in it: 10.1.{n1}.{n2} is 10.1.3.12 for r3n12. It is read
// once and then costs less for a name than the text it makes.
//
// # Bounds
//
// Whatever comes from outside is bounded, so that a server may read it: the names an expression may stand for
// (Parser.Max, counted before one is made and before repetitions are dropped), its length (MaxText), that of a name
// (MaxName), the groups, files and regular expressions in it, how often operators walk over the names; and the length
// (MaxFormula), depth and numbers of formulas. Nothing nests but parentheses in formulas.
//
// The package is pure: it reads no file and no clock, and keeps nothing. Sets and formulas are immutable values that
// any number of goroutines may use.
package nodeset

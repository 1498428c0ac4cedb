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
// Parse knows names only. A Parser with Groups, Match and Read also knows what exists. Neither checks that a plain
// name names a node: that is the caller's, who can say "did you mean". An empty expression is an error, never
// "all"; an expression whose result is empty, such as a!a, is a Set without names, and a caller that would take an
// empty set for all nodes is wrong.
//
//	set, err := nodeset.Parse("r[01-02]n[1-48]!r01n7")
//	…
//	set.Len()           // 95
//	set.String()        // r01n[1-6,8-48],r02n[1-48]
//
// The package is pure: it reads no file and no clock, and keeps nothing. Sets are immutable values.
package nodeset

package nodeset

// maxUnmarshal is how many names a text may stand for that a program reads from another: six times a cluster of 40 000,
// and little enough for a server that reads many.
const maxUnmarshal = 1 << 18

// String is the set as compact text that Parse reads back; see Fold. A set without names is "", which Parse refuses:
// who writes an expression means something by it.
func (s Set) String() string { return s.Fold(FoldOptions{}) }

// Fold is String as the options say.
func (s Set) Fold(o FoldOptions) string { return fold(s.names, o) }

// MarshalText is String, for JSON and other texts.
func (s Set) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes, and whatever else Parse reads, up to 262144 names. "" is the set without
// names, since that is how it is written; only blanks are an error. After an error the set is as it was.
func (s *Set) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = Set{}
		return nil
	}
	read, err := Parser{Max: maxUnmarshal}.Parse(string(text))
	if err == nil {
		*s = read
	}
	return err
}

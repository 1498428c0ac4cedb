package nodeset

import (
	"cmp"
	"slices"
	"strings"
)

// Fold writes names, in any order and maybe repeated, as compact text: runs of digits become ranges, in as many
// dimensions as the names have. Parse reads the text back into the same names. What is not a name (IsName) is written
// as it is. Terms come in the order of their first names. It takes time proportional to n·log n.
func Fold(names []string) string { return fold(normal(slices.Clone(names)), FoldOptions{}) }

// FoldOptions say how Set.Fold writes a set. The zero value is how String does.
type FoldOptions struct {
	// Autostep is from how many numbers on, equally far apart, they become a range with a step: with 3, n0, n4 and
	// n8 are n[0-8/4]. Numbers that follow one another are a range without a step before. 0 makes no steps; less
	// than 3 is 3, for two numbers are no pattern.
	Autostep int
}

// fold is Fold of names in order, each once.
func fold(names []string, o FoldOptions) string {
	terms := foldTerms(names, o)
	texts := make([]string, len(terms))
	for i, t := range terms {
		texts[i] = t.text
	}
	return strings.Join(texts, ",")
}

// foldTerms is fold before the terms are joined.
func foldTerms(names []string, o FoldOptions) []term {
	shapes := make(map[string]*shape)
	var terms []term
	var key []byte
	for i, name := range names {
		if !IsName(name) {
			terms = append(terms, term{i, name})
			continue
		}
		key = appendShape(key[:0], name)
		s, ok := shapes[string(key)]
		if !ok {
			s = newShape(string(key), o)
			shapes[string(key)] = s
		}
		s.add(i, name)
	}
	for _, s := range shapes {
		terms = s.fold(terms)
	}
	slices.SortFunc(terms, func(a, b term) int { return cmp.Compare(a.first, b.first) })
	return terms
}

// term is one piece of the result.
type term struct {
	first int // index of its first name, which gives its place
	text  string
}

// hole stands for a number in the key of a shape; no name contains it.
const hole = '\x00'

// shape is all names that are alike but for their numbers, as rows of numbers.
type shape struct {
	FoldOptions
	text    []string // around the numbers; one more than there are
	names   []int    // of each row, the index of its name
	numbers []uint64 // row after row
	pads    []uint8  // likewise: the width a number is padded to, 0 if it has no leading zeros
	lengths []uint8  // likewise: the digits it has
}

// appendShape writes name with a hole for every number.
func appendShape(b []byte, name string) []byte {
	for i := 0; i < len(name); {
		run := digits(name[i:])
		switch {
		case run == "":
			b = append(b, name[i])
			i++
		case len(run) > maxDigits:
			b = append(b, run...)
		default:
			b = append(b, hole)
		}
		i += len(run)
	}
	return b
}

func newShape(key string, o FoldOptions) *shape {
	return &shape{FoldOptions: o, text: strings.Split(key, string(hole))}
}

func (s *shape) dims() int { return len(s.text) - 1 }

// add appends the numbers of a name that has this shape.
func (s *shape) add(index int, name string) {
	s.names = append(s.names, index)
	for i := 0; i < len(name); {
		run := digits(name[i:])
		i += max(len(run), 1)
		if run == "" || len(run) > maxDigits {
			continue
		}
		length, pad := uint8(len(run)), uint8(0)
		if length > 1 && run[0] == '0' {
			pad = length
		}
		s.numbers, s.pads, s.lengths = append(s.numbers, value(run)), append(s.pads, pad), append(s.lengths, length)
	}
}

// fold appends the terms of the shape.
func (s *shape) fold(terms []term) []term {
	d := s.dims()
	if d == 0 {
		return append(terms, term{s.names[0], s.text[0]})
	}
	s.shareWidths()
	rows := make([]int, len(s.names))
	for i := range rows {
		rows[i] = i
	}
	compare := func(a, b int) int {
		return cmp.Or(slices.Compare(s.pads[a*d:(a+1)*d], s.pads[b*d:(b+1)*d]), slices.Compare(s.numbers[a*d:(a+1)*d], s.numbers[b*d:(b+1)*d]))
	}
	if !slices.IsSortedFunc(rows, compare) {
		slices.SortFunc(rows, compare)
	}
	// Rows of equal widths are folded together; a bracket never mixes widths.
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && slices.Equal(s.pads[rows[n]*d:(rows[n]+1)*d], s.pads[rows[0]*d:(rows[0]+1)*d]) {
			n++
		}
		for _, b := range s.boxes(rows[:n], d) {
			var text strings.Builder
			for i, list := range b.lists {
				text.WriteString(s.text[i])
				text.WriteString(list)
			}
			text.WriteString(s.text[d])
			terms = append(terms, term{s.names[b.row], text.String()})
		}
		rows = rows[n:]
	}
	return terms
}

// shareWidths counts numbers without leading zeros to a padded width that would write them alike, so that n08, n09
// and n10 become one range: 10 padded to two digits is 10.
func (s *shape) shareWidths() {
	d := s.dims()
	for dim := range d {
		var widths uint32 // bit w: some number here is padded to w digits
		for i := dim; i < len(s.pads); i += d {
			if s.pads[i] > 0 {
				widths |= 1 << s.pads[i]
			}
		}
		if widths == 0 {
			continue
		}
		for i := dim; i < len(s.pads); i += d {
			for w := s.lengths[i]; w > 0 && s.pads[i] == 0; w-- {
				if widths&(1<<w) != 0 {
					s.pads[i] = w
				}
			}
		}
	}
}

// box is a product of range lists, one text for each dimension.
type box struct {
	row   int // the first of its rows
	lists []string
}

// boxes covers rows, which are sorted and of equal widths, in their first d dimensions: rows that agree in all but
// the last dimension give a list of ranges there, and those with equal lists are folded on, one dimension less.
func (s *shape) boxes(rows []int, d int) []box {
	stride, last := s.dims(), d-1
	if d == 1 {
		return []box{{rows[0], []string{s.ranges(rows, 0)}}}
	}
	heads := make(map[string][]int) // of each list in the last dimension, one row for every head that has it
	var order []string
	for len(rows) > 0 {
		head := s.numbers[rows[0]*stride : rows[0]*stride+last]
		n := 1
		for n < len(rows) && slices.Equal(s.numbers[rows[n]*stride:rows[n]*stride+last], head) {
			n++
		}
		list := s.ranges(rows[:n], last)
		if _, ok := heads[list]; !ok {
			order = append(order, list)
		}
		heads[list] = append(heads[list], rows[0])
		rows = rows[n:]
	}
	var out []box
	for _, list := range order {
		for _, b := range s.boxes(heads[list], last) {
			out = append(out, box{b.row, append(b.lists, list)})
		}
	}
	return out
}

// ranges writes the numbers that rows have in one dimension, where they ascend: 7 or [1-8,12].
func (s *shape) ranges(rows []int, dim int) string {
	stride := s.dims()
	at := func(i int) uint64 { return s.numbers[rows[i]*stride+dim] }
	width := int(s.pads[rows[0]*stride+dim])
	if len(rows) == 1 {
		return string(appendNumber(nil, at(0), width))
	}
	b := []byte{'['}
	for i := 0; i < len(rows); {
		j, step := i, uint64(1)
		for j+1 < len(rows) && at(j+1) == at(j)+1 {
			j++
		}
		if j == i && s.Autostep > 0 {
			j, step = s.stepped(rows, dim, i)
		}
		b = appendNumber(b, at(i), width)
		if j > i {
			b = append(b, '-')
			b = appendNumber(b, at(j), width)
		}
		if step > 1 {
			b = append(b, '/')
			b = appendNumber(b, step, 0)
		}
		b = append(b, ',')
		i = j + 1
	}
	b[len(b)-1] = ']'
	return string(b)
}

// stepped finds the last of the numbers from i on that are equally far apart, and their distance. If they are too few
// to become a range it is i itself.
func (s *shape) stepped(rows []int, dim, i int) (last int, step uint64) {
	stride := s.dims()
	at := func(i int) uint64 { return s.numbers[rows[i]*stride+dim] }
	for last = i; last+1 < len(rows); last++ {
		next := last + 1
		if last > i && at(next)-at(last) != step || next+1 < len(rows) && at(next+1) == at(next)+1 {
			break // the next begins a range without a step if the one after it follows it
		}
		step = at(next) - at(last)
	}
	if last-i+1 < max(s.Autostep, 3) {
		return i, 1
	}
	return last, step
}

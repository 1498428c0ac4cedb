package nodeset_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// anyNames draws names that are likely to fold: few letters, many digits, zeros among them.
func anyNames() *rapid.Generator[[]string] {
	return rapid.SliceOfN(rapid.OneOf(
		rapid.StringMatching(`[ab][0-3]{0,3}`),
		rapid.StringMatching(`r[0-2]{1,2}n[01]{1,3}`),
		rapid.StringMatching(`[a-z0-9_][a-z0-9._-]{0,12}`),
		rapid.StringMatching(`n[0-9]{15,22}`),
		rapid.StringMatching(`[01]{1,2}-[01]{1,2}-[01]{1,2}`),
	), 0, 60)
}

func setOf(t *rapid.T, names []string) nodeset.Set {
	s, err := nodeset.Of(names...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestExpandOfFoldIsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := anyNames().Draw(t, "names")
		want := setOf(t, names)
		text := nodeset.Fold(names)
		if text != want.String() {
			t.Fatalf("Fold %q, String %q", text, want)
		}
		if want.Len() == 0 {
			return
		}
		got, err := nodeset.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Equal(want) {
			t.Fatalf("%q came back as %q through %q", want.Names(), got.Names(), text)
		}
		slices.Reverse(names)
		if again := nodeset.Fold(names); again != text {
			t.Fatalf("in another order %q, before %q", again, text)
		}
	})
}

func TestAlgebraAgreesWithMaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := setOf(t, anyNames().Draw(t, "a")), setOf(t, anyNames().Draw(t, "b"))
		check := func(op string, got nodeset.Set, keep func(inA, inB bool) bool) {
			want := map[string]bool{}
			for n := range a.Union(b).All() {
				if keep(a.Contains(n), b.Contains(n)) {
					want[n] = true
				}
			}
			if got.Len() != len(want) || !slices.IsSortedFunc(got.Names(), nodeset.Compare) {
				t.Fatalf("%v %s %v = %v, want %v", a, op, b, got, want)
			}
			for n := range got.All() {
				if !want[n] {
					t.Fatalf("%v %s %v has %s", a, op, b, n)
				}
			}
		}
		check("!", a.Minus(b), func(x, y bool) bool { return x && !y })
		check("&", a.Intersect(b), func(x, y bool) bool { return x && y })
		check("^", a.Xor(b), func(x, y bool) bool { return x != y })
		if u := a.Union(b); u.Len() != a.Len()+b.Len()-a.Intersect(b).Len() {
			t.Fatalf("union of %v and %v is %v", a, b, u)
		}
		if a.Len() > 0 && b.Len() > 0 {
			for op, want := range map[string]nodeset.Set{",": a.Union(b), "!": a.Minus(b), "&": a.Intersect(b), "^": a.Xor(b)} {
				// The left side of an operator is all before it, the right side one term.
				text, sum := a.String(), a
				for _, term := range terms(b) {
					text += op + term.String()
					switch op {
					case ",":
						sum = sum.Union(term)
					case "!":
						sum = sum.Minus(term)
					case "&":
						sum = sum.Intersect(term)
					case "^":
						sum = sum.Xor(term)
					}
				}
				got, err := nodeset.Parse(text)
				if err != nil || !got.Equal(sum) {
					t.Fatalf("%s = %v, %v; want %v", text, got, err, sum)
				}
				if op != "&" && !got.Equal(want) {
					t.Fatalf("%s = %v, want %v", text, got, want)
				}
			}
		}
	})
}

// terms splits a set into sets of one name each.
func terms(s nodeset.Set) []nodeset.Set {
	var out []nodeset.Set
	for n := range s.All() {
		one, _ := nodeset.Of(n)
		out = append(out, one)
	}
	return out
}

func TestCompareIsATotalOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := rapid.StringMatching(`[a0-2.]{0,6}`)
		a, b, c := g.Draw(t, "a"), g.Draw(t, "b"), g.Draw(t, "c")
		if sign(nodeset.Compare(a, b)) != -sign(nodeset.Compare(b, a)) || (nodeset.Compare(a, b) == 0) != (a == b) {
			t.Fatalf("%q and %q: %d, %d", a, b, nodeset.Compare(a, b), nodeset.Compare(b, a))
		}
		if nodeset.Compare(a, b) < 0 && nodeset.Compare(b, c) < 0 && nodeset.Compare(a, c) >= 0 {
			t.Fatalf("%q < %q < %q, but not %q < %q", a, b, c, a, c)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"n[1-3]", "r[01-08]n[1-48]!r1n1", "@rack:r[07,08]&~^n(1|2)$", "^list,-", "n[0-12/4] ^ n4", "n[1-03]", "a@b", "[1]", "@*", "~(\n", "@\x1b"} {
		f.Add(s)
	}
	p := parser()
	p.Max = 5000
	f.Fuzz(func(t *testing.T, in string) {
		s, err := p.Parse(in)
		if err != nil {
			if k := fault.KindOf(err); k != fault.Invalid && k != fault.NotFound || strings.ContainsFunc(err.Error()+fault.Fix(err), unicode.IsControl) {
				t.Fatalf("%q: %s %q", in, k, err)
			}
			return
		}
		if s.Len() == 0 {
			return
		}
		again, err := nodeset.Parse(s.String())
		if err != nil || !again.Equal(s) {
			t.Fatalf("%q gives %q, which gives %q, %v", in, s, again, err)
		}
	})
}

func FuzzFold(f *testing.F) {
	f.Add("n1 n2 n03")
	f.Add("a1b01 a1b2 \x00 ö")
	f.Fuzz(func(t *testing.T, in string) {
		names := strings.Fields(in)
		text := nodeset.Fold(names)
		want, err := nodeset.Of(names...)
		if err != nil {
			if !errors.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		for _, text := range []string{text, want.Fold(nodeset.FoldOptions{Autostep: 3})} {
			if got, err := nodeset.Parse(text); want.Len() > 0 && (err != nil || !got.Equal(want)) {
				t.Fatalf("%q: %q, %v", names, text, err)
			}
		}
		for _, part := range want.Contiguous() {
			if strings.Contains(part.String(), ",") {
				t.Fatalf("%q has the part %v", names, part)
			}
		}
	})
}

// fleet is 40 000 names in 500 racks, every hundredth missing.
func fleet() []string {
	var names []string
	for r := range 500 {
		for n := range 81 {
			if (r*81+n)%100 != 0 {
				names = append(names, fmt.Sprintf("r%03dn%02d", r+1, n+1))
			}
		}
	}
	return names
}

func TestAFleetFoldsAndExpands(t *testing.T) {
	names := fleet()
	text := nodeset.Fold(names)
	s, err := nodeset.Parse(text)
	if err != nil || !slices.Equal(s.Names(), names) {
		t.Fatalf("%d names of %d in %.200s, %v", s.Len(), len(names), text, err)
	}
}

func BenchmarkFold(b *testing.B) {
	for name, names := range inputs() {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				nodeset.Fold(names)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for name, names := range inputs() {
		b.Run("folded "+name, func(b *testing.B) { benchParse(b, nodeset.Fold(names)) })
		b.Run("listed "+name, func(b *testing.B) { benchParse(b, strings.Join(names, ",")) })
	}
}

func benchParse(b *testing.B, text string) {
	for b.Loop() {
		if _, err := nodeset.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

// inputs are 40 000 names of several kinds.
func inputs() map[string][]string {
	whole, _ := nodeset.Parse("r[001-500]n[01-80]")
	line, _ := nodeset.Parse("node[00001-40000]")
	shuffled := fleet()
	for i := range shuffled {
		j := (i * 7919) % len(shuffled)
		shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
	}
	return map[string][]string{"whole": whole.Names(), "line": line.Names(), "gaps": fleet(), "shuffled": shuffled}
}

package nodeset_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

func parse(t *testing.T, text string) nodeset.Set {
	t.Helper()
	s, err := nodeset.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSliceTakesWhatIsThere(t *testing.T) {
	s := parse(t, "n[1-5]")
	for _, c := range []struct {
		i, j int
		want string
	}{{0, 5, "n[1-5]"}, {1, 3, "n[2-3]"}, {-9, 2, "n[1-2]"}, {4, 99, "n5"}, {3, 2, ""}, {9, 9, ""}, {0, -1, ""}} {
		if got := s.Slice(c.i, c.j).String(); got != c.want {
			t.Errorf("Slice(%d, %d) = %q, want %q", c.i, c.j, got, c.want)
		}
	}
}

func TestSplitMakesEvenParts(t *testing.T) {
	s := parse(t, "n[1-7]")
	for n, want := range map[int]string{
		-1: "[]", 0: "[]", 1: "[n[1-7]]", 2: "[n[1-4] n[5-7]]", 3: "[n[1-3] n[4-5] n[6-7]]", 9: "[n1 n2 n3 n4 n5 n6 n7]",
	} {
		if got := fmt.Sprint(s.Split(n)); got != want {
			t.Errorf("Split(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestContiguousPartsAreRangesWithoutGaps(t *testing.T) {
	for in, want := range map[string]string{
		"n[1-3,5,7-8]":              "n[1-3] n5 n[7-8]",
		"r[1-2]n[1-2]":              "r1n[1-2] r2n[1-2]",
		"r[1-3]n1":                  "r[1-3]n1",
		"r[1-2]n3,r2n4":             "r[1-2]n3 r2n4",
		"n[08-11]":                  "n[08-11]",
		"n[098-101]":                "n[098-101]",
		"n9,n010":                   "n9 n010",
		"n[1-2],n01":                "n1 n01 n2",
		"x[1-2]-ib0":                "x[1-2]-ib0",
		"a,b":                       "a b",
		"s9999999999999999999":      "s9999999999999999999",
		"s100000000000000000[0-1]x": "s1000000000000000000x s1000000000000000001x",
		"s[100000000000000000-100000000000000001]x": "s[100000000000000000-100000000000000001]x",
	} {
		if got := fmt.Sprint(parse(t, in).Contiguous()); got != "["+want+"]" {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if (nodeset.Set{}).Contiguous() != nil {
		t.Error("a set without names has parts")
	}
}

func TestPartsMakeUpTheSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := setOf(t, anyNames().Draw(t, "names"))
		whole := func(parts []nodeset.Set) {
			var names []string
			for _, p := range parts {
				if p.Len() == 0 {
					t.Fatalf("%v has an empty part in %v", s, parts)
				}
				names = append(names, p.Names()...)
			}
			if !slices.Equal(names, s.Names()) {
				t.Fatalf("%v is in parts %v", s, parts)
			}
		}
		n := rapid.IntRange(1, 70).Draw(t, "n")
		parts := s.Split(n)
		whole(parts)
		if len(parts) != min(n, s.Len()) || len(parts) > 0 && parts[0].Len()-parts[len(parts)-1].Len() > 1 {
			t.Fatalf("%v in %d: %v", s, n, parts)
		}
		parts = s.Contiguous()
		whole(parts)
		for _, p := range parts {
			if strings.Contains(p.String(), ",") {
				t.Fatalf("%v has the part %v", s, p)
			}
		}
		picked := s.Pick(n, rand.New(rand.NewPCG(1, uint64(n))))
		if picked.Len() != min(n, s.Len()) || picked.Minus(s).Len() > 0 || !picked.Equal(s.Pick(n, rand.New(rand.NewPCG(1, uint64(n))))) {
			t.Fatalf("%d of %v are %v", n, s, picked)
		}
	})
}

func TestAutostepFoldsSteps(t *testing.T) {
	for in, want := range map[string]string{
		"n0 n4 n8":            "n[0-8/4]",
		"n0 n4":               "n[0,4]",
		"n0 n4 n8 n9 n10":     "n[0,4,8-10]",
		"n1 n2 n4 n6 n8":      "n[1-2,4-8/2]",
		"n1 n3 n5 n8 n11 n14": "n[1-5/2,8-14/3]",
		"n08 n10 n12":         "n[08-12/2]",
		"n090 n095 n100 n105": "n[090-105/5]",
		"n8 n010 n012 n014":   "n8,n[010-014/2]",
		"r1n1 r1n3 r1n5 r3n1 r3n3 r3n5 r5n1 r5n3 r5n5": "r[1-5/2]n[1-5/2]",
		"n1 n2 n3": "n[1-3]",
	} {
		s, err := nodeset.Of(strings.Fields(in)...)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Fold(nodeset.FoldOptions{Autostep: 3}); got != want {
			t.Errorf("%s = %s, want %s", in, got, want)
		}
	}
	s := parse(t, "n[0-12/4]")
	for autostep, want := range map[int]string{0: "n[0,4,8,12]", 1: "n[0-12/4]", 4: "n[0-12/4]", 5: "n[0,4,8,12]"} {
		if got := s.Fold(nodeset.FoldOptions{Autostep: autostep}); got != want {
			t.Errorf("Autostep %d: %s, want %s", autostep, got, want)
		}
	}
}

func TestExpandOfFoldWithStepsIsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := setOf(t, anyNames().Draw(t, "names"))
		text := want.Fold(nodeset.FoldOptions{Autostep: rapid.IntRange(-1, 6).Draw(t, "autostep")})
		if want.Len() == 0 {
			return
		}
		if got, err := nodeset.Parse(text); err != nil || !got.Equal(want) {
			t.Fatalf("%q came back as %v, %v through %q", want.Names(), got, err, text)
		}
	})
}

package nodeset_test

import (
	"errors"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// cluster is a small one for expressions that ask what exists.
type cluster struct {
	groups map[string]string // "source:name" to an expression
	files  map[string]string
}

func (c cluster) Group(source, name string) ([]string, error) {
	text, ok := c.groups[source+":"+name]
	if !ok {
		return nil, fault.New(fault.NotFound, "no group %q", name).WithFix("did you mean gpu?")
	}
	s, err := nodeset.Parse(text)
	return s.Names(), err
}

func parser() nodeset.Parser {
	c := cluster{
		groups: map[string]string{":*": "n[1-10],login1", ":gpu": "n[1-4]", "rack:r07": "n[3-6]", "rack:r08": "n[7-8]", "tag:k=v": "n9", "rack:none": "n1!n1"},
		files:  map[string]string{"list": "# two racks\nn1\n\n n[2-3] # more\nn5,n6!n6\n", "-": "n7\nn8", "bad": "n1\nn[2\n", "loop": "^list"},
	}
	return nodeset.Parser{
		Groups: c,
		Match: func(re *regexp.Regexp) ([]string, error) {
			all, err := c.Group("", "*")
			return slices.DeleteFunc(all, func(n string) bool { return !re.MatchString(n) }), err
		},
		Read: func(file string) (string, error) {
			text, ok := c.files[file]
			if !ok {
				return "", fault.New(fault.NotFound, "no such file")
			}
			return text, nil
		},
	}
}

func TestExpressions(t *testing.T) {
	for in, want := range map[string]string{
		"n1":             "n1",
		"n[1-3]":         "n1 n2 n3",
		"n[1-3,7]":       "n1 n2 n3 n7",
		"n[7,1-3]":       "n1 n2 n3 n7",
		"n[08-11]":       "n08 n09 n10 n11",
		"n[098-101]":     "n098 n099 n100 n101",
		"n[08-101/31]":   "n08 n39 n70 n101",
		"n[1-3,01-02]":   "n1 n01 n2 n02 n3",
		"n[0-12/4]":      "n0 n4 n8 n12",
		"n[0-11/4]":      "n0 n4 n8",
		"n[00-01]":       "n00 n01",
		"n[5-5]":         "n5",
		"r[1-2]n[1-2]":   "r1n1 r1n2 r2n1 r2n2",
		"r[01-02]n1-ib0": "r01n1-ib0 r02n1-ib0",
		"[1-2]":          "1 2",
		"n1[0-1]":        "n10 n11",
		"n[1-2]0":        "n10 n20",
		"a.b_c-d":        "a.b_c-d",
		// algebra, from left to right
		"a,b":           "a b",
		"a b\n\tc":      "a b c",
		"b,a,b":         "a b",
		"n[1-5]!n[2-3]": "n1 n4 n5",
		"n[1-5]&n[4-9]": "n4 n5",
		"n[1-3]^n[2-4]": "n1 n4",
		"a,b!b,b":       "a b",
		"a,b&b,c":       "b c",
		"a!b&a":         "a",
		" a ! b , c ":   "a c",
		"n[1-3] ^ n3":   "n1 n2",
		"n[1-3] ^n3":    "n1 n2",
		"a!a":           "",
		// what exists
		"@gpu":               "n1 n2 n3 n4",
		"@*!n[2-10]":         "n1 login1",
		"@rack:r07":          "n3 n4 n5 n6",
		"@rack:r[07-08]":     "n3 n4 n5 n6 n7 n8",
		"@rack:r[07,08]!n3":  "n4 n5 n6 n7 n8",
		"@gpu&@rack:r07":     "n3 n4",
		"@gpu!@rack:r07^n1":  "n2",
		"@tag:k=v":           "n9",
		"@rack:none":         "",
		"~^login":            "login1",
		"~1":                 "n1 n10 login1",
		"~^n1$":              "n1",
		"~^n(1|2,2|2)$,n5":   "n1 n2 n5",
		"~^n[^3-9,]$!n1":     "n2",
		"~^n\\d\\d":          "n10",
		"~^n\\d{1,1}$&@gpu":  "n1 n2 n3 n4",
		"n1^~^n[12]$":        "n2",
		"^list":              "n1 n2 n3 n5",
		"n[1-9],^list!^list": "n4 n6 n7 n8 n9",
		"n1^^list":           "n2 n3 n5",
		"-":                  "n7 n8",
		"-,n1":               "n1 n7 n8",
		"n7!-":               "",
	} {
		got, err := parser().Parse(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		// Sets are sorted; the tables above are written as people read them.
		names := strings.Fields(want)
		slices.SortFunc(names, nodeset.Compare)
		if !slices.Equal(got.Names(), names) {
			t.Errorf("%q = %q, want %q", in, got.Names(), names)
		}
	}
}

func TestErrorsGivePositionAndHint(t *testing.T) {
	for in, c := range map[string]struct{ want, hint string }{
		"":                  {`node set "" at 1: the expression is empty`, "all nodes are @*"},
		" ":                 {`node set " " at 2: a name is missing after the last operator`, ""},
		"n[3-1]":            {`node set "n[3-1]" at 3: the range 3-1 runs backwards`, "smaller number first"},
		"n[1-2-3]":          {`node set "n[1-2-3]" at 5: "2-3" is not a number`, "ranges look like"},
		"n[]":               {`node set "n[]" at 3: a number is missing`, "ranges look like"},
		"n[1,]":             {`node set "n[1,]" at 5: a number is missing`, ""},
		"n[-3]":             {`node set "n[-3]" at 3: a number is missing`, ""},
		"n[3-]":             {`node set "n[3-]" at 5: a number is missing`, ""},
		"n[a-b]":            {`node set "n[a-b]" at 3: "a" is not a number`, ""},
		"n[1-03]":           {`node set "n[1-03]" at 3: the ends of the range 1-03 have unlike zero padding`, "same number of digits"},
		"n[01-003]":         {`node set "n[01-003]" at 3: the ends of the range 01-003 have unlike zero padding`, ""},
		"n[08-9]":           {`node set "n[08-9]" at 3: the ends of the range 08-9 have unlike zero padding`, ""},
		"n[1-9/0]":          {`node set "n[1-9/0]" at 6: a step needs a range and must not be 0`, ""},
		"n[4/2]":            {`node set "n[4/2]" at 4: a step needs a range and must not be 0`, ""},
		"n[1-9/]":           {`node set "n[1-9/]" at 7: a number is missing`, ""},
		"r[01-08n1":         {`node set "r[01-08n1" at 2: this bracket is never closed`, ""},
		"n[1, 2]":           {`node set "n[1, 2]" at 2: this bracket is never closed`, "no white space"},
		"n[1-[2]]":          {`node set "n[1-[2]]" at 5: a bracket inside a bracket`, "r[1-2]n[1-4]"},
		"n1]":               {`node set "n1]" at 3: this bracket was never opened`, ""},
		"@rack:a]":          {`node set "@rack:a]" at 8: this bracket was never opened`, ""},
		"a,,b":              {`node set "a,,b" at 3: a name is missing before ','`, ""},
		"!a":                {`node set "!a" at 1: a name is missing before '!'`, ""},
		"a!":                {`node set "a!" at 3: a name is missing after the last operator`, ""},
		"a,":                {`node set "a," at 3: a name is missing after the last operator`, ""},
		"x,rack7@compute,y": {`node set "x,rack7@compute,y" at 8: "@" has no place here`, "rack7&@compute"},
		"n{1..3}":           {`node set "n{1..3}" at 2: "{" has no place here`, "square brackets"},
		"(a,b)!c":           {`node set "(a,b)!c" at 1: "(" has no place here`, "left to right"},
		"n*":                {`node set "n*" at 2: "*" has no place here`, "regular expression"},
		"/n1/":              {`node set "/n1/" at 1: "/" has no place here`, "regular expression"},
		"a|b":               {`node set "a|b" at 2: "|" has no place here`, "the operators are"},
		"nö":                {`node set "nö" at 2: "ö" has no place here`, "a name has letters"},
		"-x":                {`node set "-x" at 1: no name begins with '-'`, ""},
		"a,.x":              {`node set "a,.x" at 3: no name begins with '.'`, ""},
		"@":                 {`node set "@" at 1: the group has no name`, "@source:group"},
		"@rack:":            {`node set "@rack:" at 1: the group has no name`, ""},
		"@:x":               {`node set "@:x" at 1: the group has no name`, ""},
		"n1,@gqu":           {`node set "n1,@gqu" at 4: "@gqu": no group "gqu"`, "did you mean gpu?"},
		"~":                 {`node set "~" at 1: "" is not a regular expression`, ""},
		"~n(":               {`node set "~n(" at 1: "n(" is not a regular expression`, "missing closing"},
		"^":                 {`node set "^" at 1: a file name is missing after ^`, "a^b"},
		"^none":             {`node set "^none" at 1: reading "none": no such file`, ""},
		"n1,^bad":           {`node set "n1,^bad" at 4: "bad" line 2: node set "n[2" at 2: this bracket is never closed`, "no white space"},
		"^loop":             {`node set "^loop" at 1: "loop" line 1: node set "^list" at 1: a file of node sets cannot name another`, ""},
		"n[1-99999999]":     {`node set "n[1-99999999]" at 1: n[1-99999999] would make more than 1048576 names`, "fewer nodes"},
		"a,n[1-999999999999999999][1-999999999999999999]": {
			`node set "a,n[1-9999999999999999999…`, ""},
		"n[1-1111111111111111111]": {`node set "n[1-1111111111111111111]" at 5: a number has 19 digits, more than 18`, ""},
		strings.Repeat("x", 254):   {`node set "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"… at 1: a name has 254 characters, more than 253`, ""},
		"n[1-600000],m[1-600000]":  {`node set "n[1-600000],m[1-600000]" at 13: m[1-600000] would make more than 1048576 names`, ""},
	} {
		got, err := parser().Parse(in)
		if err == nil {
			t.Errorf("%q = %v", in, got)
			continue
		}
		before, _, prefix := strings.Cut(c.want, "…")
		if text := err.Error(); text != c.want && !(prefix && !strings.Contains(c.want, "… at") && strings.HasPrefix(text, before[:20])) {
			t.Errorf("%.60q:\n got %s\nwant %s", in, text, c.want)
		}
		if strings.ContainsAny(err.Error(), "\n") {
			t.Errorf("%q: more than one line: %v", in, err)
		}
		if fix := fault.Fix(err); !strings.Contains(fix, c.hint) {
			t.Errorf("%q: hint %q, want %q", in, fix, c.hint)
		}
		want := fault.Invalid
		if strings.Contains(c.want, "no group") || strings.Contains(c.want, "no such file") {
			want = fault.NotFound
		}
		if !errors.Is(err, want) {
			t.Errorf("%q: kind %s, want %s", in, fault.KindOf(err), want)
		}
	}
}

func TestAParserWithoutHooksKnowsNamesOnly(t *testing.T) {
	for in, want := range map[string]string{
		"@gpu": "groups are not known here", "~n": "regular expressions are not known here", "^f": "files are not read here", "-": "files are not read here",
	} {
		if _, err := nodeset.Parse(in); !errors.Is(err, fault.Invalid) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestEverythingIsBounded(t *testing.T) {
	small := parser()
	small.Max = 20
	for in, want := range map[string]string{
		"n[1-20]":                        "",
		"n[1-21]":                        "would make more than 20 names",
		"@*,n[1-9]":                      "",
		"@*,n[1-10]":                     "would make more than 20 names",
		"@*,@*":                          "\"@*\" brings more than 20 names",
		"^list,^list,^list,^list,^list":  "would make more than 20 names",
		"n1" + strings.Repeat("!n1", 19): "",
		"@rack:none" + strings.Repeat(",@rack:none", 4095): "",
		"@rack:none" + strings.Repeat(",@rack:none", 4096): "more than 4096 groups, regular expressions and files",
		"@rack:r[1-99999]": "more than 4096 groups, regular expressions and files",
	} {
		_, err := small.Parse(in)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%.40q: %v, want %q", in, err, want)
		}
	}
	small.Max = 1000
	_, err := small.Parse("n[1-900]" + strings.Repeat("!a", 90))
	if err == nil || !strings.HasSuffix(err.Error(), "too many operators for the names it stands for") {
		t.Errorf("many operators over many names: %v", err)
	}
}

func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"":                            "",
		"n1":                          "n1",
		"a b":                         "a,b",
		"n1 n2 n3":                    "n[1-3]",
		"n3 n1 n3":                    "n[1,3]",
		"n1 n2 n4 n5 n7":              "n[1-2,4-5,7]",
		"n08 n09 n10 n11":             "n[08-11]",
		"n098 n099 n100 n1000":        "n[098-100,1000]",
		"n8 n9 n10 n11":               "n[8-11]",
		"n1 n01 n2 n02":               "n[1-2],n[01-02]",
		"n00 n01 n0 n1":               "n[0-1],n[00-01]",
		"r1n1 r1n2 r2n1 r2n2":         "r[1-2]n[1-2]",
		"r1n1 r1n2 r2n1":              "r1n[1-2],r2n1",
		"r1n1 r2n1 r3n1":              "r[1-3]n1",
		"r01n1 r02n1 r10n1 login1":    "login1,r[01-02,10]n1",
		"n10 n9 a2 a1 n":              "a[1-2],n,n[9-10]",
		"x1-ib0 x2-ib0":               "x[1-2]-ib0",
		"a1b1c1 a1b1c2 a1b2c1 a1b2c2": "a1b[1-2]c[1-2]",
		"s1234567890123456789x1 s1234567890123456789x2": "s1234567890123456789x[1-2]",
		"1 2 3": "[1-3]",
	} {
		if got := nodeset.Fold(strings.Fields(in)); got != want {
			t.Errorf("Fold(%s) = %q, want %q", in, got, want)
		}
	}
	if got := nodeset.Fold([]string{"a b", "n1", "\x001", "n2"}); got != "\x001,a b,n[1-2]" {
		t.Errorf("Fold of what is not a name = %q", got)
	}
}

func TestCompareCountsAsPeopleDo(t *testing.T) {
	order := strings.Fields("a a-1 a.1 a0 a00 a1 a1b a01b a1c a01c a2 a2.5 a10 a10b1 a10b01 a10b2 a11 a100 aa ab b")
	for i, a := range order {
		for j, b := range order {
			if got, want := sign(nodeset.Compare(a, b)), sign(i-j); got != want {
				t.Errorf("Compare(%s, %s) = %d, want %d", a, b, got, want)
			}
		}
	}
}

func sign(n int) int { return min(max(n, -1), 1) }

func TestSets(t *testing.T) {
	s, err := nodeset.Of("n10", "n2", "n2", "n1")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.String(); got != "n[1-2,10]" || s.Len() != 3 {
		t.Errorf("%s has %d", got, s.Len())
	}
	if !s.Contains("n10") || s.Contains("n3") || (nodeset.Set{}).Contains("") {
		t.Error("Contains is wrong")
	}
	if got := slices.Collect(s.All()); !slices.Equal(got, []string{"n1", "n2", "n10"}) {
		t.Errorf("All yields %q", got)
	}
	if got := s.First(2).String(); got != "n[1-2]" || s.First(9).Len() != 3 || s.First(-1).Len() != 0 {
		t.Errorf("First(2) = %s", got)
	}
	s.Names()[0] = "changed"
	if !s.Contains("n1") {
		t.Error("Names gives the set itself away")
	}
	for _, bad := range []string{"", "-a", ".a", "a b", "a,b", "n[1]", "@a", "ö", strings.Repeat("a", 254)} {
		if _, err := nodeset.Of(bad); !errors.Is(err, fault.Invalid) {
			t.Errorf("Of(%q): %v", bad, err)
		}
	}
}

func TestPickIsFairAndExact(t *testing.T) {
	s, _ := nodeset.Parse("n[0-9]")
	r := rand.New(rand.NewPCG(1, 2))
	count := map[string]int{}
	for range 10_000 {
		p := s.Pick(3, r)
		if p.Len() != 3 || p.Minus(s).Len() != 0 {
			t.Fatalf("picked %v", p)
		}
		for n := range p.All() {
			count[n]++
		}
	}
	for n, c := range count {
		if c < 2800 || c > 3200 {
			t.Errorf("%s was picked %d times of 10000, want about 3000", n, c)
		}
	}
	if s.Pick(99, r).Len() != 10 || s.Pick(0, r).Len() != 0 || s.Pick(-1, r).Len() != 0 {
		t.Error("Pick at its limits")
	}
}

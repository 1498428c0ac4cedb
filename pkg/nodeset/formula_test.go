package nodeset_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

func TestFormulas(t *testing.T) {
	for _, c := range []struct{ formula, name, want string }{
		{"", "n1", ""},
		{"10.1.0.1", "n1", "10.1.0.1"},
		{"10.1.{n1}.{n2}", "r3n12", "10.1.3.12"},
		{"{n1}{n2}x", "r03n012", "312x"},
		{"10.1.0.{(n1-1)*4 + n2 % 3}", "r02n08", "10.1.0.6"},
		{"{ n1 }", "n7", "7"},
		{"{2+3*4-6/2}", "n7", "11"},
		{"{10-3-2}", "n7", "5"},
		{"{-n1+5}", "n7", "-2"},
		{"{--n1}", "n7", "7"},
		{"{n1*-(-4)/2}", "n7", "14"},
		{"{7/2*2}", "n7", "6"},
		{"{n9}", "1a2b3c4d5e6f7g8h9i10", "9"},
		// what is left of a division is a place in a row, and never before its beginning
		{"{(n1-1)%42+1}", "n43", "1"},
		{"{(n1-5)%4} {(n1-5)/4}", "n2", "1 -1"},
		{"{7%-4} {7/-4} {-8/4} {-8%4}", "n2", "-1 -2 -2 0"},
		{"52:54:00:00:{n1:02x}:{n2+16:02x}", "r3n250", "52:54:00:00:03:10a"},
		{"{n1:d} {n1:x} {n1:04d}", "n31", "31 1f 0031"},
		{"{-n1:04d} {-n1:03x}", "n31", "-031 -1f"},
		{"{2147483648}", "n1", "2147483648"},
		{"{-2147483648:016x}", "n1", "-000000080000000"},
		{"{n1:016d}", "n2147483648", "0000002147483648"},
		{"{n2}", "n99999999999999999999x5", "5"},
		{strings.Repeat("{n1}", 256), "n2", strings.Repeat("2", 256)},
		{"{" + strings.Repeat("(", 31) + "n1" + strings.Repeat(")", 31) + "}", "n2", "2"},
		{"{" + strings.Repeat("1+2*(", 31) + "n1" + strings.Repeat(")", 31) + "}", "n0", "2147483647"},
		{"ö{n1}\x00", "n1", "ö1\x00"},
	} {
		f, err := nodeset.ParseFormula(c.formula)
		if err != nil {
			t.Errorf("%s: %v", c.formula, err)
			continue
		}
		if got, err := f.Eval(c.name); err != nil || got != c.want {
			t.Errorf("%s for %s = %q, %v; want %q", c.formula, c.name, got, err, c.want)
		}
		if f.String() != c.formula {
			t.Errorf("%q is written %q", c.formula, f)
		}
	}
}

func TestMalformedFormulasAreRefusedWithPosition(t *testing.T) {
	for in, want := range map[string]string{
		"a{n1":         `formula "a{n1" at 2: this brace is never closed`,
		"n1}":          `formula "n1}" at 3: this brace was never opened`,
		"{}":           `formula "{}" at 2: something is missing before the brace`,
		"{ }":          `formula "{ }" at 3: something is missing before the brace`,
		"{n1+}":        `formula "{n1+}" at 5: something is missing before the brace`,
		"{(n1}":        `formula "{(n1}" at 5: something is missing before the brace`,
		"{n1)}":        `formula "{n1)}" at 4: ")" cannot stand here`,
		"{n1 n1}":      `formula "{n1 n1}" at 5: "n" cannot stand here`,
		"{n1{n2}}":     `formula "{n1{n2}}" at 4: "{" cannot stand here`,
		"{*2}":         `formula "{*2}" at 2: "*" cannot stand here`,
		"{ö}":          `formula "{ö}" at 2: "ö" cannot stand here`,
		"{\x00}":       `formula "{\x00}" at 2: "\x00" cannot stand here`,
		"{n0}":         `formula "{n0}" at 2: the numbers of a name are n1 to n9`,
		"{n}":          `formula "{n}" at 2: the numbers of a name are n1 to n9`,
		"{1+n10}":      `formula "{1+n10}" at 4: the numbers of a name are n1 to n9`,
		"{2147483649}": `formula "{2147483649}" at 2: a number is greater than 2147483648`,
		"{n1:}":        `formula "{n1:}" at 5: "" is not a format`,
		"{n1:q}":       `formula "{n1:q}" at 5: "q" is not a format`,
		"{n1:3d}":      `formula "{n1:3d}" at 5: "3d" is not a format`,
		"{n1:0x}":      `formula "{n1:0x}" at 5: "0x" is not a format`,
		"{n1:+2d}":     `formula "{n1:+2d}" at 5: "+2d" is not a format`,
		"{n1:017x}":    `formula "{n1:017x}" at 5: "017x" is not a format`,
		"{" + strings.Repeat("(", 33) + "1" + strings.Repeat(")", 33) + "}": `formula …"(((((((((((((((((((((((((((((((1))))))))))))))))))))))))))))"… at 34: more than 32 parentheses and signs within one another`,
		"{" + strings.Repeat("-", 33) + "1}":                                `formula …"-------------------------------1}" at 34: more than 32 parentheses and signs within one another`,
		strings.Repeat("x", 1025):                                           `formula …"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" at 1025: a formula has 1025 bytes, more than 1024`,
	} {
		_, err := nodeset.ParseFormula(in)
		if !errors.Is(err, fault.Invalid) || err.Error() != want {
			t.Errorf("%.60q:\n got %v\nwant %s", in, err, want)
		}
		if !nodeset.IsFormula(in) && len(in) < 1000 {
			t.Errorf("%q would not be read as a formula", in)
		}
	}
	if nodeset.IsFormula("10.1.0.1+") {
		t.Error("text without braces is taken for a formula")
	}
}

func TestWhatCannotBeComputedNamesTheNode(t *testing.T) {
	for in, want := range map[string]string{
		"10.{n2}":           `formula "10.{n2}" at 5: the name "n7" has no number n2`,
		"{n1/0}":            `formula "{n1/0}" at 4: this divides by 0 for the name "n7"`,
		"{n1%(n1-7)}":       `formula "{n1%(n1-7)}" at 4: this divides by 0 for the name "n7"`,
		"{2147483648+n1}":   `formula "{2147483648+n1}" at 12: the result is too large for the name "n7"`,
		"{-2147483648-n1}":  `formula "{-2147483648-n1}" at 13: the result is too large for the name "n7"`,
		"{n1*2147483648*0}": `formula "{n1*2147483648*0}" at 4: the result is too large for the name "n7"`,
	} {
		f, err := nodeset.ParseFormula(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got, err := f.Eval("n7"); !errors.Is(err, fault.Invalid) || err.Error() != want {
			t.Errorf("%s = %q, %v\nwant %s", in, got, err, want)
		}
	}
	f, _ := nodeset.ParseFormula("{n1}")
	if _, err := f.Eval("n2147483649"); err == nil || !strings.Contains(err.Error(), `the number n1 of the name "n2147483649" is too large`) {
		t.Errorf("a number of a name that is too large: %v", err)
	}
}

func TestFormulasAsJSON(t *testing.T) {
	var v struct{ F nodeset.Formula }
	if err := json.Unmarshal([]byte(`{"F":"r{n1:02d}"}`), &v); err != nil {
		t.Fatal(err)
	}
	if got, err := v.F.Eval("r7n1"); err != nil || got != "r07" {
		t.Errorf("%q, %v", got, err)
	}
	if b, err := json.Marshal(v); err != nil || string(b) != `{"F":"r{n1:02d}"}` {
		t.Errorf("%s, %v", b, err)
	}
	if err := json.Unmarshal([]byte(`{"F":"{n1"}`), &v); !errors.Is(err, fault.Invalid) || v.F.String() != "r{n1:02d}" {
		t.Errorf("malformed: %v, left %q", err, v.F)
	}
}

func TestEvalCostsItsResultOnly(t *testing.T) {
	f, err := nodeset.ParseFormula("10.{n1}.{(n2-1)%250+1}.{n2/250:02x}")
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = f.Eval("r017n042") }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzFormula(f *testing.F) {
	f.Add("10.1.{n1}.{(n2-1)%42+1:02x}", "r3n12")
	f.Add("{n9*-(-4)/2}", "n1n2n3n4n5n6n7n8n9")
	f.Add("{"+strings.Repeat("-(1*1+", 16)+"n1"+strings.Repeat(")", 16)+"}", "n1")
	f.Fuzz(func(t *testing.T, text, name string) {
		check := func(err error) {
			if err != nil && (!errors.Is(err, fault.Invalid) || strings.ContainsFunc(err.Error()+fault.Fix(err), unicode.IsControl)) {
				t.Fatalf("%q for %q: %q", text, name, err)
			}
		}
		formula, err := nodeset.ParseFormula(text)
		if check(err); err != nil {
			return
		}
		got, err := formula.Eval(name)
		if check(err); err == nil && !nodeset.IsFormula(text) && got != text {
			t.Fatalf("%q without braces gives %q", text, got)
		}
		if len(got) > 17*nodeset.MaxFormula {
			t.Fatalf("%q gives %d bytes", text, len(got))
		}
	})
}

func BenchmarkFormula(b *testing.B) {
	const text = "10.{n1}.{(n2-1)%250+1}.{n2/250:02x}"
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := nodeset.ParseFormula(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("eval", func(b *testing.B) {
		f, err := nodeset.ParseFormula(text)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := f.Eval("r017n042"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

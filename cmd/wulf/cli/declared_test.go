package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// What is too deep or no text at all is refused in one short line, and what is merely large is read.
func TestDocumentsOfEverySizeAndDepth(t *testing.T) {
	var large strings.Builder
	large.WriteString("nodes:\n")
	for i := range 60 {
		fmt.Fprintf(&large, "  n%d: {resources: {x: %q}}\n", i, strings.Repeat("a", 200_000))
	}
	bomb := "a: &a [x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s*%c]\n", c, c, strings.Repeat(fmt.Sprintf("*%c, ", c-1), 7), c-1)
	}
	resource := func(inner string) string { return "nodes: {n1: {resources: {x: " + inner + "}}}" }
	for _, test := range []struct{ name, text, want string }{
		{"twelve megabytes", large.String(), ""},
		{"deep lists", resource(strings.Repeat("[", 40) + strings.Repeat("]", 40)), "a.yaml:1:29: nodes.n1.resources.x: a resource is nested deeper than 32 levels"},
		{"deeper lists", resource(strings.Repeat("[", 500) + strings.Repeat("]", 500)), "nested deeper than 64 levels"},
		{"deepest lists", resource(strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)), "exceeded max depth of 10000"},
		{"deep groups", strings.Repeat("{a: ", 5000) + "1" + strings.Repeat("}", 5000), `has no key "a"`},
		{"aliases of aliases", resource("1") + "\n---\n" + resource("{"+strings.ReplaceAll(strings.TrimSpace(bomb), "\n", ", ")+"}"), "aliases are not read"},
		{"a resource too large", resource(`"` + strings.Repeat("a", 300_000) + `"`), "a resource of 300003 bytes is larger than 262144"},
		{"no text", "\x00\x01\x02\xff\xfe", "a.yaml: control characters are not allowed"},
		{"a long key", "nodes: {n1: {" + strings.Repeat("k", 5000) + ": 1}}", "a.yaml:1:14: nodes.n1 has no key \"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…\""},
		{"a long name", "nodes: {" + strings.Repeat("n", 5000) + ": {}}", "a name has 5000 characters, more than 253"},
	} {
		_, err := parseDeclared("a.yaml", []byte(test.text))
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want == "":
		case err == nil:
			t.Errorf("%s: it was read", test.name)
		case !strings.Contains(err.Error(), test.want) || fault.KindOf(err) != fault.Invalid || len(err.Error()) > 400 || strings.Contains(err.Error(), "\n"):
			t.Errorf("%s: got %q (%s), want %q", test.name, err, fault.KindOf(err), test.want)
		}
	}
}

// Of any file, reading ends with declarations that are written and read again as they are, or with one line.
func FuzzParseDeclared(f *testing.F) {
	for _, s := range []string{
		"nodes: {n[1-3]: {rack: r1, nets: {default: {mtu: \"9000\", hardware: 52-54-00-00-00-01}}}}",
		"n1: {profiles: [cpu], kernel: {args: [quiet]}, resources: {a: [1, 2.5, null, yes]}}",
		"networks: {rack: {prefix: 10.1.0.0/16, pool: 10.1.0.1-10.1.0.9}}\n---\nprofiles: {p: {secrets: {k: v}}}",
		"nodes: {n1: {compute: {rack: 'r{n1}'}}}", "a: &a [*a]", "<<: {}", "? [a]\n: b", "{\"nodes\":{\"n1\":null}}", "- 1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDeclared("f", []byte(s))
		if err != nil {
			if k := fault.KindOf(err); k != fault.Invalid || strings.Contains(sentence(err), "\n") {
				t.Errorf("%s: %q", k, sentence(err))
			}
			return
		}
		if len(d.Nodes) > 1000 { // a set of very many is written out
			return
		}
		text, err := d.yaml()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseDeclared("f", text)
		if err != nil {
			t.Fatalf("%v of\n%s", err, text)
		}
		for _, kind := range []struct{ got, want map[string]nodeDoc }{{again.Nodes, d.Nodes}, {again.Profiles, d.Profiles}} {
			for name, want := range kind.want {
				set, unset := catalog.Difference(kind.got[name].Settings, want.Settings)
				if len(set.Decided())+len(unset) > 0 || len(kind.got) != len(kind.want) {
					t.Errorf("%s: got %+v\nwant %+v", name, kind.got[name], want)
				}
			}
		}
	})
}

func FuzzParseCSV(f *testing.F) {
	for _, s := range []string{
		"name,hwaddr,ipaddr\nx1,52:54:00:01:00:01,10.1.9.1\n", "\ufeff# c\nname,tags.Owner,roles\nx,Ann,\"a, b\"\n", "name;mac\n", "name,name\n", "name\n\"", "name,kernel.args\nn1,a b\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := parseCSV("f", []byte(s)); err != nil {
			if k := fault.KindOf(err); k != fault.Invalid || strings.Contains(sentence(err), "\n") {
				t.Errorf("%s: %q", k, sentence(err))
			}
		}
	})
}

package warewulf_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

func TestWhatCannotBeReadIsToldWithLineColumnAndKey(t *testing.T) {
	for conf, want := range map[string]string{
		"nodes:\n  n1: [\n":                                    "nodes.conf, line 3, column 1: did not find expected node content",
		"nodes:\n\tn1:\n":                                      "nodes.conf, line 2, column 1: found character that cannot start any token",
		"nodes: \"open\n":                                      "nodes.conf, line 2, column 1: found unexpected end of stream",
		"- nodes\n":                                            "nodes.conf, line 1, column 1: the file: here is a list where keys with values must be",
		"nodes: text\n":                                        `nodes.conf, line 1, column 8: nodes: here is the text "text" where keys with values must be`,
		"nodes:\n  n1:\n    profiles: default\n":               `nodes.conf, line 3, column 15: nodes.n1.profiles: here is the text "default" where a list of texts must be`,
		"nodes:\n  n1:\n    profiles:\n    - [a]\n":            "nodes.conf, line 4, column 7: nodes.n1.profiles[0]: here is a list where one text must be",
		"nodes:\n  n1:\n    root: {}\n":                        "nodes.conf, line 3, column 11: nodes.n1.root: here is a group of keys where one text must be",
		"nodes:\n  n1:\n    kernel: 5.14\n":                    `nodes.conf, line 3, column 13: nodes.n1.kernel: here is the text "5.14" where keys with values must be`,
		"nodes:\n  n1:\n    tags: {a: [b]}\n":                  "nodes.conf, line 3, column 15: nodes.n1.tags.a: here is a list where one text must be",
		"nodes:\n  n1:\n    disks: {d: {wipe_table: perhaps}}": `nodes.conf, line 3, column 29: nodes.n1.disks.d.wipe_table: here is the text "perhaps" where true or false must be`,
		"nodes:\n  n1:\n    ipmi: {ipaddr: [1]}\n":             "nodes.conf, line 3, column 20: nodes.n1.ipmi.ipaddr: here is a list where one address must be",
		"nodes:\n  n1: {}\n  n2: {}\n  n1: {}\n":               "nodes.conf, line 4, column 3: nodes.n1: the key is here twice, before in line 2",
		"nodes:\n  ? [a]\n  : {}\n":                            "nodes.conf, line 2, column 5: nodes: a key must be a text",
		"nodes:\n  n1: {resources: &r {r: *r}}\n":              "nodes.conf, line 2, column 19: nodes.n1.resources" + strings.Repeat(".r", 60) + ": it is nested deeper than 64 levels, or an anchor contains itself",
		"x: &x {<<: *x}\nnodes: *x\n":                          "nodes.conf, line 1, column 4: nodes: an anchor contains itself",
		"nodes: {<<: text}":                                    `nodes.conf, line 1, column 13: nodes: "<<" must bring keys with values`,
		"nodes: *none\n":                                       "nodes.conf, line 1, column 8: unknown anchor 'none' referenced",
	} {
		_, err := warewulf.ParseNodes([]byte(conf))
		if err == nil || err.Error() != want {
			t.Errorf("%q:\ngot  %v\nwant %s", conf, err, want)
		}
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: kind %s", conf, fault.KindOf(err))
		}
	}
	if _, err := warewulf.ParseConfig([]byte("warewulf:\n  port: many\n")); err == nil ||
		err.Error() != `warewulf.conf, line 2, column 9: warewulf.port: here is the text "many" where a whole number must be` {
		t.Errorf("a port: %v", err)
	}
}

func TestLargeAndMeanFilesAreRefused(t *testing.T) {
	bomb := "a: &a {k: v}\n"
	for c := 'b'; c < 'z'; c++ {
		bomb += fmt.Sprintf("%c: &%c {%s}\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("@: *%c, ", c-1), 9), ", "))
	}
	i := 0
	for strings.Contains(bomb, "@") {
		bomb = strings.Replace(bomb, "@", fmt.Sprintf("k%d", i), 1)
		i++
	}
	for name, conf := range map[string]string{
		"too many bytes":  "# " + strings.Repeat("x", warewulf.MaxFile),
		"too many values": "nodes: [" + strings.Repeat("1,", 4_000_000) + "1]",
		"brackets":        strings.Repeat("[", 1_000_000),
		"deep blocks":     strings.Repeat("- ", 100_000),
		"aliases":         bomb + "nodes: {n1: {resources: *y}}\n",
		"a long key":      "nodes: {" + strings.Repeat("n", 100_000) + ": text}",
		"merged aliases":  "a: &a {k: v}\nb: &b {<<: [" + strings.TrimSuffix(strings.Repeat("*a, ", 2000), ", ") + "]}\nnodes: {n1: {resources: {<<: [" + strings.TrimSuffix(strings.Repeat("*b, ", 2000), ", ") + "]}}}",
	} {
		_, err := warewulf.ParseNodes([]byte(conf))
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		} else if n := len(err.Error()); n > 400 {
			t.Errorf("%s: the message has %d letters", name, n)
		}
	}
}

func TestAnchorsAndMergeKeysAreFollowed(t *testing.T) {
	n := nodes(t, `
base: &base {root: tmpfs, init: /b, <<: {cluster name: c}}
more: &more {init: /m, image name: i}
nodes:
  n1: {<<: [*base, *more], init: /n}
  n2: *base
`)
	want := warewulf.Profile{Root: "tmpfs", Init: "/n", ClusterName: "c", ImageName: "i"}
	if got := n.Nodes["n1"].Profile; got.Root != want.Root || got.Init != want.Init || got.ClusterName != want.ClusterName || got.ImageName != want.ImageName {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if n.Nodes["n2"].Init != "/b" {
		t.Errorf("got %+v", n.Nodes["n2"])
	}
}

func TestTextsStayAsTheyAreWritten(t *testing.T) {
	n := nodes(t, `nodes: {n1: {init: 010, root: true, cluster name: 1.10, kernel: {version: 5.10}, tags: {a: 0x10, b: null, c: no}}}`)
	p := n.Nodes["n1"]
	if got, want := []string{p.Init, p.Root, p.ClusterName, p.Kernel.Version, p.Tags["a"], p.Tags["b"], p.Tags["c"]}, []string{"010", "true", "1.10", "5.10", "0x10", "", "no"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnEmptyFileIsOneWithoutNodes(t *testing.T) {
	for _, conf := range []string{"", "# nothing\n", "---\n", "nodes:\nnodeprofiles:\n", "{}"} {
		if n := nodes(t, conf); len(n.Nodes)+len(n.Profiles)+len(n.Hazards) > 0 {
			t.Errorf("%q: got %+v", conf, n)
		}
	}
}

func TestEncodeLeavesOutWhatSaysNothing(t *testing.T) {
	n := nodes(t, `
nodeprofiles: {p: {root: UNDEF, kernel: {args: [a, UNSET]}, tags: {a: UNDEF, b: c}, ipmi: {}, network devices: {d: {mtu: UNDEF}}}}
nodes: {n1: {profiles: [p], init: UNDEFINED}}
`)
	got, err := warewulf.Encode(n)
	const want = `nodeprofiles:
  p:
    tags:
      b: c
nodes:
  n1:
    profiles:
      - p
    init: UNDEFINED
`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if n.Profiles["p"].Root != "UNDEF" {
		t.Error("encoding changed what was read")
	}
}

func TestMarshalIsJSONAsWell(t *testing.T) {
	n := nodes(t, `nodes: {b: {tags: {x: <&>}}, a: {}}`)
	a, _, _, _ := n.Merged("a")
	b, _, _, _ := n.Merged("b")
	got, err := warewulf.MarshalJSON(b, a)
	if want := "{\n  \"a\": {},\n  \"b\": {\n    \"tags\": {\n      \"x\": \"<&>\"\n    }\n  }\n}\n"; err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
}

// FuzzParseNodes holds that nothing makes the parser fall, that every node can be merged or fails as Warewulf does, and
// that what is written reads as what it was.
func FuzzParseNodes(f *testing.F) {
	for _, conf := range []string{
		"nodes: {n1: {profiles: [p], network devices: {d: {ipcidr: 10.0.0.1/24, primary: true}}}}\nnodeprofiles: {p: {profiles: [p], kernel args: a b}}",
		"a: &a [*a]\nnodes: {n: {resources: {r: *a}}}", "nodes: {n: {<<: {root: x}, ipmi: {write: UNDEF}}}", "nodes:\n  n[1-3]:\n    keys: {a: b}\n    tagsdel: [a]\n",
	} {
		f.Add([]byte(conf))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := warewulf.ParseNodes(b)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Fatalf("kind %s: %v", fault.KindOf(err), err)
			}
			return
		}
		warewulf.Check(n, nil, warewulf.Inventory{})
		for _, name := range slices.Sorted(maps.Keys(n.Nodes)) {
			m, _, _, err := n.Merged(name)
			if err != nil {
				continue
			}
			if _, err := warewulf.Marshal(m); err != nil {
				t.Fatal(err)
			}
			if _, err := warewulf.MarshalJSON(m); err != nil {
				t.Fatal(err)
			}
		}
		c := warewulf.Convert(n, nil, nil, nil)
		if _, err := warewulf.Encode(warewulf.Back(nil, c.Profiles, c.Nodes)); err != nil {
			t.Fatal(err)
		}
		once, err := warewulf.Encode(n)
		if err != nil {
			t.Fatal(err)
		}
		again, err := warewulf.ParseNodes(once)
		if err != nil {
			t.Fatalf("%v in what was written:\n%s", err, once)
		}
		twice, err := warewulf.Encode(again)
		if err != nil || string(once) != string(twice) {
			t.Fatalf("%v: written once\n%s\ntwice\n%s", err, once, twice)
		}
	})
}

// FuzzParseConfig holds the same for warewulf.conf.
func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("ipaddr: 10.0.0.1/24\nwarewulf: {port: 9873, datastore: /x}\nnfs: {exports: [/home], export paths: [{path: /opt, mount: true}]}"))
	f.Add([]byte("dhcp: {range start: 10.0.0.9, range end: 10.0.0.1, overlays: a}\nipv6net: fd00::1/64"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := warewulf.ParseConfig(b)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Fatalf("kind %s: %v", fault.KindOf(err), err)
			}
			return
		}
		n := &warewulf.Nodes{Profiles: map[string]*warewulf.Profile{}}
		warewulf.Check(n, c, warewulf.Inventory{})
		warewulf.Convert(n, c, nil, nil)
		n.AddMounts(c)
		once, err := warewulf.EncodeConfig(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := warewulf.ParseConfig(once)
		if err != nil {
			t.Fatalf("%v in what was written:\n%s", err, once)
		}
		if twice, err := warewulf.EncodeConfig(again); err != nil || !reflect.DeepEqual(once, twice) {
			t.Fatalf("%v: written once\n%s\ntwice\n%s", err, once, twice)
		}
	})
}

// BenchmarkFortyThousandNodes reads and merges a nodes.conf of 40 000 nodes.
func BenchmarkFortyThousandNodes(b *testing.B) {
	var conf strings.Builder
	conf.WriteString("nodeprofiles:\n")
	for i := range 60 {
		fmt.Fprintf(&conf, "  p%d:\n    image name: rocky\n    system overlay: [wwinit, wwclient]\n    kernel: {args: [quiet]}\n    tags: {t%d: x}\n", i, i)
	}
	conf.WriteString("nodes:\n")
	for i := range 40_000 {
		fmt.Fprintf(&conf, "  n%05d:\n    profiles: [p0, p%d]\n    ipmi: {ipaddr: 10.128.%d.%d}\n    tags: {rack: r%d}\n    network devices:\n      default:\n        hwaddr: 52:54:00:00:%02x:%02x\n        ipaddr: 10.1.%d.%d\n        netmask: 255.255.0.0\n",
			i, i%60, i/256, i%256, i/80, i/256, i%256, i/256, i%256)
	}
	text := []byte(conf.String())
	b.Run("parse", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := warewulf.ParseNodes(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	n, err := warewulf.ParseNodes(text)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			warewulf.Check(n, nil, warewulf.Inventory{})
		}
	})
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			if _, err := warewulf.Encode(n); err != nil {
				b.Fatal(err)
			}
		}
	})
}

package warewulf_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

// nodes reads a nodes.conf that is right.
func nodes(t testing.TB, conf string) *warewulf.Nodes {
	t.Helper()
	n, err := warewulf.ParseNodes([]byte(conf))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestProfilesAreExpandedDepthFirst holds rules 1 and 2: what is nested comes before what nests it, each once, and "~"
// takes away wherever it stands.
func TestProfilesAreExpandedDepthFirst(t *testing.T) {
	const profiles = `
nodeprofiles:
  a: {profiles: [b, c]}
  b: {profiles: [d]}
  c: {profiles: [d, "~e"]}
  d: {}
  e: {profiles: [f]}
  f: {}
  ring1: {profiles: [ring2]}
  ring2: {profiles: [ring3]}
  ring3: {profiles: [ring1]}
  self: {profiles: ["~self", d]}
nodes: {}
`
	n := nodes(t, profiles)
	for list, want := range map[string]string{
		"":            "",
		"d":           "d",
		"d f":         "d f",
		"a":           "d b c a",   // c nests "~e", which is not there
		"c b":         "d c b",     // d was visited
		"e a":         "f d b c a", // c takes e away
		"b e ~e":      "d b f",     // e goes, what it nested stays
		"d ~d":        "",
		"~d b":        "b",
		"ring1":       "ring3 ring2 ring1",
		"ring2 ring1": "ring1 ring3 ring2",
		"self":        "d",
		"nope d nope": "nope d", // one that does not exist is passed over when it is folded
		"~nope d":     "d",
	} {
		got := strings.Join(n.Expand(strings.Fields(list)), " ")
		if got != want {
			t.Errorf("%q: got %q, want %q", list, got, want)
		}
	}
}

// TestMergeFollowsWarewulf has a case for each rule; want is in the form of `wwctl node list -j`, blame is of one path.
func TestMergeFollowsWarewulf(t *testing.T) {
	for name, c := range map[string]struct {
		conf  string
		want  string
		blame string // PATH=SOURCE,SOURCE
	}{
		"a later profile wins": {
			`{nodeprofiles: {a: {root: tmpfs}, b: {root: ramfs}}, nodes: {n: {profiles: [a, b]}}}`,
			`{"profiles":["a","b"],"root":"ramfs"}`, "root=a,b"},
		"a parent wins over what it nests": {
			`{nodeprofiles: {a: {profiles: [b], root: tmpfs}, b: {root: ramfs}}, nodes: {n: {profiles: [a]}}}`,
			`{"profiles":["a"],"root":"tmpfs"}`, "root=b,a"},
		"the node wins over all": {
			`{nodeprofiles: {a: {init: /a}}, nodes: {n: {profiles: [a], init: /n}}}`,
			`{"profiles":["a"],"init":"/n"}`, "init=a,n"},
		"an empty scalar decides nothing": {
			`{nodeprofiles: {a: {init: /a}}, nodes: {n: {profiles: [a], init: ""}}}`,
			`{"profiles":["a"],"init":"/a"}`, "init=a"},
		"lists are appended, doubles stay": {
			`{nodeprofiles: {a: {system overlay: [x, y]}, b: {system overlay: [y]}}, nodes: {n: {profiles: [a, b], system overlay: [x]}}}`,
			`{"profiles":["a","b"],"system overlay":["x","y","y","x"]}`, "system overlay=a,b,n"},
		"a profile may negate what the node says": {
			`{nodeprofiles: {a: {runtime overlay: ["~x", y]}}, nodes: {n: {profiles: [a], runtime overlay: [x, z]}}}`,
			`{"profiles":["a"],"runtime overlay":["y","z"]}`, "runtime overlay=a,n"},
		"kernel arguments are negated": {
			`{nodeprofiles: {a: {kernel: {args: [quiet, quiet, splash]}}}, nodes: {n: {profiles: [a], kernel: {args: ["~quiet"]}}}}`,
			`{"profiles":["a"],"kernel":{"args":["splash"]}}`, "kernel.args=a,n"},
		"the list of profiles is cleaned": {
			`{nodeprofiles: {a: {}, b: {}}, nodes: {n: {profiles: [a, b, "~a"]}}}`,
			`{"profiles":["b"]}`, "profiles=n"},
		"lists of resources are not cleaned": {
			`{nodeprofiles: {a: {resources: {list: [x]}}}, nodes: {n: {profiles: [a], resources: {list: ["~x"]}}}}`,
			`{"profiles":["a"],"resources":{"list":["x","~x"]}}`, "resources.list=a,n"},
		"resources merge at every depth": {
			`{nodeprofiles: {a: {resources: {r: {deep: {one: 1, list: [1]}, gone: 1}}}}, nodes: {n: {profiles: [a], resources: {r: {deep: {two: 2, list: [2]}, gone: null}}}}}`,
			`{"profiles":["a"],"resources":{"r":{"deep":{"list":[1,2],"one":1,"two":2},"gone":null}}}`, "resources.r=a,n"},
		"a map replaces a list": {
			`{nodeprofiles: {a: {resources: {r: [1]}}}, nodes: {n: {profiles: [a], resources: {r: {x: 1}}}}}`,
			`{"profiles":["a"],"resources":{"r":{"x":1}}}`, "resources.r=a,n"},
		"tags merge by key, and an empty one is a value": {
			`{nodeprofiles: {a: {tags: {x: "1", y: "1"}}}, nodes: {n: {profiles: [a], tags: {y: "", z: "2"}}}}`,
			`{"profiles":["a"],"tags":{"x":"1","y":"","z":"2"}}`, "tags.y=a,n"},
		"network devices merge by name": {
			`{nodeprofiles: {a: {network devices: {d: {netmask: 255.0.0.0, mtu: 9000, tags: {DNS1: 10.0.0.1}}}}}, nodes: {n: {profiles: [a], network devices: {d: {ipaddr: 10.0.0.2, mtu: "1500", tags: {DNS2: 10.0.0.3}}, e: {}}}}}`,
			`{"profiles":["a"],"network devices":{"d":{"ipaddr":"10.0.0.2","netmask":"255.0.0.0","mtu":"1500","tags":{"DNS1":"10.0.0.1","DNS2":"10.0.0.3"}},"e":{}},"primary network":"d"}`,
			"network devices.d.mtu=a,n"},
		"false overrides true": {
			`{nodeprofiles: {a: {disks: {/dev/a: {wipe_table: true, partitions: {p: {resize: true, size_mib: 10}}}}, filesystems: {/dev/b: {wipe_filesystem: true, options: [-L]}}}}, nodes: {n: {profiles: [a], disks: {/dev/a: {wipe_table: false, partitions: {p: {resize: false}}}}, filesystems: {/dev/b: {wipe_filesystem: false, options: [x]}}}}}`,
			`{"profiles":["a"],"disks":{"/dev/a":{"wipe_table":false,"partitions":{"p":{"size_mib":"10","resize":false}}}},"filesystems":{"/dev/b":{"wipe_filesystem":false,"options":["-L","x"]}}}`,
			"disks./dev/a.wipe_table=a,n"},
		"a text of truth is a text": {
			`{nodeprofiles: {a: {ipmi: {write: yes}}, b: {ipmi: {write: ""}}}, nodes: {n: {profiles: [a, b]}}}`,
			`{"profiles":["a","b"],"ipmi":{"write":"yes"}}`, "ipmi.write=a"},
		"addresses override": {
			`{nodeprofiles: {a: {ipmi: {ipaddr: 10.0.0.1, netmask: 255.0.0.0}}}, nodes: {n: {profiles: [a], ipmi: {ipaddr: "::ffff:10.0.0.2", netmask: }}}}`,
			`{"profiles":["a"],"ipmi":{"ipaddr":"10.0.0.2","netmask":"255.0.0.0"}}`, "ipmi.ipaddr=a,n"},
		"the comment is not inherited": {
			`{nodeprofiles: {a: {comment: of a, profiles: [b]}, b: {}}, nodes: {n: {profiles: [a]}}}`,
			`{"profiles":["a"]}`, "comment="},
		"the node's own comment": {
			`{nodeprofiles: {a: {comment: of a}}, nodes: {n: {profiles: [a], comment: of n}}}`,
			`{"profiles":["a"],"comment":"of n"}`, "comment=n"},
		"UNDEF is a text, and hides what is inherited": {
			`{nodeprofiles: {a: {root: tmpfs}}, nodes: {n: {profiles: [a], root: UNDEF}}}`,
			`{"profiles":["a"],"root":"UNDEF"}`, "root=a,n"},
		"the first network is primary": {
			`{nodes: {n: {network devices: {b: {}, a: {}}}}}`,
			`{"network devices":{"a":{},"b":{}},"primary network":"a"}`, "primary network="},
		"the primary network that is named": {
			`{nodeprofiles: {p: {primary network: b}}, nodes: {n: {profiles: [p], network devices: {b: {}, a: {}}}}}`,
			`{"profiles":["p"],"network devices":{"a":{},"b":{}},"primary network":"b"}`, "primary network=p"},
		"a primary network that is not there": {
			`{nodes: {n: {primary network: c, network devices: {b: {}, a: {}}}}}`,
			`{"network devices":{"a":{},"b":{}},"primary network":"a"}`, "primary network=n"},
		"a profile that does not exist is passed over": {
			`{nodeprofiles: {a: {root: tmpfs}}, nodes: {n: {profiles: [nope, a]}}}`,
			`{"profiles":["nope","a"],"root":"tmpfs"}`, "root=a"},
		"asset key and discoverable are the node's": {
			`{nodes: {n: {asset key: 00123, discoverable: no}}}`,
			`{"discoverable":"no","asset key":"00123"}`, "asset key=n"},
		"a node that says nothing": {`{nodes: {n: }}`, `{}`, ""},
		"groups are appended and cleaned": {
			`{nodeprofiles: {a: {groups: [x, y]}}, nodes: {n: {profiles: [a], groups: ["~x", z]}}}`,
			`{"profiles":["a"],"groups":["y","z"]}`, "groups=a,n"},
	} {
		t.Run(name, func(t *testing.T) {
			n := nodes(t, c.conf)
			before := nodes(t, c.conf)
			m, blame, _, err := n.Merged("n")
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(m.Node)
			if err != nil || string(got) != c.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, c.want)
			}
			if path, sources, ok := strings.Cut(c.blame, "="); ok {
				if got := strings.Join(blame[path], ","); got != sources {
					t.Errorf("to blame for %s is %q, want %q", path, got, sources)
				}
			}
			if !reflect.DeepEqual(n, before) {
				t.Error("merging changed what was read")
			}
		})
	}
}

func TestMergeFailsWhereWarewulfFails(t *testing.T) {
	n := nodes(t, `{nodeprofiles: {a: {resources: {r: {x: text}}}}, nodes: {n: {profiles: [a], resources: {r: {x: [1]}}}}}`)
	if _, _, _, err := n.Merged("n"); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "resources.r.x") {
		t.Errorf("a list over a text: %v", err)
	}
	if _, _, _, err := n.Merged("m"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a node that is not there: %v", err)
	}
}

func TestMergedTellsOfProfilesThatDoNotExistOnce(t *testing.T) {
	n := nodes(t, `{nodes: {n: {profiles: [nope]}}}`)
	m, _, hazards, err := n.Merged("n")
	if err != nil || len(hazards) != 1 || hazards[0].ID != warewulf.UnknownProfile || hazards[0].Line != 1 {
		t.Errorf("got %+v, %v", hazards, err)
	}
	if !slices.Equal(m.From, []string{"nope"}) {
		t.Errorf("from %q", m.From)
	}
}

func TestADeviceWithoutKeysIsOne(t *testing.T) {
	n := nodes(t, "nodes:\n  n:\n    network devices:\n      default:\n")
	m, _, _, err := n.Merged("n")
	if err != nil || m.PrimaryNetDev != "default" {
		t.Errorf("got %+v, %v", m, err)
	}
}

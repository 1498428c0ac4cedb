package warewulf_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

// TestEveryHazardIsFound has for each hazard a configuration with it, and one that is nearly the same without.
func TestEveryHazardIsFound(t *testing.T) {
	have := warewulf.Inventory{Images: []string{"i"}, Site: []string{"s", "both"}, Distribution: []string{"wwinit", "wwclient", "generic", "hosts", "d"}, CustomIPXE: []string{"default"}}
	cases := map[warewulf.HazardID]struct {
		with, without files
		subject       string
	}{
		warewulf.UnknownKey:        {files{nodes: `{nodes: {n: {netwrok devices: {}}}}`}, files{nodes: `{nodes: {n: {network devices: {}}}}`}, "nodes.n.netwrok devices"},
		warewulf.DeprecatedKey:     {files{nodes: `{nodes: {n: {kernel args: quiet}}}`}, files{nodes: `{nodes: {n: {kernel: {args: [quiet]}}}}`}, "nodes.n.kernel args"},
		warewulf.DroppedKey:        {files{nodes: `{nodes: {n: {disabled: true}}}`}, files{}, "nodes.n.disabled"},
		warewulf.LiteralUndef:      {files{nodes: `{nodes: {n: {root: UNDEF}}}`}, files{nodes: `{nodes: {n: {root: undefined}}}`}, "nodes.n.root"},
		warewulf.InvalidAddress:    {files{nodes: `{nodes: {n: {ipmi: {gateway: 10.0.0.010}}}}`}, files{nodes: `{nodes: {n: {ipmi: {gateway: 10.0.0.10}}}}`}, "nodes.n.ipmi.gateway"},
		warewulf.InvalidMAC:        {netdev("hwaddr: 52:54:00"), netdev("hwaddr: 52:54:00:00:00:01"), "nodes.n.network devices.d.hwaddr"},
		warewulf.MixedCaseMAC:      {netdev("hwaddr: 52-54-00-00-00-0A"), netdev("hwaddr: 52:54:00:00:00:0a"), "nodes.n.network devices.d.hwaddr"},
		warewulf.InvalidBoolean:    {netdev("onboot: perhaps"), netdev("onboot: yes"), "nodes.n.network devices.d.onboot"},
		warewulf.InvalidNumber:     {netdev("mtu: large"), netdev("mtu: 9000"), "nodes.n.network devices.d.mtu"},
		warewulf.SecondDocument:    {files{nodes: "nodes: {}\n---\nnodes: {}\n"}, files{nodes: "---\nnodes: {}\n"}, "---"},
		warewulf.KernelOverride:    {files{nodes: `{nodes: {n: {kernel: {override: "5"}}}}`}, files{nodes: `{nodes: {n: {kernel: {version: "5"}}}}`}, "nodes.n.kernel.override"},
		warewulf.MountFromConfig:   {files{config: `{nfs: {exports: [/home]}}`}, files{config: `{nfs: {export paths: [{path: /home}]}}`}, "nfs"},
		warewulf.UnknownProfile:    {files{nodes: `{nodeprofiles: {p: {profiles: [q]}}}`}, files{nodes: `{nodeprofiles: {p: {profiles: [p2]}, p2: {}}}`}, "nodeprofiles.p.profiles"},
		warewulf.ProfileCycle:      {files{nodes: `{nodeprofiles: {p: {profiles: [q]}, q: {profiles: [p]}}}`}, files{nodes: `{nodeprofiles: {p: {profiles: [q]}, q: {}}}`}, "nodeprofiles.p.profiles"},
		warewulf.NoProfiles:        {files{nodes: `{nodeprofiles: {default: {}}, nodes: {n: {}}}`}, files{nodes: `{nodeprofiles: {other: {}}, nodes: {n: {}}}`}, "nodes.n"},
		warewulf.PrimaryMissing:    {files{nodes: `{nodes: {n: {primary network: e, network devices: {d: {}}}}}`}, files{nodes: `{nodes: {n: {primary network: d, network devices: {d: {}}}}}`}, "nodes.n.primary network"},
		warewulf.DuplicateMAC:      {two("network devices: {d: {hwaddr: 52:54:00:00:00:0a}}", "network devices: {d: {hwaddr: 52-54-00-00-00-0A}}"), two("network devices: {d: {hwaddr: 52:54:00:00:00:0a}}", "network devices: {d: {hwaddr: 52:54:00:00:00:0b}}"), "nodes.n2.network devices.d.hwaddr"},
		warewulf.DuplicateAddress:  {two("network devices: {d: {ipaddr6: fd00::1}}", "network devices: {d: {ipaddr6: fd00::0:1}}"), two("network devices: {d: {ipaddr: 10.0.0.1}}", "network devices: {d: {ipaddr: 10.0.0.2}}"), "nodes.n2.network devices.d.ipaddr6"},
		warewulf.DuplicateIPMI:     {two("ipmi: {ipaddr: 10.0.0.1}", "ipmi: {ipaddr: 10.0.0.1}"), two("ipmi: {ipaddr: 10.0.0.1}", "ipmi: {ipaddr: 10.0.0.2}"), "nodes.n2.ipmi.ipaddr"},
		warewulf.RangeInName:       {files{nodes: `{nodes: {"n[1-3]": {}}}`}, files{nodes: `{nodes: {n1-3: {}}}`}, "nodes.n[1-3]"},
		warewulf.InvalidName:       {files{nodes: `{nodes: {n_1: {}}}`}, files{nodes: `{nodes: {n-1.cluster: {}}}`}, "nodes.n_1"},
		warewulf.NoHwaddr:          {netdev("type: Ethernet"), netdev("type: bond"), "nodes.n.network devices.d"},
		warewulf.InvalidNetmask:    {netdev("netmask: 255.0.255.0"), netdev("netmask: 255.255.254.0"), "nodes.n.network devices.d.netmask"},
		warewulf.IPMINoAddress:     {files{nodes: `{nodes: {n: {ipmi: {username: root}}}}`}, files{nodes: `{nodes: {n: {ipmi: {username: root, template: nobmc.tmpl}}}}`}, "nodes.n.ipmi"},
		warewulf.IPMIWriteNothing:  {files{nodes: `{nodes: {n: {ipmi: {write: true}}}}`}, files{nodes: `{nodes: {n: {ipmi: {write: true, ipaddr: 10.0.0.1}}}}`}, "nodes.n.ipmi.write"},
		warewulf.CleartextPassword: {files{nodes: `{nodes: {n: {ipmi: {password: x}}}}`}, files{nodes: `{nodes: {n: {ipmi: {username: x}}}}`}, "nodes.n.ipmi.password"},
		warewulf.CustomTemplate:    {files{nodes: `{nodes: {n: {ipxe template: default}}}`}, files{nodes: `{nodes: {n: {ipxe template: ""}}}`}, "nodes.n.ipxe template"},
		warewulf.UnknownImage:      {files{nodes: `{nodes: {n: {image name: j}}}`}, files{nodes: `{nodes: {n: {image name: i}}}`}, "nodes.n.image name"},
		warewulf.UnknownOverlay:    {files{nodes: `{nodes: {n: {system overlay: [d, "~x"]}}}`}, files{nodes: `{nodes: {n: {system overlay: [d, "~s"]}}}`}, "nodes.n"},
		warewulf.MonolithicOverlay: {files{nodes: `{nodes: {n: {system overlay: [wwinit]}}}`}, files{nodes: `{nodes: {n: {system overlay: [wwinit, wwclient]}}}`}, "nodes.n"},
		warewulf.ResourceConflict:  {files{nodes: `{nodeprofiles: {p: {resources: {r: 1}}}, nodes: {n: {profiles: [p], resources: {r: [1]}}}}`}, files{nodes: `{nodeprofiles: {p: {resources: {r: [1]}}}, nodes: {n: {profiles: [p], resources: {r: 1}}}}`}, "nodes.n.resources"},
		warewulf.PoolOverlap: {
			files{`{nodes: {n: {network devices: {d: {ipaddr: 10.0.0.15}}}}}`, `{dhcp: {range start: 10.0.0.9, range end: 10.0.0.20}}`},
			files{`{nodes: {n: {network devices: {d: {ipaddr: 10.0.0.15}}}}}`, `{dhcp: {enabled: false, range start: 10.0.0.9, range end: 10.0.0.20}}`}, "nodes.n.network devices.d.ipaddr"},
		warewulf.InvalidPool: {
			files{config: `{ipaddr: 10.0.0.1/24, dhcp: {range start: 10.0.1.9, range end: 10.0.1.20}}`},
			files{config: `{ipaddr: 10.0.0.1/23, dhcp: {range start: 10.0.1.9, range end: 10.0.1.20}}`}, "dhcp.range start"},
		warewulf.NoCounterpart: {files{config: `{tftp: {tftproot: /srv}}`}, files{config: `{fqdn: head}`}, "tftp.tftproot"},
	}
	elsewhere := []warewulf.HazardID{warewulf.OverlayShadows, warewulf.OverlayReplaced, warewulf.DefaultAdded} // have tests of their own
	for _, id := range declared(t) {
		c, ok := cases[id]
		if !ok {
			if !slices.Contains(elsewhere, id) {
				t.Errorf("no case for the hazard %s", id)
			}
			continue
		}
		found := func(f files) []warewulf.Hazard {
			n := nodes(t, f.nodes)
			conf, err := warewulf.ParseConfig([]byte(f.config))
			if err != nil {
				t.Fatal(err)
			}
			all := slices.Concat(n.Hazards, conf.Hazards, warewulf.Check(n, conf, have), n.AddMounts(conf))
			return slices.DeleteFunc(all, func(h warewulf.Hazard) bool { return h.ID != id })
		}
		got := found(c.with)
		if len(got) == 0 || got[0].Subject != c.subject || got[0].What == "" || got[0].Fix == "" || got[0].Line == 0 && id != warewulf.SecondDocument {
			t.Errorf("%s: got %+v, want it about %s", id, got, c.subject)
		}
		if got := found(c.without); len(got) > 0 {
			t.Errorf("%s: false alarm: %+v", id, got)
		}
	}
}

func netdev(keys string) files {
	return files{nodes: "{nodes: {n: {network devices: {d: {" + keys + "}}}}}"}
}

func two(a, b string) files { return files{nodes: "{nodes: {n1: {" + a + "}, n2: {" + b + "}}}"} }

// files is a pair of configuration files.
type files struct{ nodes, config string }

// declared reads the hazards out of the source, so that a new one cannot be forgotten here.
func declared(t *testing.T) []warewulf.HazardID {
	t.Helper()
	return declaredIn(t, "hazard.go")
}

func declaredIn(t *testing.T, file string) []warewulf.HazardID {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []warewulf.HazardID
	for _, m := range regexp.MustCompile(`(?m)HazardID = "([a-z-]+)"`).FindAllStringSubmatch(string(src), -1) {
		out = append(out, warewulf.HazardID(m[1]))
	}
	if len(out) < 4 {
		t.Fatalf("only %d hazards are declared in %s", len(out), file)
	}
	return out
}

func TestHazardIDsAreAllThatAreDeclared(t *testing.T) {
	want := slices.Concat(declaredIn(t, "hazard.go"), declaredIn(t, "convert.go"), declaredIn(t, "includes.go"))
	if got := warewulf.HazardIDs(); !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestASiteOverlayThatHidesOneOfTheDistributionIsTold(t *testing.T) {
	got := warewulf.Check(nodes(t, ""), nil, warewulf.Inventory{Site: []string{"mine", "hosts"}, Distribution: []string{"hosts", "fstab"}})
	if len(got) != 1 || got[0].ID != warewulf.OverlayShadows || got[0].Subject != "overlay hosts" {
		t.Errorf("got %+v", got)
	}
}

func TestAnUnknownKeyGetsASuggestion(t *testing.T) {
	for key, want := range map[string]string{
		"Image Name": `did you mean "image name"?`, "kernal": `did you mean "kernel"?`, "profile": `did you mean "profiles"?`, "colour": "remove it, or correct it",
	} {
		n := nodes(t, fmt.Sprintf("{nodes: {n: {%s: {}}}}", key))
		if len(n.Hazards) != 1 || n.Hazards[0].Fix != want {
			t.Errorf("%s: got %+v, want %s", key, n.Hazards, want)
		}
	}
}

// TestManyHazardsOfAKindAreCounted: forty thousand lines that say the same help nobody.
func TestManyHazardsOfAKindAreCounted(t *testing.T) {
	var conf strings.Builder
	conf.WriteString("nodes:\n")
	for i := range 3000 {
		fmt.Fprintf(&conf, "  n%d: {container name: c}\n", i)
	}
	n := nodes(t, conf.String())
	if len(n.Hazards) != 1001 {
		t.Fatalf("%d hazards", len(n.Hazards))
	}
	if last := n.Hazards[1000]; last.ID != warewulf.DeprecatedKey || last.What != "there are 2000 more of this kind" {
		t.Errorf("got %+v", last)
	}
	if c := len(slices.Collect(maps.Keys(n.Nodes))); c != 3000 {
		t.Errorf("%d nodes", c)
	}
}

func TestPasswordsAreNeverInHazards(t *testing.T) {
	n := nodes(t, `{nodes: {n: {ipmi password: hunter2, ipmi: {password: hunter3, tagsdel: []}}}}`)
	if text := fmt.Sprint(n.Hazards, warewulf.Check(n, nil, warewulf.Inventory{})); strings.Contains(text, "hunter") {
		t.Errorf("got %s", text)
	}
}

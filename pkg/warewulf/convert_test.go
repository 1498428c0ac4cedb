package warewulf_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

// whole is a nodes.conf with every key that both sides have, as Encode writes it.
const whole = `nodeprofiles:
  base:
    groups:
      - g
    comment: of the profile
    cluster name: c
    image name: rocky
    ipxe template: site
    runtime overlay:
      - a
    system overlay:
      - b
      - a
    kernel:
      version: "5.14"
      args:
        - quiet
        - console=ttyS0,115200
    ipmi:
      username: root
      gateway: 10.2.0.254
      netmask: 255.255.0.0
      port: "623"
      interface: lanplus
      escapechar: "~"
      write: "false"
      template: ipmitool.tmpl
      tags:
        vlan: "7"
    init: /sbin/init
    root: ramfs
    network devices:
      default:
        type: ethernet
        onboot: "true"
        netmask: 255.255.0.0
        gateway: 10.1.0.254
        prefixlen6: "64"
        gateway6: fe80::1
        mtu: "9000"
        tags:
          DNS1: 10.1.0.254
    tags:
      empty: ""
      localtime: Europe/Berlin
    disks:
      /dev/vda:
        wipe_table: true
        partitions:
          scratch:
            number: "1"
            size_mib: "1024"
            start_mib: "1"
            type_guid: 0FC63DAF-8483-4772-8E79-3D69D8477DE4
            guid: 11111111-8483-4772-8E79-3D69D8477DE4
            wipe_partition_entry: true
            should_exist: true
            resize: false
    filesystems:
      /dev/disk/by-partlabel/scratch:
        format: xfs
        path: /scratch
        wipe_filesystem: false
        label: scratch
        uuid: 22222222-8483-4772-8e79-3d69d8477de4
        options:
          - -f
        mount_options: noatime
    resources:
      fstab:
        - file: /home
          spec: warewulf:/home
          vfstype: nfs
      ratio: 0.5
  rack:
    profiles:
      - base
    kernel:
      args:
        - ~quiet
nodes:
  n1:
    discoverable: "false"
    asset key: "00123"
    profiles:
      - rack
      - ~other
    comment: the first
    ipmi:
      ipaddr: 10.2.0.1
    network devices:
      default:
        device: eth0
        hwaddr: "52:54:00:00:00:01"
        ipaddr: 10.1.0.1
        ipaddr6: fd00:1::1
    primary network: default
  n2: {}
`

// TestWhatComesOverGoesBackTheSame holds Convert and Back against each other: a value that one of them forgets is missing.
func TestWhatComesOverGoesBackTheSame(t *testing.T) {
	n := nodes(t, strings.Replace(whole, "      - ~other\n", "", 1))
	c := warewulf.Convert(n, nil, []string{"a", "b"}, nil)
	if len(c.Hazards) > 0 {
		t.Errorf("hazards %+v", c.Hazards)
	}
	back := warewulf.Back(nil, c.Profiles, c.Nodes)
	if len(back.Hazards) > 0 {
		t.Errorf("hazards on the way back %+v", back.Hazards)
	}
	got, err := warewulf.Encode(back)
	if want := strings.Replace(whole, "      - ~other\n", "", 1); err != nil || string(got) != want {
		t.Errorf("got\n%s, %v\nwant\n%s", got, err, want)
	}
}

// TestBothMergeAlike: what a node is in Warewulf it is here too.
func TestBothMergeAlike(t *testing.T) {
	n := nodes(t, whole)
	there, _, _, err := n.Merged("n1")
	if err != nil {
		t.Fatal(err)
	}
	c := warewulf.Convert(n, nil, []string{"a", "b"}, nil)
	var s catalog.Settings
	for _, name := range there.From {
		i := slices.IndexFunc(c.Profiles, func(p catalog.Profile) bool { return string(p.Name) == name })
		p := c.Profiles[i].Settings
		p.Comment = nil // never inherited; Resolve leaves it out
		catalog.Merge(&s, p, name, nil)
	}
	catalog.Merge(&s, c.Nodes[0].Settings, "n1", nil)
	node := c.Nodes[0]
	node.Profiles, node.Settings = nil, s
	here, _, _, err := warewulf.Back(nil, nil, []catalog.Node{node}).Merged("n1")
	if err != nil {
		t.Fatal(err)
	}
	here.Profiles, here.From = there.Profiles, there.From
	a, _ := warewulf.Marshal(there)
	b, _ := warewulf.Marshal(here)
	if string(a) != string(b) {
		t.Errorf("in Warewulf\n%s\nhere\n%s", a, b)
	}
}

func TestWhatCannotComeOverIsTold(t *testing.T) {
	for conf, want := range map[string]warewulf.HazardID{
		`{nodes: {n: {root: /dev/sda1}}}`:                    warewulf.RootDevice,
		`{nodes: {n: {root: sda1}}}`:                         warewulf.RootDevice,
		`{nodes: {n: {root: initramfs}}}`:                    warewulf.RootInitramfs,
		`{nodes: {n: {system overlay: [mine]}}}`:             warewulf.OverlayGone,
		`{nodes: {n: {network devices: {d: {mtu: large}}}}}`: warewulf.ValueLeftOut,
		`{nodes: {n: {tags: {"a b": c}}}}`:                   warewulf.ValueLeftOut,
		`{nodes: {"n[1-3]": {}}}`:                            warewulf.NodeLeftOut,
	} {
		c := warewulf.Convert(nodes(t, conf), nil, nil, nil)
		if len(c.Hazards) != 1 || c.Hazards[0].ID != want {
			t.Errorf("%s: got %+v, want %s", conf, c.Hazards, want)
		}
	}
}

func TestKernelsStayNamedByTheirPaths(t *testing.T) {
	for _, version := range []string{"/boot/vmlinuz-5.14.0-427.el9.x86_64", "/lib/modules/5.14.0-427.el9.x86_64/vmlinuz", "5.14"} {
		c := warewulf.Convert(nodes(t, `{nodes: {n: {kernel: {version: `+version+`}}}}`), nil, nil, nil)
		if got := *c.Nodes[0].Settings.Kernel.Version; got != version || len(c.Hazards) > 0 {
			t.Errorf("got %q, %+v; want %q", got, c.Hazards, version)
		}
	}
}

func TestTypesOfDevicesAreReadInAnyCase(t *testing.T) {
	c := warewulf.Convert(nodes(t, `{nodes: {n: {network devices: {d: {type: InfiniBand}}}}}`), nil, nil, nil)
	if got := *c.Nodes[0].Settings.Nets["d"].Type; got != "infiniband" {
		t.Errorf("got %q", got)
	}
}

// TestUndefIsNotTakenOver: Warewulf forgets the word when it next writes its file.
func TestUndefIsNotTakenOver(t *testing.T) {
	c := warewulf.Convert(nodes(t, `{nodes: {n: {image name: UNDEF, system overlay: [a, UNSET], network devices: {d: {device: UNDEF}}, ipmi: {write: UNDEF}}}}`), nil, []string{"a"}, nil)
	s := c.Nodes[0].Settings
	if s.Image != nil || len(c.Images) > 0 || s.Overlays.System != nil || s.Nets["d"].Device != nil || s.BMC.Write != nil || len(c.Hazards) > 0 {
		t.Errorf("got %+v, %v, %+v", s, c.Images, c.Hazards)
	}
}

// TestHazardsHaveAnOrder: two runs are compared with diff.
func TestHazardsHaveAnOrder(t *testing.T) {
	n := []catalog.Node{{Name: "n", Settings: catalog.Settings{Method: new("one-stage"), UUID: new("u"), SSHKeys: []string{"k"}, Without: []string{"init"}}}}
	first := warewulf.Back(nil, nil, n).Hazards
	for range 20 {
		if got := warewulf.Back(nil, nil, n).Hazards; len(got) != 4 || !slices.Equal(got, first) {
			t.Fatalf("got %+v, before %+v", got, first)
		}
	}
}

func TestNodesHaveOneOverlayThatSetsTheirNetworkUp(t *testing.T) {
	base, here := []string{"hostname", "systemd.networkd"}, []string{"NetworkManager", "ifupdown", "hosts", "systemd.networkd", "wulf-agent"}
	for list, want := range map[string]string{
		"wwinit, hosts":                    "hostname systemd.networkd hosts",
		"wwinit, NetworkManager, hosts":    "hostname NetworkManager hosts",
		"wwinit, debian.interfaces":        "hostname ifupdown",
		"wwinit, wicked":                   "hostname systemd.networkd", // which is not here
		"wwinit, systemd.networkd, hosts":  "hostname systemd.networkd hosts",
		"hosts, ifupdown, ~NetworkManager": "hosts ifupdown ~NetworkManager",
	} {
		c := warewulf.Convert(nodes(t, `{nodes: {n: {system overlay: [`+list+`]}}}`), nil, here, base)
		if got := strings.Join(c.Nodes[0].Settings.Overlays.System, " "); got != want {
			t.Errorf("%s: got %q, want %q", list, got, want)
		}
	}
}

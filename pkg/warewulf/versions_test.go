package warewulf_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares what a fixture became with what is written beside it.
func golden(t *testing.T, fixture string, got []byte) {
	t.Helper()
	path := strings.TrimSuffix(fixture, ".conf") + ".golden"
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

func fixtures(t *testing.T, pattern string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	out := make(map[string][]byte, len(paths))
	for _, path := range paths {
		if out[path], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func print(b *bytes.Buffer, hazards []warewulf.Hazard) {
	for _, h := range hazards {
		fmt.Fprintf(b, "# %d:%d %s %s: %s: %s (%s)\n", h.Line, h.Column, h.Severity, h.ID, h.Subject, h.What, h.Fix)
	}
}

// TestNodesOfEveryVersionBecomeThoseOf47 reads a nodes.conf of each version; the golden file has it in the form of 4.7,
// every node merged, and what was reported.
func TestNodesOfEveryVersionBecomeThoseOf47(t *testing.T) {
	for path, conf := range fixtures(t, "nodes-*.conf") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			n := nodes(t, string(conf))
			upgraded, err := warewulf.Encode(n)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			b.Write(upgraded)
			var all []warewulf.Merged
			for _, name := range slices.Sorted(maps.Keys(n.Nodes)) {
				m, _, _, err := n.Merged(name)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, m)
			}
			merged, err := warewulf.Marshal(all...)
			if err != nil {
				t.Fatal(err)
			}
			b.WriteString("--- # merged\n")
			b.Write(merged)
			b.WriteString("--- # hazards\n")
			print(&b, n.Hazards)
			print(&b, warewulf.Check(n, nil, warewulf.Inventory{}))
			golden(t, path, b.Bytes())
			again := nodes(t, string(upgraded))
			for _, h := range again.Hazards {
				if h.ID == warewulf.DeprecatedKey || h.ID == warewulf.DroppedKey || h.ID == warewulf.UnknownKey {
					t.Errorf("what was written has an old key still: %+v", h)
				}
			}
		})
	}
}

// TestConfigOfEveryVersionBecomesThatOf47 does the same for warewulf.conf.
func TestConfigOfEveryVersionBecomesThatOf47(t *testing.T) {
	for path, conf := range fixtures(t, "warewulf-*.conf") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c, err := warewulf.ParseConfig(conf)
			if err != nil {
				t.Fatal(err)
			}
			upgraded, err := warewulf.EncodeConfig(c)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			b.Write(upgraded)
			n := nodes(t, "")
			print(&b, c.Hazards)
			print(&b, warewulf.Check(n, c, warewulf.Inventory{}))
			print(&b, n.AddMounts(c))
			if len(c.Mounts) > 0 {
				mounts, err := warewulf.Encode(n)
				if err != nil {
					t.Fatal(err)
				}
				b.WriteString("--- # mounts\n")
				b.Write(mounts)
			}
			golden(t, path, b.Bytes())
			again, err := warewulf.ParseConfig(upgraded)
			if err != nil || len(again.Hazards) > 0 {
				t.Errorf("what was written: %v, %+v", err, again.Hazards)
			}
		})
	}
}

func TestDefaultsAndPartsOfOverlaysAreAddedAsByWwctlUpgrade(t *testing.T) {
	n := nodes(t, `
nodeprofiles:
  default:
    system overlay: [chrony, wwinit, resolv, site]
    network devices: {default: {}}
nodes:
  n1: {}
  n2: {profiles: [other], runtime overlay: [generic]}
`)
	n.AddDefaults()
	n.ReplaceOverlays()
	m, _, _, err := n.Merged("n1")
	if err != nil {
		t.Fatal(err)
	}
	got, want := strings.Join(m.SystemOverlay, " "),
		"chrony wwinit wwclient fstab hostname ssh.host_keys issue udev.netname systemd.netname ifcfg NetworkManager debian.interfaces wicked ignition resolv site"
	if got != want {
		t.Errorf("system overlays %q, want %q", got, want)
	}
	if dev := m.NetDevs["default"]; dev.Netmask != "255.255.255.0" || dev.Type != "ethernet" || m.Root != "initramfs" || m.IPMI.Template != "ipmitool.tmpl" {
		t.Errorf("got %+v", m.Profile)
	}
	if got := strings.Join(n.Nodes["n2"].RuntimeOverlay, " "); got != "hosts ssh.authorized_keys syncuser" {
		t.Errorf("runtime overlays %q", got)
	}
	if again := n.ReplaceOverlays(); len(again) > 0 {
		t.Errorf("a second time something is replaced: %+v", again)
	}
}

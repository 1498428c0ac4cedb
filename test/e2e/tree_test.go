//go:build e2e

package e2e

import (
	"compress/gzip"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/test/cluster"
	"github.com/wulfmesh/wulfmesh/test/rig"
	"github.com/wulfmesh/wulfmesh/test/treesum"
)

// added are the paths that a node's root has besides its image's, or with another content, and why.
var added = map[string]string{
	"treesum":                               "the overlay of this test",
	"etc/hostname":                          "the overlay hostname",
	"etc/hosts":                             "the overlay hosts",
	"etc/machine-id":                        "the overlay machine-id",
	"etc/ssh/ssh_host_ed25519_key":          "the overlay ssh.host_keys",
	"etc/ssh/ssh_host_ed25519_key.pub":      "the overlay ssh.host_keys",
	"etc/ssh/ssh_host_ed25519_key-cert.pub": "the overlay ssh.host_keys",
	"etc/ssh/sshd_config.d/wulf.conf":       "the overlay ssh.host_keys",
	"etc/ssh/ssh_known_hosts":               "the overlay ssh.known_hosts",
	"etc/systemd/network/10-ww4-networkd-default.network":           "the overlay systemd.networkd",
	"etc/systemd/network/71-default.network":                        "the overlay systemd.networkd",
	"etc/systemd/system/multi-user.target.wants/wulf-agent.service": "the overlay wulf-agent",
	"etc/systemd/system/wulf-agent.service":                         "the overlay wulf-agent",
	"usr/lib/wulfmesh":                                              "the agent, which installs itself",
	"usr/lib/wulfmesh/wulf-agent":                                   "the agent, which installs itself",
}

// A booted node's root is, entry by entry, what the image was made of: a program that the node runs as its init, before
// anything of the distribution, lists it. It holds for images of directories and of registries, and for both ways to boot.
func TestTreeOfANodeIsItsSource(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 14*time.Minute)
	defer cancel()
	root := filepath.Join(t.TempDir(), "root")
	makeSpecimen(t, root)
	source, err := treesum.Sum(root)
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, ctx)
	if _, err := c.Wulf(ctx, "overlay", "import", "treesum", sumProgram(t)); err != nil {
		t.Fatal(err)
	}
	for image, from := range map[string]string{"dir": root, "oci": pushSpecimen(t, root, source)} {
		began := time.Now()
		if err := c.ImportImage(ctx, image, from); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s imported in %.1f s", image, time.Since(began).Seconds())
	}
	if err := c.WaitRelays(ctx); err != nil {
		t.Fatal(err)
	}
	i := 10
	for _, image := range []string{"dir", "oci"} {
		for _, method := range []string{"two-stage", "one-stage"} {
			i++
			t.Run(image+" "+method, func(t *testing.T) {
				n := treeNode(t, ctx, c, i, image, nil, "--method", method)
				got, console := n.tree(t, ctx)
				compare(t, expected(source, method, console), got)
			})
		}
	}
	t.Run("root on a disk, twice", func(t *testing.T) { // the second time there is an earlier root
		n := treeNode(t, ctx, c, i+1, "dir", []rig.Disk{{File: emptyDisk(t, 4<<30)}}, "--root", "/dev/vda")
		for range 2 {
			got, console := n.tree(t, ctx)
			compare(t, expected(source, "two-stage", console), got)
		}
	})
}

// sumProgram is an overlay with the program that nodes run as their init.
func sumProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "treesum"), "../treesum/node")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// listed is a node that lists its root.
type listed struct {
	*rig.Machine
	port string
}

func treeNode(t *testing.T, ctx context.Context, c *cluster.Cluster, i int, image string, disks []rig.Disk, args ...string) listed {
	t.Helper()
	name, mac := fmt.Sprintf("n%d", i), fmt.Sprintf("52:54:00:77:00:%02x", i)
	port := filepath.Join(t.TempDir(), "port")
	m, err := c.Room.Rack.Machine(rig.MachineConfig{Name: name, MAC: mac, Firmware: rig.BIOS, Memory: 1536, Port: port, Disks: disks})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddNode(ctx, name, image, mac, fmt.Sprintf("10.77.0.%d", 100+i), append(args, "--init", "/treesum", "-O", "treesum")...); err != nil {
		t.Fatal(err)
	}
	return listed{m, port}
}

// tree boots a node and returns the sums of its root, and what it said on its console.
func (m listed) tree(t *testing.T, ctx context.Context) ([]treesum.Entry, *rig.Output) {
	t.Helper()
	began := time.Now()
	if err := m.PowerOn(); err != nil {
		t.Fatal(err)
	}
	defer m.PowerOff()
	if _, err := m.Console().Wait(ctx, "starting /treesum"); err != nil {
		t.Fatal(err)
	}
	started := time.Since(began)
	if _, err := m.Console().Wait(ctx, "treesum: end: <nil>"); err != nil {
		t.Fatal(err)
	}
	t.Logf("init started after %.1f s, the sums were sent after %.1f s", started.Seconds(), time.Since(began).Seconds())
	if err := m.WaitOff(ctx); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(m.port)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := treesum.Read(z) // to the end, where gzip tells whether a byte was lost
	if err != nil {
		t.Fatal(err)
	}
	return entries, m.Console()
}

// expected is what a node shall have of the source. What a node says that it cannot keep is taken out: a tmpfs has
// attributes of users from Linux 6.6 on.
func expected(source []treesum.Entry, method string, console *rig.Output) []treesum.Entry {
	said := make(map[string]bool)
	for _, line := range console.Lines() {
		if _, lost, ok := strings.Cut(line.Text, "the root cannot hold an attribute "); ok {
			said[lost] = true
		}
	}
	var want []treesum.Entry
	for _, e := range source {
		top, below, deep := strings.Cut(e.Name(), "/")
		switch {
		case strings.HasPrefix(e.Name(), "usr/share/doc/"): // the image's list of excludes says so
			continue
		case deep && (top == "proc" || top == "sys" || top == "run"), top == "dev" && below != "" && e.Type == "file":
			continue // a running system has something mounted there
		}
		if method == "one-stage" {
			e.Xattrs = nil // an initramfs has none
		}
		e.Xattrs = maps.Clone(e.Xattrs)
		maps.DeleteFunc(e.Xattrs, func(name, _ string) bool {
			return strings.HasPrefix(name, "user.") && said["path="+e.Name()+" attribute="+name]
		})
		want = append(want, e)
	}
	return want
}

// compare holds a node's tree to what it should be.
func compare(t *testing.T, want, got []treesum.Entry) {
	t.Helper()
	differ := treesum.Diff(want, got)
	var allowed []string
	for _, path := range slices.Sorted(maps.Keys(differ)) {
		if why, ok := added[path]; ok {
			allowed = append(allowed, path+" ("+why+")")
		} else {
			t.Errorf("%q %s", path, differ[path])
		}
	}
	t.Logf("%d entries of the image, %d of the node, which differ in: %s", len(want), len(got), strings.Join(allowed, ", "))
}

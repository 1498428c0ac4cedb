package overlay_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// needs skips the test where one of the programs is missing. Each is a name, or places where it may be.
func needs(t *testing.T, programs ...string) []string {
	t.Helper()
	var found []string
	for _, p := range programs {
		at := ""
		for _, name := range strings.Fields(p) {
			for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
				if f, err := exec.LookPath(dir + name); err == nil && at == "" {
					at = f
				}
			}
		}
		if at == "" {
			t.Skipf("SKIPPED: needs %s: scripts/install-deps programs", strings.Fields(p)[0])
		}
		found = append(found, at)
	}
	return found
}

// place writes files below dir.
func place(t *testing.T, dir string, files []overlay.Rendered) {
	t.Helper()
	for _, f := range files {
		name := filepath.Join(dir, f.Path)
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		if err == nil && f.Type == overlay.TypeLink {
			err = os.Symlink(f.Target, name)
		} else if err == nil {
			err = os.WriteFile(name, f.Content, os.FileMode(f.Mode))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A yard is a machine of its own for a program that sets networks up: namespaces for network, mounts and processes, with
// a node's files as /etc. Nothing that happens there reaches this computer.
type yard struct {
	files []overlay.Rendered
	ports map[string]string // the machine's devices: the names that it begins with, and their hardware addresses
	run   string            // what happens there, in the language of sh; its output is kept in $LOG
	wants []string          // regular expressions of lines of the outcome: links, addresses, routes, and what the program said
}

// It is left when the outcome has all the lines that it is to have, or after half a minute; the last outcome is printed.
const yardScript = `
set -e
PATH=$PATH:/usr/sbin:/sbin
mount --make-rprivate /
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
mount -t proc none /proc
mount -t sysfs -o ro none /sys
mount --bind "$ROOT/etc" /etc
mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
! grep -q ^systemd-network: /etc/passwd || chown -R systemd-network /run/systemd/netif
ip link set dev lo up
i=0
while read -r name hardware; do
	i=$((i + 1))
	ip link add "$name" address "$hardware" type veth peer name "peer$i" || { echo 'no cables here'; exit 0; }
	ip link set dev "peer$i" up
done <"$ROOT/ports"
LOG=$ROOT/log
: >"$LOG"
(
	eval "$RUN"
) >"$LOG" 2>&1 </dev/null &
outcome() {
	ip -o link
	ip -o addr | tr -s ' '
	ip route
	ip -6 route
	cat "$LOG"
}
for i in $(seq 300); do
	outcome >"$ROOT/outcome"
	missing=
	while read -r want; do
		grep -qE -- "$want" "$ROOT/outcome" || missing=1
	done <"$ROOT/wants"
	[ -n "$missing" ] || break
	sleep 0.1
done
cat "$ROOT/outcome"
`

// outcome is what comes of it: links, addresses, routes, and what the program said.
func (y yard) outcome(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root for network namespaces")
	}
	needs(t, "ip", "unshare", "mount")
	apart := []string{"--net", "--mount", "--pid", "--fork", "--kill-child", "--"}
	if out, err := exec.Command("unshare", append(apart, "mount", "-t", "sysfs", "-o", "ro", "none", "/sys")...).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no permission to make namespaces: %s", out)
	}
	root := t.TempDir()
	place(t, root, y.files)
	var ports strings.Builder
	for name, hw := range y.ports {
		fmt.Fprintf(&ports, "%s %s\n", name, hw)
	}
	files := map[string]string{"ports": ports.String(), "wants": strings.Join(y.wants, "\n") + "\n", "etc/hostname": "yard\n", "etc/machine-id": strings.Repeat("7", 32) + "\n"}
	for _, name := range []string{"/etc/passwd", "/etc/group"} { // daemons give their powers away
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(b)
	}
	for name, content := range files {
		os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755)
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "unshare", append(apart, "sh", "-c", yardScript)...)
	cmd.Env = append(os.Environ(), "ROOT="+root, "RUN="+y.run, "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if strings.Contains(string(out), "no cables here") {
		t.Skip("SKIPPED: this kernel has no veth")
	}
	return string(out)
}

// check tells what the outcome lacks, and what it has and must not have.
func (y yard) check(t *testing.T, never ...string) {
	t.Helper()
	out := y.outcome(t)
	for _, want := range y.wants {
		if !regexp.MustCompile("(?m)" + want).MatchString(out) {
			t.Errorf("there is no %q", want)
		}
	}
	for _, not := range never {
		if found := regexp.MustCompile("(?m)" + not).FindString(out); found != "" {
			t.Errorf("there is %q", found)
		}
	}
	if t.Failed() {
		t.Logf("got:\n%s", out)
	}
}

// stands are what a node's network must be, whoever sets it up. A second default route is refused by Linux in the same
// words as the first, so it is looked for by its device.
var stands = []struct {
	node         catalog.NodeName
	ports        map[string]string
	wants, never []string
}{
	{"plain", map[string]string{"eth0": "52:54:00:00:01:01", "eth1": "52:54:00:00:01:02", "eth2": "52:54:00:00:01:03"},
		[]string{"eth0@.* mtu 9000", "eth0 inet 10.1.0.1/16", "eth1 inet 10.2.0.1/16", "^default via 10.1.255.254 dev eth0"},
		[]string{"inet 10.3.0.1", "^default .*dev eth[12]"}},
	{"both", map[string]string{"eth0": "52:54:00:00:07:01", "eth1": "52:54:00:00:07:02", "eth2": "52:54:00:00:07:03", "eth3": "52:54:00:00:07:04"},
		[]string{"eth0 inet 10.6.0.7/16", "eth0 inet6 fd00:6::7/64", "eth1 inet 10.1.0.7/16", "eth2@.*[<,]UP", "^default via 10.6.255.254 dev eth0",
			"^default via fd00:6::1 dev eth0", "^10.7.0.0/16 via 10.6.0.1 dev eth0", "^10.8.0.0/16 via 10.6.0.1 dev eth0.* metric 50", "^fd00:7::/64 via fd00:6::2 dev eth0"},
		[]string{"^default .*dev eth[123]", "eth3 inet"}},
	{"bridged", map[string]string{"en1": "52:54:00:00:04:01"},
		[]string{"br0:.* mtu 9000.* 52:54:00:00:04:ff", "br0 inet 10.1.0.4/16", "en1@.* mtu 9000 .* master br0", "^default via 10.1.255.254 dev br0"},
		[]string{"en1 inet"}},
	{"six", map[string]string{"eth0": "52:54:00:00:06:01"},
		[]string{"eth0 inet6 fd00:6::6/64", "^default via fd00:6::1 dev eth0"},
		[]string{"eth0 inet "}},
}

func TestProgramsSetUpTheNetworkOfANode(t *testing.T) {
	for _, x := range []struct {
		overlay, run string
		programs     []string
		ready, wrong string // what it says in the end, and if it does not understand its files
	}{
		{"systemd.networkd", "SYSTEMD_LOG_LEVEL=info SYSTEMD_LOG_TARGET=console exec $1", []string{"/usr/lib/systemd/systemd-networkd /lib/systemd/systemd-networkd"},
			"Enumeration completed", "^/etc/systemd/network/.*"},
		{"NetworkManager", "exec $1 --no-daemon --debug --configure-and-quit=initrd --log-level=INFO", []string{"NetworkManager"},
			"is starting", "<warn>.*(keyfile|config).*"},
		{"ifupdown", "mkdir -p /run/network /etc/network/if-pre-up.d /etc/network/if-up.d /etc/network/if-down.d /etc/network/if-post-down.d; $1 -a && echo all is up",
			[]string{"ifup"}, "all is up", "interfaces.*:.*(error|unknown|dup).*"},
		// The cables of a yard have no permanent addresses, which it goes by.
		{"netplan", "$1 && sed -i s/^PermanentMAC/MAC/ /run/systemd/network/*.network && SYSTEMD_LOG_LEVEL=info SYSTEMD_LOG_TARGET=console exec $2",
			[]string{"/usr/libexec/netplan/generate /lib/netplan/generate", "/usr/lib/systemd/systemd-networkd /lib/systemd/systemd-networkd"},
			"Enumeration completed", "(WARNING|^/etc/netplan|^/run/systemd/network/).*"},
	} {
		for _, s := range stands {
			t.Run(x.overlay+" "+string(s.node), func(t *testing.T) {
				t.Parallel()
				run := "set -- " + strings.Join(needs(t, x.programs...), " ") + "; " + x.run
				y := yard{files: rendered(t, netLab(t), x.overlay, s.node), ports: s.ports, run: run, wants: append(slices.Clone(s.wants), x.ready)}
				y.check(t, append(slices.Clone(s.never), x.wrong)...)
			})
		}
	}
}

func TestProgramsUnderstandTheNetworksOfAllNodes(t *testing.T) {
	c := netLab(t)
	t.Run("systemd.networkd", func(t *testing.T) {
		program := needs(t, "/usr/lib/systemd/systemd-networkd /lib/systemd/systemd-networkd")
		var all []overlay.Rendered // it reads them whether they belong together or not
		for _, n := range netNodes() {
			for _, f := range rendered(t, c, "systemd.networkd", n.Name) {
				if dir, file := filepath.Split(f.Path); strings.HasSuffix(dir, "/network/") {
					f.Path = dir + string(n.Name) + "-" + file
					all = append(all, f)
				}
			}
		}
		y := yard{files: all, run: "SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console exec " + program[0], wants: []string{"Enumeration completed"}}
		y.check(t, "^/etc/systemd/network/.*")
	})
	// It refuses a connection that does not hold together, and leaves out what it does not know.
	t.Run("NetworkManager", func(t *testing.T) {
		program := needs(t, "nmcli")
		for _, n := range netNodes() {
			for _, f := range rendered(t, c, "NetworkManager", n.Name) {
				if !strings.Contains(f.Path, "/system-connections/") {
					continue
				}
				t.Run(filepath.Join(string(n.Name), filepath.Base(f.Path)), func(t *testing.T) {
					t.Parallel()
					cmd := exec.CommandContext(t.Context(), program[0], "--offline", "connection", "modify", "connection.id", "x")
					cmd.Stdin = strings.NewReader(string(f.Content))
					out, err := cmd.CombinedOutput()
					if err != nil {
						t.Fatalf("%v: %s\n%s", err, out, f.Content)
					}
					for _, line := range strings.Split(string(f.Content), "\n") {
						key, value, ok := strings.Cut(line, "=")
						switch {
						case !ok, value == "true" && key == "autoconnect", key == "id", key == "gateway": // it says these in other words
							continue
						case !strings.Contains(string(out), "\n"+strings.TrimSuffix(key, "1")):
							t.Errorf("nothing is left of %q:\n%s", line, out)
						}
					}
				})
			}
		}
	})
	t.Run("netplan", func(t *testing.T) {
		program := needs(t, "/usr/libexec/netplan/generate /lib/netplan/generate")
		for _, n := range netNodes() {
			root := t.TempDir()
			place(t, root, rendered(t, c, "netplan", n.Name))
			if out, err := exec.CommandContext(t.Context(), program[0], "--root-dir", root).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s: %v: %s", n.Name, err, out)
			}
			if made, err := filepath.Glob(filepath.Join(root, "run/systemd/network/*.network")); err != nil || len(made) < len(n.Settings.Nets) {
				t.Errorf("%s: of %d devices came %q", n.Name, len(n.Settings.Nets), made)
			}
		}
	})
	t.Run("ifupdown", func(t *testing.T) {
		program := needs(t, "ifup")
		var all []overlay.Rendered
		for _, n := range netNodes() {
			for _, f := range rendered(t, c, "ifupdown", n.Name) {
				f.Path = "etc/" + string(n.Name) + f.Path[len("etc"):]
				all = append(all, f)
			}
		}
		y := yard{files: all, run: `mkdir /etc/network
for n in /etc/*/network; do
	mount --bind $n /etc/network
	` + program[0] + ` --no-act --force -a || echo "$n is wrong"
	umount /etc/network
done
echo all are read`, wants: []string{"all are read"}}
		y.check(t, ".*is wrong", "interfaces.*:.*(error|unknown|dup).*")
	})
	t.Run("ifcfg", func(t *testing.T) {
		program := needs(t, "sh")
		for _, n := range netNodes() {
			for _, f := range rendered(t, c, "ifcfg", n.Name) {
				if strings.Contains(f.Path, "/route") {
					continue
				}
				cmd := exec.CommandContext(t.Context(), program[0], "-e", "-u", "-s")
				cmd.Stdin = strings.NewReader(string(f.Content))
				if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
					t.Errorf("%s: %s: %v: %s", n.Name, f.Path, err, out)
				}
			}
		}
	})
	t.Run("wicked", func(t *testing.T) {
		for _, n := range netNodes() {
			for _, f := range rendered(t, c, "wicked", n.Name) {
				d := xml.NewDecoder(strings.NewReader(string(f.Content)))
				for {
					if _, err := d.Token(); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						t.Fatalf("%s: %s: %v\n%s", n.Name, f.Path, err, f.Content)
					}
				}
			}
		}
	})
}

// A device of the given hardware address gets its name, whatever the kernel called it.
func TestDevicesAreRenamed(t *testing.T) {
	for _, name := range []string{"systemd.netname", "udev.netname"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program := needs(t, "udevadm")
			y := yard{
				files: rendered(t, netLab(t), name, "plain"), ports: map[string]string{"en7": "52:54:00:00:01:02"},
				run: program[0] + " test --action=add /sys/class/net/en7", wants: []string{"(eth1@|ID_NET_NAME=eth1|NAME 'eth1')", "ID_NET_DRIVER"},
			}
			y.check(t, "^/etc/(udev|systemd)/.*", "/etc/udev/rules.d/.*(nvalid|rror|nknown).*")
		})
	}
}

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wulfmesh/wulfmesh/test/cluster"
	"github.com/wulfmesh/wulfmesh/test/rig"
)

// tellDeclared says on the console what has become of what is declared. The network is up when it runs, and so are the
// mounts.
var tellDeclared = map[string]string{
	"etc/systemd/system/tell.service": `[Unit]
Description=What was declared
After=network-online.target local-fs.target
Wants=network-online.target
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/tell
[Install]
WantedBy=multi-user.target
`,
	"etc/systemd/system/multi-user.target.wants/tell.service.ww": `{{softlink "../tell.service"}}`,
	"usr/local/sbin/tell": `#!/bin/sh
say() { echo "told: $*" >/dev/console; }
say name $(hostname)
say hosts $(grep -c 'n33' /etc/hosts) $(grep -w n33 /etc/hosts)
say eth0 $(ip -4 -o addr show dev eth0 | awk '{ print $4 }') via $(ip -4 route show default | awk '{ print $3 " " $5 }')
say vlan $(ip -4 -o addr show dev eth0.42 | awk '{ print $4 }') $(ip -d -o link show dev eth0.42 | grep -o 'vlan protocol 802.1Q id [0-9]*') mtu $(cat /sys/class/net/eth0.42/mtu) $(ip route show 10.79.0.0/16)
say resolv $(grep -v '^#' /etc/resolv.conf)
say mounts $(awk '$2 == "/scratch" { print $1, $2, $3, $4 }' /proc/mounts | cut -d, -f1-2) swap $(awk 'NR > 1 { print $1 }' /proc/swaps)
say label $(blkid -s LABEL -o value /dev/vda1) $(blkid -s PARTLABEL -o value /dev/vda1)
say end
`,
}

// A machine has what the catalog declares of it: name, hosts, a network device and a VLAN on it, routes, name servers, a
// disk with partitions, a file system and swap; and its SSH host key is certified by its network's authority.
func TestANodeIsWhatIsDeclared(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	c := newCluster(t, ctx)
	wulf := func(args ...string) string {
		t.Helper()
		out, err := c.Wulf(ctx, args...)
		if err != nil {
			t.Fatalf("wulf %q: %v %s", args, err, out)
		}
		return out
	}
	if err := c.ImportImage(ctx, "system", script(t, ctx, "make-image")); err != nil {
		t.Fatal(err)
	}
	wulf("overlay", "import", "tell", overlayOf(t, tellDeclared))
	wulf("network", "add", "storage", "--cidr", "10.78.0.0/24", "--mtu", "1400")
	mac := "52:54:00:77:00:33"
	m, err := c.Room.Rack.Machine(rig.MachineConfig{Name: "n33", MAC: mac, Firmware: rig.UEFI, Memory: 2048, Disks: []rig.Disk{{File: emptyDisk(t, 600<<20)}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddNode(ctx, "n33", "system", mac, "10.77.0.133", "-O", "tell", "--kernelargs", "console=ttyS0", "--kernelargs", "net.ifnames=0",
		"--netdev", "eth0", "--nettagadd", "DNS1=10.77.0.53", "--nettagadd", "DNSSEARCH=cluster.example"); err != nil {
		t.Fatal(err)
	}
	wulf("node", "set", "n33", "--netname", "storage", "--type", "vlan", "--netdev", "eth0.42", "--ipaddr", "10.78.0.5", "--nettagadd", "parent_device=eth0",
		"--nettagadd", "vlan_id=42", "--nettagadd", "route1=10.79.0.0/16,10.78.0.1")
	for _, part := range [][]string{
		{"--partname", "scratch", "--partnumber", "1", "--partsize", "300", "--fsname", "/dev/disk/by-partlabel/scratch", "--fsformat", "ext4", "--fslabel", "SCRATCH", "--fspath", "/scratch", "--fsmount", "noatime"},
		{"--partname", "swap", "--partnumber", "2", "--partsize", "100", "--fsname", "/dev/disk/by-partlabel/swap", "--fsformat", "swap", "--fspath", "swap"},
	} {
		wulf(append([]string{"node", "set", "n33", "--diskname", "/dev/vda"}, part...)...)
	}
	if err := c.WaitRelays(ctx); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := m.PowerOn(); err != nil {
		t.Fatal(err)
	}
	defer m.PowerOff()
	if _, err := m.Console().Wait(ctx, "told: end"); err != nil {
		t.Fatalf("%v\n%s", err, m.Console().Tail(60))
	}
	if _, err := c.WaitBoot(ctx, "n33", began); err != nil {
		t.Fatalf("%v\n%s", err, m.Console().Tail(40))
	}
	said := m.Console().Tail(2000)
	for _, want := range []string{
		"told: name n33", "told: eth0 10.77.0.133/24", "told: vlan 10.78.0.5/24 vlan protocol 802.1Q id 42 mtu 1400 10.79.0.0/16 via 10.78.0.1",
		"nameserver 10.77.0.53", "search cluster.example", "told: mounts /dev/vda1 /scratch ext4 rw,noatime swap /dev/vda2", "told: label SCRATCH scratch", "10.77.0.133",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the node does not say %q", want)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(said) {
			if strings.Contains(line, "told: ") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
	certified(t, c, "n33", "10.77.0.133:22", wulf("network", "known-hosts"))
}

// certified asks a node's sshd for its host key, as a client does that knows the authorities of known_hosts and no node.
func certified(t *testing.T, c *cluster.Cluster, name, addr, known string) {
	t.Helper()
	var authorities [][]byte
	for rest := []byte(known); len(rest) > 0; {
		marker, _, key, _, more, err := ssh.ParseKnownHosts(rest)
		if err != nil {
			break
		}
		if rest = more; marker == "cert-authority" {
			authorities = append(authorities, key.Marshal())
		}
	}
	var shown ssh.PublicKey
	err := c.Room.Relays[0].Do(func() error {
		conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, _, _, err = ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
			User: "root", HostKeyAlgorithms: []string{ssh.CertAlgoED25519v01}, Timeout: 10 * time.Second,
			HostKeyCallback: func(_ string, remote net.Addr, key ssh.PublicKey) error {
				shown = key
				check := ssh.CertChecker{IsHostAuthority: func(by ssh.PublicKey, _ string) bool {
					for _, a := range authorities {
						if bytes.Equal(a, by.Marshal()) {
							return true
						}
					}
					return false
				}}
				if err := check.CheckHostKey(net.JoinHostPort(name, "22"), remote, key); err != nil {
					return err
				}
				return errKnown
			},
		})
		return err
	})
	if !errors.Is(err, errKnown) && (err == nil || !strings.Contains(fmt.Sprint(err), errKnown.Error())) {
		t.Errorf("%d authorities, key %T: %v", len(authorities), shown, err)
	}
}

// errKnown ends a handshake once the host is known: there is nothing to log in for.
var errKnown = errors.New("the host is known by its certificate")

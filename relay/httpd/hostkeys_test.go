package httpd

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// certifiedNode is the place below which the shipped overlays of SSH are laid for node n1, which has keys of both types,
// and what everybody knows of its network.
func certifiedNode(t *testing.T) (root, knownHosts string) {
	t.Helper()
	mesh := pki.NewMeshSecret()
	network := catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/16"), Domain: "lab.example"}
	network.SSHAuthority = mesh.SSHAuthority(network)
	c := &catalog.Catalog{}
	for _, x := range []catalog.Change{
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1"}},
		catalog.AddNetwork{Network: network},
		catalog.AddNodes{Nodes: []catalog.Node{{Name: "n1", Settings: catalog.Settings{Tags: map[string]string{"ssh_host_keys": "ed25519,ecdsa"},
			Nets: map[string]catalog.NetDev{catalog.DefaultNet: {Address: new(netip.MustParseAddr("10.1.0.1"))}}}}}},
	} {
		b, err := catalog.Entry{At: time.Unix(0, 0), Change: x}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		next, out, err := c.Apply(c.Revision+1, b)
		if err != nil || out.Err != nil {
			t.Fatal(err, out.Err)
		}
		c = next
	}
	r, err := c.Resolve("n1")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := hostKeys(mesh.NetworkKey("rack"), r)
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := overlay.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	var layers []overlay.Layer
	for _, s := range shipped {
		if s.Name == "ssh.host_keys" || s.Name == "ssh.known_hosts" {
			layers = append(layers, overlay.Layer{Name: s.Name, Bundle: s.Bundle})
		}
	}
	made, err := overlay.Render(context.Background(), nil, overlay.View{World: overlay.NewWorld(c, nil), Node: overlay.NodeOf(c, r), Secrets: overlay.Secrets{SSHHostKeys: keys}}, layers...)
	if err != nil || made.Withheld {
		t.Fatal(made, err)
	}
	root = t.TempDir()
	for _, f := range made.Files {
		p := filepath.Join(root, f.Path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(strings.ReplaceAll(string(f.Content), " /etc/ssh/", " "+root+"/etc/ssh/")), os.FileMode(f.Mode)); err != nil {
			t.Fatal(err)
		}
	}
	return root, filepath.Join(root, "etc/ssh/ssh_known_hosts")
}

// OpenSSH itself is asked: its server shows what a relay has signed, and its client believes it by what the overlay
// ssh.known_hosts says and by nothing else. They talk through a pipe.
func TestSSHKnowsNodesByTheirNetworksAuthority(t *testing.T) {
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("there is no ssh here: scripts/install-deps programs")
	}
	sshd := "/usr/sbin/sshd"
	if _, err := os.Stat(sshd); err != nil {
		t.Skip("there is no sshd here: scripts/install-deps programs")
	}
	root, knownHosts := certifiedNode(t)
	config := filepath.Join(root, "sshd_config")
	if err := os.WriteFile(config, []byte("Include "+root+"/etc/ssh/sshd_config.d/*.conf\nPidFile none\nAuthorizedKeysFile none\nUsePAM no\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(sshd, "-t", "-f", config).CombinedOutput(); err != nil {
		if strings.Contains(string(out), "privilege separation") {
			t.Skipf("sshd cannot run here: %s", out)
		}
		t.Fatalf("sshd -t: %v\n%s", err, out)
	}
	for _, algorithm := range []string{"ssh-ed25519-cert-v01@openssh.com", "ecdsa-sha2-nistp256-cert-v01@openssh.com"} {
		for _, host := range []string{"n1", "n1.lab.example", "10.1.0.1", "n2", "10.1.0.2"} {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			out, err := exec.CommandContext(ctx, ssh, "-F", "none", "-o", "ProxyCommand="+sshd+" -i -f "+config, "-o", "UserKnownHostsFile="+knownHosts, "-o", "GlobalKnownHostsFile=none",
				"-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "PreferredAuthentications=none", "-o", "HostKeyAlgorithms="+algorithm, "-o", "CheckHostIP=no", host, "true").CombinedOutput()
			cancel()
			// Nobody is let in; but before, the client must have believed the host key, or not.
			believed := strings.Contains(string(out), "Permission denied")
			if want := slices.Contains([]string{"n1", "n1.lab.example", "10.1.0.1"}, host); err == nil || believed != want || !want && !strings.Contains(string(out), "Host key verification failed") {
				t.Errorf("%s with %s: %v\n%s", host, algorithm, err, out)
			}
		}
	}
}

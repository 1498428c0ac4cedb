package overlay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// moreOverlays are the shipped overlays that are not about networks.
var moreOverlays = []string{
	"chrony", "debug", "example.genders", "example.lustre", "example.munge", "example.prometheus", "example.slurm", "example.sssd", "fstab", "ignition",
	"issue", "localtime", "machine-id", "mig", "mkfs", "mkswap", "sfdisk", "ssh.authorized_keys", "ssh.host_keys", "ssh.known_hosts", "syncuser",
	"systemd.mount", "systemd.swap", "wulf-agent", "wwinit",
}

// moreNodes are the nodes that they are rendered for: one of which hardly anything is decided, one of which much is, and
// one that has resources where the other has settings.
func moreNodes(t *testing.T) []catalog.Node {
	t.Helper()
	addr := func(s string) *netip.Addr { return new(netip.MustParseAddr(s)) }
	resources := func(texts map[string]string) map[string]catalog.Resource {
		all := map[string]catalog.Resource{}
		for name, text := range texts {
			var r catalog.Resource
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				t.Fatal(name, err)
			}
			all[name] = r
		}
		return all
	}
	return []catalog.Node{
		{Name: "plain", Settings: catalog.Settings{
			Tags: map[string]string{"localtime": "Europe/Berlin"}, Secrets: map[string]catalog.Secret{"munge": sealedMunge},
			Nets: map[string]catalog.NetDev{"default": {Device: new("eth0"), Hardware: new(catalog.HardwareAddr("52:54:00:00:01:01")), Address: addr("10.1.0.1")}},
		}},
		{Name: "full", Settings: catalog.Settings{
			Image: new("debian"), Comment: new("borrowed"), Cluster: new("west"), Rack: new("r07"), Roles: []string{"gpu"}, Groups: []string{"a100"}, Root: new("tmpfs"),
			Kernel: catalog.KernelSettings{Args: []string{"quiet", `x=a\lb`}}, SSHKeys: []string{"ssh-ed25519 AAAA admin"}, Primary: new("default"),
			Secrets: map[string]catalog.Secret{"munge": sealedMunge, "ldap": sealedMunge},
			Tags: map[string]string{
				"ntp_server": "ntp.site.example", "ntp_servers": "10.1.0.5, 10.1.0.6", "PasswordlessRoot": "true", "ssh_host_keys": "ed25519,ecdsa",
				"gpuMigProfiles": "1g.10gb,1g.10gb:0", "slurm_node": "CPUs=64 Gres=gpu:2", "slurm_partition": "gpu,all", "note": "a, b",
			},
			BMC: catalog.BMC{Address: addr("10.1.9.1"), Netmask: addr("255.255.0.0"), Gateway: addr("10.1.255.254"), Username: new("it's me"),
				Password: new(sealedBMC), Write: new(true), Tags: map[string]string{"vlan": "7"}},
			Nets: map[string]catalog.NetDev{
				"default": {Device: new("eth0"), Hardware: new(catalog.HardwareAddr("52:54:00:00:01:02")), Address: addr("10.1.0.2"), Address6: addr("fd00:1::2")},
				"ib":      {Type: new("infiniband"), Device: new("ib0"), Address: addr("10.2.0.2")},
			},
			Disks: map[string]catalog.Disk{
				"/dev/nvme0n1": {Wipe: new(true), Partitions: map[string]catalog.Partition{
					"root": {Number: new(1), Size: new(int64(8192))}, "swap": {Number: new(2), Size: new(int64(1024)), Type: new("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f")},
					"scratch": {Number: new(3)}, "old": {Exists: new(false)}}},
				"/dev/sdb": {Partitions: map[string]catalog.Partition{"data": {GUID: new("4c4c4544-0042-3510-8054-b4c04f564433"), Start: new(int64(8)), Size: new(int64(512))}}},
				"/dev/sdc": {},
			},
			Filesystems: map[string]catalog.Filesystem{
				"/dev/disk/by-partlabel/root":    {Format: new("ext4"), Path: new("/"), Wipe: new(true)},
				"/dev/disk/by-partlabel/swap":    {Format: new("swap"), Label: new("swap")},
				"/dev/disk/by-partlabel/scratch": {Format: new("xfs"), Path: new("/scratch/my own"), Mount: new("noatime,nosuid"), Options: []string{"-i", "size=512"}, Label: new("scratch")},
				"/dev/disk/by-partlabel/data":    {Format: new("ext4"), Path: new("/srv/100%"), UUID: new("4c4c4544-0042-3510-8054-b4c04f564434")},
			},
			Resources: resources(map[string]string{
				"fstab":       `[{"spec":"nfs:/home","file":"/home","vfstype":"nfs"},{"spec":"nfs:/opt","file":"/opt","vfstype":"nfs4","mntops":"ro,nofail","freq":0,"passno":2}]`,
				"localusers":  `[{"name":"db","uid":900,"gid":901,"gecos":"Database","home":"/var/lib/db","shell":"/bin/sh"},{"name":"svc","uid":902},{"name":"root","uid":7}]`,
				"localgroups": `[{"name":"db","gid":901,"members":["svc","alice"]},{"name":"svc","gid":902}]`,
				"slurm":       `{"cluster":"West","controllers":["head1","head2"],"settings":{"MpiDefault":"pmix"}}`,
				"sssd":        `{"sssd":{"domains":["site"],"services":["nss","pam"]},"domain/site":{"id_provider":"ldap","ldap_default_authtok":{"secret":"ldap"}}}`,
				"lustre":      `{"networks":"o2ib0(ib0)","mounts":[{"spec":"10.2.0.9@o2ib0:/big","file":"/lustre/big-one"}]}`,
			}),
		}},
		{Name: "other.far.example", Settings: catalog.Settings{
			Image: new("debian"), Tags: map[string]string{"ssh_host_keys": "shared", "localtime": "UTC", "slurm_node": "CPUs=8", "gpuMigProfiles": "0"}, Secrets: map[string]catalog.Secret{"munge": sealedMunge},
			Nets: map[string]catalog.NetDev{"default": {Address: addr("10.1.0.3")}},
			Resources: resources(map[string]string{
				"ignition": `{"storage":{"disks":[{"device":"/dev/vda","partitions":[{"label":"scratch","shouldExist":true}],"wipeTable":true}]}}`,
				"sfdisk":   `[{"device":"/dev/sda","label":"gpt","first-lba":2048,"partitions":[{"device":"/dev/sda1","name":"a root","size":4194304},{"name":"swap"}]},{"device":"/dev/sdb","wipe":true,"partitions":[{"size":"1GiB"}]}]`,
				"mkfs":     `[{"device":"/dev/sda1","type":"xfs","options":"-b size=1024","overwrite":true},{"device":"/dev/sdb1"}]`,
				"mkswap":   `[{"device":"/dev/sda2","label":"swap"}]`,
			}),
		}},
	}
}

// site is the world beside the catalog: files of the site by their paths, links, and files of the image debian.
type site struct{ files, links, image map[string]string }

func (s site) SiteFile(path string) (overlay.SiteFile, bool) {
	if to, ok := s.links[path]; ok {
		return overlay.SiteFile{Path: path, Target: to}, true
	}
	text, ok := s.files[path]
	return overlay.SiteFile{Path: path, Content: chunk.RefOf([]byte(text))}, ok
}

func (s site) ReadSiteFile(_ context.Context, f overlay.SiteFile) ([]byte, error) {
	return []byte(s.files[f.Path]), nil
}

func (s site) ImageID(image string) (chunk.ID, bool) {
	return chunk.Of([]byte(image)), image == "debian"
}

func (s site) ReadImageFile(_ context.Context, _, path string) ([]byte, error) {
	text, ok := s.image[path]
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no %s", path)
	}
	return []byte(text), nil
}

func moreSite() site {
	return site{
		links: map[string]string{"/etc/localtime": "../usr/share/zoneinfo/Europe/Paris"},
		files: map[string]string{
			"/etc/passwd": "root:x:0:0:root:/root:/bin/zsh\nalice:x:1000:1000:Alice:/home/alice:/bin/bash\n", "/etc/group": "root:x:0:\nalice:x:1000:\ndaemon:x:7:\n",
			"/root/.ssh/authorized_keys": "ssh-ed25519 BBBB head\n", "/etc/ssh/ssh_known_hosts": "head ssh-ed25519 CCCC\n",
			"/etc/warewulf/warewulf.conf": "ipaddr: 10.1.0.254\n", "/etc/warewulf/tls/warewulf.crt": "CERTIFICATE\n",
			"/etc/warewulf/keys/ssh_host_ed25519_key": "SHARED\n", "/etc/warewulf/keys/ssh_host_ed25519_key.pub": "ssh-ed25519 SHARED\n",
			"/etc/warewulf/keys/ssh_host_rsa_key": "SHARED RSA\n", "/etc/warewulf/keys/ssh_host_rsa_key.pub": "ssh-rsa SHARED\n",
		},
		image: map[string]string{
			"/etc/passwd": "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n", "/etc/group": "root:x:0:\ndaemon:x:1:\n",
		},
	}
}

// moreLab is a catalog with the nodes of moreNodes.
func moreLab(t *testing.T) *catalog.Catalog {
	t.Helper()
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	c := &catalog.Catalog{}
	for _, x := range []catalog.Change{
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "rack", Prefix: prefix("10.1.0.0/16"), Prefix6: prefix("fd00:1::/64"), Gateway: addr("10.1.255.254"), Domain: "lab.example",
			NTP: []netip.Addr{addr("10.1.0.253")}, SSHAuthority: "ssh-ed25519 AUTHORITY"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "fabric", Prefix: prefix("10.2.0.0/16")}},
		catalog.PutImage{Name: "debian", Version: catalog.ImageVersion{Manifest: chunk.RefOf([]byte("a")), Arch: "amd64", Kernels: []chunk.Kernel{{Version: "6.12.9-1"}}}},
		catalog.AddNodes{Nodes: moreNodes(t)},
	} {
		c = change(t, c, x)
	}
	return c
}

var moreKeys = overlay.Secrets{Open: open.Open, SSHHostKeys: []overlay.HostKey{
	{Type: "ssh-ed25519", Private: "PRIVATE\n", Public: "ssh-ed25519 PUBLIC", Certificate: "ssh-ed25519-cert CERTIFICATE"},
	{Type: "ecdsa-sha2-nistp256", Private: "PRIVATE ECDSA\n", Public: "ecdsa PUBLIC", Certificate: "ecdsa-cert CERTIFICATE"},
}}

// allShipped are the shipped overlays, parsed once for all tests.
var allShipped = sync.OnceValues(overlay.Shipped)

func shippedBundle(t *testing.T, name string) *overlay.Bundle {
	t.Helper()
	all, err := allShipped()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(s overlay.ShippedOverlay) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("overlay %s does not ship", name)
	}
	return all[i].Bundle
}

// more are the files of a shipped overlay for a node of moreLab.
func more(t *testing.T, c *catalog.Catalog, name string, node catalog.NodeName, secrets overlay.Secrets) []overlay.Rendered {
	t.Helper()
	v := view(t, c, node, secrets)
	v.World.Files = moreSite()
	made, err := overlay.Render(context.Background(), nil, v, overlay.Layer{Name: name, Bundle: shippedBundle(t, name), Changed: time.Unix(1_800_000_000, 0).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	return made.Files
}

func shown(files []overlay.Rendered) string {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "== %s %s %04o %s\n%s", f.Type, f.Path, f.Mode, f.Target, f.Content)
		if len(f.Content) > 0 && !strings.HasSuffix(string(f.Content), "\n") {
			b.WriteString("\n(no line end)\n")
		}
	}
	return b.String()
}

func TestOtherOverlaysSayWhatTheNodeIs(t *testing.T) {
	c := moreLab(t)
	for _, name := range moreOverlays {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			told := map[string]bool{} // what many nodes have alike stands there once
			for _, n := range moreNodes(t) {
				fmt.Fprintf(&b, "### %s\n", n.Name)
				for _, f := range more(t, c, name, n.Name, moreKeys) {
					if s := shown([]overlay.Rendered{f}); !told[s] {
						told[s] = true
						b.WriteString(s)
					}
				}
			}
			golden(t, "more/"+name+".golden", b.String())
		})
	}
}

// A link that leads nowhere, or a unit that is wanted and not there, is met by nobody until it is missed.
func TestLinksOfOtherOverlaysLeadSomewhere(t *testing.T) {
	c := moreLab(t)
	for _, name := range moreOverlays {
		for _, n := range moreNodes(t) {
			files := more(t, c, name, n.Name, moreKeys)
			for _, f := range files {
				if f.Type != overlay.TypeLink || strings.HasPrefix(f.Target, "/usr/share/zoneinfo/") {
					continue
				}
				target := f.Target
				if !strings.HasPrefix(target, "/") {
					target = path.Join("/", path.Dir(f.Path), target)
				}
				if !slices.ContainsFunc(files, func(o overlay.Rendered) bool { return "/"+o.Path == target && o.Type == overlay.TypeFile }) {
					t.Errorf("%s of %s: %s leads to %s, which is not there", name, n.Name, f.Path, f.Target)
				}
			}
		}
	}
}

func TestTheDebugOverlayNamesEveryVariable(t *testing.T) {
	files := more(t, moreLab(t), "debug", "full", moreKeys)
	for m := range reflect.TypeFor[*overlay.Dot]().Methods() {
		word := regexp.MustCompile("[` ,.]" + m.Name + "\\b")
		if !slices.Contains([]string{"Format", "MarshalJSON", "Valid"}, m.Name) && !word.Match(files[0].Content) {
			t.Errorf("it does not name %s", m.Name)
		}
	}
}

func TestHostKeysThatAreWithheldLeaveSSHDAsItIs(t *testing.T) {
	c := moreLab(t)
	for _, node := range []catalog.NodeName{"plain", "full"} {
		if files := more(t, c, "ssh.host_keys", node, overlay.Secrets{}); len(files) != 0 {
			t.Errorf("%s gets %s", node, shown(files))
		}
	}
	if files := more(t, c, "wwinit", "full", overlay.Secrets{}); slices.ContainsFunc(files, func(f overlay.Rendered) bool { return f.Path == "warewulf/config" }) {
		t.Error("a node gets its configuration without the password that belongs there")
	}
}

func TestZonesComeFromTheSiteUnlessATagSaysOtherwise(t *testing.T) {
	c := change(t, moreLab(t), catalog.SetNodes{Nodes: []catalog.NodeName{"plain"}, Unset: []string{"tags.localtime"}})
	if files := more(t, c, "localtime", "plain", moreKeys); len(files) != 1 || files[0].Target != "/usr/share/zoneinfo/Europe/Paris" {
		t.Errorf("got %s", shown(files))
	}
}

func TestUsersOfAnImageThatCannotBeReadAreLeftAlone(t *testing.T) {
	c := change(t, moreLab(t), catalog.SetNodes{Nodes: []catalog.NodeName{"full"}, Unset: []string{"image"}})
	if files := more(t, c, "syncuser", "full", moreKeys); len(files) != 0 {
		t.Errorf("got %s", shown(files))
	}
}

func TestTheAuthoritiesAreThoseOfAllNodesNetworks(t *testing.T) {
	c := moreLab(t)
	files := more(t, c, "ssh.known_hosts", "plain", overlay.Secrets{})
	if len(files) != 1 {
		t.Fatalf("got %s", shown(files))
	}
	line := strings.Fields(string(files[0].Content)[strings.Index(string(files[0].Content), "@cert-authority "):])
	for a := range c.SSHAuthorities() {
		got := strings.Split(line[1], ",")
		if slices.Sort(got); line[2]+" "+line[3] != a.Key || !slices.Equal(got, slices.Sorted(slices.Values(a.Hosts))) {
			t.Errorf("got %s, want %s", line, a.KnownHosts(a.Hosts...))
		}
	}
	v := view(t, c, "plain", overlay.Secrets{})
	v.World.Fleet = nil
	if files, err := render(t, `{{range .SshCAs}}{{.}}{{end}}none`, v); err != nil || string(files[0].Content) != "none" {
		t.Errorf("without other nodes: %+v, %v", files, err)
	}
}

func TestAnExampleTellsWhichSecretItLacks(t *testing.T) {
	_, err := renderAll([]*overlay.Bundle{shippedBundle(t, "example.munge")}, data(t, "n1", moreKeys))
	if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), `no secret "munge"`) {
		t.Errorf("got %v", err)
	}
}

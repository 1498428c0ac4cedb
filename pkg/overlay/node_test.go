package overlay_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// whole is a node of which everything is decided, by a profile and by itself.
func whole(t *testing.T) overlay.View {
	addr := func(s string) *netip.Addr { return new(netip.MustParseAddr(s)) }
	var fstab, limits catalog.Resource
	for text, r := range map[string]*catalog.Resource{
		`[{"spec":"nfs:/home","file":"/home","freq":0}]`:                                      &fstab,
		`{"nofile":65536,"ratio":0.5,"soft":true,"none":null,"huge":123456789012345678901e9}`: &limits,
	} {
		if err := json.Unmarshal([]byte(text), r); err != nil {
			t.Fatal(err)
		}
	}
	c := lab(t)
	for _, x := range []catalog.Change{
		catalog.AddNetwork{Network: catalog.Network{Name: "six", Prefix: netip.MustParsePrefix("10.6.0.0/16"), Gateway: netip.MustParseAddr("10.6.255.254"),
			Prefix6: netip.MustParsePrefix("fd00:6::/64"), Gateway6: netip.MustParseAddr("fd00:6::1"), Domain: "six.example"}},
		catalog.PutImage{Name: "debian", Version: catalog.ImageVersion{Manifest: chunk.RefOf([]byte("a")), Arch: "amd64", Kernels: []chunk.Kernel{{Version: "6.12.9-1"}, {Version: "6.1.0-9"}}}},
		catalog.AddProfile{Profile: catalog.Profile{Name: "gpu", Settings: catalog.Settings{
			Image: new("debian"), Kernel: catalog.KernelSettings{Version: new("6.1"), Args: []string{"quiet", "console=ttyS0,115200"}}, Cluster: new("west"),
			Roles: []string{"gpu"}, Groups: []string{"a100", "rented"}, Resources: map[string]catalog.Resource{"fstab": fstab},
			BMC: catalog.BMC{Template: new("ipmitool"), Username: new("root"), Interface: new("lanplus"), Port: new(6230), Netmask: addr("255.255.0.0"), Gateway: addr("10.6.255.254"),
				Escape: new("~"), Write: new(true), Tags: map[string]string{"vlan": "7"}},
			Disks: map[string]catalog.Disk{"/dev/sda": {Wipe: new(true), Partitions: map[string]catalog.Partition{
				"swap": {Number: new(2), Size: new(int64(1024))}, "boot": {Number: new(1), Size: new(int64(512)), Start: new(int64(1)), Type: new("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"), Wipe: new(true)},
				"old": {Exists: new(false)}, "data": {Resize: new(true), GUID: new("4c4c4544-0042-3510-8054-b4c04f564433")}}}},
			Filesystems: map[string]catalog.Filesystem{
				"/dev/sda2": {Format: new("swap"), Path: new("swap")},
				"/dev/sda1": {Format: new("ext4"), Path: new("/scratch"), Wipe: new(true), Label: new("scratch"), UUID: new("4c4c4544-0042-3510-8054-b4c04f564433"), Options: []string{"-m", "0"}, Mount: new("noatime,nosuid")}},
		}}},
		catalog.AddNodes{Nodes: []catalog.Node{{Name: "g1", Profiles: []catalog.ProfileName{"gpu"}, Settings: catalog.Settings{
			Comment: new("borrowed"), Rack: new("r07"), Position: new("u12"), Asset: new("A-1"), UUID: new("4c4c4544-0042-3510-8054-b4c04f564434"), Primary: new("mgmt"),
			Resources: map[string]catalog.Resource{"limits": limits}, BMC: catalog.BMC{Address: addr("10.6.9.1")},
			Nets: map[string]catalog.NetDev{
				"mgmt": {Device: new("eth0"), Hardware: new(catalog.HardwareAddr("52:54:00:00:00:09")), Address: addr("10.6.0.9"), Address6: addr("fd00:6::9"), OnBoot: new(true)},
				"ib":   {Type: new("infiniband"), Device: new("ib0"), OnBoot: new(false), MTU: new(4092), Tags: map[string]string{"DNS1": "10.6.0.53", "route1": "10.7.0.0/16,10.6.0.1"}},
			},
		}}}},
	} {
		c = change(t, c, x)
	}
	return view(t, c, "g1", overlay.Secrets{})
}

func TestTemplatesSeeTheWholeModel(t *testing.T) {
	files, err := render(t, `{{.Id}} {{.Fqdn}} of {{.ClusterName}} in {{.MeshName}}, {{.Comment}}, at {{.Rack}} {{.Position}}
asset {{.AssetKey}} uuid {{.UUID}} roles {{.Roles}} groups {{.Groups}} profiles {{.Profiles}}
image {{.ImageName}} {{.Image}} kernel {{.Kernel.Version}} {{join " " .Kernel.Args}} init {{.Init}} root {{.Root}}
primary {{.PrimaryNetDev}} {{.Primary}}
{{- range $name, $dev := .NetDevs}}
{{$name}} {{$dev.Type}} {{$dev.Device}} onboot {{$dev.OnBoot}}/{{$dev.OnBoot.Bool}}/{{$dev.OnBoot.BoolDefaultTrue}} mtu {{$dev.MTU}} primary {{$dev.Primary}}
  {{$dev.Hwaddr}} {{$dev.Ipaddr}} {{$dev.IpCIDR}} {{$dev.Netmask}} via {{$dev.Gateway}}
  {{$dev.Ipaddr6}} {{$dev.PrefixLen6}} {{$dev.IpCIDR6}} via {{$dev.Gateway6}} tags {{$dev.Tags}}
{{- end}}
{{- with .Ipmi}}
bmc {{.Template}} {{.UserName}}@{{.Ipaddr}}:{{.Port}} {{.Netmask}} {{.Gateway}} {{.Interface}} {{.EscapeChar}} {{.Write.Bool}} {{.Tags.vlan}} "{{.Password}}"
{{- end}}
{{- range .ThisNode.DiskList}}
disk {{.Id}} wipe {{.WipeTable}}
{{- range .PartitionList}}
  {{.Id}} {{.Number}} size {{.SizeMiB}} start {{.StartMiB}} type {{.TypeGuid}} guid {{.Guid}} {{.ShouldExist}} {{.WipePartitionEntry}} {{.Resize}}
{{- end}}
{{- end}}
{{- range .FileSystemList}}
{{.Id}} {{.Format}} {{.Path}} wipe {{.WipeFileSystem}} {{.Label}} {{.Uuid}} {{.Options}} {{.MountOptions}}
{{- end}}
{{- range .Resources.fstab}}
{{.spec}} {{.file}} {{add .freq 1}}
{{- end}}
{{- with .Resources.limits}}
{{if gt .nofile 1024}}{{.nofile}}{{end}} {{.ratio}} {{.soft}} {{.none}} {{.huge}}
{{- end}}
none: {{.Resources.nothing}} {{len .Disks}} {{(index .FileSystems "/dev/sda1").Path}}
`, whole(t))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "model.golden", string(files[0].Content))
}

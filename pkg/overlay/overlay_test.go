package overlay_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// lab is a catalog with two nodes in a network.
func lab(t *testing.T) *catalog.Catalog {
	c := &catalog.Catalog{}
	node := func(name, hw, ip string) catalog.Node {
		return catalog.Node{Name: catalog.NodeName(name), Settings: catalog.Settings{
			SSHKeys: []string{"ssh-ed25519 AAAA admin"}, Tags: map[string]string{"role": "compute"},
			Nets: map[string]catalog.NetDev{"default": {Device: new("eth0"), Hardware: new(catalog.HardwareAddr(hw)), Address: new(netip.MustParseAddr(ip))}, "ib": {Device: new("ib0")}}}}
	}
	for _, x := range []catalog.Change{
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/16"), Gateway: netip.MustParseAddr("10.1.255.254"),
			DNS: []netip.Addr{netip.MustParseAddr("10.1.0.253")}, Domain: "lab.example", MTU: 9000}},
		catalog.PutOverlay{Overlay: catalog.Overlay{Name: "x", Content: chunk.RefOf([]byte("x"))}},
		catalog.AddNodes{Nodes: []catalog.Node{node("n1", "52:54:00:00:00:01", "10.1.0.1"), node("n2.far.example", "52:54:00:00:00:02", "10.1.0.2")}},
	} {
		c = change(t, c, x)
	}
	return c
}

// change is the catalog after a change.
func change(t *testing.T, c *catalog.Catalog, x catalog.Change) *catalog.Catalog {
	t.Helper()
	b, err := catalog.Entry{At: time.Unix(0, 0), Change: x}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	next, out, err := c.Apply(c.Revision+1, b)
	if err != nil || out.Err != nil {
		t.Fatal(err, out.Err)
	}
	return next
}

func data(t *testing.T, node catalog.NodeName, secrets overlay.Secrets) overlay.View {
	return view(t, lab(t), node, secrets)
}

// view is what templates of a node of a catalog see. There are no images and no site files.
func view(t *testing.T, c *catalog.Catalog, node catalog.NodeName, secrets overlay.Secrets) overlay.View {
	t.Helper()
	r, err := c.Resolve(node)
	if err != nil {
		t.Fatal(err)
	}
	return overlay.View{World: overlay.NewWorld(c, nil), Node: overlay.NodeOf(c, r), Secrets: secrets}
}

// renderAll renders overlays for a node, in order.
func renderAll(bundles []*overlay.Bundle, v overlay.View) (*overlay.Result, error) {
	var layers []overlay.Layer
	for _, b := range bundles {
		layers = append(layers, overlay.Layer{Name: "x", Bundle: b, Changed: time.Unix(1_800_000_000, 0).UTC()})
	}
	r, err := overlay.Render(context.Background(), nil, v, layers...)
	if err != nil {
		return &overlay.Result{}, err
	}
	return r, nil
}

var keys = overlay.Secrets{SSHHostKeys: []overlay.HostKey{{Type: "ed25519", Private: "PRIVATE\n", Public: "ssh-ed25519 PUBLIC"}}}

func TestShippedOverlaysOfANewClusterRenderForANode(t *testing.T) {
	shipped, err := overlay.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]*overlay.Bundle{}
	for _, s := range shipped {
		raw, err := s.Bundle.Encode()
		if err != nil {
			t.Fatal(err)
		}
		b, err := overlay.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		have[s.Name] = b
	}
	var bundles []*overlay.Bundle
	for _, n := range append(overlay.DefaultSystem(), overlay.DefaultRuntime()...) {
		if have[n] == nil {
			t.Fatalf("the default profile would name overlay %s, which does not ship", n)
		}
		bundles = append(bundles, have[n])
	}
	for _, node := range []catalog.NodeName{"n1", "n2.far.example"} {
		made, err := renderAll(bundles, data(t, node, keys))
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, f := range made.Files {
			fmt.Fprintf(&b, "== %s %s %04o %d:%d %s\n%s", f.Type, f.Path, f.Mode, f.UID, f.GID, f.Target, f.Content)
		}
		golden(t, string(node)+".golden", b.String())
	}
}

// A unit that is wanted and that nobody ships is never started, and nobody is told.
func TestLinksOfShippedOverlaysLeadSomewhere(t *testing.T) {
	shipped, err := overlay.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	var bundles []*overlay.Bundle
	for _, s := range shipped {
		if !strings.HasPrefix(s.Name, "example.") { // those want settings
			bundles = append(bundles, s.Bundle)
		}
	}
	v := data(t, "n1", keys)
	v.World.Files = moreSite()
	made, err := renderAll(bundles, v)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, f := range made.Files {
		there["/"+f.Path] = true
	}
	links := 0
	for _, f := range made.Files {
		if f.Type != overlay.TypeLink {
			continue
		}
		links++
		target := f.Target
		if !strings.HasPrefix(target, "/") {
			target = filepath.Join("/", filepath.Dir(f.Path), target)
		}
		if !there[target] && !strings.HasPrefix(target, "/lib/systemd/system/systemd-") && !strings.HasPrefix(target, "/usr/share/zoneinfo/") { // which images have
			t.Errorf("%s leads to %s, which is not there", f.Path, f.Target)
		}
	}
	if links == 0 {
		t.Error("there is no link: this test looks at nothing")
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		os.MkdirAll(filepath.Dir(file), 0o755)
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run with -update to take it):\n%s", name, got)
	}
}

func template(t *testing.T, text string) *overlay.Bundle {
	t.Helper()
	b, err := overlay.NewBundle([]overlay.File{{Path: "etc/x", Type: overlay.TypeFile, Mode: 0o644, Template: true, Content: []byte(text)}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTemplatesCannotLookOutside(t *testing.T) {
	for _, f := range []string{"env", "expandenv", "getHostByName", "ago", "dateInZone", "toDate", "randAlpha", "uuidv4", "genPrivateKey", "derivePassword", "shuffle", "htpasswd"} {
		_, err := overlay.NewBundle([]overlay.File{{Path: "x", Type: overlay.TypeFile, Template: true, Content: []byte("{{" + f + "}}")}})
		if err == nil || !strings.Contains(err.Error(), "not defined") {
			t.Errorf("%s: %v", f, err)
		}
	}
}

func TestLaterOverlayWinsAndAbortLeavesTheEarlier(t *testing.T) {
	made, err := renderAll([]*overlay.Bundle{template(t, "one"), template(t, `two {{.Tags.role}} {{.Tags.none}}`), template(t, `{{abort}}three`)}, data(t, "n1", keys))
	if err != nil || len(made.Files) != 1 || string(made.Files[0].Content) != "two compute <no value>" {
		t.Errorf("got %+v, %v", made, err)
	}
	var open, closed []overlay.File
	open = append(open, overlay.File{Path: "etc/x", Type: overlay.TypeFile, Mode: 0o644, Content: []byte("for all")})
	closed = append(closed, overlay.File{Path: "etc/x", Type: overlay.TypeFile, Mode: 0o600, Content: []byte("for root")})
	var both []*overlay.Bundle
	for _, files := range [][]overlay.File{open, closed} {
		b, err := overlay.NewBundle(files)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, b)
	}
	made, err = renderAll(both, data(t, "n1", keys))
	if err != nil || len(made.Files) != 1 || made.Files[0].Mode != 0o600 || string(made.Files[0].Content) != "for root" {
		t.Errorf("the later file with its mode: got %+v, %v", made, err)
	}
}

func TestWithheldSecretsAreNoticed(t *testing.T) {
	made, err := renderAll([]*overlay.Bundle{template(t, `{{range .SshHostKeys}}{{.Private}}{{end}}`)}, data(t, "n1", overlay.Secrets{}))
	if err != nil || len(made.Files) != 1 || len(made.Files[0].Content) != 0 || !made.Withheld {
		t.Errorf("got %+v, withheld %v, %v", made.Files, made.Withheld, err)
	}
}

func TestBundleRefusesWhatNoNodeCouldHold(t *testing.T) {
	file := func(p string) overlay.File { return overlay.File{Path: p, Type: overlay.TypeFile} }
	for name, files := range map[string][]overlay.File{
		"absolute": {file("/etc/x")}, "dots": {file("a/../../b")}, "doubled": {file("a"), file("a")}, "empty": {file("")},
		"device": {{Path: "a", Type: "device"}}, "no target": {{Path: "a", Type: overlay.TypeLink}}, "mode": {{Path: "a", Type: overlay.TypeFile, Mode: 0o100644}},
		"template": {{Path: "a", Type: overlay.TypeFile, Template: true, Content: []byte("{{")}},
	} {
		if _, err := overlay.NewBundle(files); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTarHoldsWhatWasRendered(t *testing.T) {
	var b bytes.Buffer
	err := overlay.WriteTar(&b, []overlay.Rendered{{Path: "d", Type: overlay.TypeDir, Mode: 0o700}, {Path: "d/f", Type: overlay.TypeFile, Mode: 0o4755, UID: 7, Content: []byte("x")}, {Path: "l", Type: overlay.TypeLink, Target: "d/f"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%c %s %o %d %s", h.Typeflag, h.Name, h.Mode, h.Uid, h.Linkname))
	}
	if want := "5 d/ 700 0 |0 d/f 4755 7 |2 l 0 0 d/f"; strings.Join(got, "|") != want {
		t.Errorf("got %s", strings.Join(got, "|"))
	}
}

func FuzzRender(f *testing.F) {
	for _, s := range []string{"{{.Id}}", "{{range .AllNodes}}{{.Id}}{{end}}", `{{file "a"}}x{{softlink "b"}}`, `{{range $i := until 3}}{{$i}}{{end}}`,
		`{{.Secret "munge"}}{{fail .Ipmi.Password}}`, `{{range .DiskList}}{{.PartitionList}}{{end}}{{toYaml .Resources}}{{.ThisNode.ThisNode.Id}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := overlay.NewBundle([]overlay.File{{Path: "x", Type: overlay.TypeFile, Template: true, Content: []byte(text)}})
		if err != nil {
			return
		}
		made, err := renderAll([]*overlay.Bundle{b}, armed(t, open))
		for _, r := range made.Files {
			if overlay.CheckPath(r.Path) != nil {
				t.Errorf("rendered the path %q", r.Path)
			}
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("error of several lines: %q", err)
		}
		if err != nil && strings.Contains(err.Error(), "open sesame") {
			t.Errorf("error with a secret: %q", err)
		}
	})
}

func TestDevicesWithoutAnAddressHaveTheNetmaskTheySay(t *testing.T) {
	c := change(t, lab(t), catalog.AddNodes{Nodes: []catalog.Node{{Name: "n3", Settings: catalog.Settings{Nets: map[string]catalog.NetDev{
		"ib": {Device: new("ib0"), Netmask: new(netip.MustParseAddr("255.255.252.0"))},
	}}}}})
	v := view(t, c, "n3", overlay.Secrets{})
	if d := v.Node.NetDevs["ib"]; d.Ipaddr != nil || d.Netmask.String() != "255.255.252.0" || d.PrefixLen != 22 || d.IpCIDR() != "" {
		t.Error(d.Ipaddr, d.Netmask, d.PrefixLen, d.IpCIDR())
	}
}

package httpd

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
	"github.com/wulfmesh/wulfmesh/relay/feed"
)

// planned is a feed that answers from its catalog.
type planned struct {
	still
	secrets feed.Secrets
}

func (p *planned) Plan(q boot.Request) (boot.Plan, error) { return boot.Resolve(p.c, q) }
func (p *planned) Secrets() *feed.Secrets                 { return &p.secrets }

// change makes a change.
func (p *planned) change(t testing.TB, x catalog.Change) {
	t.Helper()
	b, err := catalog.Entry{At: imageMade, Change: x}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	next, out, err := p.c.Apply(p.c.Revision+1, b)
	if err != nil || out.Err != nil {
		t.Fatal(catalog.KindOf(x), err, out.Err)
	}
	p.c = next
}

var imageMade = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// library is a shelf with one image that can be looked into.
type library struct{ *shelf }

func (l library) Manifest(context.Context, chunk.ID) (*chunk.Manifest, error) { return &l.image, nil }

// tree is what is in the image of the lab: a merged /usr, a closed /root, a kernel with its initramfs, boot programs.
func tree() map[string]tar.Header {
	dir := func(mode int64) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Mode: mode} }
	file := func(mode int64) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Mode: mode} }
	return map[string]tar.Header{
		"boot/": dir(0o755), "boot/efi/": dir(0o700), "boot/efi/EFI/": dir(0o700), "boot/efi/EFI/rocky/": dir(0o700),
		"boot/efi/EFI/rocky/shimx64.efi": file(0o600), "boot/efi/EFI/rocky/grubx64.efi": file(0o600), "boot/initramfs-6.1.0-1.img": file(0o600),
		"boot/vmlinuz-6.1.0-1": file(0o644), "etc/": dir(0o755), "lib": {Typeflag: tar.TypeSymlink, Linkname: "usr/lib"}, "root/": dir(0o700),
		"tmp/": dir(0o1777), "usr/": dir(0o755), "usr/lib/": dir(0o755), "usr/lib/libc.so.6": file(0o755), "usr/lib/os-release": file(0o644),
	}
}

// content is that of a file of the image.
func content(name string) string { return strings.Repeat(name+"\n", 20_000) }

func newLibrary(t testing.TB, more ...string) library {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, h := range tree() {
		h.Name = name
		body := ""
		if h.Typeflag == tar.TypeReg {
			body = content(name)
		}
		h.Size = int64(len(body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, body)
	}
	for i, body := range more {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("usr/lib/more%d", i), Mode: 0o755, Size: int64(len(body))})
		io.WriteString(w, body)
	}
	w.Close()
	src, err := segment.OpenTar(bytes.NewReader(b.Bytes()), t.TempDir(), segment.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	l := library{shelf: newShelf(t)}
	var mu sync.Mutex
	// As images of Warewulf do, it keeps /boot from its nodes.
	aside := func(path string) bool { return path == "boot" || strings.HasPrefix(path, "boot/") }
	made, err := segment.Build(context.Background(), src, segment.Options{Level: 1, Exclude: aside, Sink: func(ref chunk.Ref, b []byte) error {
		mu.Lock()
		defer mu.Unlock()
		return l.Put(context.Background(), ref, bytes.NewReader(b))
	}})
	if err != nil {
		t.Fatal(err)
	}
	l.image = chunk.Manifest{Format: chunk.ManifestFormat, Image: "rocky", Segments: made.Segments, Aside: made.Aside, Index: made.Index, Extras: made.Extras}
	return l
}

func (l library) keep(t testing.TB, b []byte) chunk.Ref {
	t.Helper()
	ref := chunk.RefOf(b)
	if err := l.Put(context.Background(), ref, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	return ref
}

// museum is a relay with nodes of Warewulf: n1; n2 with an asset key; n3, which boots otherwise, and n4, whose network
// allows no Warewulf.
type museum struct {
	*Server
	feed    *planned
	lib     library
	events  *[]boot.Event
	handler http.Handler
}

const kernelText = "the kernel"

func newMuseum(t testing.TB, more ...string) *museum {
	t.Helper()
	l := newLibrary(t, more...)
	bundle := func(files ...overlay.File) chunk.Ref {
		b, err := overlay.NewBundle(files)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return l.keep(t, raw)
	}
	file := func(path string, mode uint32, text string) overlay.File {
		return overlay.File{Path: path, Type: overlay.TypeFile, Mode: mode, Template: strings.Contains(text, "{{"), Content: []byte(text)}
	}
	siteFile := func(path, text string) catalog.Change {
		return catalog.PutSiteFile{File: catalog.SiteFile{Path: path, Content: l.keep(t, []byte(text)), Mode: 0o644}}
	}
	key := []byte("token")
	node := func(name, hw, ip string, s catalog.Settings) catalog.Node {
		s.Image, s.Nets = new("rocky"), map[string]catalog.NetDev{catalog.DefaultNet: {Hardware: new(catalog.HardwareAddr(hw)), Address: new(netip.MustParseAddr(ip))}}
		s.Secrets = map[string]catalog.Secret{"munge": munge}
		return catalog.Node{Name: catalog.NodeName(name), Settings: s}
	}
	old := func(s catalog.Settings) catalog.Settings {
		s.Method, s.Overlays = new(catalog.MethodWarewulf), catalog.OverlaySettings{System: []string{"wwinit"}, Runtime: []string{"hosts"}}
		return s
	}
	a := &planned{still: still{&catalog.Catalog{}}}
	for _, x := range []catalog.Change{
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "old", Prefix: netip.MustParsePrefix("10.4.0.0/24"), Warewulf: true}},
		catalog.AddNetwork{Network: catalog.Network{Name: "new", Prefix: netip.MustParsePrefix("10.5.0.0/24")}},
		catalog.PutImage{Name: "rocky", Version: catalog.ImageVersion{Manifest: chunk.RefOf([]byte("m")), Arch: "amd64", Created: imageMade,
			Kernels: []chunk.Kernel{{Version: "6.1.0-1", Kernel: l.keep(t, []byte(kernelText)), StageOne: chunk.RefOf([]byte("s"))}}}},
		catalog.PutOverlay{Overlay: catalog.Overlay{Name: "wwinit", Content: bundle(
			file("init", 0o755, "#!/bin/sh\n"), file("warewulf/config", 0o600, "WWHOSTNAME={{.Id}}\n"), file("lib/systemd/x.service", 0o644, "[Unit]\n"),
			file("etc/warewulf/warewulf.conf", 0o644, `{{with Include "warewulf.conf"}}{{.}}{{else}}{{abort}}{{end}}`),
			file("etc/munge.key", 0o400, `{{.Secret "munge"}}`), overlay.File{Path: "etc/localtime", Type: overlay.TypeLink, Target: "/usr/share/zoneinfo/UTC"})}},
		catalog.PutOverlay{Overlay: catalog.Overlay{Name: "hosts", Content: bundle(
			file("root/.ssh/authorized_keys", 0o600, "ssh-ed25519 AAAA\n"), file("etc/hosts", 0o644, "127.0.0.1 {{.Id}}\n"), file("opt/large", 0o644, strings.Repeat("large ", 10_000)), file("etc/slurm.key", 0o400, `{{.Secret "munge"}}`))}},
		siteFile("/var/lib/warewulf/files/etc/motd", "welcome {{.Id}}\n"),
		siteFile("/var/lib/warewulf/files/etc/motd.ww", "welcome {{.Id}} to {{.Ipaddr}}:{{.Warewulf.Port}}\n"),
		siteFile("/var/lib/warewulf/files/key.ww", `{{.Secret "munge"}}`),
		siteFile("/etc/warewulf/private", "private"),
		catalog.LinkSiteFile{Path: "/var/lib/warewulf/files/out", Target: "/etc/warewulf/private"},
		catalog.AddNodes{Nodes: []catalog.Node{
			node("n1", "52:54:00:00:00:01", "10.4.0.1", old(catalog.Settings{})),
			node("n2", "52:54:00:00:00:02", "10.4.0.2", old(catalog.Settings{Asset: new("rack 7")})),
			node("n3", "52:54:00:00:00:03", "10.4.0.3", catalog.Settings{}),
			node("n4", "52:54:00:00:00:04", "10.5.0.4", old(catalog.Settings{})),
		}},
		catalog.AddToken{Token: catalog.Token{ID: "t", Hash: key, Role: catalog.TokenRelay, Networks: []catalog.NetworkName{"old", "new"}, Uses: 1, Expires: time.Unix(1e10, 0)}},
		catalog.AdmitRelay{Token: "t", Hash: key, Relay: catalog.Relay{Name: "r1", Addresses: []netip.Addr{netip.MustParseAddr("10.4.0.101")}, BootPort: 4480, MeshPort: 4481, Mesh: "10.4.0.101:4481", Gossip: "10.4.0.101:4482", Key: key}},
	} {
		a.change(t, x)
	}
	networks := map[catalog.NetworkName]pki.NetworkKey{"old": pki.NewNetworkKey(bytes.Repeat([]byte{1}, 32)), "new": pki.NewNetworkKey(bytes.Repeat([]byte{2}, 32))}
	a.secrets = feed.Secrets{Networks: networks, Tickets: networks, Values: map[string]pki.Secret{munge.ID(): pki.NewSecret([]byte("the key"))}}
	m := &museum{feed: a, lib: l, events: new([]boot.Event)}
	m.Server = New(Config{
		Name: "r1", Feed: a, Chunks: l, Record: func(e boot.Event) { *m.events = append(*m.events, e) }, Live: func() []catalog.RelayName { return nil },
		Machine: func(at netip.Addr) (catalog.NodeName, catalog.HardwareAddr, bool) {
			if n, ok := a.c.NodeByAddress(at); ok {
				return n.Name, *n.Settings.Nets[catalog.DefaultNet].Hardware, true
			}
			return "", "", false
		},
		Log: slog.New(slog.DiscardHandler),
	})
	m.handler = m.plain()
	return m
}

// ask is a request from an address and a port; "" is root's on n1.
func (m *museum) ask(path, from string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = cmp.Or(from, "10.4.0.1:987")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	m.handler.ServeHTTP(w, r)
	return w
}

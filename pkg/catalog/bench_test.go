package catalog_test

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// The cluster that benchmarks measure: 40 000 nodes in 500 racks, each a network, and 60 profiles nested three deep.
const (
	benchRacks   = 500
	benchPerRack = 80
)

// benchSmall is the cluster without its nodes.
func benchSmall(b testing.TB) *log {
	l := &log{t: b, c: &catalog.Catalog{}}
	l.must(
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "big"}, Controller: catalog.Controller{Name: "c1", API: "10.0.0.1:4400"}},
		catalog.PutImage{Name: "debian", Version: version("a")}, catalog.PutImage{Name: "debian", Version: version("b"), Tags: []string{"b"}},
		catalog.PutOverlay{Overlay: catalog.Overlay{Name: "hosts", Content: chunk.RefOf([]byte("o"))}},
	)
	var steps []catalog.Step
	for r := range benchRacks {
		steps = append(steps, catalog.Step{Change: catalog.AddNetwork{Network: catalog.Network{
			Name: catalog.NetworkName(fmt.Sprintf("rack%03d", r+1)), Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(1 + r/250), byte(r % 250), 0}), 24),
			Gateway: netip.AddrFrom4([4]byte{10, byte(1 + r/250), byte(r % 250), 254}),
		}}})
	}
	for i := range 20 { // site ← type ← use
		site, kind, use := catalog.ProfileName(fmt.Sprintf("site%02d", i)), catalog.ProfileName(fmt.Sprintf("type%02d", i)), catalog.ProfileName(fmt.Sprintf("use%02d", i))
		steps = append(steps,
			catalog.Step{Change: catalog.AddProfile{Profile: catalog.Profile{Name: site, Settings: catalog.Settings{
				Image: new("debian"), Kernel: catalog.KernelSettings{Args: []string{"quiet", "crashkernel=no"}}, Overlays: catalog.OverlaySettings{System: []string{"hosts"}},
				BMC: catalog.BMC{Template: new("ipmitool"), Username: new("admin")}, Tags: map[string]string{"site": string(site)},
				Resources: map[string]catalog.Resource{"fstab": `[{"file":"/home","spec":"nfs:/home"}]`},
			}}}},
			catalog.Step{Change: catalog.AddProfile{Profile: catalog.Profile{Name: kind, Profiles: []catalog.ProfileName{site}, Settings: catalog.Settings{
				Kernel: catalog.KernelSettings{Args: []string{"console=ttyS0,115200"}}, Nets: map[string]catalog.NetDev{"default": {Device: new("eth0"), Type: new("ethernet")}},
			}}}},
			catalog.Step{Change: catalog.AddProfile{Profile: catalog.Profile{Name: use, Profiles: []catalog.ProfileName{kind}, Settings: catalog.Settings{
				Roles: []string{"compute"}, Resources: map[string]catalog.Resource{"fstab": `[{"file":"/opt","spec":"nfs:/opt"}]`},
			}}}},
		)
	}
	l.must(catalog.Batch{Changes: steps})
	return l
}

// benchNodes adds all nodes: a rack at a time has one list of profiles, addresses come from formulas.
func benchNodes() catalog.AddNodes {
	var names catalog.NodeSet
	for r := range benchRacks {
		for n := range benchPerRack {
			names = append(names, catalog.NodeName(fmt.Sprintf("r%03dn%02d", r+1, n+1)))
		}
	}
	return catalog.AddNodes{
		Names: names, Profiles: &[]catalog.ProfileName{"use07"},
		Compute: map[string]string{
			"nets.default.address":  "10.{1+(n1-1)/250}.{(n1-1)%250}.{n2}",
			"nets.default.hardware": "52:54:00:{n1/256:02x}:{n1%256:02x}:{n2:02x}",
			"bmc.address":           "10.{101+(n1-1)/250}.{(n1-1)%250}.{n2}",
			"rack":                  "{n1:03d}",
		},
	}
}

func benchAll() catalog.NodeSet { return benchNodes().Names }

func benchBig(b testing.TB) *log {
	l := benchSmall(b)
	l.must(benchNodes())
	return l
}

func encode(b testing.TB, c catalog.Change) []byte {
	b.Helper()
	e, err := catalog.Entry{By: "test", At: at, Change: c}.Encode()
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// benchChanges are what is applied to and previewed on the large cluster.
func benchChanges() map[string]catalog.Change {
	return map[string]catalog.Change{
		"SetScalar":   catalog.SetNodes{Nodes: benchAll(), Set: catalog.Settings{Comment: new("moved")}},
		"SetImage":    catalog.SetNodes{Nodes: benchAll(), Set: catalog.Settings{Image: new("debian:b")}},
		"SetFormula":  catalog.SetNodes{Nodes: benchAll(), Compute: map[string]string{"bmc.address": "10.{111+(n1-1)/250}.{(n1-1)%250}.{n2}"}},
		"SetProfiles": catalog.SetProfiles{Names: []catalog.ProfileName{"type07"}, Set: catalog.Settings{Kernel: catalog.KernelSettings{Args: []string{"console=tty0"}}}},
		"SetNetwork": catalog.SetNetwork{Network: catalog.Network{Name: "rack001", Prefix: netip.MustParsePrefix("10.1.0.0/24"),
			Gateway: netip.MustParseAddr("10.1.0.253")}},
	}
}

func apply(b testing.TB, c *catalog.Catalog, entry []byte) *catalog.Catalog {
	next, out, err := c.Apply(c.Revision+1, entry)
	if err != nil || out.Err != nil {
		b.Fatal(err, out.Err)
	}
	return next
}

func BenchmarkAddNodes(b *testing.B) {
	l, entry := benchSmall(b), encode(b, benchNodes())
	b.ReportMetric(float64(len(entry)), "B/entry")
	for b.Loop() {
		apply(b, l.c, entry)
	}
}

func BenchmarkApply(b *testing.B) {
	l := benchBig(b)
	for name, change := range benchChanges() {
		entry := encode(b, change)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				apply(b, l.c, entry)
			}
		})
	}
}

func BenchmarkPreview(b *testing.B) {
	l := benchBig(b)
	for name, change := range benchChanges() {
		entry := encode(b, change)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := l.c.Preview(entry); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	small, entry := benchSmall(b), encode(b, benchNodes())
	b.Run("AddNodes", func(b *testing.B) {
		for b.Loop() {
			if _, err := small.c.Preview(entry); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkEffectiveOfAll(b *testing.B) {
	l := benchBig(b)
	for b.Loop() {
		for n := range l.c.Nodes() {
			l.c.Effective(n)
		}
	}
}

func BenchmarkResolveAll(b *testing.B) {
	l := benchBig(b)
	for b.Loop() {
		for n := range l.c.Nodes() {
			if _, err := l.c.Resolve(n.Name); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// benchPast makes 20 changes to all nodes, which the history remembers as far as its bounds allow.
func benchPast(b testing.TB) *log {
	l := benchBig(b)
	for i := range 20 {
		l.must(catalog.SetNodes{Nodes: benchAll(), Set: catalog.Settings{Comment: new(fmt.Sprint("round ", i))}})
	}
	return l
}

func BenchmarkSnapshot(b *testing.B) {
	l := benchPast(b)
	var whole bytes.Buffer
	b.Run("WriteTo", func(b *testing.B) {
		for b.Loop() {
			whole.Reset()
			l.c.WriteTo(&whole)
		}
		b.SetBytes(int64(whole.Len()))
	})
	b.Run("ReadSnapshot", func(b *testing.B) {
		l.c.WriteTo(io.Discard)
		for b.Loop() {
			if _, err := catalog.ReadSnapshot(bytes.NewReader(whole.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
		b.SetBytes(int64(whole.Len()))
	})
}

// Not a measure of time: what a catalog of this size keeps in memory, with and without its past.
func BenchmarkMemory(b *testing.B) {
	for name, make := range map[string]func(testing.TB) *log{"Fresh": benchBig, "WithPast": benchPast} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				heap := func() uint64 {
					var m runtime.MemStats
					runtime.GC()
					runtime.GC()
					runtime.ReadMemStats(&m)
					return m.HeapAlloc
				}
				before := heap()
				l := make(b)
				used := float64(heap() - before)
				b.ReportMetric(used/(1<<20), "MiB")
				b.ReportMetric(used/benchRacks/benchPerRack, "B/node")
				runtime.KeepAlive(l)
			}
		})
	}
}

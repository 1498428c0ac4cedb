package httpd

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// own adds a site overlay with these templates to the system overlays of all nodes.
func (f *fleet) own(templates map[string]string) {
	f.t.Helper()
	var files []overlay.File
	for path, text := range templates {
		files = append(files, overlay.File{Path: path, Type: overlay.TypeFile, Mode: 0o644, Template: true, Content: []byte(text)})
	}
	b, err := overlay.NewBundle(files)
	if err != nil {
		f.t.Fatal(err)
	}
	raw, err := b.Encode()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.s.cfg.Chunks.(*shelf).Put(f.t.(*testing.T).Context(), chunk.RefOf(raw), bytes.NewReader(raw)); err != nil {
		f.t.Fatal(err)
	}
	f.change(catalog.PutOverlay{Overlay: catalog.Overlay{Name: "own", Content: chunk.RefOf(raw), Files: len(files)}})
	f.change(catalog.SetProfiles{Names: []catalog.ProfileName{catalog.DefaultProfile}, Set: catalog.Settings{Overlays: catalog.OverlaySettings{System: append(overlay.DefaultSystem(), "own")}}})
}

// A change is rendered where it is read, and nowhere else: counted in templates that were executed.
func TestAChangeRendersAnewOnlyWhatReadsIt(t *testing.T) {
	f := newFleet(t, 4*perRack)
	f.own(map[string]string{
		"etc/role":  `{{.Tags.role}}`,
		"etc/other": `{{.Tags.other}}`,
		"etc/tags":  `{{range $k, $v := .Tags}}{{$k}}={{$v}} {{end}}`,
		"etc/roles": `{{range .AllNodes}}{{.Id}} {{.Tags.role}}{{"\n"}}{{end}}`,
		"etc/all":   `{{range .AllNodes}}{{.Id}}{{"\n"}}{{end}}`,
		"etc/rack":  `{{.Rack}}`,
	})
	first := f.renew(overlay.KindSystem)
	if again := f.renew(overlay.KindSystem); again != (overlay.Stats{}) {
		t.Errorf("nothing changed, and it took %+v", again)
	}
	one := f.rack1[:1]
	f.change(catalog.SetNodes{Nodes: one, Set: catalog.Settings{Comment: new("nobody reads this")}})
	secrets := f.renew(overlay.KindSystem).Rendered // what holds secrets is not kept
	if n := secrets % perRack; n != 0 || first.Reused < 5*perRack {
		t.Errorf("at first %+v for %d nodes, then %d", first, perRack, secrets)
	}
	for name, c := range map[string]struct {
		change catalog.Change
		want   int // executions
	}{
		"a tag that three templates read":   {catalog.SetNodes{Nodes: one, Set: catalog.Settings{Tags: map[string]string{"role": "login"}}}, 3}, // role, tags, roles
		"a tag that one reads":              {catalog.SetNodes{Nodes: one, Set: catalog.Settings{Tags: map[string]string{"unknown": "x"}}}, 1},  // tags
		"a tag of a node elsewhere":         {catalog.SetNodes{Nodes: []catalog.NodeName{"r004n07"}, Set: catalog.Settings{Tags: map[string]string{"role": "x"}}}, 1},
		"another tag of a node elsewhere":   {catalog.SetNodes{Nodes: []catalog.NodeName{"r004n07"}, Set: catalog.Settings{Tags: map[string]string{"other": "x"}}}, 0},
		"a rack":                            {catalog.SetNodes{Nodes: one, Set: catalog.Settings{Rack: new("r99")}}, 1},
		"an address elsewhere":              {catalog.SetNodes{Nodes: []catalog.NodeName{"r004n08"}, Set: catalog.Settings{Nets: map[string]catalog.NetDev{"default": {Address: new(netip.MustParseAddr("10.1.3.200"))}}}}, 2}, // hosts, known_hosts
		"a node elsewhere that is gone":     {catalog.DeleteNodes{Nodes: []catalog.NodeName{"r004n09"}}, 4},                                                                                                                    // hosts, known_hosts, roles, all
		"a network that is none of theirs":  {catalog.SetNetwork{Network: catalog.Network{Name: "rack003", Prefix: netip.MustParsePrefix("10.1.2.0/24"), Domain: "big.example", MTU: 9000, SSHAuthority: fleetAuthority}}, 1},  // hosts asks of all nodes for all that is said of their devices
		"the keys of all nodes of the site": {catalog.SetProfiles{Names: []catalog.ProfileName{catalog.DefaultProfile}, Set: catalog.Settings{SSHKeys: []string{"ssh-ed25519 BBBB"}}}, 1},                                      // authorized_keys, alike for all
	} {
		t.Run(name, func(t *testing.T) {
			f.change(c.change)
			if got := f.renew(overlay.KindSystem).Rendered - secrets; got != c.want {
				t.Errorf("%d templates were executed, want %d", got, c.want)
			}
		})
	}
}

// A file that lists all nodes and names its own is large for every node. A relay holds no more of them than it may.
func TestLargeFilesOfEachNodeAreHeldWithinBounds(t *testing.T) {
	f := newFleet(t, 2*perRack)
	f.own(map[string]string{"etc/large": `{{.Id}}{{range untilStep 0 20000 1}}{{printf "%0100d" .}}{{end}}`}) // 2 MB
	for range 2 {
		f.renew(overlay.KindSystem)
	}
	o := f.s.overlays
	o.mu.Lock()
	defer o.mu.Unlock()
	held := 0
	for _, made := range o.listings {
		held += made.size()
	}
	if held != o.bytes || held > maxListings || held < maxListings/2 {
		t.Errorf("%d listings take %d bytes, counted %d, of at most %d", len(o.listings), held, o.bytes, maxListings)
	}
}

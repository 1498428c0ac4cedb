package scenario

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// putOverlay makes an overlay of one template, through the API as the CLI does.
func putOverlay(t *testing.T, m *mesh.Mesh, name string, f overlay.File) {
	t.Helper()
	f.Type, f.Template = overlay.TypeFile, true
	b, err := overlay.NewBundle([]overlay.File{f})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	a, err := m.Client.Do(m.Ctx(), api.Request{
		Method: http.MethodPut, Path: strings.Replace(api.PathOverlay, "{name}", name, 1), Size: int64(len(raw)),
		Body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
}

// holding are the files below a directory that hold a text, as it is or in one of the forms in which programs write bytes.
func holding(t *testing.T, dir, text string) (files []string) {
	t.Helper()
	forms := [][]byte{[]byte(text), []byte(base64.StdEncoding.EncodeToString([]byte(text))), []byte(base64.RawURLEncoding.EncodeToString([]byte(text))), []byte(hex.EncodeToString([]byte(text)))}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // it was there a moment ago
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, form := range forms {
			if bytes.Contains(b, form) {
				files = append(files, path[len(dir)+1:])
				break
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A secret of a profile comes to the nodes that have the profile, through the relays of their network, also with every
// controller away. It is in clear nowhere else: not on controllers, not on relays of other networks, in no log. When it
// is set anew, unset or a relay's network is taken away, it is forgotten.
func TestASecretComesToItsNodesAndToNobodyElse(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3, Relays: 2, Nodes: 2}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		const first, second, marker = "the first munge key of this story", "and the second one, which is longer", "a comment that anybody may read"
		near, far := m.Relays[0], m.Relays[1]
		has, lacks := m.Nodes[0], m.Nodes[1]
		serve := func(r *mesh.Relay, network catalog.NetworkName) {
			m.Change(catalog.SetRelay{Name: catalog.RelayName(r.Name), Networks: &[]catalog.NetworkName{network}})
		}
		set := func(value catalog.Secret) {
			m.Change(catalog.SetProfiles{Names: []catalog.ProfileName{"slurm"}, Set: catalog.Settings{Secrets: map[string]catalog.Secret{"munge": value}}})
		}
		key := func() string {
			b, _ := os.ReadFile(filepath.Join(has.Root(), "etc/munge.key"))
			return string(b)
		}
		// clear looks for the values everywhere where they may not be.
		clear := func(when string) {
			t.Helper()
			for _, value := range []string{first, second} {
				dirs := map[string]string{far.Name: far.Dir(), lacks.Name(): lacks.Root()}
				for _, c := range m.Controllers {
					dirs[c.Name] = c.Dir()
					var snapshot bytes.Buffer
					if _, err := c.Catalog().WriteTo(&snapshot); err != nil || bytes.Contains(snapshot.Bytes(), []byte(value)) {
						t.Errorf("%s a snapshot of %s holds %q, %v", when, c.Name, value, err)
					}
				}
				for name, dir := range dirs {
					if files := holding(t, dir, value); len(files) > 0 {
						t.Errorf("%s %s holds %q in %q", when, name, value, files)
					}
				}
				if i := strings.Index(m.Trace(1<<20), value); i >= 0 {
					t.Errorf("%s a log line holds %q", when, value)
				}
			}
		}

		m.Change(catalog.AddNetwork{Network: catalog.Network{Name: "other", Prefix: netip.MustParsePrefix("10.2.0.0/16")}})
		serve(far, "other")
		putOverlay(t, m, "slurm", overlay.File{Path: "etc/munge.key", Mode: 0o400, Content: []byte(`{{.Secret "munge"}}`)})
		m.Change(catalog.AddProfile{Profile: catalog.Profile{Name: "slurm", Settings: catalog.Settings{
			Overlays: catalog.OverlaySettings{Runtime: []string{"slurm"}}, Secrets: map[string]catalog.Secret{"munge": first}, Tags: map[string]string{"marker": marker},
		}}})
		m.Change(catalog.SetNodes{Nodes: []catalog.NodeName{catalog.NodeName(has.Name())}, Profiles: &[]catalog.ProfileName{catalog.DefaultProfile, "slurm"}})
		m.Settle()
		m.PowerOn(m.Nodes...)
		m.WaitUp(3*time.Minute, m.Nodes...)
		if i, err := os.Stat(filepath.Join(has.Root(), "etc/munge.key")); key() != first || err != nil || i.Mode().Perm() != 0o400 {
			t.Fatalf("the node has %q, %v, %v", key(), i, err)
		}
		if files := holding(t, near.Dir(), first); len(files) != 1 || files[0] != "feed/secrets.json" {
			t.Errorf("the relay holds it in %q", files)
		}
		for _, c := range m.Controllers { // or this story could not find what it looks for
			if len(holding(t, c.Dir(), marker)) == 0 {
				t.Errorf("%s has not even the marker on disk", c.Name)
			}
		}
		clear("after a boot")

		m.CutControllers()
		m.Kill(near.Name)
		m.Restart(near.Name)
		has.PowerOff()
		m.PowerOn(has)
		m.WaitUp(3*time.Minute, has)
		if key() != first {
			t.Errorf("without controllers the node has %q", key())
		}
		m.Net.Heal(mesh.Names(m.Controllers...)...)
		m.Settle()

		set(second)
		m.Eventually("the node to have the second key", func() bool { return key() == second })
		clear("after it was set anew")
		m.Eventually("the relay to forget the first key", func() bool { return len(holding(t, near.Dir(), first)) == 0 })

		serve(far, mesh.Network)
		m.Eventually("a relay that serves the network now to hold it", func() bool { return len(holding(t, far.Dir(), second)) > 0 })
		serve(far, "other")
		m.Eventually("and to forget it again", func() bool { return len(holding(t, far.Dir(), second)) == 0 })
		clear("after a network was taken away")

		m.Change(catalog.SetProfiles{Names: []catalog.ProfileName{"slurm"}, Unset: []string{"secrets.munge", "overlays.runtime"}})
		m.Eventually("the relay to forget it", func() bool { return len(holding(t, near.Dir(), second)) == 0 })
		m.Eventually("the node to be rid of it", func() bool { return key() == "" })
		clear("at the end")
		told(t, m, m.Nodes...)
	})
}

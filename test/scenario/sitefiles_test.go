package scenario

import (
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// putSiteFile makes a site file, through the API as the CLI does.
func putSiteFile(m *mesh.Mesh, client *api.Client, path, text string) error {
	a, err := client.Do(m.Ctx(), api.Request{
		Method: http.MethodPut, Path: strings.Replace(api.PathSiteFile, "{path}", url.PathEscape(path), 1), Size: int64(len(text)),
		Body: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
	})
	if err != nil {
		return err
	}
	return a.Body.Close()
}

// A site file that a template includes comes to the nodes. The leader dies while somebody gives it another content: what
// was acknowledged is not lost, and nodes get it from relays that no controller speaks to. A file that was deleted comes
// back, with its content, when that is taken back.
func TestASiteFileComesToTheNodesWhoeverDies(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3, Relays: 2, Nodes: 2}, func(t *testing.T, m *mesh.Mesh, dice *rand.Rand) {
		const path, first, second = "/etc/warewulf/motd", "the first text of this story", "and the second one, which is longer"
		near, node := m.Relays[0], m.Nodes[0]
		motd := func() string {
			b, _ := os.ReadFile(filepath.Join(node.Root(), "etc/motd"))
			return strings.TrimSpace(string(b))
		}
		if err := putSiteFile(m, m.Client, path, first+"\n"); err != nil {
			t.Fatal(err)
		}
		putOverlay(t, m, "site", overlay.File{Path: "etc/motd", Mode: 0o644, Content: []byte("{{Include `motd`}}\n")})
		m.Change(catalog.AddProfile{Profile: catalog.Profile{Name: "site", Settings: catalog.Settings{Overlays: catalog.OverlaySettings{Runtime: []string{"site"}}}}})
		m.Change(catalog.SetNodes{Nodes: []catalog.NodeName{catalog.NodeName(node.Name())}, Profiles: &[]catalog.ProfileName{catalog.DefaultProfile, "site"}})
		m.Settle()
		m.PowerOn(m.Nodes...)
		m.WaitUp(3*time.Minute, m.Nodes...)
		if motd() != first {
			t.Fatalf("the node has %q", motd())
		}

		leader := m.Leader()
		done := make(chan error, 1)
		client := m.ClientOf(m.Followers()...)
		go func() { done <- putSiteFile(m, client, path, second) }()
		time.Sleep(between(dice, 0, 50*time.Millisecond))
		m.Kill(leader.Name)
		if err := <-done; err != nil {
			t.Logf("the leader died, and so did the change: %v", err)
			m.Leader()
			if err := putSiteFile(m, client, path, second); err != nil {
				t.Fatal(err)
			}
		}
		m.Eventually("the node to have the second text", func() bool { return motd() == second })
		m.Restart(leader.Name)
		m.Settle()
		for _, c := range m.Controllers {
			for _, text := range []string{first + "\n", second} { // the first one can come back
				m.Eventually(c.Name+" to hold both texts", func() bool {
					b, err := os.ReadFile(c.ChunkFile(chunk.Of([]byte(text))))
					return err == nil && string(b) == text
				})
			}
		}

		m.CutControllers()
		m.Kill(near.Name)
		m.Restart(near.Name)
		node.PowerOff()
		m.PowerOn(node)
		m.WaitUp(3*time.Minute, node)
		if motd() != second {
			t.Errorf("without controllers the node has %q", motd())
		}
		m.Net.Heal(mesh.Names(m.Controllers...)...)
		m.Settle()

		deleted := m.Change(catalog.DeleteSiteFile{Path: path})
		m.Eventually("the node to be without it", func() bool { return motd() == "" })
		m.Change(catalog.Revert{To: deleted - 1})
		m.Eventually("the node to have it back", func() bool { return motd() == second })
		told(t, m, m.Nodes...)
	})
}

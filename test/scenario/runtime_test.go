package scenario

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/test/firmware"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// The files of runtime overlays follow what is declared, on nodes that run: within seconds of the change, through the
// death of the relay that a node waits at, and, against somebody who changes them on the node, while no controller is
// there. Every controller knows which revision they follow.
func TestRunningNodesFollowTheirRuntimeOverlays(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3, Relays: 2, Nodes: 3}, func(t *testing.T, m *mesh.Mesh, dice *rand.Rand) {
		var names catalog.NodeSet
		for _, n := range m.Nodes {
			names = append(names, catalog.NodeName(n.Name()))
		}
		motd := func(n *firmware.Machine) string { return filepath.Join(n.Root(), "etc/motd") }
		have := func(text string) func() bool {
			return func() bool {
				for _, n := range m.Nodes {
					if b, _ := os.ReadFile(motd(n)); strings.TrimSpace(string(b)) != text {
						return false
					}
				}
				return true
			}
		}
		within := func(d time.Duration, what string, ok func() bool) {
			t.Helper()
			began := time.Now()
			m.Eventually(what, ok)
			if took := time.Since(began); took > d {
				t.Errorf("%s took %s, more than %s", what, took, d)
			}
		}
		say := func(text string) catalog.Revision {
			return m.Change(catalog.SetProfiles{Names: []catalog.ProfileName{"site"}, Set: catalog.Settings{Tags: map[string]string{"motd": text}}})
		}
		// follow tells whether all controllers know that all nodes follow a revision.
		follow := func(rev catalog.Revision) func() bool {
			return func() bool {
				for _, c := range m.Controllers {
					for _, b := range boots(t, m, c) {
						if b.Runtime == nil || b.Runtime.Revision < rev || b.Runtime.Error != "" {
							return false
						}
					}
				}
				return true
			}
		}

		putOverlay(t, m, "site", overlay.File{Path: "etc/motd", Mode: 0o644, Content: []byte("{{.Tags.motd}}\n")})
		m.Change(catalog.AddProfile{Profile: catalog.Profile{Name: "site", Settings: catalog.Settings{Overlays: catalog.OverlaySettings{Runtime: []string{"site"}}}}})
		m.Change(catalog.SetNodes{Nodes: names, Profiles: &[]catalog.ProfileName{catalog.DefaultProfile, "site"}})
		say("first")
		m.Settle()
		m.PowerOn(m.Nodes...)
		m.WaitUp(3*time.Minute, m.Nodes...)
		within(time.Second, "the first text", have("first"))

		time.Sleep(between(dice, 10*time.Second, time.Minute))
		rev := say("second")
		within(4*time.Second, "the second text", have("second"))
		within(15*time.Second, "all controllers to know", follow(rev))
		rev = m.Change(catalog.SetNodes{Nodes: names, Set: catalog.Settings{Comment: new("nothing to their files")}})
		within(2*time.Minute, "all controllers to know that the nodes are in step", follow(rev))

		gone := m.Relays[dice.IntN(2)].Name
		m.Kill(gone)
		time.Sleep(between(dice, 0, 3*time.Second))
		say("third")
		within(90*time.Second, "the third text, by the other relay", have("third"))
		m.Restart(gone)
		m.Settle()

		edit := func() {
			for _, n := range m.Nodes {
				if err := os.WriteFile(motd(n), []byte("by hand"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		edit()
		rev = m.Change(catalog.SyncNodes{Nodes: names})
		within(4*time.Second, "the third text again, as somebody asked", have("third"))
		within(15*time.Second, "all controllers to know that it was done", follow(rev))

		m.CutControllers()
		edit()
		within(8*time.Minute, "the third text without controllers", have("third"))
		m.Net.Heal(mesh.Names(m.Controllers...)...)
		m.Settle()

		rev = m.Change(catalog.SetNodes{Nodes: names, Profiles: &[]catalog.ProfileName{catalog.DefaultProfile}})
		within(20*time.Second, "the file to be gone, when relays have found the controllers again", have(""))
		within(time.Minute, "all controllers to know that it is", follow(rev))
		for _, n := range m.Nodes {
			if _, err := os.Lstat(motd(n)); err == nil {
				t.Errorf("%s still has the file", n.Name())
			}
		}
		var view api.NodeView
		if err := m.Client.Get(m.Ctx(), strings.Replace(api.PathNode, "{name}", string(names[0]), 1), &view); err != nil || view.Runtime != api.RuntimeInStep {
			t.Errorf("the API says %q, %v", view.Runtime, err)
		}
		told(t, m, m.Nodes...)
	})
}

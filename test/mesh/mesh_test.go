package mesh_test

import (
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/test/mesh"
)

func TestAMeshBootsItsNodes(t *testing.T) {
	mesh.Run(t, mesh.Size{Controllers: 3, Relays: 2, Nodes: 6}, func(t *testing.T, m *mesh.Mesh) {
		if got, want := len(m.Followers()), 2; got != want {
			t.Errorf("%d followers, want %d", got, want)
		}
		m.PowerOn(m.Nodes...)
		m.WaitUp(2*time.Minute, m.Nodes...)
		if got, want := m.Up(), 6; got != want {
			t.Errorf("%d nodes are up, want %d", got, want)
		}
	})
}

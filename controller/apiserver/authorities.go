package apiserver

import (
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// withAuthorities puts into the networks of a change the keys by which their nodes' SSH host keys are certified. Only
// controllers know them, and a network has the right one whatever its declaration says.
func (s *Server) withAuthorities(change catalog.Change) catalog.Change {
	switch x := change.(type) {
	case catalog.AddNetwork:
		x.Network.SSHAuthority = s.cfg.Mesh.SSHAuthority(x.Network)
		return x
	case catalog.SetNetwork:
		x.Network.SSHAuthority = s.cfg.Mesh.SSHAuthority(x.Network)
		return x
	case catalog.Batch:
		x.Changes = slices.Clone(x.Changes)
		for i := range x.Changes {
			x.Changes[i].Change = s.withAuthorities(x.Changes[i].Change)
		}
		return x
	}
	return change
}

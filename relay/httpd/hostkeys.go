package httpd

import (
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// hostKeys are the SSH host keys of a node.
func hostKeys(network pki.NetworkKey, r *catalog.Resolved) ([]overlay.HostKey, error) {
	k, err := network.SSHHostKey(string(r.Node.Name), pki.SSHEd25519)
	if err != nil {
		return nil, err
	}
	return []overlay.HostKey{{Type: pki.SSHEd25519, Private: string(k.Private.Reveal()), Public: k.Public}}, nil
}

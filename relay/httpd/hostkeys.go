package httpd

import (
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// hostKeys are the SSH host keys of a node with their certificates, the key for everybody first.
func hostKeys(network pki.NetworkKey, r *catalog.Resolved) ([]overlay.HostKey, error) {
	node, names := string(r.Node.Name), r.HostNames()
	var all []overlay.HostKey
	for _, keyType := range []string{pki.SSHEd25519, pki.SSHECDSA} {
		k, err := network.SSHHostKey(node, keyType)
		if err != nil {
			return nil, err
		}
		certificate, err := network.SSHCertificate(k, node, names)
		if err != nil {
			return nil, err
		}
		all = append(all, overlay.HostKey{Type: keyType, Private: string(k.Private.Reveal()), Public: k.Public, Certificate: certificate})
	}
	return all, nil
}

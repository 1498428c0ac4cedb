package pki

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// MaxSSHNames is how many names a host certificate holds; OpenSSH reads no more (its SSHKEY_CERT_MAX_PRINCIPALS).
const MaxSSHNames = 256

const sshHostCertificate = 2 // SSH_CERT_TYPE_HOST

// SSHAuthority is the public key, as type and base64, with which this network's host certificates are verified. It is no
// secret: who knows it can tell the network's nodes from others and can name none.
func (k NetworkKey) SSHAuthority() string {
	return SSHEd25519 + " " + base64.StdEncoding.EncodeToString(wire([]byte(SSHEd25519), k.sshAuthority().Public().(ed25519.PublicKey)))
}

// SSHAuthority is that of a network's key, "" if nobody may hold the secrets of the network's nodes.
func (m MeshSecret) SSHAuthority(n catalog.Network) string {
	if n.Secrets != "" && n.Secrets != catalog.SecretsRelay {
		return ""
	}
	return m.NetworkKey(string(n.Name)).SSHAuthority()
}

func (k NetworkKey) sshAuthority() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(derive(k.Secret, "wulfmesh ssh ca v1").Reveal())
}

// SSHCertificate certifies that a host key is that of the node of this name, which is reached by the names and addresses
// given, the important ones first: those beyond MaxSSHNames are left out. It returns the file ssh_host_*_key-cert.pub
// without its line end. Equal arguments give equal bytes, on every relay and in every boot, so nothing in it comes from
// chance or a clock: it does not expire. Without any name it would be good for every host; that is fault.Invalid.
func (k NetworkKey) SSHCertificate(key SSHKey, node string, names []string) (string, error) {
	if len(names) == 0 {
		return "", fault.New(fault.Invalid, "an SSH certificate of node %s would name no host", node)
	}
	var principals []byte
	for _, name := range names[:min(len(names), MaxSSHNames)] {
		principals = append(principals, wire([]byte(name))...)
	}
	// OpenSSH's PROTOCOL.certkeys: type, nonce, the key without its own type, serial number, kind, key ID, names, begin and
	// end of validity, critical options, extensions, reserved, the authority's key, and the signature over all that.
	kind := key.Type + "-cert-v01@openssh.com"
	sum := sha256.Sum256(wire([]byte(kind), key.blob, []byte(node), principals))
	b := wire([]byte(kind), derive(k.Secret, "wulfmesh ssh nonce v1/"+string(sum[:])).Reveal())
	b = append(b, key.blob[4+len(key.Type):]...)
	b = append(b, sum[:8]...) // differs where anything else does, so that a list of revoked keys can name it
	b = binary.BigEndian.AppendUint32(b, sshHostCertificate)
	b = append(b, wire([]byte(node), principals)...)
	b = binary.BigEndian.AppendUint64(b, 0)
	b = binary.BigEndian.AppendUint64(b, math.MaxUint64)
	authority := k.sshAuthority()
	b = append(b, wire(nil, nil, nil, wire([]byte(SSHEd25519), authority.Public().(ed25519.PublicKey)))...)
	b = append(b, wire(wire([]byte(SSHEd25519), ed25519.Sign(authority, b)))...)
	return kind + " " + base64.StdEncoding.EncodeToString(b) + " " + node, nil
}

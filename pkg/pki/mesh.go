package pki

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// keySize is the size of the mesh secret and of every key derived from it.
const keySize = 32

// MeshSecret is the root of all derived keys. Controllers hold it and nobody else. Derivation is HKDF-SHA256
// (RFC 5869); every key has its own info string, so that none can serve for another, and knowing one tells nothing
// about the secret or its sisters.
type MeshSecret struct{ Secret }

// NewMeshSecret makes the secret of a new cluster.
func NewMeshSecret() MeshSecret { return MeshSecret{randomSecret(keySize)} }

// LoadMeshSecret reads what SaveSecret wrote, with the errors of LoadSecret.
func LoadMeshSecret(path string) (MeshSecret, error) {
	s, err := LoadSecret(path, keySize)
	return MeshSecret{s}, err
}

// GossipKey is the key (AES-256) of the relays' gossip in an epoch. A new epoch shuts out whoever is not given its
// key, which is how a removed relay leaves the gossip.
func (m MeshSecret) GossipKey(epoch uint64) Secret {
	return derive(m.Secret, fmt.Sprintf("wulfmesh gossip v1/%d", epoch))
}

// NetworkKey is what a relay that may know its network's secrets is given for that network.
func (m MeshSecret) NetworkKey(network string) NetworkKey {
	return NetworkKey{derive(m.Secret, "wulfmesh network v1/"+network)}
}

// NetworkKey is the root of one network's keys: boot tickets, node sessions, SSH host keys and the authority that
// certifies them (see Ticket, Session, SSHHostKey and SSHCertificate).
type NetworkKey struct{ Secret }

// NewNetworkKey restores a key from the bytes that Reveal gave, as a relay receives them.
func NewNetworkKey(b []byte) NetworkKey { return NetworkKey{NewSecret(b)} }

// derive expands a uniformly random secret. HKDF fails only for outputs of more than 255 hashes.
func derive(from Secret, info string) Secret {
	b, err := hkdf.Key(sha256.New, from.Reveal(), nil, info, keySize)
	if err != nil {
		panic(err)
	}
	return conceal(b)
}

package pki

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Vault seals the secrets of nodes and profiles for the catalog, and opens them. Its key is derived from the mesh
// secret, so controllers have it and nobody else: the log, snapshots, feeds, relays' disks and exports hold what only
// a controller of the same cluster can read. Any number of goroutines may use it at once.
type Vault struct{ aead cipher.AEAD }

// Vault returns the vault of the cluster.
func (m MeshSecret) Vault() Vault {
	block, err := aes.NewCipher(derive(m.Secret, "wulfmesh vault v1").Reveal())
	if err != nil {
		panic(err) // the key has the size of one
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return Vault{aead}
}

// Seal makes of a secret in clear one that may be kept; see catalog.SealedPrefix for the form. One that has that form
// already must be of this cluster and is returned as it is, so that what was exported can be given back. Too large ones,
// and sealed ones of elsewhere, are fault.Invalid.
func (v Vault) Seal(s catalog.Secret) (catalog.Secret, error) {
	if s.Sealed() {
		if _, err := v.Open(s); err != nil {
			return "", err
		}
		return s, nil
	}
	if len(s) > catalog.MaxSecret {
		return "", fault.New(fault.Invalid, "a secret of %d bytes is larger than %d", len(s), catalog.MaxSecret)
	}
	sealed := v.aead.Seal(nil, nil, []byte(s), []byte(catalog.SealedPrefix))
	return catalog.Secret(catalog.SealedPrefix + base64.RawURLEncoding.EncodeToString(sealed)), nil
}

// Open returns the bytes of a sealed secret; fault.Invalid if it was not sealed in this cluster, or was altered.
func (v Vault) Open(s catalog.Secret) (Secret, error) {
	if s.Sealed() {
		b, err := base64.RawURLEncoding.Strict().DecodeString(string(s)[len(catalog.SealedPrefix):])
		if err == nil {
			if b, err = v.aead.Open(nil, nil, b, []byte(catalog.SealedPrefix)); err == nil {
				return conceal(b), nil
			}
		}
	}
	return Secret{}, fault.New(fault.Invalid, "a sealed secret was not sealed in this cluster, or was altered").WithFix("give it in clear; a controller seals it")
}

package controller

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// Files of the secrets directory. They are the same on every controller and are handed to one that joins.
const (
	caFile       = "ca.pem"       // key and certificate of the cluster's authority
	manifestFile = "manifest.key" // seed of the key that signs image manifests
	meshFile     = "mesh.key"     // the root of all derived keys
)

// secrets are what all controllers of a cluster share, and nobody else has.
type secrets struct {
	ca       *pki.CA
	manifest ed25519.PrivateKey
	mesh     pki.MeshSecret
}

// newSecrets makes those of a new cluster.
func newSecrets(cluster string, now time.Time) (*secrets, error) {
	ca, err := pki.NewCA(cluster, now)
	if err != nil {
		return nil, err
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("making the manifest key: %w", err)
	}
	return &secrets{ca: ca, manifest: key, mesh: pki.NewMeshSecret()}, nil
}

func (s *secrets) save(dir string) error {
	dir = filepath.Join(dir, secretsDir)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := s.ca.Save(filepath.Join(dir, caFile)); err != nil {
		return err
	}
	if err := pki.SaveSecret(filepath.Join(dir, manifestFile), pki.NewSecret(s.manifest.Seed())); err != nil {
		return err
	}
	return pki.SaveSecret(filepath.Join(dir, meshFile), s.mesh.Secret)
}

func loadSecrets(dir string) (*secrets, error) {
	dir = filepath.Join(dir, secretsDir)
	ca, err := pki.LoadCA(filepath.Join(dir, caFile))
	if err != nil {
		return nil, err
	}
	seed, err := pki.LoadSecret(filepath.Join(dir, manifestFile), ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	mesh, err := pki.LoadMeshSecret(filepath.Join(dir, meshFile))
	if err != nil {
		return nil, err
	}
	return &secrets{ca: ca, manifest: ed25519.NewKeyFromSeed(seed.Reveal()), mesh: mesh}, nil
}

// readSecrets returns the files as a joining controller is given them.
func readSecrets(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range []string{caFile, manifestFile, meshFile} {
		b, err := os.ReadFile(filepath.Join(dir, secretsDir, name))
		if err != nil {
			return nil, err
		}
		files[name] = b
	}
	return files, nil
}

// writeSecrets stores the files that a controller was given, and reads them again to see that they are whole.
func writeSecrets(dir string, files map[string][]byte) (*secrets, error) {
	sub := filepath.Join(dir, secretsDir)
	if err := durable.MkdirAll(sub, 0o700); err != nil {
		return nil, err
	}
	for _, name := range []string{caFile, manifestFile, meshFile} { // these and no other: names that come over the wire are not paths
		b, ok := files[name]
		if !ok {
			return nil, fault.New(fault.Corrupt, "the cluster did not send %s", name).WithFix("run the same version of wulf as the other controllers")
		}
		if err := durable.WriteFile(filepath.Join(sub, name), b, 0o600); err != nil {
			return nil, err
		}
	}
	return loadSecrets(dir)
}

// OperatorCredentials makes credentials of an operator from the authority in a controller's data directory. Whoever
// can read that can do everything anyway; the credentials let it be done from elsewhere, and under a name.
func OperatorCredentials(dir, name string) (*pki.Credentials, error) {
	ca, err := pki.LoadCA(filepath.Join(dir, secretsDir, caFile))
	if err != nil {
		return nil, err
	}
	return issue(ca, pki.Identity{Role: pki.Operator, Name: name}, "")
}

package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// NewKeyAndCSR makes a key (ECDSA P-256) and a signing request for it (PEM). The request names nobody: the signer
// knows for whom it signs. A member keeps its key when its certificate is renewed; see Credentials.CSR.
func NewKeyAndCSR() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("making signing request: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: pemCSR, Bytes: der}), nil
}

// Credentials are a member's key, its certificate and the CA certificates of its cluster. They are immutable.
type Credentials struct {
	key   *ecdsa.PrivateKey
	leaf  *x509.Certificate
	id    Identity
	trust *Trust
	tls   tls.Certificate
}

// NewCredentials joins a key with the certificate that was signed for it and the CA certificates, both PEM. It
// checks that they belong together (else fault.Corrupt) but not the time, so that an expired member can still say
// who it was.
func NewCredentials(key *ecdsa.PrivateKey, cert, cas []byte) (*Credentials, error) {
	leaf, err := parseCerts(cert)
	if err != nil {
		return nil, err
	}
	if len(leaf) != 1 {
		return nil, fault.New(fault.Corrupt, "%d certificates where one is expected", len(leaf))
	}
	trust, err := ParseTrust(cas)
	if err != nil {
		return nil, err
	}
	return newCredentials(key, leaf[0], trust)
}

func newCredentials(key *ecdsa.PrivateKey, leaf *x509.Certificate, trust *Trust) (*Credentials, error) {
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, fault.New(fault.Corrupt, "key and certificate do not belong together")
	}
	id, err := trust.verify([]*x509.Certificate{leaf}, x509.ExtKeyUsageClientAuth, leaf.NotBefore)
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, err, "own certificate")
	}
	c := &Credentials{key: key, leaf: leaf, id: id, trust: trust}
	// The CA certificates are sent along so that a client that knows only the fingerprint can find the one it means.
	c.tls = tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw}}
	for _, ca := range trust.cas {
		c.tls.Certificate = append(c.tls.Certificate, ca.Raw)
	}
	return c, nil
}

// Identity is whom the credentials are for.
func (c *Credentials) Identity() Identity { return c.id }

// Trust is how the holder verifies others.
func (c *Credentials) Trust() *Trust { return c.trust }

// Expires is the instant after which the certificate is not honoured, Skew aside.
func (c *Credentials) Expires() time.Time { return c.leaf.NotAfter }

// RenewAt is when to ask for the next certificate: after a quarter of this one's life. Renewal costs a controller
// next to nothing, and what is left is how long the holder outlasts the loss of every controller.
func (c *Credentials) RenewAt() time.Time {
	return c.leaf.NotBefore.Add(c.leaf.NotAfter.Sub(c.leaf.NotBefore) / 4)
}

// RenewDue tells whether RenewAt has come.
func (c *Credentials) RenewDue(now time.Time) bool { return !now.Before(c.RenewAt()) }

// Save writes key, certificate and CA certificates durably to one file that only its owner may read. It is one
// file so that a crash cannot leave a new key with an old certificate.
func (c *Credentials) Save(path string) error {
	b, err := keyPEM(c.key)
	if err != nil {
		return err
	}
	b = append(b, certsPEM(c.leaf)...)
	return durable.WriteFile(path, append(b, c.trust.PEM()...), 0o600)
}

// LoadCredentials reads what Save wrote: fault.NotFound without a file, fault.Denied if others may read it,
// fault.Corrupt if its parts do not belong together. Expired credentials load.
func LoadCredentials(path string) (*Credentials, error) {
	b, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	c, err := parseCredentials(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func parseCredentials(text []byte) (*Credentials, error) {
	key, rest, err := parseKey(text)
	if err != nil {
		return nil, err
	}
	certs, err := parseCerts(rest)
	if err != nil {
		return nil, err
	}
	if len(certs) < 2 {
		return nil, fault.New(fault.Corrupt, "%d certificates, want the holder's and the CA's", len(certs))
	}
	trust, err := newTrust(certs[1:])
	if err != nil {
		return nil, err
	}
	return newCredentials(key, certs[0], trust)
}

// Keeper holds a member's present credentials, so that they can be replaced while TLS uses them: the next
// handshake takes the new ones, on either side, and no listener restarts.
type Keeper struct {
	present atomic.Pointer[Credentials]
}

// NewKeeper returns a keeper of c.
func NewKeeper(c *Credentials) *Keeper {
	k := new(Keeper)
	k.Replace(c)
	return k
}

// Credentials returns the present ones.
func (k *Keeper) Credentials() *Credentials { return k.present.Load() }

// Replace makes c the present credentials.
func (k *Keeper) Replace(c *Credentials) { k.present.Store(c) }

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

// parseKey reads the key that text begins with and returns what follows.
func parseKey(text []byte) (*ecdsa.PrivateKey, []byte, error) {
	block, rest := pem.Decode(bytes.TrimLeft(text, " \t\r\n"))
	if block == nil || block.Type != pemKey {
		return nil, nil, fault.New(fault.Corrupt, "no PEM private key at the beginning")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, fault.New(fault.Corrupt, "unreadable private key") // the cause could quote the key
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fault.New(fault.Corrupt, "private key is a %T, not ECDSA", k)
	}
	return key, rest, nil
}

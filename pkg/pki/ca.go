package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// caValidity is the life of a cluster's CA; it is replaced with an overlap well before.
const caValidity = 10 * 365 * 24 * time.Hour

// caBackdate lets a CA begin before any clock of the cluster can stand when it signs for the first time.
const caBackdate = 24 * time.Hour

// CA signs the certificates of one cluster. Only controllers hold it.
type CA struct {
	key   *ecdsa.PrivateKey
	cert  *x509.Certificate
	trust *Trust
}

// NewCA makes the CA of a new cluster, on ECDSA P-256 and valid for ten years from now.
func NewCA(cluster string, now time.Time) (*CA, error) {
	if err := checkCluster(cluster); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making CA key: %w", err)
	}
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "wulfmesh CA", Organization: []string{cluster}},
		URIs:                  []*url.URL{{Scheme: scheme, Host: cluster}},
		NotBefore:             now.Add(-caBackdate),
		NotAfter:              now.Add(caValidity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs leaves only
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making CA certificate: %w", err)
	}
	return newCA(key, der)
}

func newCA(key *ecdsa.PrivateKey, der []byte) (*CA, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, err, "CA certificate")
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fault.New(fault.Corrupt, "the CA's key and certificate do not belong together")
	}
	trust, err := newTrust([]*x509.Certificate{cert})
	if err != nil {
		return nil, err
	}
	return &CA{key: key, cert: cert, trust: trust}, nil
}

// Cluster is the name of the cluster that the CA belongs to.
func (ca *CA) Cluster() string { return ca.trust.cluster }

// Trust is what others need to verify the CA's certificates.
func (ca *CA) Trust() *Trust { return ca.trust }

// Fingerprint is the hash that join tokens pin.
func (ca *CA) Fingerprint() Fingerprint { return sha256.Sum256(ca.cert.Raw) }

// PEM is the CA's key and certificate, to be handed to a joining controller over mutual TLS and to nobody else.
func (ca *CA) PEM() (Secret, error) {
	key, err := keyPEM(ca.key)
	if err != nil {
		return Secret{}, err
	}
	return NewSecret(append(key, certsPEM(ca.cert)...)), nil
}

// ParseCA reads what CA.PEM wrote; anything else is fault.Corrupt.
func ParseCA(text []byte) (*CA, error) {
	key, rest, err := parseKey(text)
	if err != nil {
		return nil, err
	}
	certs, err := parseCerts(rest)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, fault.New(fault.Corrupt, "%d CA certificates, not one", len(certs))
	}
	return newCA(key, certs[0].Raw)
}

// Save writes the CA durably to one file that only its owner may read.
func (ca *CA) Save(path string) error {
	s, err := ca.PEM()
	if err != nil {
		return err
	}
	return durable.WriteFile(path, s.Reveal(), 0o600)
}

// LoadCA reads what Save wrote: fault.NotFound without a file, fault.Denied if others may read it.
func LoadCA(path string) (*CA, error) {
	b, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	ca, err := ParseCA(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ca, nil
}

// maxCSR bounds a signing request; one made by NewKeyAndCSR has under 500 bytes.
const maxCSR = 16 << 10

// Sign certifies the public key of a signing request (PEM) for id, from Skew before now until now plus validity,
// but not beyond the CA's own end. It takes nothing else from the request: names, addresses, uses and extensions
// that it asks for are ignored, not even refused, for what is ignored cannot be argued with. id.Cluster may be
// empty for the CA's own; ips are addresses at which clients that know only host names may reach the holder.
// The certificate is returned as PEM. A bad request is fault.Invalid.
func (ca *CA) Sign(csr []byte, id Identity, ips []netip.Addr, validity time.Duration, now time.Time) ([]byte, error) {
	if id.Cluster == "" {
		id.Cluster = ca.Cluster()
	}
	if err := id.check(); err != nil {
		return nil, err
	}
	if id.Cluster != ca.Cluster() {
		return nil, fault.New(fault.Invalid, "the CA of cluster %q does not sign for %s", ca.Cluster(), id)
	}
	pub, err := requestedKey(csr)
	if err != nil {
		return nil, err
	}
	end := now.Add(validity)
	if end.After(ca.cert.NotAfter) {
		end = ca.cert.NotAfter
	}
	if validity <= 0 || !end.After(now) {
		return nil, fault.New(fault.Invalid, "a certificate for %s would end before it begins", id)
	}
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: id.Name, OrganizationalUnit: []string{string(id.Role)}}, // for people
		URIs:                  []*url.URL{id.url()},
		NotBefore:             now.Add(-Skew),
		NotAfter:              end,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           id.Role.usage(),
	}
	for _, ip := range ips {
		t.IPAddresses = append(t.IPAddresses, net.IP(ip.Unmap().AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, pub, ca.key)
	if err != nil {
		return nil, fmt.Errorf("signing certificate for %s: %w", id, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: der}), nil
}

// requestedKey returns the public key of a signing request whose sender has proved to hold the private one.
func requestedKey(text []byte) (any, error) {
	if len(text) > maxCSR {
		return nil, fault.New(fault.Invalid, "signing request has %d bytes, more than %d", len(text), maxCSR)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemCSR {
		return nil, fault.New(fault.Invalid, "not a PEM certificate request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "signing request")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "signing request is not signed by the key it names")
	}
	switch k := csr.PublicKey.(type) {
	case ed25519.PublicKey:
		return k, nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return k, nil
		}
	}
	return nil, fault.New(fault.Invalid, "signing request has a key that is neither ECDSA P-256 or P-384 nor Ed25519")
}

package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Skew is how far the clocks of a cluster may differ: certificates begin that much before they are issued and are
// honoured that much longer than they say.
const Skew = 5 * time.Minute

// Fingerprint is the SHA-256 of a CA certificate's DER.
type Fingerprint [sha256.Size]byte

// String is the fingerprint as 64 hexadecimal digits, as sha256sum prints it for the DER.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// Trust is what is needed to verify members of one cluster: its name and its CA certificates, several of them
// while one CA replaces another. Do not change it once it is in use.
type Trust struct {
	// UnsetClock accepts certificates whose time has not come yet. It is for stage one on machines that may have
	// lost their clock, which then stands years back: such a machine could reach no relay at all. Certificates
	// whose time is over by the machine's clock are refused all the same.
	UnsetClock bool
	// Now is the clock by which TLS of ClientTLS judges certificates; nil: the system's.
	Now func() time.Time

	cluster string
	cas     []*x509.Certificate
	pool    *x509.CertPool
}

// ParseTrust reads the CA certificates of one cluster as PEM, as Trust.PEM writes them.
func ParseTrust(certs []byte) (*Trust, error) {
	cas, err := parseCerts(certs)
	if err != nil {
		return nil, err
	}
	return newTrust(cas)
}

func newTrust(cas []*x509.Certificate) (*Trust, error) {
	if len(cas) == 0 {
		return nil, fault.New(fault.Corrupt, "no CA certificate of a cluster")
	}
	t := &Trust{cas: cas, pool: x509.NewCertPool()}
	for _, ca := range cas {
		cluster, err := clusterOf(ca)
		if err != nil {
			return nil, err
		}
		if t.cluster != "" && t.cluster != cluster {
			return nil, fault.New(fault.Corrupt, "CA certificates of two clusters, %q and %q", t.cluster, cluster)
		}
		t.cluster = cluster
		t.pool.AddCert(ca)
	}
	return t, nil
}

// Cluster is the name of the cluster.
func (t *Trust) Cluster() string { return t.cluster }

// PEM is the CA certificates as text, for curl --cacert and for the trust that stage one carries.
func (t *Trust) PEM() []byte { return certsPEM(t.cas...) }

// Trusts tells whether the CA certificate with the fingerprint is one of those trusted.
func (t *Trust) Trusts(f Fingerprint) bool {
	return slices.ContainsFunc(t.cas, func(ca *x509.Certificate) bool { return sha256.Sum256(ca.Raw) == f })
}

// verify is the one place where a peer's certificate is judged; chain begins with the leaf. Further certificates
// of the chain are not used: the CA signs leaves and nothing between.
func (t *Trust) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (Identity, error) {
	if len(chain) == 0 {
		return Identity{}, fault.New(fault.Denied, "peer shows no certificate")
	}
	leaf := chain[0]
	if end := leaf.NotAfter; now.After(end) && !now.After(end.Add(Skew)) {
		now = end
	}
	if t.UnsetClock && now.Before(leaf.NotBefore) {
		now = leaf.NotBefore
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: t.pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return Identity{}, fault.Wrap(fault.Denied, err, "peer's certificate")
	}
	id, err := identityOf(leaf)
	if err != nil {
		return Identity{}, err
	}
	if id.Cluster != t.cluster {
		return Identity{}, fault.New(fault.Denied, "peer is %s, of another cluster than %q", id, t.cluster)
	}
	return id, nil
}

// clusterOf reads the cluster's name from its CA certificate: the URI wulf://<cluster>.
func clusterOf(ca *x509.Certificate) (string, error) {
	if !ca.IsCA || len(ca.URIs) != 1 || ca.URIs[0].Scheme != scheme || ca.URIs[0].String() != scheme+"://"+ca.URIs[0].Host {
		return "", fault.New(fault.Corrupt, "certificate %q is not the CA of a wulfmesh cluster", ca.Subject.CommonName)
	}
	return ca.URIs[0].Host, checkCluster(ca.URIs[0].Host)
}

const (
	pemCert = "CERTIFICATE"
	pemKey  = "PRIVATE KEY"
	pemCSR  = "CERTIFICATE REQUEST"
)

func certsPEM(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: pemCert, Bytes: c.Raw}) // a bytes.Buffer takes everything
	}
	return b.Bytes()
}

// parseCerts reads the certificates in text that holds nothing else.
func parseCerts(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != pemCert {
			return nil, fault.New(fault.Corrupt, "not a list of PEM certificates")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault.Wrap(fault.Corrupt, err, "certificate")
		}
		certs, text = append(certs, c), rest
	}
	return certs, nil
}

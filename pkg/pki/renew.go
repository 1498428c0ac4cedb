package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// KeyHash is the SHA-256 of a certificate's public key (its SubjectPublicKeyInfo, as in RFC 7469 §2.4): what the
// catalog admits relays and controllers by. It stays when the certificate is renewed.
func KeyHash(cert *x509.Certificate) []byte {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return sum[:]
}

// CertificateKeyHash is KeyHash of a certificate as CA.Sign returns it.
func CertificateKeyHash(cert []byte) ([]byte, error) {
	certs, err := parseCerts(cert)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("%d certificates where one is expected", len(certs))
	}
	return KeyHash(certs[0]), nil
}

// KeyHash is the KeyHash of the holder's certificate.
func (c *Credentials) KeyHash() []byte { return KeyHash(c.leaf) }

// CSR makes a signing request (PEM) for the next certificate, with the same key: a member is admitted by its key, so
// a crash between being given a certificate and saving it must not leave it with one that is not admitted.
func (c *Credentials) CSR() ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, c.key)
	if err != nil {
		return nil, fmt.Errorf("making signing request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemCSR, Bytes: der}), nil
}

// Renew returns the credentials with the certificate (PEM) that was signed for CSR; fault.Corrupt if it is for
// another key or of another cluster.
func (c *Credentials) Renew(cert []byte) (*Credentials, error) {
	return NewCredentials(c.key, cert, c.trust.PEM())
}

package pki_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

func TestARenewedCertificateKeepsTheKeyThatAdmits(t *testing.T) {
	now := time.Now()
	ca, err := pki.NewCA("demo", now)
	if err != nil {
		t.Fatal(err)
	}
	id := pki.Identity{Role: pki.Relay, Name: "r1"}
	make := func() *pki.Credentials {
		key, csr, err := pki.NewKeyAndCSR()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := ca.Sign(csr, id, nil, time.Hour, now)
		if err != nil {
			t.Fatal(err)
		}
		c, err := pki.NewCredentials(key, cert, ca.Trust().PEM())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old, other := make(), make()
	csr, err := old.CSR()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(csr, id, nil, 2*time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := old.Renew(cert)
	if err != nil {
		t.Fatal(err)
	}
	if !fresh.Expires().After(old.Expires()) {
		t.Errorf("the new one ends %s, the old one %s", fresh.Expires(), old.Expires())
	}
	hash, err := pki.CertificateKeyHash(cert)
	if err != nil || !bytes.Equal(hash, old.KeyHash()) || !bytes.Equal(fresh.KeyHash(), old.KeyHash()) {
		t.Errorf("key hash %x (%v), want %x", hash, err, old.KeyHash())
	}
	if bytes.Equal(other.KeyHash(), old.KeyHash()) {
		t.Error("two keys have one hash")
	}
	if _, err := other.Renew(cert); !errors.Is(err, fault.Corrupt) {
		t.Errorf("a certificate for another key is taken: %v", err)
	}
}

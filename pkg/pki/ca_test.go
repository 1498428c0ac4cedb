package pki_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

func parseCert(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func request(t *testing.T, key any, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// GHSA-255v-qv84-29p5 and its like: what a request asks for is not what it gets.
func TestNamesInTheRequestAreIgnored(t *testing.T) {
	ca := newCA(t, "c1")
	key, _, err := pki.NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	greedy := &x509.CertificateRequest{
		Subject:     pkix.Name{CommonName: "controller1", Organization: []string{"controllers"}},
		DNSNames:    []string{"controller1.example"},
		IPAddresses: []net.IP{net.IPv4(10, 9, 9, 9)},
		URIs:        []*url.URL{{Scheme: "wulf", Host: "c1", Path: "/controller/c1"}},
		ExtraExtensions: []pkix.Extension{ // basic constraints: CA true
			{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}},
		},
	}
	now := time.Now()
	ips := []netip.Addr{netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("fd00::7")}
	text, err := ca.Sign(request(t, key, greedy), pki.Identity{Role: pki.Relay, Name: "r7"}, ips, time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	c := parseCert(t, text)
	if c.IsCA || len(c.DNSNames) != 0 || c.Subject.CommonName != "r7" || len(c.Subject.Organization) != 0 {
		t.Errorf("certificate took from the request: CA %v, names %q, subject %v", c.IsCA, c.DNSNames, c.Subject)
	}
	if len(c.URIs) != 1 || c.URIs[0].String() != "wulf://c1/relay/r7" {
		t.Errorf("identities %v", c.URIs)
	}
	if len(c.IPAddresses) != 2 || !c.IPAddresses[0].Equal(net.IPv4(10, 0, 0, 7)) {
		t.Errorf("addresses %v", c.IPAddresses)
	}
	if got, want := c.NotAfter, now.Add(time.Hour); got.Sub(want).Abs() > time.Second {
		t.Errorf("ends %v, want %v", got, want)
	}
}

func TestCurlUsersCanVerifyByAddress(t *testing.T) {
	ca := newCA(t, "c1")
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	_ = key
	text, err := ca.Sign(csr, pki.Identity{Role: pki.Relay, Name: "r7"}, []netip.Addr{netip.MustParseAddr("10.0.0.7")}, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca.Trust().PEM()) {
		t.Fatal("trust is not PEM")
	}
	if _, err := parseCert(t, text).Verify(x509.VerifyOptions{Roots: roots, DNSName: "10.0.0.7"}); err != nil {
		t.Error(err)
	}
}

func TestSignRefuses(t *testing.T) {
	ca := newCA(t, "c1")
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(csr)
	forged := append([]byte{}, block.Bytes...)
	forged[len(forged)-1] ^= 1
	relay := pki.Identity{Role: pki.Relay, Name: "r1"}
	for name, c := range map[string]struct {
		csr      []byte
		id       pki.Identity
		validity time.Duration
	}{
		"another cluster":    {csr, pki.Identity{Cluster: "c2", Role: pki.Relay, Name: "r1"}, time.Hour},
		"no role":            {csr, pki.Identity{Name: "r1"}, time.Hour},
		"a role that is not": {csr, pki.Identity{Role: "root", Name: "r1"}, time.Hour},
		"a path as a name":   {csr, pki.Identity{Role: pki.Relay, Name: "../controller/c1"}, time.Hour},
		"no name":            {csr, pki.Identity{Role: pki.Relay}, time.Hour},
		"no time":            {csr, relay, 0},
		"negative time":      {csr, relay, -time.Hour},
		"no request":         {nil, relay, time.Hour},
		"not PEM":            {[]byte("hello"), relay, time.Hour},
		"a certificate":      {ca.Trust().PEM(), relay, time.Hour},
		"a torn request":     {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: block.Bytes[:50]}), relay, time.Hour},
		"a forged request":   {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: forged}), relay, time.Hour},
		"RSA":                {request(t, rsaKey, &x509.CertificateRequest{}), relay, time.Hour},
		"P-224":              {request(t, p224, &x509.CertificateRequest{}), relay, time.Hour},
		"a huge request":     {[]byte(strings.Repeat("x", 20000)), relay, time.Hour},
	} {
		if _, err := ca.Sign(c.csr, c.id, nil, c.validity, time.Now()); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_ = key
}

func TestNoCertificateOutlivesTheCA(t *testing.T) {
	ca := newCA(t, "c1")
	_, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	late := time.Now().Add(9 * 365 * 24 * time.Hour)
	text, err := ca.Sign(csr, pki.Identity{Role: pki.Relay, Name: "r"}, nil, 5*365*24*time.Hour, late)
	if err != nil {
		t.Fatal(err)
	}
	if end := parseCert(t, ca.Trust().PEM()).NotAfter; parseCert(t, text).NotAfter.After(end) {
		t.Error("leaf ends after the CA")
	}
	if _, err := ca.Sign(csr, pki.Identity{Role: pki.Relay, Name: "r"}, nil, time.Hour, late.Add(2*365*24*time.Hour)); !errors.Is(err, fault.Invalid) {
		t.Errorf("after the CA's end: %v", err)
	}
}

func TestClusterNames(t *testing.T) {
	for _, bad := range []string{"", "A", "a_b", "a.b", "-a", "a-", "a/b", "a b", strings.Repeat("a", 64)} {
		if _, err := pki.NewCA(bad, time.Now()); !errors.Is(err, fault.Invalid) {
			t.Errorf("cluster %q: %v", bad, err)
		}
	}
	if _, err := pki.NewCA(strings.Repeat("a", 63), time.Now()); err != nil {
		t.Error(err)
	}
}

func TestIdentityText(t *testing.T) {
	id := pki.Identity{Cluster: "hpc-1", Role: pki.Node, Name: "r01.n03_a-B"}
	if got, err := pki.ParseIdentity(id.String()); err != nil || got != id {
		t.Errorf("read back %v, %v", got, err)
	}
	for _, bad := range []string{"", "wulf://", "wulf://c", "wulf://c/relay", "wulf://c/relay/", "wulf://c/relay/a/b", "http://c/relay/a",
		"wulf://c/boss/a", "wulf://c/relay/a?b", "wulf://u@c/relay/a", "wulf://c/relay/a%20", "wulf://C/relay/a", "wulf://c/relay/-a"} {
		if id, err := pki.ParseIdentity(bad); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v, %v", bad, id, err)
		}
	}
}

func TestFilesKeepWhatTheyHold(t *testing.T) {
	dir := t.TempDir()
	ca := newCA(t, "c1")
	caFile, memberFile, secretFile := filepath.Join(dir, "ca"), filepath.Join(dir, "relay"), filepath.Join(dir, "mesh")
	if err := ca.Save(caFile); err != nil {
		t.Fatal(err)
	}
	again, err := pki.LoadCA(caFile)
	if err != nil {
		t.Fatal(err)
	}
	if again.Fingerprint() != ca.Fingerprint() || again.Cluster() != "c1" {
		t.Errorf("another CA came back: %v", again.Fingerprint())
	}
	c := member(t, again, pki.Relay, "r1")
	if err := c.Save(memberFile); err != nil {
		t.Fatal(err)
	}
	back, err := pki.LoadCredentials(memberFile)
	if err != nil {
		t.Fatal(err)
	}
	if back.Identity() != c.Identity() || !back.Expires().Equal(c.Expires()) || !back.Trust().Trusts(ca.Fingerprint()) {
		t.Errorf("other credentials came back: %v", back.Identity())
	}
	mesh := pki.NewMeshSecret()
	if err := pki.SaveSecret(secretFile, mesh.Secret); err != nil {
		t.Fatal(err)
	}
	if got, err := pki.LoadMeshSecret(secretFile); err != nil || !got.Equal(mesh.Secret) {
		t.Errorf("another secret came back: %v", err)
	}

	load := map[string]func() error{
		caFile:     func() error { _, err := pki.LoadCA(caFile); return err },
		memberFile: func() error { _, err := pki.LoadCredentials(memberFile); return err },
		secretFile: func() error { _, err := pki.LoadMeshSecret(secretFile); return err },
	}
	for path, read := range load {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, fi.Mode())
		}
		b, _ := os.ReadFile(path)
		if err := os.WriteFile(path, b[:len(b)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := read(); !errors.Is(err, fault.Corrupt) {
			t.Errorf("%s cut in half: %v", filepath.Base(path), err)
		}
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		if err := read(); !errors.Is(err, fault.Denied) || fault.Fix(err) == "" {
			t.Errorf("%s that its group may read: %v", filepath.Base(path), err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := read(); !errors.Is(err, fault.NotFound) || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s that is gone: %v", filepath.Base(path), err)
		}
	}
}

func TestCredentialsMustBelongTogether(t *testing.T) {
	ca, other := newCA(t, "c1"), newCA(t, "c2")
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	wrongKey, _, err := pki.NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(csr, pki.Identity{Role: pki.Node, Name: "n1"}, nil, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	good := ca.Trust().PEM()
	for name, f := range map[string]func() error{
		"another key": func() error { _, err := pki.NewCredentials(wrongKey, cert, good); return err },
		"another CA":  func() error { _, err := pki.NewCredentials(key, cert, other.Trust().PEM()); return err },
		"two clusters": func() error {
			_, err := pki.NewCredentials(key, cert, append(good, other.Trust().PEM()...))
			return err
		},
		"no CA":        func() error { _, err := pki.NewCredentials(key, cert, nil); return err },
		"a leaf as CA": func() error { _, err := pki.NewCredentials(key, cert, cert); return err },
		"two leaves":   func() error { _, err := pki.NewCredentials(key, append(cert, cert...), good); return err },
		"rubbish":      func() error { _, err := pki.NewCredentials(key, []byte("x"), good); return err },
	} {
		if err := f(); !errors.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := pki.NewCredentials(key, cert, good); err != nil {
		t.Error(err)
	}
}

// While one CA replaces another, members of both are trusted.
func TestTwoCAsOfOneClusterOverlap(t *testing.T) {
	older, newer := newCA(t, "c1"), newCA(t, "c1")
	both, err := pki.ParseTrust(append(older.Trust().PEM(), newer.Trust().PEM()...))
	if err != nil {
		t.Fatal(err)
	}
	for _, ca := range []*pki.CA{older, newer} {
		server := pki.ServerTLS(keeper(t, ca, pki.Relay, "r1"), pki.Access{Protocols: []string{web}, Anonymous: true})
		if _, _, _, err := shake(t, server, both.ClientTLS([]string{web}, pki.Relay)); err != nil {
			t.Error(err)
		}
	}
}

func TestRenewalComesEarly(t *testing.T) {
	c := member(t, newCA(t, "c1"), pki.Relay, "r1")
	left := c.Expires().Sub(c.RenewAt())
	if left < 5*24*time.Hour {
		t.Errorf("a relay that cannot renew has %v left", left)
	}
	if c.RenewDue(time.Now()) || !c.RenewDue(c.RenewAt()) {
		t.Error("renewal is due at another time than RenewAt")
	}
}

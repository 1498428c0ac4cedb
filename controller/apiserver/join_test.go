package apiserver

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// token makes a join token as an operator does.
func (b *bench) token(q api.TokenRequest) string {
	b.t.Helper()
	w := b.local(0, "POST", api.PathTokens, encode(b.t, q))
	if err := problemOf(b.t, w); err != nil {
		b.t.Fatal(err)
	}
	var out api.TokenResult
	if err := unmarshal(w.Body.Bytes(), &out); err != nil {
		b.t.Fatal(err)
	}
	return out.Token
}

func (b *bench) join(token string, csr []byte, rel catalog.Relay) (api.JoinedRelay, error) {
	b.t.Helper()
	w := b.ask(nil, "POST", api.PathJoinRelay, api.JoinRelay{Token: token, CSR: csr, Relay: rel})
	var out api.JoinedRelay
	if err := problemOf(b.t, w); err != nil {
		return out, err
	}
	err := unmarshal(w.Body.Bytes(), &out)
	return out, err
}

func TestARelayJoinsOnceByToken(t *testing.T) {
	b := newBench(t)
	token := b.token(api.TokenRequest{Role: catalog.TokenRelay, Name: "r1", Rack: "k1", Networks: []catalog.NetworkName{"rack"}})
	csr := b.csr()
	rel := newRelay("what-i-like", "10.1.0.1", nil)
	rel.Networks, rel.Rack = []catalog.NetworkName{"other"}, "elsewhere" // the token decides
	joined, err := b.join(token, csr, rel)
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, []byte(joined.Certificate))
	if got, want := leaf.URIs[0].String(), "wulf://demo/relay/r1"; got != want || joined.Name != "r1" {
		t.Errorf("certificate for %s, name %s, want %s", got, joined.Name, want)
	}
	if len(leaf.IPAddresses) != 1 || leaf.IPAddresses[0].String() != "10.1.0.1" {
		t.Errorf("addresses in the certificate: %v", leaf.IPAddresses)
	}
	have, _ := b.cfg.State.Current().Relay("r1")
	if have.Rack != "k1" || len(have.Networks) != 1 || have.Networks[0] != "rack" || string(have.Key) != string(pki.KeyHash(leaf)) {
		t.Errorf("admitted as %+v", have)
	}
	if joined.Cluster != "demo" || len(joined.Endpoints) != 1 || joined.CA == "" {
		t.Errorf("answer %+v", joined)
	}

	// The answer was lost: the same relay asks again and is answered, without another use.
	if again, err := b.join(token, csr, rel); err != nil || again.Name != "r1" {
		t.Errorf("asking again: %+v, %v", again, err)
	}
	// Anybody else finds the token used up, under whatever name.
	if _, err := b.join(token, b.csr(), rel); !errors.Is(err, fault.Denied) || !strings.Contains(err.Error(), "used up") {
		t.Errorf("a second relay with the same token: %v", err)
	}
	// A relay that was removed does not come back with its old token.
	b.must(catalog.DeleteRelay{Name: "r1"})
	if _, err := b.join(token, csr, rel); !errors.Is(err, fault.Denied) {
		t.Errorf("after its removal: %v", err)
	}
}

func TestBadTokensAdmitNobodyAndDoNotReachTheLog(t *testing.T) {
	synctest.Test(t, badTokens)
}

func badTokens(t *testing.T) {
	b := newBench(t)
	good := b.token(api.TokenRequest{Role: catalog.TokenRelay, Networks: []catalog.NetworkName{"rack"}, Uses: 5})
	forController := b.token(api.TokenRequest{Role: catalog.TokenController})
	otherCA, err := pki.NewCA("demo", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	short := b.token(api.TokenRequest{Role: catalog.TokenRelay, Networks: []catalog.NetworkName{"rack"}, TTL: 2 * time.Second})
	parts := strings.Split(good, ".")
	wrongSecret := strings.Join([]string{parts[0], parts[1], strings.Split(pki.NewToken(b.ca.Fingerprint()).Text(), ".")[2], parts[3]}, ".")
	time.Sleep(time.Minute)
	before := b.log.at
	for name, q := range map[string]struct {
		token string
		kind  fault.Kind
		says  string
	}{
		"empty":              {"", fault.Invalid, "empty"},
		"malformed":          {"wulf1.abc", fault.Invalid, "malformed"},
		"unknown":            {pki.NewToken(b.ca.Fingerprint()).Text(), fault.Denied, "not known"},
		"of another cluster": {pki.NewToken(otherCA.Fingerprint()).Text(), fault.Denied, "not known"},
		"with wrong secret":  {wrongSecret, fault.Denied, "not known"},
		"for a controller":   {forController, fault.Denied, "admits a controller"},
		"expired":            {short, fault.Denied, "expired"},
	} {
		_, err := b.join(q.token, b.csr(), newRelay("r1", "10.1.0.1", nil))
		if !errors.Is(err, q.kind) || !strings.Contains(err.Error(), q.says) {
			t.Errorf("a token %s: %v, want %s with %q", name, err, q.kind, q.says)
		}
	}
	if b.log.at != before {
		t.Errorf("%d entries were written for tokens that admit nobody", b.log.at-before)
	}
	for name, rel := range map[string]catalog.Relay{
		"without a name":  newRelay("", "10.1.0.1", nil),
		"with a bad name": newRelay("../r1", "10.1.0.1", nil),
	} {
		if _, err := b.join(good, b.csr(), rel); !errors.Is(err, fault.Invalid) {
			t.Errorf("a relay %s: %v", name, err)
		}
	}
	if _, err := b.join(good, []byte("no request"), newRelay("r1", "10.1.0.1", nil)); !errors.Is(err, fault.Invalid) {
		t.Errorf("without a signing request: %v", err)
	}
	b.admitRelay("r2", "10.1.0.2", "rack")
	if _, err := b.join(good, b.csr(), newRelay("r2", "10.1.0.2", nil)); !errors.Is(err, fault.Denied) || !strings.Contains(err.Error(), "another key") {
		t.Errorf("under the name of another relay: %v", err)
	}
}

func TestJoiningIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		busy := 0
		for range 100 {
			_, err := b.join("wulf1.x", nil, catalog.Relay{})
			if errors.Is(err, fault.Unavailable) {
				busy++
			}
		}
		if want := 100 - joinBurst; busy != want {
			t.Errorf("%d of 100 attempts were held off, want %d", busy, want)
		}
		time.Sleep(time.Minute)
		if _, err := b.join("wulf1.x", nil, catalog.Relay{}); !errors.Is(err, fault.Invalid) {
			t.Errorf("a minute later: %v", err)
		}
	})
}

func TestRenewalKeepsNameAndKey(t *testing.T) {
	b := newBench(t)
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	token := b.token(api.TokenRequest{Role: catalog.TokenRelay, Name: "r1", Networks: []catalog.NetworkName{"rack"}})
	joined, err := b.join(token, csr, newRelay("", "10.1.0.1", nil))
	if err != nil {
		t.Fatal(err)
	}
	own, err := pki.NewCredentials(key, []byte(joined.Certificate), []byte(joined.CA))
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, []byte(joined.Certificate))
	again, err := own.CSR()
	if err != nil {
		t.Fatal(err)
	}
	w := b.ask(leaf, "POST", api.PathRenew, api.CertificateRequest{CSR: again})
	if err := problemOf(t, w); err != nil {
		t.Fatal(err)
	}
	var out api.Certificate
	if err := unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	next := parse(t, []byte(out.Certificate))
	if next.URIs[0].String() != "wulf://demo/relay/r1" || hex.EncodeToString(pki.KeyHash(next)) != hex.EncodeToString(own.KeyHash()) {
		t.Errorf("renewed as %s", next.URIs[0])
	}
	if err := problemOf(t, b.ask(leaf, "POST", api.PathRenew, api.CertificateRequest{CSR: b.csr()})); !errors.Is(err, fault.Denied) {
		t.Errorf("renewing with another key: %v", err)
	}
}

func TestTokensAreListedWithoutTheirHashes(t *testing.T) {
	b := newBench(t)
	b.token(api.TokenRequest{Role: catalog.TokenController})
	w := b.local(0, "GET", api.PathTokens, nil)
	var tokens []catalog.Token
	if err := unmarshal(w.Body.Bytes(), &tokens); err != nil {
		t.Fatal(err)
	}
	if len(tokens) != 1 || tokens[0].Hash != nil || tokens[0].Uses != 1 || tokens[0].By != "root@local" {
		t.Errorf("tokens %+v", tokens)
	}
	if err := problemOf(t, b.local(0, "POST", api.PathTokens, encode(t, api.TokenRequest{Role: catalog.TokenController, TTL: -1}))); !errors.Is(err, fault.Invalid) {
		t.Errorf("a token that has expired before it is made: %v", err)
	}
}

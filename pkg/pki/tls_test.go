package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

const (
	raft = "wulf-raft/1"
	web  = "http/1.1"
)

func newCA(t testing.TB, cluster string) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA(cluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// member returns credentials signed by ca that hold for the role's usual time.
func member(t testing.TB, ca *pki.CA, role pki.Role, name string) *pki.Credentials {
	t.Helper()
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(csr, pki.Identity{Role: role, Name: name}, []netip.Addr{netip.MustParseAddr("10.0.0.1")}, role.Validity(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := pki.NewCredentials(key, cert, ca.Trust().PEM())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func keeper(t testing.TB, ca *pki.CA, role pki.Role, name string) *pki.Keeper {
	t.Helper()
	return pki.NewKeeper(member(t, ca, role, name))
}

// shake makes a connection between the two configurations, passes a byte each way (in TLS 1.3 a client learns only
// then that its certificate was refused) and returns what each side saw.
func shake(t testing.TB, server, client *tls.Config) (serverState, clientState tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	s, c := tls.Server(a, server), tls.Client(b, client)
	defer a.Close()
	defer b.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer a.Close()
		if serverErr = s.Handshake(); serverErr != nil {
			return
		}
		_, _ = s.Write([]byte("x"))
	}()
	_, clientErr = c.Read(make([]byte, 1))
	b.Close()
	<-done
	return s.ConnectionState(), c.ConnectionState(), serverErr, clientErr
}

// denied tells whether err is our own verdict.
func denied(err error) bool { return errors.Is(err, fault.Denied) }

// Every role at every kind of listener: no role stands in for another (CVE-2021-37219).
func TestEachListenerAdmitsItsRolesOnly(t *testing.T) {
	ca := newCA(t, "c1")
	listeners := map[string][]pki.Access{
		"raft":      {{Protocols: []string{raft}, Roles: []pki.Role{pki.Controller}}},
		"relays":    {{Protocols: []string{web}, Roles: []pki.Role{pki.Controller, pki.Relay}}},
		"operators": {{Protocols: []string{web}, Roles: []pki.Role{pki.Operator}}},
		"nodes":     {{Protocols: []string{web}, Roles: []pki.Role{pki.Node}}},
		"api":       {{Protocols: []string{web}, Roles: pki.Roles()}},
		"nobody":    {{Protocols: []string{web}}},
	}
	for name, access := range listeners {
		server := pki.ServerTLS(keeper(t, ca, pki.Controller, "c"), access...)
		for _, role := range pki.Roles() {
			want := false
			for _, r := range access[0].Roles {
				want = want || r == role
			}
			client := pki.ClientTLS(keeper(t, ca, role, "x1"), access[0].Protocols, pki.Controller)
			cs, _, err, clientErr := shake(t, server, client)
			if got := err == nil && clientErr == nil; got != want || !want && !denied(err) {
				t.Errorf("%s at listener %s: admitted %v, want %v (server: %v, client: %v)", role, name, got, want, err, clientErr)
			}
			if !want {
				continue
			}
			id, err := pki.PeerIdentity(cs)
			if wantID := (pki.Identity{Cluster: "c1", Role: role, Name: "x1"}); err != nil || id != wantID {
				t.Errorf("PeerIdentity = %v, %v; want %v", id, err, wantID)
			}
		}
	}
}

// Every role as a server for every expectation; a node's or operator's key cannot serve at all.
func TestEachDialAcceptsTheExpectedRolesOnly(t *testing.T) {
	ca := newCA(t, "c1")
	all := pki.Access{Protocols: []string{web}, Roles: pki.Roles(), Anonymous: true}
	for _, role := range pki.Roles() {
		server := pki.ServerTLS(keeper(t, ca, role, "s"), all)
		for _, expected := range pki.Roles() {
			want := role == expected && (role == pki.Controller || role == pki.Relay)
			for kind, client := range map[string]*tls.Config{
				"with a certificate": pki.ClientTLS(keeper(t, ca, pki.Relay, "r1"), []string{web}, expected),
				"without":            ca.Trust().ClientTLS([]string{web}, expected),
			} {
				_, _, _, err := shake(t, server, client)
				if got := err == nil; got != want || !want && !denied(err) {
					t.Errorf("%s dialled as %s %s: accepted %v, want %v (%v)", role, expected, kind, got, want, err)
				}
			}
		}
	}
}

func TestOneListenerSeparatesItsProtocols(t *testing.T) {
	ca := newCA(t, "c1")
	server := pki.ServerTLS(keeper(t, ca, pki.Controller, "c"),
		pki.Access{Protocols: []string{raft}, Roles: []pki.Role{pki.Controller}},
		pki.Access{Protocols: []string{"h2", web}, Roles: []pki.Role{pki.Relay, pki.Operator, pki.Controller}, Anonymous: true})
	relay := keeper(t, ca, pki.Relay, "r1")
	for name, c := range map[string]struct {
		client *tls.Config
		ok     bool
	}{
		"controller raft": {pki.ClientTLS(keeper(t, ca, pki.Controller, "c2"), []string{raft}, pki.Controller), true},
		"relay raft":      {pki.ClientTLS(relay, []string{raft}, pki.Controller), false},
		"relay h2":        {pki.ClientTLS(relay, []string{"h2"}, pki.Controller), true},
		"nobody raft":     {ca.Trust().ClientTLS([]string{raft}, pki.Controller), false},
		"nobody h2":       {ca.Trust().ClientTLS([]string{"h2", web}, pki.Controller), true},
		"nobody gossip":   {ca.Trust().ClientTLS([]string{"gossip"}, pki.Controller), false},
		"node h2":         {pki.ClientTLS(keeper(t, ca, pki.Node, "n1"), []string{"h2"}, pki.Controller), false},
	} {
		_, _, serverErr, clientErr := shake(t, server, c.client)
		if got := serverErr == nil && clientErr == nil; got != c.ok {
			t.Errorf("%s: admitted %v, want %v (server: %v, client: %v)", name, got, c.ok, serverErr, clientErr)
		}
	}
	old := ca.Trust().ClientTLS(nil, pki.Controller) // a client without ALPN counts as http/1.1 at the server
	old.VerifyConnection = nil
	if cs, _, err, _ := shake(t, server, old); err != nil {
		t.Errorf("client without ALPN: %v", err)
	} else if _, err := pki.PeerIdentity(cs); !denied(err) {
		t.Errorf("identity of nobody: %v", err)
	}
	// The dialer notices a server that speaks something else.
	mute := pki.ServerTLS(keeper(t, ca, pki.Controller, "c"), pki.Access{Protocols: []string{web}, Roles: pki.Roles()})
	mute.NextProtos = nil
	if _, _, _, err := shake(t, mute, pki.ClientTLS(keeper(t, ca, pki.Controller, "c2"), []string{raft}, pki.Controller)); !denied(err) {
		t.Errorf("raft to a server without ALPN: %v", err)
	}
}

func TestAnonymousListenerRefusesABadCertificate(t *testing.T) {
	ca, other := newCA(t, "c1"), newCA(t, "c1")
	server := pki.ServerTLS(keeper(t, ca, pki.Relay, "r1"), pki.Access{Protocols: []string{web}, Roles: []pki.Role{pki.Relay}, Anonymous: true})
	client := ca.Trust().ClientTLS([]string{web}, pki.Relay)
	client.GetClientCertificate = pki.ClientTLS(keeper(t, other, pki.Relay, "r2"), nil).GetClientCertificate
	if _, _, err, _ := shake(t, server, client); !denied(err) {
		t.Errorf("certificate of a foreign CA: %v", err)
	}
}

func TestForeignersAreRefusedOnBothSides(t *testing.T) {
	ca := newCA(t, "c1")
	access := pki.Access{Protocols: []string{web}, Roles: pki.Roles()}
	for name, foreign := range map[string]*pki.CA{
		"another CA of a cluster of the same name": newCA(t, "c1"),
		"another cluster":                          newCA(t, "c2"),
	} {
		_, _, err, _ := shake(t, pki.ServerTLS(keeper(t, ca, pki.Controller, "c"), access), foreignClient(t, foreign, ca))
		if !denied(err) {
			t.Errorf("%s as a client: %v", name, err)
		}
		_, _, _, err = shake(t, pki.ServerTLS(keeper(t, foreign, pki.Controller, "c"), access), pki.ClientTLS(keeper(t, ca, pki.Relay, "r1"), []string{web}, pki.Controller))
		if !denied(err) {
			t.Errorf("%s as a server: %v", name, err)
		}
	}
}

// foreignClient trusts the server's cluster, so that the handshake reaches the server's verdict on its certificate.
func foreignClient(t *testing.T, own, trusted *pki.CA) *tls.Config {
	c := trusted.Trust().ClientTLS([]string{web}, pki.Controller)
	c.GetClientCertificate = pki.ClientTLS(keeper(t, own, pki.Controller, "c"), nil).GetClientCertificate
	return c
}

func TestAdmitHasTheLastWord(t *testing.T) {
	ca := newCA(t, "c1")
	gone := fault.New(fault.Denied, "relay r2 was removed")
	server := pki.ServerTLS(keeper(t, ca, pki.Controller, "c"), pki.Access{Protocols: []string{web}, Roles: []pki.Role{pki.Relay},
		Admit: func(id pki.Identity, cert *x509.Certificate) error {
			if cert == nil || cert.SerialNumber.Sign() == 0 {
				t.Error("no certificate given")
			}
			if id.Name == "r2" {
				return gone
			}
			return nil
		}})
	for name, want := range map[string]error{"r1": nil, "r2": gone} {
		_, _, err, _ := shake(t, server, pki.ClientTLS(keeper(t, ca, pki.Relay, name), []string{web}, pki.Controller))
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

func TestTLS12IsRefused(t *testing.T) {
	ca := newCA(t, "c1")
	relay := keeper(t, ca, pki.Relay, "r1")
	server := pki.ServerTLS(keeper(t, ca, pki.Controller, "c"), pki.Access{Protocols: []string{web}, Roles: pki.Roles(), Anonymous: true})
	old := pki.ClientTLS(relay, []string{web}, pki.Controller)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, _, err, _ := shake(t, server, old); err == nil {
		t.Error("server took a TLS 1.2 client")
	}
	oldServer := server.Clone()
	oldServer.MinVersion, oldServer.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, _, _, err := shake(t, oldServer, pki.ClientTLS(relay, []string{web}, pki.Controller)); err == nil {
		t.Error("client took a TLS 1.2 server")
	}
}

func TestValidityAllowsForSkewAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, "c1")
		access := pki.Access{Protocols: []string{web}, Roles: []pki.Role{pki.Relay}}
		// The server's own certificate lasts; the relay's 7 days are what is tried.
		server := pki.ServerTLS(keeper(t, ca, pki.Controller, "c"), access)
		client := pki.ClientTLS(keeper(t, ca, pki.Relay, "r1"), []string{web}, pki.Controller)
		try := func(when string, want bool) {
			t.Helper()
			if _, _, err, _ := shake(t, server, client); (err == nil) != want {
				t.Errorf("%s: admitted %v, want %v (%v)", when, err == nil, want, err)
			}
		}
		try("at once", true)
		time.Sleep(pki.Relay.Validity())
		try("at its end", true)
		time.Sleep(pki.Skew)
		try("at its end and the skew", true)
		time.Sleep(time.Second)
		try("later", false)
	})
}

func TestCertificatesOfTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caThen := newCA(t, "c1")
		key, csr, err := pki.NewKeyAndCSR()
		if err != nil {
			t.Fatal(err)
		}
		for ahead, want := range map[time.Duration]bool{pki.Skew: true, pki.Skew + time.Second: false} {
			cert, err := caThen.Sign(csr, pki.Identity{Role: pki.Relay, Name: "r"}, nil, time.Hour, time.Now().Add(ahead))
			if err != nil {
				t.Fatal(err)
			}
			c, err := pki.NewCredentials(key, cert, caThen.Trust().PEM())
			if err != nil {
				t.Fatal(err)
			}
			server := pki.ServerTLS(pki.NewKeeper(c), pki.Access{Protocols: []string{web}, Anonymous: true})
			trust, err := pki.ParseTrust(caThen.Trust().PEM())
			if err != nil {
				t.Fatal(err)
			}
			if _, _, _, err := shake(t, server, trust.ClientTLS([]string{web}, pki.Relay)); (err == nil) != want {
				t.Errorf("%v ahead: accepted %v, want %v (%v)", ahead, err == nil, want, err)
			}
			// A machine that lost its clock still reaches its relay.
			trust.UnsetClock = true
			if _, _, _, err := shake(t, server, trust.ClientTLS([]string{web}, pki.Relay)); err != nil {
				t.Errorf("%v ahead with the clock unset: %v", ahead, err)
			}
		}
	})
}

func TestUnsetClockDoesNotExcuseAnExpiredCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, "c1")
		server := pki.ServerTLS(keeper(t, ca, pki.Relay, "r1"), pki.Access{Protocols: []string{web}, Anonymous: true})
		trust := ca.Trust()
		trust.UnsetClock = true
		time.Sleep(pki.Relay.Validity() + time.Hour)
		if _, _, _, err := shake(t, server, trust.ClientTLS([]string{web}, pki.Relay)); !denied(err) {
			t.Errorf("expired server: %v", err)
		}
	})
}

func TestRenewalNeedsNoRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, "c1")
		srv, cli := keeper(t, ca, pki.Relay, "r1"), keeper(t, ca, pki.Relay, "r2")
		server := pki.ServerTLS(srv, pki.Access{Protocols: []string{web}, Roles: []pki.Role{pki.Relay}})
		client := pki.ClientTLS(cli, []string{web}, pki.Relay)
		for range 10 { // ten weeks in steps shorter than a certificate's life
			time.Sleep(pki.Relay.Validity() - time.Hour)
			if !srv.Credentials().RenewDue(time.Now()) {
				t.Fatal("renewal is not due")
			}
			srv.Replace(member(t, ca, pki.Relay, "r1"))
			cli.Replace(member(t, ca, pki.Relay, "r2"))
			if _, _, err, clientErr := shake(t, server, client); err != nil || clientErr != nil {
				t.Fatalf("after renewal: %v, %v", err, clientErr)
			}
		}
	})
}

func TestFirstContactPinsTheCA(t *testing.T) {
	ca, evil := newCA(t, "c1"), newCA(t, "c1")
	access := pki.Access{Protocols: []string{web}, Roles: []pki.Role{pki.Relay}, Anonymous: true}
	server := pki.ServerTLS(keeper(t, ca, pki.Controller, "c"), access)
	client := pki.PinnedTLS(ca.Fingerprint(), []string{web})
	_, cs, _, err := shake(t, server, client)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := pki.PeerIdentity(cs); err != nil || id.Role != pki.Controller || id.Cluster != "c1" {
		t.Errorf("server is %v, %v", id, err)
	}
	if _, _, _, err := shake(t, pki.ServerTLS(keeper(t, evil, pki.Controller, "c"), access), client); !denied(err) || fault.Fix(err) == "" {
		t.Errorf("another CA's server: %v", err)
	}
	if _, _, _, err := shake(t, pki.ServerTLS(keeper(t, ca, pki.Relay, "r"), access), client); !denied(err) {
		t.Errorf("a relay that poses as a controller: %v", err)
	}
	// A liar that sends the right CA certificate behind a leaf which that CA did not sign.
	liar := pki.ServerTLS(keeper(t, evil, pki.Controller, "c"), access)
	get := liar.GetCertificate
	liar.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		c, err := get(h)
		lie := *c
		right := pki.ServerTLS(keeper(t, ca, pki.Controller, "c"), access)
		honest, _ := right.GetCertificate(h)
		lie.Certificate = [][]byte{c.Certificate[0], honest.Certificate[1]}
		return &lie, err
	}
	if _, _, _, err := shake(t, liar, client); !denied(err) {
		t.Errorf("a leaf that the pinned CA did not sign: %v", err)
	}
}

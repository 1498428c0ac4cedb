package pki

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Access says who may speak certain protocols to a listener. Whoever matches no Access is refused during the
// handshake.
type Access struct {
	Protocols []string // ALPN names; a client that negotiates none is taken to speak http/1.1
	Roles     []Role   // of peers that show a certificate; an empty list admits none of them

	// Anonymous admits peers without a certificate too. What is then asked of them (a join token, a session) is the
	// business of the handler, which learns by PeerIdentity that there is nobody. A certificate that is shown and
	// is not good is refused all the same.
	Anonymous bool

	// Admit, when set, has the last word on a verified peer: the catalog may have removed it. It is called in every
	// handshake, by any number at once.
	Admit func(Identity, *x509.Certificate) error
}

// plainProtocol is what a peer speaks that negotiates no protocol: old HTTP clients have no ALPN.
const plainProtocol = "http/1.1"

// ServerTLS is the configuration of a listener of k's holder: TLS 1.3 and nothing less, the present certificate of
// k in every handshake, and for each protocol only the peers that its Access admits. Protocols are preferred in
// their order.
func ServerTLS(k *Keeper, access ...Access) *tls.Config {
	c := base()
	c.ClientAuth = tls.RequireAnyClientCert // any: verify, below, does what the library's chain check would not
	for _, a := range access {
		c.NextProtos = append(c.NextProtos, a.Protocols...)
		if a.Anonymous {
			c.ClientAuth = tls.RequestClientCert
		}
	}
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &k.Credentials().tls, nil }
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		protocol := cmp.Or(cs.NegotiatedProtocol, plainProtocol)
		i := slices.IndexFunc(access, func(a Access) bool { return slices.Contains(a.Protocols, protocol) })
		if i < 0 {
			return fault.New(fault.Denied, "nobody may speak %q here", protocol)
		}
		a := access[i]
		if len(cs.PeerCertificates) == 0 && a.Anonymous {
			return nil
		}
		id, err := k.Credentials().trust.verify(cs.PeerCertificates, x509.ExtKeyUsageClientAuth, time.Now())
		if err != nil {
			return err
		}
		if err := expect(id, a.Roles, "may speak "+protocol+" here"); err != nil {
			return err
		}
		if a.Admit != nil {
			return a.Admit(id, cs.PeerCertificates[0])
		}
		return nil
	}
	return c
}

// ClientTLS is the configuration with which k's holder dials members of the cluster that have one of the expected
// roles, speaking one of the protocols (ALPN; name all that the transport on top may offer, for example h2 and
// http/1.1). Host names are not compared: the role and the cluster are. Who expects a certain name asks PeerIdentity
// after the handshake.
func ClientTLS(k *Keeper, protocols []string, expected ...Role) *tls.Config {
	c := dial(func(chain []*x509.Certificate) (Identity, error) {
		return k.Credentials().trust.verify(chain, x509.ExtKeyUsageServerAuth, time.Now())
	}, protocols, expected)
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &k.Credentials().tls, nil }
	return c
}

// ClientTLS is the configuration with which somebody who knows the cluster, but has no certificate, dials members
// of the expected roles: a node in stage one, an operator who logs in.
func (t *Trust) ClientTLS(protocols []string, expected ...Role) *tls.Config {
	return dial(func(chain []*x509.Certificate) (Identity, error) {
		now := time.Now
		if t.Now != nil {
			now = t.Now
		}
		return t.verify(chain, x509.ExtKeyUsageServerAuth, now())
	}, protocols, expected)
}

// PinnedTLS is the configuration of the first contact: the holder of a join token, who knows nothing but the CA's
// fingerprint, dials a controller. The server must show the CA certificate with that fingerprint and be certified
// by it as a controller.
func PinnedTLS(pin Fingerprint, protocols []string) *tls.Config {
	return dial(func(chain []*x509.Certificate) (Identity, error) {
		for _, ca := range chain[min(1, len(chain)):] {
			if sha256.Sum256(ca.Raw) != pin {
				continue
			}
			t, err := newTrust([]*x509.Certificate{ca})
			if err != nil {
				return Identity{}, err
			}
			return t.verify(chain, x509.ExtKeyUsageServerAuth, time.Now())
		}
		return Identity{}, fault.New(fault.Denied, "the server is not of the cluster that made the token").
			WithFix("check the address, or get a new token from this cluster")
	}, protocols, []Role{Controller})
}

// PeerIdentity is who is at the other end of a connection made under one of this package's configurations, which
// have verified it. It is fault.Denied if the peer showed no certificate.
func PeerIdentity(cs tls.ConnectionState) (Identity, error) {
	if len(cs.PeerCertificates) == 0 {
		return Identity{}, fault.New(fault.Denied, "peer shows no certificate")
	}
	return identityOf(cs.PeerCertificates[0])
}

// base is what all configurations share.
func base() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true, // every connection is verified anew; handshakes are few and cheap
	}
}

// dial makes a client's configuration. InsecureSkipVerify turns off the library's check of host names, and with it
// the rest; VerifyConnection puts the whole of our own in its place.
func dial(verify func([]*x509.Certificate) (Identity, error), protocols []string, expected []Role) *tls.Config {
	c := base()
	c.NextProtos = slices.Clone(protocols)
	c.InsecureSkipVerify = true //nolint:gosec // see above
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		id, err := verify(cs.PeerCertificates)
		if err != nil {
			return err
		}
		// A server without ALPN lets the handshake pass; a raft stream must not end in somebody's HTTP server.
		if p := cmp.Or(cs.NegotiatedProtocol, plainProtocol); !slices.Contains(protocols, p) {
			return fault.New(fault.Denied, "%s speaks %s, but only [%s] was expected here", id, p, strings.Join(protocols, " "))
		}
		return expect(id, expected, "was expected here")
	}
	return c
}

func expect(id Identity, roles []Role, what string) error {
	if slices.Contains(roles, id.Role) {
		return nil
	}
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return fault.New(fault.Denied, "%s is a %s, but only [%s] %s", id, id.Role, strings.Join(names, " "), what)
}

package pki

import (
	"crypto/x509"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Role is what a certificate's holder may be.
type Role string

// The roles. Each is checked by listeners and dialers; none includes another.
const (
	Controller Role = "controller"
	Relay      Role = "relay"
	Node       Role = "node"
	Operator   Role = "operator"
)

// Roles lists every role, for tables that must cover them all.
func Roles() []Role { return []Role{Controller, Relay, Node, Operator} }

// Validity is how long a certificate of the role lives. A controller or relay must outlast a time in which nobody
// can renew it; a node's lasts as long as its boot session, an operator's as long as a working day.
func (r Role) Validity() time.Duration {
	switch r {
	case Controller:
		return 30 * 24 * time.Hour
	case Relay:
		return 7 * 24 * time.Hour
	case Node:
		return 24 * time.Hour
	default:
		return 8 * time.Hour
	}
}

// usage is what the role's keys are for: nodes and operators only ever dial.
func (r Role) usage() []x509.ExtKeyUsage {
	if r == Controller || r == Relay {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
}

// Identity names one holder of a certificate.
type Identity struct {
	Cluster string
	Role    Role
	Name    string // unique among the cluster's identities of that role
}

const scheme = "wulf"

// ParseIdentity reads what String writes; anything else is fault.Invalid.
func ParseIdentity(s string) (Identity, error) {
	rest, ok := strings.CutPrefix(s, scheme+"://")
	part := strings.Split(rest, "/")
	if !ok || len(part) != 3 {
		return Identity{}, fault.New(fault.Invalid, "%.200q is not an identity of the form wulf://cluster/role/name", s)
	}
	id := Identity{Cluster: part[0], Role: Role(part[1]), Name: part[2]}
	return id, id.check()
}

// String is the identity as the URI that certificates carry.
func (id Identity) String() string {
	return scheme + "://" + id.Cluster + "/" + string(id.Role) + "/" + id.Name
}

func (id Identity) url() *url.URL {
	return &url.URL{Scheme: scheme, Host: id.Cluster, Path: "/" + string(id.Role) + "/" + id.Name}
}

func (id Identity) check() error {
	if err := checkCluster(id.Cluster); err != nil {
		return err
	}
	if !slices.Contains(Roles(), id.Role) {
		return fault.New(fault.Invalid, "no role %.80q", string(id.Role)).WithFix("the roles are controller, relay, node and operator")
	}
	if !isName(id.Name) {
		return fault.New(fault.Invalid, "%.80q cannot name a %s", id.Name, id.Role).
			WithFix("use 1 to 63 letters, digits, dots, underscores and hyphens, beginning with a letter or digit")
	}
	return nil
}

// checkCluster is stricter than isName: a cluster's name is the host of a URI, and those ignore case.
func checkCluster(s string) error {
	bad := func(r rune) bool { return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-') }
	if s == "" || len(s) > maxName || strings.ContainsFunc(s, bad) || s[0] == '-' || s[len(s)-1] == '-' {
		return fault.New(fault.Invalid, "%.80q cannot name a cluster", s).
			WithFix("use 1 to 63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit")
	}
	return nil
}

// maxName is the longest name: what a host name may have (Linux: 64) and a common name too (RFC 5280: 64).
const maxName = 63

func isName(s string) bool {
	alnum := func(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' }
	if s == "" || len(s) > maxName || !alnum(s[0]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !alnum(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// identityOf reads a leaf's identity. More than one URI, or one that says something else, is refused: a verifier
// that took the first and a signer that meant the second would disagree.
func identityOf(leaf *x509.Certificate) (Identity, error) {
	if len(leaf.URIs) != 1 {
		return Identity{}, fault.New(fault.Denied, "certificate carries %d identities, not one", len(leaf.URIs))
	}
	id, err := ParseIdentity(leaf.URIs[0].String())
	if err != nil {
		return Identity{}, fault.Wrap(fault.Denied, err, "certificate")
	}
	return id, nil
}

package overlay

import (
	"errors"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Secrets are what only the node may know. A relay that may not hold them renders with none.
type Secrets struct {
	SSHHostKeys []HostKey
	Open        func(catalog.Secret) (string, bool) // the value of a sealed secret, false if it is not held here; nil: none is
}

// HostKey is an SSH host key.
type HostKey struct {
	Type    string // ed25519
	Private string // OpenSSH format, PEM
	Public  string // a line of known_hosts without the host
}

// keeper hands a node's secrets to its templates, and notes what came of it. Data holds it by a pointer, so that a
// template which prints all of its data prints none of them.
type keeper struct {
	Secrets
	named    map[string]catalog.Secret
	withheld bool // something was asked for that is not held here
	used     bool // the template that runs now has seen a secret
}

// errWithheld ends a template that needs a secret which is not held here: its file is not made. One without the secret
// would take the place of a good one.
var errWithheld = errors.New("the secret is not held here")

func (k *keeper) open(s catalog.Secret) (string, error) {
	if k.Open != nil {
		if v, ok := k.Open(s); ok {
			k.used = true
			return v, nil
		}
	}
	k.withheld = true
	return "", errWithheld
}

// Secret gives the value of one of the node's secrets. Where it may not be held, the template's file is not made; a
// name that the node has no secret of is an error.
func (d Data) Secret(name string) (string, error) {
	s, ok := d.secrets.named[name]
	if !ok {
		return "", fault.New(fault.NotFound, "node %s has no secret %.80q", d.Id, name).WithFix("give it one: wulf node set %s --secret NAME=VALUE", d.Id)
	}
	return d.secrets.open(s)
}

// SshHostKeys gives the node's SSH host keys; none, where they may not be held here.
func (d Data) SshHostKeys() []HostKey {
	if len(d.secrets.SSHHostKeys) == 0 {
		d.secrets.withheld = true
	} else {
		d.secrets.used = true
	}
	return d.secrets.SSHHostKeys
}

// Withheld tells whether a rendering with this data asked for secrets that are not held here.
func (d Data) Withheld() bool { return d.secrets.withheld }

package overlay

import (
	"errors"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Secrets are what only the node may know. A relay that may not hold them renders with none.
type Secrets struct {
	SSHHostKeys []HostKey
	Open        func(catalog.Secret) (string, bool) // the value of a sealed secret, false if it is not held here; nil: none is
}

// HiddenSecrets opens every secret to the word that stands for one: for renderings that are looked at, and that no node gets.
func HiddenSecrets() Secrets {
	return Secrets{Open: func(catalog.Secret) (string, bool) { return catalog.Hidden, true }}
}

// HostKey is an SSH host key.
type HostKey struct {
	Type        string // as OpenSSH writes it: ssh-ed25519, ecdsa-sha2-nistp256
	Private     string // OpenSSH format, PEM
	Public      string // a line of known_hosts without the host
	Certificate string // the line of its -cert.pub, by which whoever knows its network's authority knows the node
}

// Name is the key's part of the names of its files: ssh_host_NAME_key.
func (k HostKey) Name() string {
	name, _, _ := strings.Cut(strings.TrimPrefix(k.Type, "ssh-"), "-")
	return name
}

// errWithheld ends a template that needs a secret which is not held here: its file is not made. One without the secret
// would take the place of a good one.
var errWithheld = errors.New("the secret is not held here")

// errOthers ends a template that asks for secrets of another node than its own.
var errOthers = fault.New(fault.Denied, "a template may have the secrets of its own node alone")

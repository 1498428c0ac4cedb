package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// The types of SSH host keys: Ed25519 for everybody, ECDSA for sites whose policy (FIPS 140) knows nothing newer.
const (
	SSHEd25519 = "ssh-ed25519"
	SSHECDSA   = "ecdsa-sha2-nistp256"
)

// SSHKey is one host key of a node.
type SSHKey struct {
	Type    string
	Private Secret // the file ssh_host_*_key: PEM in OpenSSH's format, not encrypted
	Public  string // the file ssh_host_*_key.pub and what known_hosts needs: type, base64, the node's name; no line end

	blob []byte // Public in SSH's wire format
}

// SSHHostKey derives the host key that a node has in every boot, byte for byte the same on every relay: it depends
// on the network key, the node's name and the type only. Another type than those named above is fault.Invalid.
func (k NetworkKey) SSHHostKey(node, keyType string) (SSHKey, error) {
	var public, private []byte // in SSH's wire format (RFC 4251 §5)
	switch keyType {
	case SSHEd25519: // RFC 8709 §4; the private key is seed ‖ public key
		key := ed25519.NewKeyFromSeed(k.sshSeed(node, keyType, 0))
		public = wire([]byte(keyType), key[ed25519.SeedSize:])
		private = append(public[:len(public):len(public)], wire(key)...)
	case SSHECDSA: // RFC 5656 §3.1
		key, err := k.ecdsaKey(node, keyType)
		if err != nil {
			return SSHKey{}, err
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			return SSHKey{}, fmt.Errorf("encoding SSH host key: %w", err)
		}
		d, err := key.Bytes()
		if err != nil {
			return SSHKey{}, fmt.Errorf("encoding SSH host key: %w", err)
		}
		public = wire([]byte(keyType), []byte("nistp256"), point)
		private = append(public[:len(public):len(public)], wire(mpint(d))...)
	default:
		return SSHKey{}, fault.New(fault.Invalid, "no SSH host key type %.80q", keyType).WithFix("use %s or %s", SSHEd25519, SSHECDSA)
	}
	return SSHKey{
		Type:    keyType,
		Private: NewSecret(opensshPEM(public, private, node)),
		Public:  keyType + " " + base64.StdEncoding.EncodeToString(public) + " " + node,
		blob:    public,
	}, nil
}

func (k NetworkKey) sshSeed(node, keyType string, try int) []byte {
	return derive(k.Secret, fmt.Sprintf("wulfmesh ssh v1/%s/%d/%s", keyType, try, node)).Reveal()
}

// ecdsaKey takes the first of a row of derived numbers that is a key, that is, below the group's order: all but one
// in 2^32 are.
func (k NetworkKey) ecdsaKey(node, keyType string) (*ecdsa.PrivateKey, error) {
	for try := range 8 {
		if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), k.sshSeed(node, keyType, try)); err == nil {
			return key, nil
		}
	}
	return nil, fault.New(fault.Internal, "no SSH host key could be derived for %s", node)
}

// opensshPEM is OpenSSH's own private key format (its PROTOCOL.key), without a passphrase. The two check numbers,
// random in ssh-keygen, only tell a wrong passphrase; here they come from the public key so that equal keys have
// equal bytes.
func opensshPEM(public, private []byte, comment string) []byte {
	sum := sha256.Sum256(public)
	check := sum[:4]
	section := append(append(append([]byte{}, check...), check...), private...)
	section = append(section, wire([]byte(comment))...)
	for i := byte(1); len(section)%8 != 0; i++ {
		section = append(section, i)
	}
	b := []byte("openssh-key-v1\x00")
	b = append(b, wire([]byte("none"), []byte("none"), nil)...) // cipher, key derivation, its options
	b = binary.BigEndian.AppendUint32(b, 1)                     // keys
	b = append(b, wire(public, section)...)
	return pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: b})
}

// wire is RFC 4251's string, once for each argument.
func wire(fields ...[]byte) []byte {
	var b []byte
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// mpint is the content of RFC 4251's mpint for a positive number: no leading zeros but one if the first bit is set.
func mpint(b []byte) []byte {
	for len(b) > 0 && b[0] == 0 {
		b = b[1:]
	}
	if len(b) > 0 && b[0]&0x80 != 0 {
		b = append([]byte{0}, b...)
	}
	return b
}

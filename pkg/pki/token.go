package pki

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// The text of a join token, for people to copy:
//
//	wulf1.<ID, 8 characters>.<secret, 26 characters>.<SHA-256 of the CA certificate, 52 characters>
//
// The last three are base32 in lower case without padding (RFC 4648 §6), of 5, 16 and 32 bytes: no character that
// a shell, a URL or a font makes ambiguous. The "1" is the format's version.
//
// History: 1 (2026-11) first.
const tokenMagic = "wulf1"

const (
	tokenID     = 5
	tokenSecret = 16
	maxToken    = 256 // of text looked at
)

// JoinToken lets its bearer ask for a certificate once (or as often as its record in the catalog says). What it
// allows, until when and how often is in that record, found by ID.
type JoinToken struct {
	ID     string // 8 characters; no secret
	Secret Secret // 16 bytes
	CA     Fingerprint
}

// NewToken makes a token of the cluster whose CA has the fingerprint.
func NewToken(ca Fingerprint) JoinToken {
	return JoinToken{ID: b32(randomSecret(tokenID).Reveal()), Secret: randomSecret(tokenSecret), CA: ca}
}

// Text is the whole token with its secret, for the one who will use it.
func (t JoinToken) Text() string {
	return strings.Join([]string{tokenMagic, t.ID, b32(t.Secret.Reveal()), b32(t.CA[:])}, ".")
}

// String names the token without its secret.
func (t JoinToken) String() string { return tokenMagic + "." + t.ID + "." + redacted }

// ParseToken reads what Text wrote, white space around it aside. Anything else is fault.Invalid; the message says
// which part is wrong and never quotes it.
func ParseToken(s string) (JoinToken, error) {
	s = strings.TrimSpace(s)
	part := strings.Split(s[:min(len(s), maxToken)], ".")
	switch {
	case s == "":
		return JoinToken{}, badToken("it is empty")
	case part[0] != tokenMagic && strings.HasPrefix(part[0], "wulf"):
		return JoinToken{}, badToken("it has another format than this program reads (%s)", tokenMagic)
	case part[0] != tokenMagic:
		return JoinToken{}, badToken("it does not begin with %s.", tokenMagic)
	case len(part) != 4:
		return JoinToken{}, badToken("it has %d parts between dots, not 4", len(part))
	}
	var id [tokenID]byte
	var secret [tokenSecret]byte
	t := JoinToken{ID: part[1]}
	for i, p := range []struct {
		name string
		into []byte
	}{{"ID", id[:]}, {"secret", secret[:]}, {"CA hash", t.CA[:]}} {
		text := part[i+1]
		if want := b32enc.EncodedLen(len(p.into)); len(text) != want {
			return JoinToken{}, badToken("its %s has %d characters, not %d", p.name, len(text), want)
		}
		// Encoding again refuses what decodes but is not canonical: one token has one text.
		b, err := b32enc.DecodeString(strings.ToUpper(text))
		if err != nil || b32(b) != text {
			return JoinToken{}, badToken("its %s has characters that no token has", p.name)
		}
		copy(p.into, b)
	}
	t.Secret = NewSecret(secret[:])
	return t, nil
}

func badToken(format string, args ...any) error {
	return fault.New(fault.Invalid, "malformed join token: "+format, args...).
		WithFix("copy the token whole, as it was printed when it was made")
}

// Hash is what to store of the token: the SHA-256 of its secret as 64 hexadecimal digits. The secret has 128 random
// bits, so a slow hash would add nothing.
func (t JoinToken) Hash() string {
	h := sha256.Sum256(t.Secret.Reveal())
	return hex.EncodeToString(h[:])
}

// Matches tells, in constant time, whether stored is the token's Hash.
func (t JoinToken) Matches(stored string) bool {
	return subtle.ConstantTimeCompare([]byte(t.Hash()), []byte(stored)) == 1
}

var b32enc = base32.StdEncoding.WithPadding(base32.NoPadding)

func b32(b []byte) string { return strings.ToLower(b32enc.EncodeToString(b)) }

// Package chunk names content by what it is: a chunk is a run of bytes, and its ID is their SHA-256.
//
// Whoever holds an ID can verify the bytes that anybody hands over, so chunks may come from any relay or
// controller. The package is pure: it reads no file and opens no socket.
package chunk

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// ID is the SHA-256 of a chunk's bytes exactly as they are stored and served. The zero ID names nothing.
type ID [sha256.Size]byte

// Of returns the ID of b.
func Of(b []byte) ID { return sha256.Sum256(b) }

// ParseID reads the 64 lower-case hexadecimal digits that String writes; anything else is fault.Invalid.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return ID{}, fault.New(fault.Invalid, "chunk ID %.80q has %d characters, not %d", s, len(s), 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil || s != id.String() {
		return ID{}, fault.New(fault.Invalid, "chunk ID %q is not lower-case hexadecimal", s)
	}
	return id, nil
}

// String is the ID as 64 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short is the first 12 digits, enough for people to tell IDs apart.
func (id ID) Short() string { return hex.EncodeToString(id[:6]) }

// IsZero tells whether id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText writes the ID as String does; the zero ID is the empty text.
func (id ID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, nil
	}
	return hex.AppendEncode(nil, id[:]), nil
}

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*id = ID{}
		return nil
	}
	v, err := ParseID(string(b))
	if err != nil {
		return err
	}
	*id = v
	return nil
}

// Ref points at a chunk and says how many bytes it has, so that a reader can bound what it accepts.
type Ref struct {
	ID   ID    `json:"id"`
	Size int64 `json:"size"` // bytes as stored and served
}

// RefOf returns the reference of b.
func RefOf(b []byte) Ref { return Ref{ID: Of(b), Size: int64(len(b))} }

// A Verifier is an io.Writer that checks a stream against a Ref as it passes.
type Verifier struct {
	ref Ref
	sum hash.Hash
	n   int64
}

// NewVerifier returns a Verifier that expects the bytes of ref.
func NewVerifier(ref Ref) *Verifier { return &Verifier{ref: ref, sum: sha256.New()} }

// Write takes the next bytes; it fails with fault.Corrupt as soon as there are more than the Ref says.
func (v *Verifier) Write(p []byte) (int, error) {
	v.n += int64(len(p))
	if v.n > v.ref.Size {
		return 0, fault.New(fault.Corrupt, "chunk %s is longer than its %d bytes", v.ref.ID.Short(), v.ref.Size)
	}
	return v.sum.Write(p)
}

// Verify reports fault.Corrupt unless exactly the bytes of the Ref have been written.
func (v *Verifier) Verify() error {
	if v.n != v.ref.Size {
		return fault.New(fault.Corrupt, "chunk %s has %d bytes, not %d", v.ref.ID.Short(), v.n, v.ref.Size)
	}
	if got := ID(v.sum.Sum(nil)); got != v.ref.ID {
		return fault.New(fault.Corrupt, "chunk %s has the digest %s", v.ref.ID.Short(), got.Short())
	}
	return nil
}

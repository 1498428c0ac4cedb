package chunk

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// ManifestFormat is the version of the manifest's format that this program writes.
//
// History: 1 (2026-11) first.
const ManifestFormat = 1

// MaxManifest bounds the bytes of a manifest: about 400 000 segments, far beyond any image.
const MaxManifest = 64 << 20

// Manifest describes one immutable version of an image. Its bytes, signed (see Sign), are themselves a chunk,
// and the ID of that chunk is the name of the version.
type Manifest struct {
	Format   int       `json:"format"`
	Image    string    `json:"image"` // the name it was published under
	Arch     string    `json:"arch"`  // as Go and OCI say it: amd64, arm64
	Created  time.Time `json:"created"`
	Source   string    `json:"source,omitempty"` // where it came from, for people
	Parent   ID        `json:"parent,omitzero"`  // the version it was made from
	Level    int       `json:"level,omitempty"`  // of compression of its segments, as zstd counts
	Segments []Segment `json:"segments"`         // in order; their concatenation is a bootable initramfs
	Aside    []Segment `json:"aside,omitempty"`  // what belongs to the image and no node is given: see Refs
	Kernels  []Kernel  `json:"kernels"`          // newest first; empty for an image without a kernel
	Index    Ref       `json:"index,omitzero"`   // the file index: every path with its segment and digest
	Extras   Ref       `json:"extras,omitzero"`  // what cpio cannot carry: extended attributes and capabilities
	Files    int       `json:"files"`            // regular files
	Unpacked int64     `json:"unpacked"`         // bytes of file content once unpacked
}

// Segment is one chunk of an image: a complete cpio archive in one zstd frame.
type Segment struct {
	Ref
	Unpacked int64 `json:"unpacked"` // bytes of the cpio archive before compression
	Files    int   `json:"files"`    // entries in the archive, TRAILER not counted
}

// Kernel is a kernel found in an image and the stage one built for it.
type Kernel struct {
	Version  string `json:"version"` // as uname -r says it
	Path     string `json:"path"`    // in the image, without a leading slash
	Kernel   Ref    `json:"kernel"`
	StageOne Ref    `json:"stage_one"`
	Inputs   ID     `json:"inputs,omitzero"` // digest of all that stage one was made of; equal inputs give equal bytes
}

// Size is the number of bytes of all segments, as served.
func (m *Manifest) Size() int64 {
	var n int64
	for _, s := range m.Segments {
		n += s.Size
	}
	return n
}

// Refs lists every chunk that controllers keep for the version besides the manifest itself. Aside is among them: what
// an image's own list of excludes keeps from nodes is part of the image for whoever works in it, and its kernels may be
// there. Nodes never ask for it, and relays only for what boots a machine in Warewulf's way.
func (m *Manifest) Refs() []Ref {
	refs := make([]Ref, 0, len(m.Segments)+len(m.Aside)+2*len(m.Kernels)+2)
	for _, s := range slices.Concat(m.Segments, m.Aside) {
		refs = append(refs, s.Ref)
	}
	for _, k := range m.Kernels {
		refs = append(refs, k.Kernel, k.StageOne)
	}
	for _, r := range []Ref{m.Index, m.Extras} {
		if !r.ID.IsZero() {
			refs = append(refs, r)
		}
	}
	return refs
}

// A signed manifest is one header line and the JSON that it signs:
//
//	wulfmesh-manifest 1 <base64 of the public key> <base64 of the Ed25519 signature>\n{…}
//
// The signature covers signContext and then the JSON's bytes, so no other thing that the key may sign can be
// passed off as a manifest.
const (
	signMagic   = "wulfmesh-manifest"
	signContext = "wulfmesh image manifest v1\x00"
)

// Sign encodes m and signs it. The bytes are what is stored, served and named by its chunk ID.
// Equal manifests and keys give equal bytes (RFC 8032: Ed25519 is deterministic).
func Sign(m *Manifest, key ed25519.PrivateKey) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding manifest: %w", err)
	}
	sig := ed25519.Sign(key, append([]byte(signContext), body...))
	b64 := base64.StdEncoding
	head := fmt.Sprintf("%s %d %s %s\n", signMagic, ManifestFormat, b64.EncodeToString(key.Public().(ed25519.PublicKey)), b64.EncodeToString(sig))
	return append([]byte(head), body...), nil
}

// Read decodes a signed manifest without looking at who signed it. It is for those who know the digest of its bytes from
// whom they trust; everybody else uses Open.
func Read(b []byte) (*Manifest, error) {
	_, body, ok := bytes.Cut(b, []byte("\n"))
	if !ok || !bytes.HasPrefix(b, []byte(signMagic+" ")) {
		return nil, fault.New(fault.Corrupt, "not a signed image manifest")
	}
	m := new(Manifest)
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fault.Wrap(fault.Corrupt, err, "decoding image manifest")
	}
	if m.Format != ManifestFormat {
		return nil, fault.New(fault.Invalid, "image manifest has format %d; this program reads format %d", m.Format, ManifestFormat).WithFix("upgrade wulfmesh here")
	}
	return m, nil
}

// Open verifies a signed manifest against the keys that are trusted and decodes it. A missing, foreign or
// wrong signature is fault.Corrupt; nothing of the JSON is looked at before the signature is right.
func Open(b []byte, trusted []ed25519.PublicKey) (*Manifest, error) {
	head, body, ok := bytes.Cut(b, []byte("\n"))
	// Split, not Fields: a header can be written in one way only, so that no byte of it can differ unnoticed.
	f := strings.Split(string(head[:min(len(head), 512)]), " ")
	if !ok || len(f) != 4 || f[0] != signMagic {
		return nil, fault.New(fault.Corrupt, "not a signed image manifest")
	}
	if f[1] != fmt.Sprint(ManifestFormat) {
		return nil, fault.New(fault.Invalid, "image manifest has format %s; this program reads format %d", f[1], ManifestFormat).WithFix("upgrade wulfmesh here")
	}
	pub, ok := decode(f[2])
	if !ok {
		return nil, fault.New(fault.Corrupt, "image manifest names no readable signing key")
	}
	sig, ok := decode(f[3])
	if !ok {
		return nil, fault.New(fault.Corrupt, "image manifest has no readable signature")
	}
	for _, key := range trusted {
		if !bytes.Equal(key, pub) {
			continue
		}
		if !ed25519.Verify(key, append([]byte(signContext), body...), sig) {
			return nil, fault.New(fault.Corrupt, "image manifest does not match its signature")
		}
		m := new(Manifest)
		if err := json.Unmarshal(body, m); err != nil {
			return nil, fault.Wrap(fault.Corrupt, err, "decoding image manifest")
		}
		return m, nil
	}
	return nil, fault.New(fault.Corrupt, "image manifest is signed by a key that this cluster does not trust")
}

// decode reads base64 that is written as it should be. Go's decoder passes over line breaks, even where it is strict.
func decode(s string) ([]byte, bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return b, err == nil && !strings.ContainsAny(s, "\r\n")
}

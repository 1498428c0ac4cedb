package catalog

import (
	"crypto/ed25519"
	"net/netip"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// Revision is the place of a change in the replicated log. Revisions only grow; not every number is used.
type Revision uint64

// Cluster is what is decided once, when the first controller is made.
type Cluster struct {
	Name         string    `json:"name"`
	CA           string    `json:"ca"`            // certificate of the cluster's own authority, PEM
	ManifestKeys [][]byte  `json:"manifest_keys"` // Ed25519 public keys that may sign image manifests
	Created      time.Time `json:"created"`
}

// SigningKeys are the ManifestKeys as chunk.Open takes them. Bytes that are no key are left out: they sign nothing.
func (c *Cluster) SigningKeys() []ed25519.PublicKey {
	keys := make([]ed25519.PublicKey, 0, len(c.ManifestKeys))
	for _, k := range c.ManifestKeys {
		if len(k) == ed25519.PublicKeySize {
			keys = append(keys, k)
		}
	}
	return keys
}

// Node is a machine that boots.
type Node struct {
	Name     NodeName      `json:"name"`
	Profiles []ProfileName `json:"profiles,omitzero"` // in order; later ones win. Not nil in a catalog: none are [], for nil asks for the default
	Settings Settings      `json:"settings,omitzero"` // win over all profiles
	Created  time.Time     `json:"created,omitzero"`
	Synced   time.Time     `json:"synced,omitzero"` // when SyncNodes asked it last
}

// Profile holds settings that many nodes share. A profile may build on others, which it wins over.
type Profile struct {
	Name     ProfileName   `json:"name"`
	Profiles []ProfileName `json:"profiles,omitempty"`
	Settings Settings      `json:"settings,omitzero"`
}

// DefaultProfile is the profile that nodes get when they are added with none.
const DefaultProfile ProfileName = "default"

// Range is a run of addresses, both ends included.
type Range struct {
	First netip.Addr `json:"first"`
	Last  netip.Addr `json:"last"`
}

// Contains tells whether a is in the range. An empty range contains nothing.
func (r Range) Contains(a netip.Addr) bool {
	return r.First.IsValid() && a.Is4() == r.First.Is4() && a.Compare(r.First) >= 0 && a.Compare(r.Last) <= 0
}

// Image is a name for versions of a node image.
type Image struct {
	Name     ImageName           `json:"name"`
	Tags     map[string]chunk.ID `json:"tags"`     // tag to version; TagLatest is there always
	Versions []ImageVersion      `json:"versions"` // oldest first
}

// TagLatest is the tag meant when none is said.
const TagLatest = "latest"

// MaxVersions bounds the versions that an image keeps; the oldest without a tag goes first.
const MaxVersions = 64

// ImageVersion is what the catalog knows of a version; the rest is in its manifest.
type ImageVersion struct {
	Manifest chunk.Ref      `json:"manifest"` // its ID names the version
	Arch     string         `json:"arch"`
	Kernels  []chunk.Kernel `json:"kernels"` // newest first
	Size     int64          `json:"size"`    // bytes of its segments, as served
	Unpacked int64          `json:"unpacked"`
	Segments int            `json:"segments"`
	Source   string         `json:"source,omitempty"`
	Parent   chunk.ID       `json:"parent,omitzero"` // the version that it was made from
	Created  time.Time      `json:"created"`
	By       string         `json:"by,omitempty"`
	Message  string         `json:"message,omitempty"`
}

// Version returns the version that the image calls by a tag or by a manifest ID.
func (i *Image) Version(tagOrID string) (ImageVersion, bool) {
	id, ok := i.Tags[tagOrID]
	if !ok {
		var err error
		if id, err = chunk.ParseID(tagOrID); err != nil {
			return ImageVersion{}, false
		}
	}
	for _, v := range i.Versions {
		if v.Manifest.ID == id {
			return v, true
		}
	}
	return ImageVersion{}, false
}

// Relay is a relay that was admitted, and where it serves.
type Relay struct {
	Name      RelayName     `json:"name"`
	Rack      string        `json:"rack,omitempty"`
	Zone      string        `json:"zone,omitempty"`
	Networks  []NetworkName `json:"networks"`          // the networks it serves
	Addresses []netip.Addr  `json:"addresses"`         // where nodes reach it
	BootPort  uint16        `json:"boot_port"`         // plain HTTP for firmware and boot loaders
	MeshPort  uint16        `json:"mesh_port"`         // HTTPS for agents and other relays
	Mesh      string        `json:"mesh"`              // host:port at which other relays fetch chunks
	Gossip    string        `json:"gossip"`            // host:port of its membership protocol
	Follows   RelayName     `json:"follows,omitempty"` // the relay from which it fetches chunks, wherever both stand
	Rate      int64         `json:"rate,omitempty"`    // bytes a second that it sends to other relays, and fetches before nodes ask; 0: any
	Budget    int64         `json:"budget,omitempty"`  // bytes that its chunks may take; 0: as its program was told
	Key       []byte        `json:"key"`               // SHA-256 of its public key; a join under the same name needs the same key
	Joined    time.Time     `json:"joined"`
	Slots     uint16        `json:"slots,omitempty"`   // machines that it sends large things to at once; 0: it finds out how many
	Reserve   *uint16       `json:"reserve,omitempty"` // slots besides these, for urgent machines; nil: UsualReserve
}

// Bounds of a relay's slots.
const (
	MaxSlots     = 4096
	UsualReserve = 2
)

// Reserved is how many slots it has for urgent machines alone.
func (r *Relay) Reserved() int {
	if r.Reserve == nil {
		return UsualReserve
	}
	return int(*r.Reserve)
}

// Zone is what is said of a zone. Where relays stand is said of them; a zone of which nothing else is said is not here.
type Zone struct {
	Name string `json:"name"`
	Rate int64  `json:"rate"` // bytes a second that its relays fetch from outside of it, all together
}

// Controller is a member of the replicated log.
type Controller struct {
	Name   ControllerName `json:"name"`
	API    string         `json:"api"` // host:port of its API and its place in the log
	Key    []byte         `json:"key"` // SHA-256 of its public key
	Joined time.Time      `json:"joined"`
}

// Token admits relays or controllers until it expires or is used up.
type Token struct {
	ID       string        `json:"id"`
	Hash     []byte        `json:"hash"` // SHA-256 of the secret, which is not kept
	Role     string        `json:"role"` // "relay" or "controller"
	Name     string        `json:"name,omitempty"`
	Rack     string        `json:"rack,omitempty"`
	Zone     string        `json:"zone,omitempty"`
	Networks []NetworkName `json:"networks,omitempty"`
	Uses     int           `json:"uses"` // how often it may still be used
	Expires  time.Time     `json:"expires"`
	By       string        `json:"by,omitempty"`
}

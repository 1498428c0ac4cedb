package gossip

import (
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Meta is what a relay says of itself. It travels with every sign of life, so it is small: memberlist carries 512
// bytes. What a relay serves and where it stands is declared in the catalog; Rack and Zone are here to show a relay
// that is not where the catalog has it.
type Meta struct {
	Role        string         // "relay"
	Rack, Zone  string         // where it thinks it is
	Mesh        netip.AddrPort // its TLS address for other relays and agents
	Boot        netip.AddrPort // its HTTP address for firmware and iPXE
	Revision    uint64         // of the catalog it holds
	Load        int            // 0 idle to 100 full
	Fingerprint [32]byte       // SHA-256 of its certificate; zero is not known
	Draining    bool           // it is going away on purpose: give it nothing new
	Unwell      bool           // something is wrong with it: every other one is the better choice
	NoDHCP      bool           // it gives no addresses, on purpose or because another program holds the port
}

const (
	metaFormat  = 1   // version 1, 2026-11: format, length of signature, signature, JSON
	maxWord     = 63  // bytes in Role, Rack and Zone
	maxName     = 128 // bytes in a member's name
	metaContext = "wulfmesh gossip meta 1"
)

// wireMeta is Meta in JSON. A reader ignores what it does not know, so that newer relays may say more.
type wireMeta struct {
	Role        string         `json:"ro,omitempty"`
	Rack        string         `json:"ra,omitempty"`
	Zone        string         `json:"zo,omitempty"`
	Mesh        netip.AddrPort `json:"m,omitzero"`
	Boot        netip.AddrPort `json:"b,omitzero"`
	Revision    uint64         `json:"rv,omitempty"`
	Load        int            `json:"l,omitempty"`
	Fingerprint string         `json:"fp,omitempty"`
	Draining    bool           `json:"d,omitempty"`
	Unwell      bool           `json:"u,omitempty"`
	NoDHCP      bool           `json:"nd,omitempty"`
}

func (m Meta) check() error {
	for _, w := range []struct{ what, word string }{{"role", m.Role}, {"rack", m.Rack}, {"zone", m.Zone}} {
		if len(w.word) > maxWord || !printable(w.word) {
			return fault.New(fault.Invalid, "a relay's %s %.80q is not a word of at most %d bytes", w.what, w.word, maxWord)
		}
	}
	if m.Load < 0 || m.Load > 100 {
		return fault.New(fault.Invalid, "a relay's load is 0 to 100, not %d", m.Load)
	}
	return nil
}

func (m Meta) encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	w := wireMeta{
		Role: m.Role, Rack: m.Rack, Zone: m.Zone, Mesh: m.Mesh, Boot: m.Boot, Revision: m.Revision, Load: m.Load,
		Draining: m.Draining, Unwell: m.Unwell, NoDHCP: m.NoDHCP,
	}
	if m.Fingerprint != [32]byte{} {
		w.Fingerprint = hex.EncodeToString(m.Fingerprint[:])
	}
	body, err := json.Marshal(w)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "encoding a relay's gossip")
	}
	return body, nil
}

// seal puts a body and its signature together.
func seal(body, signature []byte) ([]byte, error) {
	size := 2 + len(signature) + len(body)
	if len(signature) > 255 || size > memberlist.MetaMaxSize {
		return nil, fault.New(fault.Invalid, "a relay's gossip has %d bytes, more than %d", size, memberlist.MetaMaxSize)
	}
	out := append(make([]byte, 0, size), metaFormat, byte(len(signature)))
	return append(append(out, signature...), body...), nil
}

// unseal takes apart what seal put together.
func unseal(b []byte) (body, signature []byte, err error) {
	switch {
	case len(b) > memberlist.MetaMaxSize:
		return nil, nil, fault.New(fault.Invalid, "%d bytes, more than %d", len(b), memberlist.MetaMaxSize)
	case len(b) < 2 || len(b) < 2+int(b[1]):
		return nil, nil, fault.New(fault.Invalid, "cut short at %d bytes", len(b))
	case b[0] != metaFormat:
		return nil, nil, fault.New(fault.Invalid, "format %d, this relay knows %d", b[0], metaFormat)
	}
	return b[2+int(b[1]):], b[2 : 2+int(b[1])], nil
}

// parseMeta reads a body that encode wrote, or anything else: the network is not to be trusted.
func parseMeta(body []byte) (Meta, error) {
	var w wireMeta
	if err := json.Unmarshal(body, &w); err != nil {
		return Meta{}, fault.Wrap(fault.Invalid, err, "not JSON")
	}
	m := Meta{
		Role: w.Role, Rack: w.Rack, Zone: w.Zone, Mesh: w.Mesh, Boot: w.Boot, Revision: w.Revision, Load: w.Load,
		Draining: w.Draining, Unwell: w.Unwell, NoDHCP: w.NoDHCP,
	}
	if w.Fingerprint != "" {
		fp, err := hex.DecodeString(w.Fingerprint)
		if err != nil || len(fp) != len(m.Fingerprint) {
			return Meta{}, fault.New(fault.Invalid, "certificate fingerprint %.80q is not 64 hexadecimal digits", w.Fingerprint)
		}
		m.Fingerprint = [32]byte(fp)
	}
	return m, m.check()
}

// signedMessage is what a relay signs: with its name and cluster, so that its words cannot be put in another's mouth.
// Old words of its own can be repeated by others; they are hints, and the next update corrects them.
func signedMessage(cluster, name string, body []byte) []byte {
	return []byte(strings.Join([]string{metaContext, cluster, name, string(body)}, "\x00"))
}

func checkName(name string) error {
	if name == "" || len(name) > maxName || !printable(name) {
		return fault.New(fault.Invalid, "%.80q cannot be the name of a relay", name)
	}
	return nil
}

// printable tells whether s may be shown on a terminal and put into a log line.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

package pki

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// MaxTicket bounds the text of a ticket or a session. With names as they are found in clusters it is about 110
// characters, which a kernel command line has room for.
const MaxTicket = 320

// Nonce makes a ticket unlike every other, so that its use can be remembered.
type Nonce [16]byte

// NewNonce returns a random nonce.
func NewNonce() Nonce {
	var n Nonce
	_, _ = rand.Read(n[:])
	return n
}

// How long tickets and sessions live where nobody says otherwise: long enough to load a kernel through a slow
// storm, and one day of an agent that renews.
const (
	TicketLife  = 10 * time.Minute
	SessionLife = 24 * time.Hour
)

// Ticket is what a relay gives a booting machine with its script: the right to ask once, until Expires, for a
// session as that node. It is stateless; whoever takes it remembers Nonce until Expires to refuse a second use.
type Ticket struct {
	Node     string           // at most 63 bytes, like Relay
	Hardware net.HardwareAddr // at most 20 bytes, InfiniBand's
	Boot     string           // the boot session's ID; at most 32 bytes
	Revision uint64           // of the catalog that the boot plan was made from
	Relay    string           // who issued it
	Expires  time.Time
	Nonce    Nonce
}

// Session is the right of a node's agent to act as that node during one boot, until Expires.
type Session struct {
	Node    string
	Boot    string
	Expires time.Time
}

// A sealed text is a prefix and base64url (RFC 4648 §5, no padding) of body ‖ MAC. The body is fields in their
// order: numbers as uvarints, bytes with their length before them. The MAC is HMAC-SHA256 under a key of that kind,
// cut to 128 bits (RFC 2104 §5). The prefix names kind and version.
//
// History: wt1, ws1 (2026-11) first.
const (
	ticketPrefix  = "wt1."
	sessionPrefix = "ws1."
	macSize       = 16
	maxHardware   = 20
	maxBoot       = 32
)

// SealTicket writes t as text that OpenTicket reads. It fails with fault.Invalid if a field is too long.
func (k NetworkKey) SealTicket(t Ticket) (string, error) {
	var p packer
	p.bytes(t.Node, maxName)
	p.bytes(string(t.Hardware), maxHardware)
	p.bytes(t.Boot, maxBoot)
	p.number(t.Revision)
	p.bytes(t.Relay, maxName)
	p.instant(t.Expires)
	p.b = append(p.b, t.Nonce[:]...)
	return p.seal(k, ticketPrefix)
}

// OpenTicket verifies and reads a ticket. Text that is no ticket is fault.Invalid; one that another key sealed,
// that was altered, or whose time is over is fault.Denied.
func (k NetworkKey) OpenTicket(text string, now time.Time) (Ticket, error) {
	u, err := open(k, ticketPrefix, text)
	if err != nil {
		return Ticket{}, err
	}
	t := Ticket{Node: u.bytes(), Hardware: net.HardwareAddr(u.bytes()), Boot: u.bytes(), Revision: u.number(), Relay: u.bytes(), Expires: u.instant()}
	copy(t.Nonce[:], u.take(len(t.Nonce)))
	return t, u.end("boot ticket", t.Expires, now)
}

// SealSession writes s as text that OpenSession reads. It fails with fault.Invalid if a field is too long.
func (k NetworkKey) SealSession(s Session) (string, error) {
	var p packer
	p.bytes(s.Node, maxName)
	p.bytes(s.Boot, maxBoot)
	p.instant(s.Expires)
	return p.seal(k, sessionPrefix)
}

// OpenSession verifies and reads a session, with the errors of OpenTicket.
func (k NetworkKey) OpenSession(text string, now time.Time) (Session, error) {
	u, err := open(k, sessionPrefix, text)
	if err != nil {
		return Session{}, err
	}
	s := Session{Node: u.bytes(), Boot: u.bytes(), Expires: u.instant()}
	return s, u.end("session", s.Expires, now)
}

// mac is the tag of a body under the key that belongs to the prefix.
func mac(k NetworkKey, prefix string, body []byte) []byte {
	h := hmac.New(sha256.New, derive(k.Secret, "wulfmesh mac v1/"+prefix).Reveal())
	h.Write(body)
	return h.Sum(nil)[:macSize]
}

// packer appends fields to a body.
type packer struct {
	b       []byte
	tooLong string // a field that is
}

func (p *packer) number(v uint64)     { p.b = binary.AppendUvarint(p.b, v) }
func (p *packer) instant(t time.Time) { p.number(uint64(max(t.Unix(), 0))) }

func (p *packer) bytes(s string, limit int) {
	if len(s) > limit {
		p.tooLong = s
	}
	p.number(uint64(len(s)))
	p.b = append(p.b, s...)
}

func (p *packer) seal(k NetworkKey, prefix string) (string, error) {
	if p.tooLong != "" {
		return "", fault.New(fault.Invalid, "%.80q is too long for a boot ticket or session", p.tooLong)
	}
	return prefix + base64.RawURLEncoding.EncodeToString(append(p.b, mac(k, prefix, p.b)...)), nil
}

// unpacker takes fields from a verified body; the first that is not there makes all that follow empty.
type unpacker struct {
	b   []byte
	bad bool
}

// open verifies a sealed text; nothing of the body is looked at before its MAC is right.
func open(k NetworkKey, prefix, text string) (*unpacker, error) {
	body, ok := strings.CutPrefix(text, prefix)
	if !ok || len(text) > MaxTicket {
		return nil, fault.New(fault.Invalid, "not a text that begins with %s", prefix)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	// The decoder skips line breaks; a text that has any is not the one that was sealed.
	if err != nil || len(b) < macSize || strings.ContainsAny(body, "\r\n") {
		return nil, fault.New(fault.Invalid, "text that begins with %s is cut off or altered", prefix)
	}
	b, tag := b[:len(b)-macSize], b[len(b)-macSize:]
	if !hmac.Equal(tag, mac(k, prefix, b)) {
		return nil, fault.New(fault.Denied, "text that begins with %s is not of this network or was altered", prefix)
	}
	return &unpacker{b: b}, nil
}

func (u *unpacker) take(n int) []byte {
	if u.bad || n < 0 || n > len(u.b) {
		u.bad = true
		return nil
	}
	out := u.b[:n]
	u.b = u.b[n:]
	return out
}

func (u *unpacker) number() uint64 {
	v, n := binary.Uvarint(u.b)
	if u.bad || n <= 0 {
		u.bad = true
		return 0
	}
	u.b = u.b[n:]
	return v
}

func (u *unpacker) bytes() string      { return string(u.take(int(min(u.number(), MaxTicket)))) }
func (u *unpacker) instant() time.Time { return time.Unix(int64(min(u.number(), 1<<40)), 0) }

// end checks that the body had exactly its fields and that its time is not over.
func (u *unpacker) end(what string, expires, now time.Time) error {
	if u.bad || len(u.b) > 0 {
		return fault.New(fault.Invalid, "%s has other fields than this program reads", what)
	}
	if now.After(expires) {
		return fault.New(fault.Denied, "%s expired %s ago", what, now.Sub(expires).Round(time.Second))
	}
	return nil
}

package catalog

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Hash is the rolling state hash: over the one before, the revision, the entry's bytes and what came of it.
type Hash [sha256.Size]byte

// String is the hash as hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes the hash as String does.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(b []byte) error {
	if hex.DecodedLen(len(b)) != len(h) {
		return fault.New(fault.Invalid, "a state hash has %d digits, not %d", 2*len(h), len(b))
	}
	_, err := hex.Decode(h[:], b)
	return err
}

// Outcome is what came of an entry: the same on every controller.
type Outcome struct {
	Revision Revision // at which the change happened; for a repeated request, of its first entry
	Err      error    // why the change was rejected; nil if it happened
}

// Apply makes the catalog that follows c in the log, from the bytes of the entry at that revision.
//
// A change that cannot be made is an Outcome with Err, and the catalog stays as it was but for Revision and
// Hash. Only an entry that cannot be decoded, or that is not newer than c, is an error (fault.Corrupt): the
// caller must stop, for it can no longer know what its peers know.
func (c *Catalog) Apply(rev Revision, entry []byte) (*Catalog, Outcome, error) {
	if rev <= c.Revision {
		return nil, Outcome{}, fault.New(fault.Corrupt, "entry %d comes after revision %d", rev, c.Revision)
	}
	e, err := DecodeEntry(entry)
	if err != nil {
		return nil, Outcome{}, fault.Wrap(fault.Corrupt, err, "revision %d", rev)
	}
	next, out := c.step(rev, &e)
	next.Revision = rev
	next.Hash = roll(c.Hash, rev, entry, out)
	return next, out, nil
}

func (c *Catalog) step(rev Revision, e *Entry) (*Catalog, Outcome) {
	if before, ok := c.requests.find(e.Request); ok {
		same := *c
		return &same, before
	}
	draft := *c
	out := Outcome{Revision: rev}
	switch {
	case e.If > c.Revision:
		out.Err = fault.New(fault.Conflict, "revision %d has not come yet; the catalog is at %d", e.If, c.Revision).
			WithFix("look at the present state and try again with --if-revision %d", c.requests.changed)
	case e.If != 0 && e.If < c.requests.changed: // later ones changed nothing: what was seen still holds
		out.Err = fault.New(fault.Conflict, "the catalog has changed since revision %d; it is at %d now", e.If, c.requests.changed).
			WithFix("look at the present state and try again with --if-revision %d", c.requests.changed)
	case len(e.Request) > maxRequest:
		out.Err = fault.New(fault.Invalid, "the request's name has %d bytes, more than %d", len(e.Request), maxRequest)
		return &draft, out // and is not remembered
	case len(e.Message) > MaxMessage:
		out.Err = fault.New(fault.Invalid, "the message has %d bytes, more than %d", len(e.Message), MaxMessage)
	default:
		out.Err = draft.change(e)
	}
	if out.Err != nil {
		draft = *c
	} else {
		draft.requests.changed = rev
		draft.history.add(draft.record(c, rev, e))
		draft.touched = nil
	}
	draft.requests.remember(e.Request, out)
	return &draft, out
}

// change makes the change of an entry to a draft, which is to be dropped if that fails.
func (c *Catalog) change(e *Entry) error {
	c.touched = &touched{}
	return safely(func() error {
		if err := e.Change.apply(c, e); err != nil {
			return err
		}
		if c.touched.nets { // once, however many profiles and networks a batch has
			return c.checkAllNets()
		}
		return nil
	})
}

// safely turns a panic of a change into a rejection, the same everywhere, so that no command can stop every
// controller at once and again at each restart.
func safely(apply func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.New(fault.Internal, "the change failed inside: %v", p).WithFix("please report it with the command used")
		}
	}()
	return apply()
}

func roll(h Hash, rev Revision, entry []byte, out Outcome) Hash {
	s := sha256.New()
	s.Write(h[:])
	s.Write(binary.BigEndian.AppendUint64(nil, uint64(rev)))
	s.Write(binary.BigEndian.AppendUint64(nil, uint64(len(entry))))
	s.Write(entry)
	s.Write(binary.BigEndian.AppendUint64(nil, uint64(out.Revision)))
	s.Write([]byte(fault.KindOf(out.Err)))
	return Hash(s.Sum(nil))
}

// Changed is the revision of the last entry that changed something: If must not be older.
func (c *Catalog) Changed() Revision { return c.requests.changed }

// Request returns what came of the write that a client named so, if it is still remembered.
func (c *Catalog) Request(id string) (Outcome, bool) { return c.requests.find(id) }

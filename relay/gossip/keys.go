package gossip

import (
	"bytes"
	"slices"

	"github.com/hashicorp/memberlist"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func checkKeys(keys [][]byte) error {
	if len(keys) == 0 {
		return fault.New(fault.Invalid, "gossip needs a key")
	}
	for i, k := range keys {
		if err := memberlist.ValidateKey(k); err != nil {
			return fault.New(fault.Invalid, "gossip key %d has %d bytes, not 16, 24 or 32", i+1, len(k))
		}
	}
	return nil
}

// SetKeys replaces the keys while gossip goes on: the first encrypts, all decrypt. To rotate, give every relay the new
// key behind the old one, then in front of it, then alone. Keys of a wrong size are fault.Invalid and change nothing.
func (g *Gossip) SetKeys(keys [][]byte) error {
	if err := checkKeys(keys); err != nil {
		return err
	}
	g.keys.Lock()
	defer g.keys.Unlock()
	add := func() error {
		for _, k := range keys {
			if err := g.ring.AddKey(slices.Clone(k)); err != nil {
				return fault.Wrap(fault.Invalid, err, "adding a gossip key")
			}
		}
		return nil
	}
	if err := add(); err != nil {
		return err
	}
	if err := g.ring.UseKey(keys[0]); err != nil {
		return fault.Wrap(fault.Internal, err, "using a gossip key")
	}
	unwanted := func(k []byte) bool {
		return !slices.ContainsFunc(keys, func(w []byte) bool { return bytes.Equal(w, k) })
	}
	// memberlist 0.7 removes a key by shifting the later ones in the very slice that its receivers are reading, so only
	// the last key may ever be removed. A wanted key that lies behind an unwanted one comes back at once.
	for {
		now := g.ring.GetKeys()
		if !slices.ContainsFunc(now, unwanted) {
			return add()
		}
		if err := g.ring.RemoveKey(now[len(now)-1]); err != nil {
			return fault.Wrap(fault.Internal, err, "removing a gossip key")
		}
	}
}

package lease

import (
	"encoding/binary"
	"net/netip"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// contender is a relay in a rendezvous.
type contender struct {
	name catalog.RelayName
	seed uint64
}

func contend(name catalog.RelayName) contender {
	// FNV-1a: the same on every relay, whatever its release; hash/maphash is not.
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return contender{name, h}
}

// score is the weight of a relay for an address. The finalizer is that of MurmurHash3: FNV alone spreads
// neighbouring addresses badly.
func (c contender) score(at uint32) uint64 {
	h := c.seed ^ uint64(at)*0x9e3779b97f4a7c15
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// beats tells whether c wins the address against all others.
func (c contender) beats(others []contender, at uint32) bool {
	mine := c.score(at)
	for _, o := range others {
		if s := o.score(at); s > mine || s == mine && o.name < c.name {
			return false
		}
	}
	return true
}

// share returns the addresses of the range that self wins against the present relays. Those that it wins against
// all relays of the network, present or not, come first: homes is their number.
func share(first, last uint32, self contender, present, all []contender) (addrs []uint32, homes int) {
	var inherited []uint32
	for at := first; at <= last; at++ {
		switch {
		case !self.beats(present, at):
		case self.beats(all, at):
			addrs = append(addrs, at)
		default:
			inherited = append(inherited, at)
		}
		if at == ^uint32(0) {
			break
		}
	}
	return append(addrs, inherited...), len(addrs)
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func addr(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

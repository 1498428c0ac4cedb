package cache

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// fanOut is how many relays ask one relay for the same chunk: the k of the tree in which the relay of rank r asks
// the one of rank ⌊(r−1)/k⌋, and the one of rank 0 a controller.
const fanOut = 4

// rendezvous puts names in an order that depends on the chunk, and is the same wherever it is made (Thaler and
// Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", 1996). A name that comes or goes moves no other.
func rendezvous[T any](id chunk.ID, all []T, name func(T) string) []T {
	type weighed struct {
		of     T
		name   string
		weight uint64
	}
	order := make([]weighed, len(all))
	for i, v := range all {
		n := name(v)
		sum := sha256.Sum256(append(append(make([]byte, 0, 128), id[:]...), n...))
		order[i] = weighed{v, n, binary.BigEndian.Uint64(sum[:])}
	}
	slices.SortFunc(order, func(a, b weighed) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.name, b.name))
	})
	out := make([]T, len(all))
	for i, w := range order {
		out[i] = w.of
	}
	return out
}

// place is where this relay stands in a chunk's tree.
type place struct {
	above  []Peer // whom to ask, in turn: the parent, its parent, …, the root; none for the root
	others []Peer // everybody else, in the order of their ranks
}

// placeIn finds the place of the relay called self among the peers that are alive.
func placeIn(id chunk.ID, self Peer, peers []Peer) place {
	order := rendezvous(id, append(slices.Clone(peers), self), func(p Peer) string { return string(p.Name) })
	rank := slices.IndexFunc(order, func(o Peer) bool { return o.Name == self.Name })
	asked := make([]bool, len(order))
	asked[rank] = true
	var p place
	for r := rank; r > 0; {
		r = (r - 1) / fanOut
		p.above = append(p.above, order[r])
		asked[r] = true
	}
	for i, o := range order {
		if !asked[i] {
			p.others = append(p.others, o)
		}
	}
	return p
}

package capacity

import (
	"encoding/binary"
	"fmt"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/tree"
)

// mesh is the relays of a site, as the trees of chunks know them.
type mesh struct {
	tree  *tree.Mesh
	names map[string]int32
}

func newMesh(s *Site) mesh {
	m := mesh{names: make(map[string]int32, s.Relays)}
	all := make([]tree.Relay, s.Relays)
	for i := range all {
		name := fmt.Sprintf("r%05d", i)
		all[i] = tree.Relay{Name: name, Zone: fmt.Sprintf("z%d", zoneOf(s, i))}
		m.names[name] = int32(i)
	}
	m.tree = tree.New(all)
	return m
}

// parents says from which relay each fetches a chunk; controllers have the numbers after the relays'.
func (d *spreading) parentsOf(c int) []int32 {
	if d.parents[c] != nil {
		return d.parents[c]
	}
	of := make([]int32, d.site.Relays)
	for name, parent := range d.mesh.tree.Tree(chunk.Ref{ID: idOf(c), Size: int64(d.site.Chunk)}).Parents() {
		from := int32(d.site.Relays + c%d.site.Controllers)
		if parent != "" {
			from = d.mesh.names[parent]
		}
		of[d.mesh.names[name]] = from
	}
	d.parents[c] = of
	return of
}

// zoneOf spreads relays over the zones, one after the other.
func zoneOf(s *Site, relay int) int { return relay % s.Zones }

// idOf is the ID of a chunk that there is not: what counts is that all differ.
func idOf(c int) chunk.ID {
	return chunk.Of(binary.BigEndian.AppendUint64(nil, uint64(c)))
}

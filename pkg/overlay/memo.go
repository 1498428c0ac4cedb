package overlay

import (
	"crypto/sha256"
	"slices"
	"sync"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// Memo remembers what templates made, under a digest of what they read. A template that reads nothing of its node makes
// its files once for all of them; and after a change only those are rendered anew that read what has changed, for a
// template that finds everything as it was that it read the last time does again what it did then. What holds secrets is
// not remembered. It may be used by any number of goroutines.
type Memo struct {
	limit int

	mu      sync.Mutex
	made    map[chunk.ID]*product
	bytes   int                    // of made
	shapes  map[chunk.ID][][]Input // by template: the sets of inputs that it was seen to read
	turns   map[chunk.ID]*sync.Mutex
	columns map[Input]*column
	stats   Stats
}

// Stats count what a Memo was used for.
type Stats struct {
	Rendered int // templates that were executed
	Reused   int // that were not, for the same had been made before
}

// Bounds of a Memo, besides its bytes.
const (
	maxShapes  = 8 // of a template
	maxKnown   = 10_000
	maxColumns = 64
	overhead   = 512 // bytes that a product takes besides its contents
)

// product is what a template made.
type product struct {
	files  []Rendered
	inputs []Input
	bytes  int
}

// NewMemo makes a memo that holds about so many bytes at most.
func NewMemo(bytes int) *Memo {
	return &Memo{
		limit: bytes, made: map[chunk.ID]*product{}, shapes: map[chunk.ID][][]Input{}, turns: map[chunk.ID]*sync.Mutex{}, columns: map[Input]*column{},
	}
}

// Stats tells what the memo was used for so far.
func (m *Memo) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

// find returns what a template made of the same inputs before, nil if it did not.
func (m *Memo) find(v *View, layer *Layer, t *prepared) *product {
	m.mu.Lock()
	shapes := m.shapes[t.id]
	m.mu.Unlock()
	for _, inputs := range shapes {
		key := v.key(m, layer, t, inputs)
		m.mu.Lock()
		p := m.made[key]
		if p != nil {
			m.stats.Reused++
		}
		m.mu.Unlock()
		if p != nil {
			return p
		}
	}
	return nil
}

// turn gives a template to one rendering at a time, so that what all nodes share is made once and not by each of them.
func (m *Memo) turn(t *prepared) *sync.Mutex {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.turns) >= maxKnown {
		clear(m.turns)
		clear(m.shapes)
	}
	turn := m.turns[t.id]
	if turn == nil {
		turn = new(sync.Mutex)
		m.turns[t.id] = turn
	}
	return turn
}

// count counts an execution.
func (m *Memo) count() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.Rendered++
}

// keep remembers what a template made, at the cost of others if need be.
func (m *Memo) keep(v *View, layer *Layer, t *prepared, p *product) {
	key := v.key(m, layer, t, p.inputs)
	p.bytes = overhead
	for i := range p.files {
		p.bytes += len(p.files[i].Content) + overhead
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.bytes > m.limit || m.made[key] != nil {
		return
	}
	for old, q := range m.made {
		if m.bytes+p.bytes <= m.limit {
			break
		}
		delete(m.made, old)
		m.bytes -= q.bytes
	}
	m.made[key] = p
	m.bytes += p.bytes
	shapes := m.shapes[t.id]
	if i := slices.IndexFunc(shapes, func(s []Input) bool { return slices.Equal(s, p.inputs) }); i >= 0 {
		return
	}
	m.shapes[t.id] = slices.Clip(append([][]Input{p.inputs}, shapes[:min(len(shapes), maxShapes-1)]...))
}

// column holds the digests of one field of all nodes, so that after a change only those of changed nodes are made anew.
type column struct {
	mu      sync.Mutex
	fleet   Fleet // that sum is of
	sum     chunk.ID
	common  any
	stamps  []any
	digests []chunk.ID
}

// column is the digest of a field of all nodes.
func (m *Memo) column(fleet Fleet, in Input) chunk.ID {
	if fleet == nil {
		return chunk.ID{}
	}
	m.mu.Lock()
	if len(m.columns) >= maxColumns && m.columns[in] == nil {
		clear(m.columns)
	}
	c := m.columns[in]
	if c == nil {
		c = new(column)
		m.columns[in] = c
	}
	m.mu.Unlock()

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fleet != fleet {
		c.follow(fleet, in)
	}
	return c.sum
}

// moved is how many nodes may differ from those at the same place before, until their places are looked up: in most
// changes a few nodes differ, and none has moved.
const moved = 16

func (c *column) follow(fleet Fleet, in Input) {
	n := fleet.Len()
	stamps, digests := make([]any, n), make([]chunk.ID, n)
	h := sha256.New()
	same := c.common == fleet.Common()
	var places map[any]int
	misses := 0
	for i := range n {
		stamps[i] = fleet.Stamp(i)
		switch {
		case same && i < len(c.stamps) && c.stamps[i] == stamps[i]:
			digests[i] = c.digests[i]
		case same && misses >= moved:
			if places == nil {
				places = make(map[any]int, len(c.stamps))
				for j, s := range c.stamps {
					places[s] = j
				}
			}
			if j, ok := places[stamps[i]]; ok {
				digests[i] = c.digests[j]
				break
			}
			fallthrough
		default:
			misses++
			digests[i] = fleet.Node(i).digest(in.Name, in.Key)
		}
		h.Write(digests[i][:])
	}
	c.fleet, c.common, c.stamps, c.digests, c.sum = fleet, fleet.Common(), stamps, digests, chunk.ID(h.Sum(nil))
}

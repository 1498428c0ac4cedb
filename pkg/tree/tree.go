// Package tree says from whom a relay fetches a chunk: the trees by which chunks spread over the relays of a mesh.
//
// Each chunk has a tree of its own, which all relays work out for themselves: there is nobody to ask for it. It has
// three levels, so that a chunk crosses a boundary about once: in a rack one relay, its head, fetches from outside; of
// the heads of a zone's racks one fetches from outside the zone; of those of the zones one asks a controller. On each
// level the order is a rendezvous of the chunk with the names (Thaler and Ravishankar, "A Name-Based Mapping Scheme
// for Rendezvous", 1996), and the one of rank r asks the one of rank ⌊(r−1)/FanOut⌋, with FanOutLarge for large chunks.
//
// Over many chunks every relay sends each chunk 1−1/(relays × racks × zones) times, of the relays in its rack, the racks
// in its zone and the zones: all carry about the same, however unequal racks and zones are.
//
// The order knows the declared relays, not those that are alive: one that is down leaves its place to the first below
// it. So a relay that dies moves only those near it, and as everybody asks upwards in an order on which all views of
// the mesh agree, relays never wait for each other in a circle.
//
// The package is pure.
package tree

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// FanOut is how many fetch a chunk from one, on each level. The one that is the head on all three sends it three times as
// often, which for a large chunk, such as a kernel, takes its link longer than all else that it has to send: of those,
// which are handed on while they come, fewer fetch from one.
const (
	FanOut      = 4
	FanOutLarge = 2
	Large       = 2 << 20 // bytes: what is larger is large
)

// MaxOthers bounds what Others returns.
const MaxOthers = 8

// Relay is what the trees know of a relay. All that are declared are told, whether they are alive or not.
type Relay struct {
	Name    string
	Rack    string // empty: a rack of its own
	Zone    string // those without one are a zone together
	Follows string // the relay from which it fetches, wherever both stand; it then hands on to its own followers only
	Down    bool   // nobody asks it: it is dead, or not up for long enough
}

// Upstream is a relay that is asked for a chunk.
type Upstream struct {
	Name string
	Kept bool // only for what it has on disk: it is not to fetch
}

// Mesh is the relays of a site. It is immutable.
type Mesh struct {
	relays map[string]*leaf
	zones  []*zone
}

type zone struct {
	name  string
	key   uint64
	up    bool
	racks []*rack
}

type rack struct {
	name   string
	key    uint64
	up     bool
	relays []*leaf
}

type leaf struct {
	Relay
	key  uint64
	rack *rack // and zone: nil for a follower
	zone *zone
}

// New makes a mesh of relays with different names.
func New(relays []Relay) *Mesh {
	m := &Mesh{relays: make(map[string]*leaf, len(relays))}
	zones, racks := map[string]*zone{}, map[[3]string]*rack{}
	for _, r := range relays {
		l := &leaf{Relay: r, key: keyOf("relay", r.Name)}
		m.relays[r.Name] = l
		if r.Follows != "" {
			continue
		}
		z := zones[r.Zone]
		if z == nil {
			z = &zone{name: r.Zone, key: keyOf("zone", r.Zone)}
			zones[r.Zone] = z
			m.zones = append(m.zones, z)
		}
		at := [3]string{r.Zone, "rack", r.Rack}
		if r.Rack == "" {
			at = [3]string{r.Zone, "relay", r.Name}
		}
		k := racks[at]
		if k == nil {
			k = &rack{name: at[2], key: keyOf(at[:]...)}
			racks[at] = k
			z.racks = append(z.racks, k)
		}
		l.rack, l.zone = k, z
		k.relays = append(k.relays, l)
		k.up, z.up = k.up || !r.Down, z.up || !r.Down
	}
	return m
}

// keyOf is the part of names in a rendezvous.
func keyOf(names ...string) uint64 {
	h := sha256.New()
	for _, n := range names {
		h.Write(binary.AppendUvarint(nil, uint64(len(n))))
		h.Write([]byte(n))
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// Tree is the tree of a chunk.
type Tree struct {
	mesh  *Mesh
	id    uint64
	fan   int
	zones []*zone
	racks map[*zone][]*rack // ordered, as far as they were asked for
}

// Tree returns the tree of a chunk. It may be used by one goroutine at a time.
func (m *Mesh) Tree(ref chunk.Ref) *Tree {
	t := &Tree{mesh: m, id: binary.BigEndian.Uint64(ref.ID[:]), fan: FanOut, racks: map[*zone][]*rack{}}
	if ref.Size > Large {
		t.fan = FanOutLarge
	}
	t.zones = ordered(t.id, m.zones, func(z *zone) (uint64, string) { return z.key, z.name })
	return t
}

func (t *Tree) racksOf(z *zone) []*rack {
	order, ok := t.racks[z]
	if !ok {
		order = ordered(t.id, z.racks, func(r *rack) (uint64, string) { return r.key, r.name })
		t.racks[z] = order
	}
	return order
}

func (t *Tree) relaysOf(k *rack) []*leaf {
	return ordered(t.id, k.relays, func(l *leaf) (uint64, string) { return l.key, l.Name })
}

// head is the relay that fetches for a rack that is up, and front the one that does for a zone.
func (t *Tree) head(k *rack) string {
	order := t.relaysOf(k)
	return order[slices.IndexFunc(order, func(l *leaf) bool { return !l.Down })].Name
}

func (t *Tree) front(z *zone) string {
	order := t.racksOf(z)
	return t.head(order[slices.IndexFunc(order, func(k *rack) bool { return k.up })])
}

// Above lists whom a relay asks in turn, before the controllers: its parent, that one's parent, up to the root, and the
// root's deputy, which is the first that is not among these and comes before the relay itself in the order. Where it
// is the head of its rack, its zone or the site itself, the next in the order comes first, Kept: it was the head before
// this one came, so that a new relay fills itself from its neighbours. A relay that is down, or is believed to be, has a
// place like any other, for it may ask; one that the mesh does not have has none.
func (t *Tree) Above(name string) []Upstream {
	self := t.mesh.relays[name]
	if self == nil {
		return nil
	}
	if self.Follows == "" {
		return t.above(self)
	}
	var up []Upstream
	for range len(t.mesh.relays) { // a follower stands where the one stands that it follows, and nobody waits for it there
		if self.Follows == "" {
			for _, u := range t.above(self) {
				up = append(up, Upstream{Name: u.Name})
			}
			return up
		}
		next := t.mesh.relays[self.Follows]
		if next == nil {
			return up
		}
		if self = next; !self.Down {
			up = append(up, Upstream{Name: self.Name})
		}
	}
	return nil // they follow each other in a circle, which no catalog allows
}

// above climbs the three levels.
func (t *Tree) above(self *leaf) []Upstream {
	z, k := self.zone, self.rack
	rest := climb(t.fan, t.relaysOf(k), func(l *leaf) bool { return l == self }, func(l *leaf) bool { return !l.Down }, func(l *leaf) string { return l.Name })
	head := rest.isHead()
	up := rest.path
	for _, next := range []climbed{
		climb(t.fan, t.racksOf(z), func(r *rack) bool { return r == k }, func(r *rack) bool { return r.up }, t.head),
		climb(t.fan, t.zones, func(o *zone) bool { return o == z }, func(o *zone) bool { return o.up }, t.front),
	} {
		if !head { // who is not the head of its rack asks those for whom the head does
			next.path = slices.DeleteFunc(next.path, func(u Upstream) bool { return u.Kept })
		}
		head = head && next.isHead()
		up = append(up, next.path...)
	}
	return up
}

// climbed is the way up on one level.
type climbed struct{ path []Upstream }

// isHead tells whether nobody is above.
func (c climbed) isHead() bool {
	return !slices.ContainsFunc(c.path, func(u Upstream) bool { return !u.Kept })
}

// climb finds the way from one member of a level to its root. The members fill a heap in their order; the place of one
// that is down is taken by the first below it that is not.
func climb[T any](fan int, order []T, isSelf, isUp func(T) bool, name func(T) string) climbed {
	self := slices.IndexFunc(order, isSelf)
	taken := make([]bool, len(order))
	var c climbed
	for place := 0; ; {
		holder := place
		for !isUp(order[holder]) && holder != self || taken[holder] || !under(holder, place, fan) {
			holder++ // it ends at self, which is below all places on its way
		}
		if holder == self {
			break
		}
		taken[holder] = true
		c.path = append(c.path, Upstream{Name: name(order[holder])})
		place = towards(self, place, fan)
	}
	slices.Reverse(c.path)
	if len(c.path) == 0 {
		for _, other := range order[self+1:] {
			if isUp(other) {
				return climbed{[]Upstream{{Name: name(other), Kept: true}}}
			}
		}
		return c
	}
	// The deputy: when a root dies, and gossip does not say so yet, its children are not to ask the controllers all.
	for i, other := range order[:self] {
		if isUp(other) && !taken[i] {
			c.path = append(c.path, Upstream{Name: name(other)})
			break
		}
	}
	return c
}

// under tells whether a place is another or below it, and towards is the next one on the way down to a place.
func under(place, top, fan int) bool {
	for place > top {
		place = (place - 1) / fan
	}
	return place == top
}

func towards(place, top, fan int) int {
	for (place-1)/fan != top {
		place = (place - 1) / fan
	}
	return place
}

// Others lists relays that may have the chunk by chance, the nearest first. They are asked last, for what they have on
// disk.
func (t *Tree) Others(name string) []string {
	self := t.mesh.relays[name]
	if self == nil {
		return nil
	}
	above := t.Above(name)
	var all []*leaf
	for _, r := range t.mesh.relays {
		if !r.Down && r != self && !slices.ContainsFunc(above, func(u Upstream) bool { return u.Name == r.Name }) {
			all = append(all, r)
		}
	}
	far := func(r *leaf) int {
		switch {
		case r.Zone != self.Zone:
			return 2
		case r.Rack != self.Rack || r.Rack == "":
			return 1
		}
		return 0
	}
	slices.SortFunc(all, func(a, b *leaf) int {
		return cmp.Or(cmp.Compare(far(a), far(b)), cmp.Compare(mix(t.id^b.key), mix(t.id^a.key)), cmp.Compare(a.Name, b.Name))
	})
	var names []string
	for _, r := range all[:min(len(all), MaxOthers)] {
		names = append(names, r.Name)
	}
	return names
}

// Order puts names in the order that they have for a chunk, whoever asks; each chunk has another.
func Order(id chunk.ID, names []string) []string {
	return ordered(binary.BigEndian.Uint64(id[:]), names, func(n string) (uint64, string) { return keyOf("name", n), n })
}

func ordered[T any](id uint64, all []T, key func(T) (uint64, string)) []T {
	type weighed struct {
		of     T
		name   string
		weight uint64
	}
	order := make([]weighed, len(all))
	for i, v := range all {
		k, name := key(v)
		order[i] = weighed{v, name, mix(id ^ k)}
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

// mix spreads the bits of what is hashed already (the finalizer of Steele, Lea and Flood's SplitMix, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

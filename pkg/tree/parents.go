package tree

// Parents says for every relay from which one it fetches the chunk first, "" where that is a controller. It is what
// Above begins with, Kept ones left aside, for all relays at once: it costs about as much as Above for a few.
func (t *Tree) Parents() map[string]string {
	parents := make(map[string]string, len(t.mesh.relays))
	if t.mesh.irregular() {
		for name := range t.mesh.relays {
			parents[name] = ""
			for _, u := range t.Above(name) {
				if !u.Kept {
					parents[name] = u.Name
					break
				}
			}
		}
		return parents
	}
	fronts := make([]string, len(t.zones))
	for i, z := range t.zones {
		racks := t.racksOf(z)
		heads := make([]string, len(racks))
		for j, k := range racks {
			relays := t.relaysOf(k)
			for n, l := range relays[1:] {
				parents[l.Name] = relays[n/t.fan].Name
			}
			heads[j] = relays[0].Name
		}
		inherit(parents, heads, t.fan)
		fronts[i] = heads[0]
	}
	inherit(parents, fronts, t.fan)
	if len(fronts) > 0 {
		parents[fronts[0]] = ""
	}
	return parents
}

// inherit gives each of a level but its root the one above it.
func inherit(parents map[string]string, level []string, fan int) {
	for n := 1; n < len(level); n++ {
		parents[level[n]] = level[(n-1)/fan]
	}
}

// irregular tells whether some relay is down or follows another.
func (m *Mesh) irregular() bool {
	for _, l := range m.relays {
		if l.Down || l.Follows != "" {
			return true
		}
	}
	return false
}

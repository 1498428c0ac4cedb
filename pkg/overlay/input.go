package overlay

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// Input is something that a template has read. What it made stays true for as long as all of its inputs are the same.
type Input struct {
	Scope Scope
	Name  string
	Key   string // of a map, such as the name of a tag
}

// Scope says where an input is.
type Scope string

// The scopes of inputs.
const (
	ScopeNode   Scope = "node"    // a field of the node
	ScopeAll    Scope = "all"     // that field of all nodes
	ScopeWorld  Scope = "cluster" // what all nodes share
	ScopeLayer  Scope = "overlay" // the overlay itself
	ScopeSite   Scope = "file"    // a site file; Name is its path
	ScopeImage  Scope = "image"   // files of an image; Name is its name
	ScopeSecret Scope = "secret"  // something that only the node may know
)

// String is the input as people write it.
func (i Input) String() string {
	s := string(i.Scope) + " " + i.Name
	if i.Key != "" {
		s += "." + i.Key
	}
	return s
}

func compareInputs(a, b Input) int {
	if c := strings.Compare(string(a.Scope), string(b.Scope)); c != 0 {
		return c
	}
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	return strings.Compare(a.Key, b.Key)
}

// digest is that of what an input is now.
func (v *View) digest(memo *Memo, layer *Layer, in Input) chunk.ID {
	switch in.Scope {
	case ScopeNode:
		id, ok := v.digests[in]
		if !ok {
			id = v.Node.digest(in.Name, in.Key)
			v.digests[in] = id
		}
		return id
	case ScopeAll:
		return memo.column(v.World.Fleet, in)
	case ScopeSite:
		f, ok := v.World.siteFile(in.Name)
		return digestOf(struct {
			SiteFile
			Is bool
		}{f, ok})
	case ScopeImage:
		id, _ := v.World.imageID(in.Name)
		return id
	case ScopeWorld:
		switch in.Name {
		case "Mesh":
			return digestOf(v.World.Mesh)
		case "Revision":
			return digestOf(v.World.Revision)
		}
		return digestOf(v.server())
	}
	switch in.Name {
	case "Name":
		return digestOf(layer.Name)
	case "Changed":
		return digestOf(layer.Changed)
	}
	return digestOf(layer.Host + "\x00" + layer.Dir)
}

// digest is that of a field of a node, or of what a map among its fields holds under a key.
func (n *Node) digest(field, key string) chunk.ID {
	v := reflect.ValueOf(n).Elem().FieldByName(field)
	if key != "" {
		v = v.MapIndex(reflect.ValueOf(key))
		if !v.IsValid() {
			return chunk.ID{}
		}
	}
	return digestOf(v.Interface())
}

// digestOf hashes a value by its JSON, which is the same for equal values: encoding/json writes maps in the order of
// their keys.
func digestOf(v any) chunk.ID {
	b, err := json.Marshal(v)
	if err != nil {
		return chunk.ID{} // of what is made of settings, everything can be said in JSON
	}
	return chunk.Of(b)
}

// key names what a template makes of inputs as they are now.
func (v *View) key(memo *Memo, layer *Layer, t *prepared, inputs []Input) chunk.ID {
	h := sha256.New()
	h.Write(t.id[:])
	var n [8]byte
	for _, in := range inputs {
		for _, s := range []string{string(in.Scope), in.Name, in.Key} {
			binary.LittleEndian.PutUint64(n[:], uint64(len(s)))
			h.Write(n[:])
			h.Write([]byte(s))
		}
		id := v.digest(memo, layer, in)
		h.Write(id[:])
	}
	return chunk.ID(h.Sum(nil))
}

func (x *execution) reads(in Input) {
	if _, ok := x.seen[in]; !ok {
		x.seen[in] = struct{}{}
	}
}

// secretive notes that the output holds, or lacks, something that only the node may know: it is not kept.
func (x *execution) secretive() {
	x.used = true
	x.reads(Input{ScopeSecret, "", ""})
}

// inputs are what was read, in one order.
func (x *execution) inputs() []Input {
	all := make([]Input, 0, len(x.seen))
	for in := range x.seen {
		all = append(all, in)
	}
	slices.SortFunc(all, compareInputs)
	return all
}

package catalog

import (
	"encoding/binary"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxRequests bounds how many writes are remembered by their request ID. A client that asks again after an
// unknown outcome does so within minutes; this many writes take far longer.
const maxRequests = 20_000

// maxRequest bounds the bytes of a request ID.
const maxRequest = 128

// requests remembers what came of recent writes, so that a repeated one is answered and not applied again.
// It is part of the catalog: after a fail-over the new leader must know what the old one applied.
type requests struct {
	byID    table[request]
	byAge   table[string] // revision, big-endian, to ID
	changed Revision      // of the last entry that changed something
}

type request struct {
	ID       string     `json:"id"`
	Revision Revision   `json:"revision"`
	Kind     fault.Kind `json:"kind,omitempty"`
	Message  string     `json:"message,omitempty"`
	Fix      string     `json:"fix,omitempty"`
}

func (r *requests) find(id string) (Outcome, bool) {
	if id == "" {
		return Outcome{}, false
	}
	q, ok := r.byID.get(id)
	if !ok {
		return Outcome{}, false
	}
	out := Outcome{Revision: q.Revision}
	if q.Kind != "" {
		out.Err = &fault.Error{Kind: q.Kind, Message: q.Message, Fix: q.Fix}
	}
	return out, true
}

func (r *requests) remember(id string, out Outcome) {
	if id == "" {
		return
	}
	q := request{ID: id, Revision: out.Revision}
	if out.Err != nil {
		q.Kind, q.Message, q.Fix = fault.KindOf(out.Err), clipTo(out.Err.Error(), maxText), clipTo(fault.Fix(out.Err), maxText)
	}
	r.add(q)
}

func (r *requests) add(q request) {
	r.byID.put(q.ID, q)
	r.byAge.put(age(q.Revision), q.ID)
	for r.byAge.len() > maxRequests {
		for k, id := range r.byAge.all() {
			r.byAge.delete(k)
			r.byID.delete(id)
			break
		}
	}
}

func age(rev Revision) string { return string(binary.BigEndian.AppendUint64(nil, uint64(rev))) }

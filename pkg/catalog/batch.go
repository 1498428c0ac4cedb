package catalog

import (
	"encoding/json"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Step is one change of a Batch.
type Step struct{ Change Change }

type stepWire struct {
	Kind   string          `json:"kind"`
	Change json.RawMessage `json:"change"`
}

// MarshalJSON writes the change with its kind.
func (s Step) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(s.Change)
	if err != nil {
		return nil, err
	}
	return json.Marshal(stepWire{KindOf(s.Change), b})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Step) UnmarshalJSON(b []byte) error {
	var w stepWire
	if err := strict(b, &w); err != nil {
		return err
	}
	if !Steps(w.Kind) { // checked before it is decoded: batches in batches would have no end
		return fault.New(fault.Invalid, "a batch cannot hold a %s", w.Kind)
	}
	var err error
	s.Change, err = DecodeChange(w.Kind, w.Change)
	return err
}

// maxSteps bounds the changes of a batch.
const maxSteps = 100_000

func (x Batch) apply(c *Catalog, e *Entry) error {
	if len(x.Changes) == 0 || len(x.Changes) > maxSteps {
		return fault.New(fault.Invalid, "a batch has 1 to %d changes, not %d", maxSteps, len(x.Changes))
	}
	for _, s := range x.Changes {
		if err := s.Change.apply(c, e); err != nil {
			if len(x.Changes) == 1 {
				return err
			}
			return err // which names what it is about; that it was one of several changes, nobody wrote
		}
	}
	return nil
}

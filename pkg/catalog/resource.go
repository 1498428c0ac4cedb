package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Resource is a value of any shape that templates read: what YAML and JSON can say. It is held as JSON in one form,
// keys sorted and no white space, so that equal values are equal strings and numbers stay as they were written.
type Resource string

// Bounds of a resource.
const (
	MaxResource      = 256 << 10 // bytes of its JSON
	maxResourceDepth = 32
)

// NewResource makes a resource of a value as encoding/json makes them. Values that JSON cannot say, that are nested
// too deep or are too large are fault.Invalid.
func NewResource(v any) (Resource, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "a resource is what JSON can say")
	}
	var r Resource
	err = r.UnmarshalJSON(b)
	return r, err
}

// Value is the resource as maps, lists, strings, numbers (json.Number) and booleans.
func (r Resource) Value() any {
	v, err := decodeResource([]byte(r))
	if err != nil {
		return nil // "" is no resource; all others were read before
	}
	return v
}

// MarshalJSON writes the value.
func (r Resource) MarshalJSON() ([]byte, error) {
	if r == "" {
		return []byte("null"), nil
	}
	return []byte(r), nil
}

// UnmarshalJSON reads a value of any shape.
func (r *Resource) UnmarshalJSON(b []byte) error {
	v, err := decodeResource(b)
	if err != nil {
		return err
	}
	if depth(v) > maxResourceDepth {
		return fault.New(fault.Invalid, "a resource is nested deeper than %d levels", maxResourceDepth)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out) // it sorts the keys of maps
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fault.Wrap(fault.Invalid, err, "a resource cannot be read")
	}
	if out.Len() > MaxResource {
		return fault.New(fault.Invalid, "a resource of %d bytes is larger than %d", out.Len(), MaxResource).WithFix("put it into an overlay as a file")
	}
	*r = Resource(bytes.TrimSuffix(out.Bytes(), []byte("\n")))
	return nil
}

func decodeResource(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // 1.0 stays 1.0, and a large number loses no digit
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("reading a resource: %w", err)
	}
	if _, err := d.Token(); err != io.EOF { // 10.1.0.1 is no number with something behind it
		return nil, errors.New("reading a resource: something follows the value")
	}
	return v, nil
}

func depth(v any) int {
	most := 0
	switch v := v.(type) {
	case map[string]any:
		for _, inner := range v {
			most = max(most, depth(inner))
		}
	case []any:
		for _, inner := range v {
			most = max(most, depth(inner))
		}
	default:
		return 0
	}
	return most + 1
}

// over is r laid over what was decided before: maps merge key by key, lists are appended, everything else is replaced.
func (r Resource) over(before Resource) Resource {
	if before == "" {
		return r
	}
	a, b := before.Value(), r.Value()
	_, am := a.(map[string]any)
	_, bm := b.(map[string]any)
	_, al := a.([]any)
	_, bl := b.([]any)
	if !(am && bm) && !(al && bl) {
		return r
	}
	out, err := NewResource(overlaid(a, b))
	if err != nil { // two that are within the bounds may not be together; the later one then stands alone
		return r
	}
	return out
}

func overlaid(a, b any) any {
	switch b := b.(type) {
	case map[string]any:
		if a, ok := a.(map[string]any); ok {
			for k, v := range b {
				if old, ok := a[k]; ok {
					v = overlaid(old, v)
				}
				a[k] = v
			}
			return a
		}
	case []any:
		if a, ok := a.([]any); ok {
			return append(a, b...)
		}
	}
	return b
}

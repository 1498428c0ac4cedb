package openapi

import (
	"encoding/json"
	"slices"
)

// Schema says which JSON values are meant: the part of JSON Schema 2020-12 that Go types need. The empty Schema is any
// value.
type Schema struct {
	Ref           string             `json:"$ref,omitempty"`
	Type          Types              `json:"type,omitempty"`
	Description   string             `json:"description,omitempty"`
	Format        string             `json:"format,omitempty"`
	Encoding      string             `json:"contentEncoding,omitempty"`
	Pattern       string             `json:"pattern,omitempty"`
	Minimum       *int               `json:"minimum,omitempty"`
	Const         string             `json:"const,omitempty"`
	Enum          []string           `json:"enum,omitempty"`
	Items         *Schema            `json:"items,omitempty"`
	Properties    map[string]*Schema `json:"properties,omitempty"`
	Required      []string           `json:"required,omitempty"`
	Additional    *Schema            `json:"additionalProperties,omitempty"`
	OneOf         []*Schema          `json:"oneOf,omitempty"`
	Discriminator *Discriminator     `json:"discriminator,omitempty"`
}

// Discriminator says by which property of a value one of several schemas is chosen.
type Discriminator struct {
	Property string            `json:"propertyName"`
	Mapping  map[string]string `json:"mapping,omitempty"`
}

// Types are the types that a value may have. One alone is written without a list.
type Types []string

// MarshalJSON writes the types.
func (t Types) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]string(t))
}

// OneOf is the schema of values that one of several schemas is about.
func OneOf(all ...*Schema) *Schema {
	if len(all) == 1 {
		return all[0]
	}
	return &Schema{OneOf: all}
}

// orNull is the schema, with null beside.
func orNull(s *Schema) *Schema {
	switch {
	case s.Ref != "" || len(s.OneOf) > 0:
		return &Schema{OneOf: []*Schema{s, {Type: Types{"null"}}}}
	case len(s.Type) == 0:
		return s // any value, or null already
	}
	out := *s
	out.Type = append(slices.Clone(s.Type), "null")
	return &out
}

package openapi

import (
	"encoding"
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Schemas makes schemas of Go types. Structs become components, each once, under the names of their types; what refers
// to them may come back to itself.
type Schemas struct {
	Components map[string]*Schema

	known map[reflect.Type]*Schema
	types map[string]reflect.Type // of the components
	err   error
}

// NewSchemas makes the schemas of types, of which those in known have the schema there: a type that writes its JSON
// itself must be in it. Types that write themselves as text are strings without that.
func NewSchemas(known map[reflect.Type]*Schema) *Schemas {
	s := &Schemas{Components: map[string]*Schema{}, known: map[reflect.Type]*Schema{
		reflect.TypeFor[time.Time]():       {Type: Types{"string"}, Format: "date-time"},
		reflect.TypeFor[time.Duration]():   {Type: Types{"integer"}, Format: "int64", Description: "nanoseconds"},
		reflect.TypeFor[json.RawMessage](): {},
	}, types: map[string]reflect.Type{}}
	for t, schema := range known {
		s.known[t] = schema
	}
	return s
}

// Err is the first type that could not be described, fault.Invalid; nil if all could.
func (s *Schemas) Err() error { return s.err }

// Define makes a component of a schema and returns the reference to it.
func (s *Schemas) Define(name string, schema *Schema) *Schema {
	if _, ok := s.Components[name]; ok {
		s.fail("two components are called %s", name)
	}
	s.Components[name] = schema
	return RefTo(name)
}

// RefTo is a reference to the component of a schema.
func RefTo(name string) *Schema { return &Schema{Ref: "#/components/schemas/" + name} }

func (s *Schemas) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fault.New(fault.Invalid, format, args...)
	}
}

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// Of is the schema of what encoding/json makes of a type's values.
func (s *Schemas) Of(t reflect.Type) *Schema {
	if known, ok := s.known[t]; ok {
		return known
	}
	switch {
	case t.Kind() == reflect.Pointer:
		return s.Of(t.Elem())
	case t.Implements(jsonMarshaler) || reflect.PointerTo(t).Implements(jsonMarshaler):
		s.fail("%s writes its own JSON, and nothing says what it looks like", t)
		return &Schema{}
	case t.Implements(textMarshaler) || reflect.PointerTo(t).Implements(textMarshaler):
		return &Schema{Type: Types{"string"}}
	}
	switch t.Kind() {
	case reflect.Struct:
		return s.component(t)
	case reflect.Map:
		return &Schema{Type: Types{"object"}, Additional: s.Of(t.Elem())}
	case reflect.Slice, reflect.Array:
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
			return &Schema{Type: Types{"string"}, Encoding: "base64"}
		}
		items := s.Of(t.Elem())
		if nilable(t.Elem()) {
			items = orNull(items)
		}
		return &Schema{Type: Types{"array"}, Items: items}
	case reflect.Interface:
		return &Schema{}
	}
	return s.scalar(t)
}

func (s *Schemas) scalar(t reflect.Type) *Schema {
	switch t.Kind() {
	case reflect.String:
		return &Schema{Type: Types{"string"}}
	case reflect.Bool:
		return &Schema{Type: Types{"boolean"}}
	case reflect.Float32, reflect.Float64:
		return &Schema{Type: Types{"number"}}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return &Schema{Type: Types{"integer"}, Format: "int64"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &Schema{Type: Types{"integer"}, Format: "int64", Minimum: new(int)}
	}
	s.fail("%s has no form in JSON", t)
	return &Schema{}
}

// nilable tells whether a type's zero value is null in JSON.
func nilable(t reflect.Type) bool {
	return t.Kind() == reflect.Pointer || t.Kind() == reflect.Map || t.Kind() == reflect.Slice
}

// component makes a component of a struct, if it is none yet.
func (s *Schemas) component(t reflect.Type) *Schema {
	name := nameOf(t)
	if old, ok := s.types[name]; ok {
		if old != t {
			s.fail("%s and %s are both called %s", old, t, name)
		}
		return RefTo(name)
	}
	s.types[name] = t
	object := &Schema{Type: Types{"object"}}
	ref := s.Define(name, object) // before its fields, one of which may be of the same type
	object.Properties = map[string]*Schema{}
	s.fields(t, object)
	slices.Sort(object.Required)
	return ref
}

// fields adds the fields of a struct, those of embedded structs among them. As in Go, the outer ones win.
func (s *Schemas) fields(t reflect.Type, object *Schema) {
	var embedded []reflect.Type
	for i := range t.NumField() {
		f := t.Field(i)
		tag, named := f.Tag.Lookup("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			embedded = append(embedded, f.Type)
			continue
		case !f.IsExported() || tag == "-":
			continue
		case !named || name == "":
			s.fail("field %s of %s has no name in JSON", f.Name, t)
			continue
		}
		if _, ok := object.Properties[name]; ok {
			continue
		}
		schema := s.Of(f.Type)
		switch opts := strings.Split(options, ","); {
		case slices.Contains(opts, "string"):
			s.fail("field %s of %s is a number in a string", f.Name, t)
		case slices.Contains(opts, "omitempty") || slices.Contains(opts, "omitzero"):
		default:
			object.Required = append(object.Required, name)
			if nilable(f.Type) && f.Tag.Get("openapi") != "notnull" {
				schema = orNull(schema)
			}
		}
		object.Properties[name] = schema
	}
	for _, e := range embedded {
		s.fields(e, object)
	}
}

var packagePath = regexp.MustCompile(`[\w./-]*[./]`)

// nameOf is the name of a type's component: that of the type; List[Node] is a NodeList.
func nameOf(t reflect.Type) string {
	name, args, generic := strings.Cut(t.Name(), "[")
	if !generic {
		return name
	}
	args = packagePath.ReplaceAllString(strings.TrimSuffix(args, "]"), "")
	return strings.ReplaceAll(args, ",", "") + name
}

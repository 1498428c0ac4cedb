package openapi_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/openapi"
)

type word string

type inner struct {
	Shared string `json:"shared"`
	Deep   int    `json:"deep"`
}

type page[T any] struct {
	Items []T `json:"items" openapi:"notnull"`
}

type everything struct {
	inner
	Shared   bool              `json:"shared"` // wins over inner's
	Word     word              `json:"word"`
	Small    uint16            `json:"small"`
	Ratio    float64           `json:"ratio,omitempty"`
	At       time.Time         `json:"at,omitzero"`
	Took     time.Duration     `json:"took"`
	Addr     netip.Addr        `json:"addr"`
	Key      []byte            `json:"key"`
	Keys     [][]byte          `json:"keys,omitempty"`
	Map      map[string]inner  `json:"map,omitempty"`
	List     []word            `json:"list"`
	Maybe    *inner            `json:"maybe"`
	Again    *everything       `json:"again,omitempty"`
	Pages    page[inner]       `json:"pages"`
	Anything json.RawMessage   `json:"anything"`
	Known    map[word]*special `json:"known"`
	Hidden   string            `json:"-"`
}

type special struct{}

func (special) MarshalJSON() ([]byte, error) { return []byte(`"x"`), nil }

func TestATypeIsDescribedAsItIsWritten(t *testing.T) {
	s := openapi.NewSchemas(map[reflect.Type]*openapi.Schema{reflect.TypeFor[special](): {Type: openapi.Types{"string"}, Const: "x"}})
	if ref := s.Of(reflect.TypeFor[*everything]()); ref.Ref != "#/components/schemas/everything" || s.Err() != nil {
		t.Fatalf("%+v, %v", ref, s.Err())
	}
	want := map[string]string{
		"shared":   `{"type":"boolean"}`,
		"deep":     `{"type":"integer","format":"int64"}`,
		"word":     `{"type":"string"}`,
		"small":    `{"type":"integer","format":"int64","minimum":0}`,
		"ratio":    `{"type":"number"}`,
		"at":       `{"type":"string","format":"date-time"}`,
		"took":     `{"type":"integer","description":"nanoseconds","format":"int64"}`,
		"addr":     `{"type":"string"}`,
		"key":      `{"type":["string","null"],"contentEncoding":"base64"}`,
		"keys":     `{"type":"array","items":{"type":["string","null"],"contentEncoding":"base64"}}`,
		"map":      `{"type":"object","additionalProperties":{"$ref":"#/components/schemas/inner"}}`,
		"list":     `{"type":["array","null"],"items":{"type":"string"}}`,
		"maybe":    `{"oneOf":[{"$ref":"#/components/schemas/inner"},{"type":"null"}]}`,
		"again":    `{"$ref":"#/components/schemas/everything"}`,
		"pages":    `{"$ref":"#/components/schemas/innerpage"}`,
		"anything": `{}`,
		"known":    `{"type":["object","null"],"additionalProperties":{"type":"string","const":"x"}}`,
	}
	got := s.Components["everything"]
	for name, schema := range got.Properties {
		b, err := json.Marshal(schema)
		if err != nil || string(b) != want[name] {
			t.Errorf("%s is %s, %v; want %s", name, b, err, want[name])
		}
	}
	if len(got.Properties) != len(want) {
		t.Errorf("%d properties, want %d", len(got.Properties), len(want))
	}
	if r := strings.Join(got.Required, " "); r != "addr anything deep key known list maybe pages shared small took word" {
		t.Errorf("required are %s", r)
	}
	if b, err := json.Marshal(s.Components["innerpage"]); err != nil || string(b) != `{"type":"object","properties":{"items":{"type":"array","items":{"$ref":"#/components/schemas/inner"}}},"required":["items"]}` {
		t.Errorf("a page is %s, %v", b, err)
	}
}

func TestWhatCannotBeDescribedIsSaid(t *testing.T) {
	type unnamed struct{ Field string }
	type quoted struct {
		N int `json:"n,string"`
	}
	one := reflect.TypeFor[quoted]()
	two := func() reflect.Type {
		type quoted struct {
			N int `json:"n"`
		}
		return reflect.TypeFor[quoted]()
	}()
	for what, types := range map[string][]reflect.Type{
		"a channel":            {reflect.TypeFor[chan int]()},
		"its own JSON":         {reflect.TypeFor[special]()},
		"a field without name": {reflect.TypeFor[unnamed]()},
		"a quoted number":      {one},
		"two of one name":      {two, one},
	} {
		s := openapi.NewSchemas(nil)
		for _, typ := range types {
			s.Of(typ)
		}
		if err := s.Err(); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	s := openapi.NewSchemas(nil)
	s.Define("a", &openapi.Schema{})
	if s.Define("a", &openapi.Schema{}); s.Err() == nil {
		t.Error("two components of one name are taken")
	}
}

package nodeset_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

func TestSetsAreTextInJSON(t *testing.T) {
	type message struct {
		Nodes nodeset.Set
		More  nodeset.Set `json:",omitzero"`
	}
	for in, want := range map[string]string{
		`{"Nodes":"n[1-3,7]"}`:          `{"Nodes":"n[1-3,7]"}`,
		`{"Nodes":"b,a","More":"a!a"}`:  `{"Nodes":"a,b"}`,
		`{"Nodes":"","More":"x[01,2]"}`: `{"Nodes":"","More":"x01,x2"}`,
		`{}`:                            `{"Nodes":""}`,
	} {
		var m message
		if err := json.Unmarshal([]byte(in), &m); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if b, err := json.Marshal(m); err != nil || string(b) != want {
			t.Errorf("%s becomes %s, %v", in, b, err)
		}
	}
	for in, want := range map[string]string{
		"n[1-262144]": "",
		"n[1-262145]": "would make more than 262144 names",
		"@gpu":        "groups are not known here",
		"~n":          "regular expressions are not known here",
		"^file":       "files are not read here",
		"-":           "files are not read here",
	} {
		var s nodeset.Set
		if err := s.UnmarshalText([]byte(in)); (err == nil) != (want == "") || err != nil && !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}

func TestMalformedTextLeavesASetAsItWas(t *testing.T) {
	for in, want := range malformed {
		kept, _ := nodeset.Of("n1")
		text, _ := json.Marshal(in)
		if err := json.Unmarshal(text, &kept); !errors.Is(err, fault.Invalid) || err.Error() != want || kept.String() != "n1" {
			t.Errorf("%q as JSON = %v, %v\nwant %s", in, kept, err, want)
		}
	}
}

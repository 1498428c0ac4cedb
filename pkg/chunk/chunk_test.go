package chunk_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// FIPS 180-4's example, so that an ID means the same to sha256sum.
const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

func TestAnIDIsTheSHA256OfTheBytes(t *testing.T) {
	id := chunk.Of([]byte("abc"))
	if id.String() != abc || id.Short() != abc[:12] || id.IsZero() {
		t.Errorf("got %s, short %s", id, id.Short())
	}
	if back, err := chunk.ParseID(abc); err != nil || back != id {
		t.Errorf("read back as %s, %v", back, err)
	}
	if r := chunk.RefOf([]byte("abc")); r != (chunk.Ref{ID: id, Size: 3}) {
		t.Errorf("reference %v", r)
	}
}

func TestAnIDIsWrittenInOneWay(t *testing.T) {
	for name, s := range map[string]string{
		"empty": "", "short": abc[1:], "long": abc + "0", "upper case": strings.ToUpper(abc),
		"no digit": "g" + abc[1:], "blank": " " + abc[1:], "a path": "../" + abc[3:], "very long": strings.Repeat("a", 1<<20),
	} {
		id, err := chunk.ParseID(s)
		if !errors.Is(err, fault.Invalid) || !id.IsZero() {
			t.Errorf("%s: got %s, %v; want fault.Invalid", name, id, err)
		}
		if err != nil && len(err.Error()) > 500 {
			t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
		}
	}
}

func TestAnIDTravelsAsText(t *testing.T) {
	type carrier struct {
		ID  chunk.ID            `json:"id,omitzero"`
		Any map[chunk.ID]string `json:"any,omitempty"`
	}
	for want, c := range map[string]carrier{
		`{}`:                          {},
		`{"id":"` + abc + `"}`:        {ID: chunk.Of([]byte("abc"))},
		`{"any":{"` + abc + `":"x"}}`: {Any: map[chunk.ID]string{chunk.Of([]byte("abc")): "x"}},
	} {
		b, err := json.Marshal(c)
		if err != nil || string(b) != want {
			t.Errorf("wrote %s, %v; want %s", b, err, want)
		}
		var back carrier
		if err := json.Unmarshal(b, &back); err != nil || back.ID != c.ID || len(back.Any) != len(c.Any) {
			t.Errorf("read %s as %v, %v", b, back, err)
		}
	}
	id := chunk.Of([]byte("abc"))
	if err := json.Unmarshal([]byte(`""`), &id); err != nil || !id.IsZero() {
		t.Errorf("the empty text is %s, %v", id, err)
	}
	if err := json.Unmarshal([]byte(`"zz"`), &id); !errors.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
}

func TestAVerifierKnowsItsBytesFromAllOthers(t *testing.T) {
	want := []byte("the bytes that are meant")
	ref := chunk.RefOf(want)
	flipped := append([]byte(nil), want...)
	flipped[7] ^= 1
	for name, tc := range map[string]struct {
		bytes []byte
		ok    bool
	}{
		"the bytes": {want, true}, "one flipped": {flipped, false}, "cut off": {want[:len(want)-1], false},
		"nothing": {nil, false}, "one more": {append(append([]byte(nil), want...), 0), false},
	} {
		for _, piece := range []int{1, 5, 100} {
			v := chunk.NewVerifier(ref)
			var err error
			for b := tc.bytes; len(b) > 0 && err == nil; b = b[min(piece, len(b)):] {
				_, err = v.Write(b[:min(piece, len(b))])
			}
			if err == nil {
				err = v.Verify()
			}
			if tc.ok && err != nil || !tc.ok && !errors.Is(err, fault.Corrupt) {
				t.Errorf("%s in pieces of %d: got %v", name, piece, err)
			}
		}
	}
	if err := chunk.NewVerifier(chunk.RefOf(nil)).Verify(); err != nil {
		t.Errorf("the empty chunk: %v", err)
	}
}

// A sender that never ends must not be listened to for ever.
func TestAVerifierStopsAtTheFirstByteTooMany(t *testing.T) {
	v := chunk.NewVerifier(chunk.RefOf([]byte("abc")))
	if n, err := v.Write([]byte("abcd")); n != 0 || !errors.Is(err, fault.Corrupt) {
		t.Errorf("took %d bytes, %v", n, err)
	}
	if err := v.Verify(); !errors.Is(err, fault.Corrupt) {
		t.Errorf("verified: %v", err)
	}
}

func FuzzParseID(f *testing.F) {
	f.Add(abc)
	f.Add("")
	f.Add(strings.ToUpper(abc))
	f.Fuzz(func(t *testing.T, s string) {
		id, err := chunk.ParseID(s)
		if err == nil && id.String() != s {
			t.Errorf("%q was read as %s", s, id)
		}
	})
}

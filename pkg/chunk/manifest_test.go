package chunk_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// key is the signing key that a name stands for.
func key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(names ...string) (keys []ed25519.PublicKey) {
	for _, n := range names {
		keys = append(keys, key(n).Public().(ed25519.PublicKey))
	}
	return keys
}

func ref(s string) chunk.Ref { return chunk.RefOf([]byte(s)) }

func manifest() *chunk.Manifest {
	return &chunk.Manifest{
		Format: chunk.ManifestFormat, Image: "debian", Arch: "amd64", Created: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), Source: "debian.tar",
		Parent:   chunk.Of([]byte("parent")),
		Segments: []chunk.Segment{{Ref: ref("first"), Unpacked: 10, Files: 1}, {Ref: ref("second"), Unpacked: 20, Files: 2}},
		Kernels:  []chunk.Kernel{{Version: "6.12.0", Path: "boot/vmlinuz", Kernel: ref("kernel"), StageOne: ref("stage one")}},
		Index:    ref("index"), Files: 3, Unpacked: 30,
	}
}

func sign(t testing.TB, m *chunk.Manifest, by string) []byte {
	t.Helper()
	b, err := chunk.Sign(m, key(by))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatIsSignedIsWhatIsOpened(t *testing.T) {
	want := manifest()
	b := sign(t, want, "a")
	for name, trusted := range map[string][]ed25519.PublicKey{"alone": public("a"), "among others": public("b", "a"), "last of many": public("c", "b", "a")} {
		got, err := chunk.Open(b, trusted)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v\nwant %+v", name, got, err, want)
		}
	}
	// The version's name is the digest of these bytes: the same manifest must always give the same.
	if !bytes.Equal(b, sign(t, manifest(), "a")) {
		t.Error("the same manifest was signed into other bytes")
	}
}

func TestEveryOtherByteIsNoticed(t *testing.T) {
	good := sign(t, manifest(), "a")
	header := bytes.IndexByte(good, '\n')
	for i := range good {
		others := []byte{good[i] ^ 1}
		if i <= header { // where every value could mean something; behind it all is one signature's
			others = append(others, good[i]^0x20, good[i]^0x80, ' ', '\t', '\n', '\r', '=', 0)
		}
		for _, other := range others {
			if other == good[i] {
				continue
			}
			b := bytes.Clone(good)
			b[i] = other
			if m, err := chunk.Open(b, public("a", "b")); err == nil || !errors.Is(err, fault.Corrupt) && !errors.Is(err, fault.Invalid) {
				t.Fatalf("byte %d as %q instead of %q: opened as %+v, %v", i, other, good[i], m, err)
			}
		}
	}
}

func TestEveryCutIsNoticed(t *testing.T) {
	good := sign(t, manifest(), "a")
	for n := 0; n < len(good); n++ {
		if n > bytes.IndexByte(good, '\n') && n < len(good)-20 { // the body's cuts are all alike
			n += 20
		}
		if _, err := chunk.Open(good[:n], public("a")); !errors.Is(err, fault.Corrupt) {
			t.Fatalf("%d of %d bytes: %v", n, len(good), err)
		}
	}
	if _, err := chunk.Open(append(bytes.Clone(good), ' '), public("a")); !errors.Is(err, fault.Corrupt) {
		t.Errorf("one more: %v", err)
	}
}

func TestOnlyTheClustersSignaturesCount(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	good := sign(t, manifest(), "a")
	body := good[bytes.IndexByte(good, '\n')+1:]
	head := func(format string, pub, sig []byte) []byte {
		return append(fmt.Appendf(nil, "wulfmesh-manifest %s %s %s\n", format, b64(pub), b64(sig)), body...)
	}
	pub := public("a")[0]
	signature := ed25519.Sign(key("a"), append([]byte("wulfmesh image manifest v1\x00"), body...))
	for name, tc := range map[string]struct {
		bytes   []byte
		trusted []ed25519.PublicKey
		kind    fault.Kind
		text    string
	}{
		"made by hand":            {head("1", pub, signature), public("a"), "", ""},
		"a key of nobody":         {good, public("b"), fault.Corrupt, "does not trust"},
		"no key at all":           {good, nil, fault.Corrupt, "does not trust"},
		"another key's signature": {head("1", pub, ed25519.Sign(key("b"), append([]byte("wulfmesh image manifest v1\x00"), body...))), public("a"), fault.Corrupt, "does not match"},
		"signed for another use":  {head("1", pub, ed25519.Sign(key("a"), append([]byte("wulfmesh overlay v1\x00"), body...))), public("a"), fault.Corrupt, "does not match"},
		"signed without a use":    {head("1", pub, ed25519.Sign(key("a"), body)), public("a"), fault.Corrupt, "does not match"},
		"short signature":         {head("1", pub, signature[:63]), public("a"), fault.Corrupt, "does not match"},
		"empty signature":         {head("1", pub, nil), public("a"), fault.Corrupt, "does not match"},
		"short key":               {head("1", pub[:31], signature), public("a"), fault.Corrupt, "does not trust"},
		"a later format":          {head("2", pub, signature), public("a"), fault.Invalid, "format 2"},
		"an odd format":           {head("01", pub, signature), public("a"), fault.Invalid, "format 01"},
		"a header in other form":  {bytes.Replace(good, []byte(" "), []byte("  "), 1), public("a"), fault.Corrupt, "not a signed"},
		"no header":               {body, public("a"), fault.Corrupt, "not a signed"},
		"nothing":                 {nil, public("a"), fault.Corrupt, "not a signed"},
		"a long header":           {append(bytes.Repeat([]byte("x"), 1<<20), '\n'), public("a"), fault.Corrupt, "not a signed"},
		"signed, but no JSON":     {signed("not JSON"), public("a"), fault.Corrupt, "decoding"},
	} {
		m, err := chunk.Open(tc.bytes, tc.trusted)
		if fault.KindOf(err) != tc.kind || err != nil && !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: got %v, want %q with %q", name, err, tc.kind, tc.text)
		}
		if (m == nil) != (tc.kind != "") {
			t.Errorf("%s: manifest %+v", name, m)
		}
	}
}

// signed is whatever body, signed as a manifest by key a.
func signed(body string) []byte {
	b64 := base64.StdEncoding.EncodeToString
	sig := ed25519.Sign(key("a"), append([]byte("wulfmesh image manifest v1\x00"), body...))
	return fmt.Appendf(nil, "wulfmesh-manifest 1 %s %s\n%s", b64(public("a")[0]), b64(sig), body)
}

// What a manifest names is what a relay fetches and a collection keeps: nothing may be left out.
func TestRefsAreAllChunksOfAVersion(t *testing.T) {
	m := manifest()
	want := []chunk.Ref{ref("first"), ref("second"), ref("kernel"), ref("stage one"), ref("index")}
	if got := m.Refs(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	m.Extras = ref("extras")
	if got := m.Refs(); !slices.Contains(got, ref("extras")) || len(got) != 6 {
		t.Errorf("with extras: %v", got)
	}
	if got := m.Size(); got != int64(len("first")+len("second")) {
		t.Errorf("size %d", got)
	}
	// Every Ref in the structure, found by its JSON.
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := bytes.Count(b, []byte(`"id":`)), len(m.Refs()); got != want {
		t.Errorf("the manifest names %d chunks, Refs %d", got, want)
	}
}

func FuzzOpen(f *testing.F) {
	good, err := chunk.Sign(manifest(), key("a"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Add(signed("{}"))
	f.Add(signed(`{"segments":[{"id":"x"}]}`))
	f.Add([]byte("wulfmesh-manifest 1 a b\n{}"))
	f.Add(bytes.Replace(good, []byte("=="), []byte("\r=="), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := chunk.Open(b, public("a"))
		if err != nil {
			if m != nil || !errors.Is(err, fault.Corrupt) && !errors.Is(err, fault.Invalid) {
				t.Errorf("got %v, %v", m, err)
			}
			return
		}
		// Nobody but the holder of the key makes one: what opens is one of the seeds.
		if !bytes.Equal(b, good) && !bytes.Equal(b, signed("{}")) {
			t.Errorf("a forged manifest was opened: %q", b)
		}
	})
}

package pki_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

func TestTokenSurvivesItsText(t *testing.T) {
	ca := newCA(t, "c1")
	tok := pki.NewToken(ca.Fingerprint())
	got, err := pki.ParseToken("  " + tok.Text() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != tok.ID || !got.Secret.Equal(tok.Secret) || got.CA != ca.Fingerprint() {
		t.Error("another token came back")
	}
	if !got.Matches(tok.Hash()) {
		t.Error("token does not match its hash")
	}
	if pki.NewToken(ca.Fingerprint()).Matches(tok.Hash()) {
		t.Error("another token matches the hash")
	}
	if (pki.JoinToken{}).Matches("") {
		t.Error("nothing matches nothing")
	}
	if n := len(tok.Text()); n != 94 {
		t.Errorf("text has %d characters", n)
	}
}

func TestEveryAlterationOfATokenIsNoticed(t *testing.T) {
	tok := pki.NewToken(newCA(t, "c1").Fingerprint())
	text := tok.Text()
	for i := range text {
		for _, c := range []byte("a2.A1-") {
			if text[i] == c {
				continue
			}
			altered := text[:i] + string(c) + text[i+1:]
			got, err := pki.ParseToken(altered)
			if err == nil && got.ID == tok.ID && got.Secret.Equal(tok.Secret) && got.CA == tok.CA {
				t.Errorf("%q at %d makes no difference", c, i)
			}
		}
	}
}

func TestMalformedTokenSaysWhatIsWrong(t *testing.T) {
	text := pki.NewToken(newCA(t, "c1").Fingerprint()).Text()
	part := strings.Split(text, ".")
	for name, c := range map[string]struct{ in, want string }{
		"nothing":      {" \n", "it is empty"},
		"a word":       {"hello", "it does not begin with wulf1."},
		"a newer one":  {"wulf2." + text[6:], "it has another format than this program reads (wulf1)"},
		"two parts":    {"wulf1.abc", "it has 2 parts between dots, not 4"},
		"cut off":      {text[:len(text)-3], "its CA hash has 49 characters, not 52"},
		"short secret": {strings.Join([]string{part[0], part[1], part[2][1:], part[3]}, "."), "its secret has 25 characters, not 26"},
		"short ID":     {strings.Join([]string{part[0], "abc", part[2], part[3]}, "."), "its ID has 3 characters, not 8"},
		"upper case":   {strings.Join([]string{part[0], "ABCDEFGH", part[2], part[3]}, "."), "its ID has characters that no token has"},
		"quotes":       {strings.Join([]string{part[0], part[1], part[2][:25] + "!", part[3]}, "."), "its secret has characters that no token has"},
		"not the text": {strings.Join([]string{part[0], part[1], part[2][:25] + "7", part[3]}, "."), "its secret has characters that no token has"},
	} {
		_, err := pki.ParseToken(c.in)
		if !errors.Is(err, fault.Invalid) || err.Error() != "malformed join token: "+c.want || fault.Fix(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), part[2][:8]) {
			t.Errorf("%s: the message quotes the secret: %v", name, err)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	const plain = "correct horse battery staple"
	type holder struct {
		Name   string
		Secret pki.Secret
		inner  pki.Secret // fmt prints it without asking its methods
	}
	s := pki.NewSecret([]byte(plain))
	h := holder{"x", s, s}
	network := pki.NewNetworkKey([]byte(plain))
	tok := pki.JoinToken{ID: "abcdefgh", Secret: s}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%o", "%p", "%10s"} {
		for _, v := range []any{s, &s, h, &h, network, &network, tok, &tok, []pki.Secret{s}, map[string]pki.Secret{"k": s}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	fmt.Fprintln(&out, s, h, tok, network)
	for _, v := range []any{s, h, tok, network, map[string]any{"a": s}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("made", "secret", s, "holder", h, "token", tok, "network", network, "err", fmt.Errorf("with %v", s))
	}
	low := strings.ToLower(out.String())
	for _, leak := range []string{"correct", "636f7272656374", "99 111 114", "0x63, 0x6f"} {
		if i := strings.Index(low, leak); i >= 0 {
			t.Errorf("%q leaked: …%.80s…", leak, low[max(0, i-40):])
		}
	}
	if !strings.Contains(out.String(), "[redacted]") || !strings.Contains(out.String(), "wulf1.abcdefgh.[redacted]") {
		t.Error("nothing is said to be redacted")
	}
	if string(s.Reveal()) != plain || (pki.Secret{}).Reveal() != nil {
		t.Error("Reveal does not reveal")
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("wulf1.abcdefgh.aaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	f.Add("wulf1...")
	f.Add("wulf2.x")
	f.Fuzz(func(t *testing.T, in string) {
		tok, err := pki.ParseToken(in)
		if err != nil {
			if !errors.Is(err, fault.Invalid) {
				t.Fatalf("%q: %v is not invalid", in, err)
			}
			return
		}
		if got := tok.Text(); got != strings.TrimSpace(in) {
			t.Fatalf("%q has a second text %q", in, got)
		}
	})
}

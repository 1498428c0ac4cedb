package pki_test

import (
	"crypto"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func networkKey() pki.NetworkKey {
	return pki.NewNetworkKey([]byte("0123456789abcdef0123456789abcdef"))
}

func ticket() pki.Ticket {
	return pki.Ticket{Node: "r01n07", Hardware: net.HardwareAddr{2, 0, 0, 0, 1, 7}, Boot: "b7gq2m4k9xw1", Revision: 4711,
		Relay: "r01a", Expires: epoch.Add(pki.TicketLife), Nonce: pki.Nonce{1, 2, 3}}
}

func TestDerivedKeysAreStableAndApart(t *testing.T) {
	mesh := pki.MeshSecret{Secret: pki.NewSecret([]byte("0123456789abcdef0123456789abcdef"))}
	a := mesh.NetworkKey("rack")
	keys := map[string]pki.Secret{
		"mesh": mesh.Secret, "gossip 1": mesh.GossipKey(1), "gossip 2": mesh.GossipKey(2),
		"rack": a.Secret, "rack2": mesh.NetworkKey("rack2").Secret,
		"another mesh's rack": pki.NewMeshSecret().NetworkKey("rack").Secret,
	}
	for n1, k1 := range keys {
		if len(k1.Reveal()) != 32 {
			t.Errorf("%s has %d bytes", n1, len(k1.Reveal()))
		}
		for n2, k2 := range keys {
			if (n1 == n2) != k1.Equal(k2) {
				t.Errorf("%s and %s: equal %v", n1, n2, k1.Equal(k2))
			}
		}
	}
	if !mesh.NetworkKey("rack").Equal(pki.NewNetworkKey(a.Reveal()).Secret) {
		t.Error("a network key does not survive its bytes")
	}
}

// The public line is golden: if it changed, every known_hosts file of every cluster would be wrong.
func TestHostKeysNeverChange(t *testing.T) {
	for keyType, want := range map[string]string{
		pki.SSHEd25519: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDzGTPlmLCMxfQrBTbMZtOaW8KYTj3IAhMfFX3V8gt8V n1",
		pki.SSHECDSA:   "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBLBfL0innOTBh7Q9D5SYwbDok/rBvbD0k1dc9wsUc6KNS8v6RvXhQxYt6I7j86G8v6PnHXzJVnCS+fIHbcHaRc4= n1",
	} {
		key, err := networkKey().SSHHostKey("n1", keyType)
		if err != nil {
			t.Fatal(err)
		}
		if key.Public != want {
			t.Errorf("%s: %s\nwant %s", keyType, key.Public, want)
		}
	}
}

func TestHostKeysAreReadAndFitTogether(t *testing.T) {
	seen := map[string]bool{}
	for _, keyType := range []string{pki.SSHEd25519, pki.SSHECDSA} {
		for _, node := range []string{"n1", "n2", "n3", "n4", "n5", strings.Repeat("n", 63)} {
			key, err := networkKey().SSHHostKey(node, keyType)
			if err != nil {
				t.Fatal(err)
			}
			again, _ := networkKey().SSHHostKey(node, keyType)
			if !again.Private.Equal(key.Private) {
				t.Errorf("%s %s: not the same bytes twice", node, keyType)
			}
			raw, err := ssh.ParseRawPrivateKey(key.Private.Reveal())
			if err != nil {
				t.Fatalf("%s %s: %v", node, keyType, err)
			}
			signer, err := ssh.NewSignerFromKey(raw)
			if err != nil {
				t.Fatal(err)
			}
			public, comment, _, _, err := ssh.ParseAuthorizedKey([]byte(key.Public))
			if err != nil {
				t.Fatal(err)
			}
			if string(public.Marshal()) != string(signer.PublicKey().Marshal()) || comment != node || public.Type() != keyType {
				t.Errorf("%s %s: public and private key differ", node, keyType)
			}
			if _, ok := raw.(crypto.Signer); !ok && keyType == pki.SSHECDSA {
				t.Errorf("%T cannot sign", raw)
			}
			if seen[key.Public] {
				t.Error("a key twice")
			}
			seen[key.Public] = true
		}
	}
	if _, err := networkKey().SSHHostKey("n1", "ssh-dss"); !errors.Is(err, fault.Invalid) {
		t.Errorf("DSA: %v", err)
	}
}

func TestTicketSurvivesItsText(t *testing.T) {
	key := networkKey()
	text, err := key.SealTicket(ticket())
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 120 || strings.ContainsFunc(text, func(r rune) bool { return r > 126 || strings.ContainsRune("%&=?# +/\"'\\", r) }) {
		t.Errorf("%d characters: %s", len(text), text)
	}
	got, err := key.OpenTicket(text, epoch)
	if err != nil {
		t.Fatal(err)
	}
	want := ticket()
	if got.Node != want.Node || got.Hardware.String() != want.Hardware.String() || got.Boot != want.Boot || got.Revision != want.Revision ||
		got.Relay != want.Relay || !got.Expires.Equal(want.Expires) || got.Nonce != want.Nonce {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestLongestTicketFits(t *testing.T) {
	long := strings.Repeat("x", 63)
	text, err := networkKey().SealTicket(pki.Ticket{Node: long, Relay: long, Boot: long[:32], Hardware: make([]byte, 20), Revision: 1<<64 - 1, Expires: epoch})
	if err != nil || len(text) > pki.MaxTicket {
		t.Fatalf("%d characters, %v", len(text), err)
	}
	if _, err := networkKey().OpenTicket(text, epoch); err != nil {
		t.Error(err)
	}
	if _, err := networkKey().SealTicket(pki.Ticket{Node: long + "x"}); !errors.Is(err, fault.Invalid) {
		t.Errorf("a name that is too long: %v", err)
	}
}

func TestTicketsExpire(t *testing.T) {
	text, _ := networkKey().SealTicket(ticket())
	if _, err := networkKey().OpenTicket(text, epoch.Add(pki.TicketLife)); err != nil {
		t.Errorf("at its end: %v", err)
	}
	_, err := networkKey().OpenTicket(text, epoch.Add(pki.TicketLife+5*time.Second))
	if !denied(err) || err.Error() != "boot ticket expired 5s ago" {
		t.Errorf("later: %v", err)
	}
}

func TestEveryAlterationOfATicketIsNoticed(t *testing.T) {
	key := networkKey()
	text, _ := key.SealTicket(ticket())
	for i := range text {
		for _, c := range []byte("A_z.\n") {
			if text[i] == c {
				continue
			}
			if _, err := key.OpenTicket(text[:i]+string(c)+text[i+1:], epoch); err == nil {
				t.Errorf("%q at %d makes no difference", c, i)
			}
		}
		if _, err := key.OpenTicket(text[:i], epoch); err == nil {
			t.Errorf("cut at %d makes no difference", i)
		}
	}
	if _, err := key.OpenTicket(text+"A", epoch); err == nil {
		t.Error("a longer text makes no difference")
	}
	if _, err := pki.NewMeshSecret().NetworkKey("other").OpenTicket(text, epoch); !denied(err) {
		t.Errorf("under another network's key: %v", err)
	}
}

func TestTicketAndSessionAreNotInterchangeable(t *testing.T) {
	key := networkKey()
	want := pki.Session{Node: "n1", Boot: "b1", Expires: epoch.Add(pki.SessionLife)}
	session, err := key.SealSession(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := key.OpenSession(session, epoch)
	if err != nil || got.Node != want.Node || got.Boot != want.Boot || !got.Expires.Equal(want.Expires) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := key.OpenSession(session, want.Expires.Add(time.Second)); !denied(err) {
		t.Errorf("expired: %v", err)
	}
	ticket, _ := key.SealTicket(ticket())
	if _, err := key.OpenSession(ticket, epoch); !errors.Is(err, fault.Invalid) {
		t.Errorf("a ticket as a session: %v", err)
	}
	if _, err := key.OpenSession("ws1."+ticket[4:], epoch); !denied(err) {
		t.Errorf("a ticket relabelled: %v", err)
	}
	if _, err := key.OpenTicket("wt1."+session[4:], epoch); !denied(err) {
		t.Errorf("a session relabelled: %v", err)
	}
}

func FuzzOpenTicket(f *testing.F) {
	key := networkKey()
	text, _ := key.SealTicket(ticket())
	session, _ := key.SealSession(pki.Session{Node: "n1", Boot: "b", Expires: epoch})
	f.Add(text)
	f.Add(session)
	f.Add("wt1.")
	f.Fuzz(func(t *testing.T, in string) {
		if got, err := key.OpenTicket(in, epoch); err == nil {
			if again, _ := key.SealTicket(got); again != in {
				t.Fatalf("%q has a second text %q", in, again)
			}
		} else if k := fault.KindOf(err); k != fault.Invalid && k != fault.Denied {
			t.Fatalf("%q: %v has kind %s", in, err, k)
		}
		if got, err := key.OpenSession(in, epoch); err == nil {
			if again, _ := key.SealSession(got); again != in {
				t.Fatalf("%q has a second text %q", in, again)
			}
		}
	})
}

func BenchmarkOpenTicket(b *testing.B) {
	key := networkKey()
	text, _ := key.SealTicket(ticket())
	for b.Loop() {
		if _, err := key.OpenTicket(text, epoch); err != nil {
			b.Fatal(err)
		}
	}
}

package gossip

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

func fullMeta() Meta {
	word := strings.Repeat("w", maxWord)
	long := netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6666]:65535")
	return Meta{Role: "controller", Rack: word, Zone: word, Mesh: long, Boot: long, Revision: 1<<64 - 1, Load: 100,
		Fingerprint: [32]byte{31: 1}, Draining: true, Unwell: true, NoDHCP: true}
}

func TestTheLongestMetaFitsWithItsSignature(t *testing.T) {
	body, err := fullMeta().encode()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := seal(body, make([]byte, 72)) // ECDSA P-256 in ASN.1
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d bytes", len(sealed), memberlist.MetaMaxSize)
	gotBody, sig, err := unseal(sealed)
	if err != nil || len(sig) != 72 {
		t.Fatalf("unseal: signature of %d bytes, %v", len(sig), err)
	}
	if got, err := parseMeta(gotBody); err != nil || got != fullMeta() {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestOnlyTheRevisionWaits(t *testing.T) {
	told := Meta{Role: "relay", Revision: 7}
	for what, c := range map[string]struct {
		change func(*Meta)
		rest   time.Duration
	}{
		"nothing":  {func(*Meta) {}, 6 * time.Second},
		"revision": {func(m *Meta) { m.Revision = 8 }, 6 * time.Second},
		"unwell":   {func(m *Meta) { m.Unwell = true }, 0},
		"draining": {func(m *Meta) { m.Revision, m.Draining = 8, true }, 0},
	} {
		said := told
		c.change(&said)
		var g Gossip
		g.said.Store(&statement{meta: said})
		if rest := g.rest(300, told); rest != c.rest {
			t.Errorf("%s: %v, want %v", what, rest, c.rest)
		}
	}
}

func TestUnknownFieldsOfNewerRelaysAreIgnored(t *testing.T) {
	got, err := parseMeta([]byte(`{"ro":"relay","rv":7,"new":{"x":[1]}}`))
	if want := (Meta{Role: "relay", Revision: 7}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestBadMetaIsRefused(t *testing.T) {
	for what, sealed := range map[string]string{
		"empty": "", "one byte": "\x01", "other format": "\x02\x00{}", "signature cut short": "\x01\x09{}",
		"not JSON": "\x01\x00{", "bad load": "\x01\x00" + `{"l":-1}`, "bad fingerprint": "\x01\x00" + `{"fp":"00"}`,
		"bad address": "\x01\x00" + `{"m":"x"}`, "control characters": "\x01\x00" + `{"ra":"\u001b"}`, "too long": "\x01\x00" + strings.Repeat(" ", 512),
	} {
		body, _, err := unseal([]byte(sealed))
		if err == nil {
			_, err = parseMeta(body)
		}
		if err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

func FuzzMeta(f *testing.F) {
	body, _ := fullMeta().encode()
	sealed, _ := seal(body, []byte("signature"))
	f.Add(sealed)
	f.Add([]byte{1, 0, '{', '}'})
	f.Fuzz(func(t *testing.T, b []byte) {
		body, _, err := unseal(b)
		if err != nil {
			return
		}
		m, err := parseMeta(body)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil {
			t.Fatalf("%+v was parsed and cannot be written: %v", m, err)
		}
		if back, err := parseMeta(again); err != nil || back != m {
			t.Fatalf("%+v became %+v, %v", m, back, err)
		}
	})
}

func TestHoldDownGrowsWithFailuresAndEndsWithCalm(t *testing.T) {
	const hold = 5 * time.Second
	now := time.Unix(1000, 0)
	var s sighting
	held := func(up time.Duration, departed bool) time.Duration {
		now = now.Add(up)
		s.fall(now, departed, hold)
		now = now.Add(time.Second)
		s.rise(now, hold)
		return max(0, s.held.Sub(now))
	}
	if s.rise(now, hold); !s.held.IsZero() {
		t.Error("a member that is new is held")
	}
	var got []time.Duration
	for range 6 {
		got = append(got, held(20*time.Second, false))
	}
	if want := []time.Duration{hold, 2 * hold, 4 * hold, 8 * hold, 8 * hold, 8 * hold}; !slices.Equal(got, want) {
		t.Errorf("held for %v, want %v", got, want)
	}
	if got := held(time.Hour, false); got != hold {
		t.Errorf("held for %v after a calm hour, want %v", got, hold)
	}
	if got := held(time.Second, true); got != 0 {
		t.Errorf("held for %v after leaving on purpose", got)
	}
}

func TestLogLinesAreLimitedAndCounted(t *testing.T) {
	w := &logWriter{}
	now := time.Unix(0, 0)
	admitted := 0
	for range 100 {
		if ok, _ := w.admit(now); ok {
			admitted++
		}
	}
	if admitted != linesPerWindow {
		t.Errorf("%d lines of 100 were logged, want %d", admitted, linesPerWindow)
	}
	if ok, dropped := w.admit(now.Add(logWindow)); !ok || dropped != 100-linesPerWindow {
		t.Errorf("the next window: %v, %d not logged", ok, dropped)
	}
}

func TestStrangersAreBounded(t *testing.T) {
	table := newTable("self", LAN(), func(name string) bool { return strings.HasPrefix(name, "r") })
	offer := func(name string) error {
		n := &memberlist.Node{Name: name, Addr: net.IPv4(10, 0, 0, 1), Port: 1}
		err := table.NotifyAlive(n)
		if err == nil {
			table.NotifyJoin(n)
		}
		return err
	}
	for i := range maxStrangers {
		if err := offer(fmt.Sprint("x", i)); err != nil {
			t.Fatalf("stranger %d: %v", i, err)
		}
	}
	if err := offer("one more"); err == nil {
		t.Errorf("stranger %d is remembered", maxStrangers+1)
	}
	for _, known := range []string{"x7", "r1", "self"} {
		if err := offer(known); err != nil {
			t.Errorf("%s: %v", known, err)
		}
	}
	for _, bad := range []string{"", "r\x1b[2J", strings.Repeat("r", maxName+1)} {
		if err := offer(bad); err == nil {
			t.Errorf("%q is a name", bad)
		}
	}
}

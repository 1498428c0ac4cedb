package tftpd

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Whatever comes, a request is understood within bounds, and the answer says no more than it was asked.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"undionly.kpxe\x00octet\x00", "/undionly.kpxe\xff\x00OCTET", "x\x00octet\x00blksize\x001468\x00tsize\x000\x00WindowSize\x004\x00timeout\x001\x00",
		"x\x00netascii\x00", "x\x00octet\x00blksize\x00-1\x00blksize\x008\x00", "x\x00octet\x00\x00\x00\x00", "", "../x\x00octet\x00multicast\x00\x00blksize",
	} {
		f.Add([]byte("\x00\x01" + s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := parseRequest(b)
		if err != nil {
			return
		}
		if strings.HasPrefix(q.name, "/") || strings.HasSuffix(q.name, "\x00") || !bytes.Contains(b, []byte(q.name)) {
			t.Errorf("the name is %q", q.name)
		}
		const length = 1 << 20
		got := agree(q, length, fits(q.block, ethernet))
		switch {
		case got.block < leastBlock || got.block > max(ethernet-32, usualBlock) || q.block > 0 && got.block > q.block:
			t.Errorf("%q: blocks of %d bytes", b, got.block)
		case got.window < 1 || got.window > mostWindow || got.window > max(q.window, 1):
			t.Errorf("%q: a window of %d blocks", b, got.window)
		case got.wait < 0 || got.wait > mostWait:
			t.Errorf("%q: %d seconds", b, got.wait)
		case got.answer != nil && len(got.answer) > len(b)+len("1048576"):
			t.Errorf("%q is answered by %q", b, got.answer)
		}
	})
}

// Whatever a client acknowledges, and whenever: never is more under way than a window, nor anything else than the program,
// and who goes on acknowledging what came gets all of it.
func FuzzTransfer(f *testing.F) {
	f.Add(uint16(1), uint8(1), []byte{0, 0, 1, 0, 2, 5})
	f.Add(uint16(4000), uint8(16), []byte{0, 0, 3, 0, 3, 0, 255, 255, 19, 5})
	f.Fuzz(func(t *testing.T, length uint16, window uint8, acts []byte) {
		body := make([]byte, length)
		for i := range body {
			body[i] = byte(i / 7)
		}
		q := request{block: 32, window: int(window)}
		now := time.Unix(1, 0)
		x := newTransfer(&packet{from: netip.MustParseAddrPort("10.0.0.1:2070")}, "x", body, agree(q, len(body), 32), now)
		check := func() {
			t.Helper()
			b := x.burst()
			if b.whole != nil {
				return
			}
			if b.count < 1 || b.count > x.terms.window || b.first != x.acked+1 || b.first+b.count-1 > x.blocks() {
				t.Fatalf("blocks %d and %d more, %d of %d acknowledged, window %d", b.first, b.count-1, x.acked, x.blocks(), x.terms.window)
			}
			for i := range b.count {
				var head [header]byte
				got := b.block(i, &head)
				at := min((b.first+i-1)*32, len(body))
				if want := body[at:min(at+32, len(body))]; !bytes.Equal(got, want) || binary.BigEndian.Uint16(head[2:]) != uint16(b.first+i) {
					t.Fatalf("block %d has %d bytes, want %d", b.first+i, len(got), len(want))
				}
			}
		}
		check()
		for len(acts) >= 2 {
			now = now.Add(time.Duration(acts[1]) * time.Millisecond)
			if acts[0]%4 == 3 {
				if now.Before(x.due) {
					now = x.due
				}
				if _, alive := x.overdue(now); !alive {
					return
				}
			} else if block := uint16(x.acked) + uint16(int8(acts[1])); x.acknowledge(block, now) == done {
				return
			} else if x.acked > 0 && x.stage == asked {
				x.stage = going
			}
			if x.wait < leastWait || x.wait > longWait {
				t.Fatalf("it waits %s", x.wait)
			}
			check()
			acts = acts[2:]
		}
		for range 2 * (x.blocks() + 1) {
			block := uint16(x.sent)
			if !x.opened {
				block = 0
			}
			if now = now.Add(time.Millisecond); x.acknowledge(block, now) == done {
				return
			}
			check()
		}
		t.Errorf("%d of %d blocks, and no end", x.acked, x.blocks())
	})
}

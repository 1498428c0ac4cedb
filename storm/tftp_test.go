package storm

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

var (
	asked  = netip.MustParseAddrPort("10.0.0.1:69")
	sender = netip.MustParseAddrPort("10.0.0.1:4000")
)

func newTransfer(window int) *transfer {
	return &transfer{to: asked, block: 512, window: 1, want: window, announced: -1}
}

func packet(op, n uint16, body []byte) []byte {
	return append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, op), n), body...)
}

func oack(words string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, opOAck), words...)
}

// acked is the block that the transfer acknowledges after a packet, -1 for none.
func acked(t *testing.T, tr *transfer, b []byte, from netip.AddrPort) int {
	t.Helper()
	answer, err := tr.take(b, from)
	if err != nil {
		t.Fatal(err)
	}
	if !answer {
		return -1
	}
	return int(binary.BigEndian.Uint16(tr.send[2:]))
}

func TestATransferAcknowledgesWindows(t *testing.T) {
	tr := newTransfer(4)
	full, last := make([]byte, 1024), make([]byte, 10)
	for i, c := range []struct {
		packet []byte
		want   int
	}{
		{oack("tsize\x0010250\x00blksize\x001024\x00windowsize\x004\x00"), 0},
		{packet(opData, 1, full), -1}, {packet(opData, 2, full), -1}, {packet(opData, 3, full), -1}, {packet(opData, 4, full), 4},
		{packet(opData, 5, full), -1},
		{packet(opData, 7, full), 5},  // 6 was lost: the server goes on behind 5
		{packet(opData, 8, full), -1}, // which is said once
		{packet(opData, 6, full), -1}, {packet(opData, 7, full), -1}, {packet(opData, 8, full), -1}, {packet(opData, 9, full), 9},
		{packet(opData, 10, full), -1},
		{packet(opData, 11, last), 11},
	} {
		if got := acked(t, tr, c.packet, sender); got != c.want {
			t.Errorf("packet %d: acknowledges %d, want %d", i, got, c.want)
		}
	}
	if !tr.over || tr.got != 10*1024+10 || tr.announced != 10250 {
		t.Errorf("over %v after %d bytes of %d", tr.over, tr.got, tr.announced)
	}
}

func TestATransferWithoutWindowsSaysLostAcknowledgementsAgain(t *testing.T) {
	tr := newTransfer(0)
	full := make([]byte, 512)
	for i, want := range []int{1, 1, 2} {
		if got := acked(t, tr, packet(opData, []uint16{1, 1, 2}[i], full), sender); got != want {
			t.Errorf("packet %d: acknowledges %d, want %d", i, got, want)
		}
	}
	if got := acked(t, tr, packet(opData, 3, full), netip.MustParseAddrPort("10.0.0.1:4001")); got != -1 {
		t.Error("took a block from another port")
	}
}

func TestOptionsThatNobodyAskedForEndATransfer(t *testing.T) {
	for _, words := range []string{"blksize\x004\x00", "blksize\x0065000\x00", "windowsize\x004\x00", "timeout\x001\x00", "tsize\x00many\x00"} {
		if _, err := newTransfer(0).take(oack(words), sender); err == nil {
			t.Errorf("took %q", words)
		}
	}
	if _, err := newTransfer(0).take(packet(opError, 1, []byte("no such file\x00")), sender); err == nil {
		t.Error("an error is none")
	}
}

func FuzzTransfer(f *testing.F) {
	f.Add(oack("blksize\x001024\x00windowsize\x004\x00"), packet(opData, 1, bytes.Repeat([]byte("x"), 1024)), 4)
	f.Add(packet(opData, 1, nil), []byte{}, 1)
	f.Fuzz(func(t *testing.T, one, two []byte, window int) {
		tr := newTransfer(window)
		for _, b := range [][]byte{one, two, one, two} {
			if _, err := tr.take(b, sender); err != nil || tr.over {
				return
			}
			if tr.window < 1 || tr.block < 8 || tr.inWindow >= tr.window+1 {
				t.Fatalf("%+v", tr)
			}
		}
	})
}

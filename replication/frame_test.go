package replication

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestFrameGivesBackItsPayload(t *testing.T) {
	for _, payload := range [][]byte{nil, {0}, []byte("a command"), make([]byte, 1<<20)} {
		got, err := decodeFrame(encodeFrame(payload))
		if err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes came back as %d, %v", len(payload), len(got), err)
		}
	}
}

func TestAlteredFrameIsCorrupt(t *testing.T) {
	good := encodeFrame([]byte("a command"))
	for bit := range len(good) * 8 {
		b := bytes.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := decodeFrame(b); !errors.Is(err, fault.Corrupt) {
			t.Errorf("bit %d: %v", bit, err)
		}
	}
	for n := range good {
		if _, err := decodeFrame(good[:n]); !errors.Is(err, fault.Corrupt) {
			t.Errorf("torn after %d bytes: %v", n, err)
		}
	}
}

func TestFrameOfALaterVersionSaysSo(t *testing.T) {
	b := encodeFrame([]byte("x"))
	b[0] = frameVersion + 1
	sum := checksum(b[:1], b[frameHeader:])
	b[1], b[2], b[3], b[4] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
	_, err := decodeFrame(b)
	if !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "version 2") || fault.Fix(err) == "" {
		t.Errorf("%v, fix %q", err, fault.Fix(err))
	}
}

func FuzzDecodeFrame(f *testing.F) {
	f.Add(encodeFrame([]byte("a command")))
	f.Add([]byte{frameVersion})
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if payload, err := decodeFrame(b); err == nil && !bytes.Equal(encodeFrame(payload), b) {
			t.Fatalf("%x is a frame, and not the one of its payload", b)
		}
	})
}

func TestSealCoversPlaceAndKind(t *testing.T) {
	l := raft.Log{Index: 7, Term: 3, Type: raft.LogConfiguration, Data: []byte("members")}
	l.Extensions = sealOf(&l)
	if err := checkSeal(&l); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*raft.Log){
		"index": func(l *raft.Log) { l.Index++ }, "term": func(l *raft.Log) { l.Term++ },
		"type": func(l *raft.Log) { l.Type = raft.LogNoop }, "data": func(l *raft.Log) { l.Data = []byte("Members") },
		"seal": func(l *raft.Log) { l.Extensions = nil },
	} {
		c := l
		change(&c)
		if err := checkSeal(&c); !errors.Is(err, fault.Corrupt) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func FuzzReadMessage(f *testing.F) {
	var b bytes.Buffer
	if err := writeMessage(&b, hello{Kind: helloJoin, From: "c2~ab", Addr: "c2:4400"}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0, 2, '{', '}'})
	f.Add([]byte{255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h hello
		r := bytes.NewReader(b)
		if err := readMessage(r, &h); err != nil {
			return
		}
		if want := 2 + int(b[0])<<8 + int(b[1]); len(b)-r.Len() != want {
			t.Fatalf("%d bytes were read of a message of %d", len(b)-r.Len(), want)
		}
		if _, err := parseServerID(raft.ServerID(h.From)); err == nil && strings.ContainsAny(h.From, "@\n") {
			t.Fatalf("%q was taken for a server ID", h.From)
		}
	})
}

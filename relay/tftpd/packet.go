package tftpd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
)

// Opcodes of RFC 1350 and, for opOAck, RFC 2347.
const (
	opRead  = 1
	opWrite = 2
	opAck   = 4
	opError = 5
	opOAck  = 6
	opData  = 3
)

// Error codes of RFC 1350.
const (
	errOther    = 0
	errNotFound = 1
	errIllegal  = 4
	errStranger = 5 // unknown transfer ID
)

const (
	header     = 4   // bytes of a DATA packet before its block
	maxRequest = 512 // bytes: RFC 2347 allows no more
	usualBlock = 512 // where none is agreed on
	leastBlock = 8   // RFC 2348
	mostBlock  = 65464
	mostWindow = 32 // blocks: more gain nothing in a machine room, and hit its switches in one burst
	mostWait   = 4  // seconds: longer ones make one lost packet the longest part of a boot
)

// request is what a client asks for.
type request struct {
	name   string
	block  int  // as asked for; 0: nothing is said
	window int  // likewise
	wait   int  // seconds until a packet is repeated; 0: the server's choice
	size   bool // how long the program is, is asked for
}

var (
	errMalformed = errors.New("malformed request")
	errMode      = errors.New("only mode octet is served")
)

// parseRequest reads a read request. Options that are unknown, out of bounds, or no numbers are left out, as RFC 2347 has
// it for what a server does not do; of one that is repeated the first counts.
func parseRequest(b []byte) (q request, err error) {
	if len(b) < 2 || len(b) > maxRequest || binary.BigEndian.Uint16(b) != opRead {
		return q, errMalformed
	}
	name, rest, ok := bytes.Cut(b[2:], []byte{0})
	if !ok {
		return q, errMalformed
	}
	mode, rest, _ := bytes.Cut(rest, []byte{0}) // some end the packet with the mode
	if !strings.EqualFold(string(mode), "octet") {
		return q, errMode
	}
	q.name = clean(string(name))
	for len(rest) > 0 {
		var option, value []byte
		option, rest, _ = bytes.Cut(rest, []byte{0})
		value, rest, _ = bytes.Cut(rest, []byte{0})
		n, err := strconv.ParseUint(string(value), 10, 31)
		if err != nil {
			continue
		}
		switch n := int(n); strings.ToLower(string(option)) {
		case "blksize":
			if q.block == 0 && n >= leastBlock && n <= mostBlock {
				q.block = n
			}
		case "windowsize":
			if q.window == 0 && n >= 1 && n <= 65535 {
				q.window = n
			}
		case "timeout":
			if q.wait == 0 && n >= 1 && n <= mostWait {
				q.wait = n
			}
		case "tsize":
			q.size = true
		}
	}
	return q, nil
}

// clean is the name without what firmware puts around it. It asks for what DHCP told it; some put a slash before that, and
// some have a NUL or 0xff after it.
func clean(name string) string {
	for name != "" && (name[len(name)-1] == 0 || name[len(name)-1] == 0xff) {
		name = name[:len(name)-1]
	}
	return strings.TrimLeft(name, "/")
}

// terms are what a transfer goes by.
type terms struct {
	block  int
	window int
	wait   int    // seconds; 0: what the line is like
	answer []byte // the OACK that says so; nil where the client asked for nothing that is done here
}

// agree is the answer to a request: never more than was asked for, and no longer block than given.
func agree(q request, length, longest int) terms {
	t := terms{block: usualBlock, window: 1, wait: q.wait}
	say := func(option string, n int) {
		if t.answer == nil {
			t.answer = binary.BigEndian.AppendUint16(nil, opOAck)
		}
		t.answer = append(t.answer, option...)
		t.answer = append(t.answer, 0)
		t.answer = strconv.AppendInt(t.answer, int64(n), 10)
		t.answer = append(t.answer, 0)
	}
	if q.block > 0 {
		t.block = min(q.block, longest)
		say("blksize", t.block)
	}
	if q.window > 0 {
		t.window = min(q.window, mostWindow)
		say("windowsize", t.window)
	}
	if q.wait > 0 {
		say("timeout", q.wait)
	}
	if q.size {
		say("tsize", length)
	}
	return t
}

// errorPacket is an ERROR, which ends the transfer for the client.
func errorPacket(code uint16, text string) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, header+len(text)+1), opError)
	return append(append(binary.BigEndian.AppendUint16(b, code), text...), 0)
}

// fits is the longest block for a client that asks for one of so many bytes, on an interface of that MTU. A client that
// asks for more than the interface carries has not looked at its own: it gets what every Ethernet carries.
func fits(asked, mtu int) int {
	const around = 20 + 8 + header // IPv4, UDP, TFTP
	most := mtu - around
	if asked > most {
		most = min(most, ethernet-around)
	}
	return max(most, leastBlock)
}

const ethernet = 1500 // bytes of a usual frame's payload

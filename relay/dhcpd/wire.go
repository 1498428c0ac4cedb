package dhcpd

import (
	"bytes"
	"encoding/binary"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxPacket is the longest DHCP packet: what fits into an Ethernet frame.
const maxPacket = 1500

// Offsets in a packet (RFC 2131 §2).
const (
	offOp      = 0
	offHType   = 1
	offHLen    = 2
	offHops    = 3
	offXID     = 4
	offSecs    = 8
	offFlags   = 10
	offCiaddr  = 12
	offYiaddr  = 16
	offSiaddr  = 20
	offGiaddr  = 24
	offChaddr  = 28
	offSname   = 44
	offFile    = 108
	offCookie  = 236
	offOptions = 240
)

var cookie = []byte{99, 130, 83, 99} // RFC 2131 §3

// The two kinds of packets.
const (
	opRequest = 1
	opReply   = 2
)

// messageType is what option 53 says (RFC 2132 §9.6).
type messageType byte

// The message types.
const (
	msgDiscover messageType = 1 + iota
	msgOffer
	msgRequest
	msgDecline
	msgAck
	msgNak
	msgRelease
	msgInform
)

// Codes of options that are read or written here (RFC 2132, unless said otherwise).
const (
	optPad           = 0
	optSubnetMask    = 1
	optRouter        = 3
	optDNS           = 6
	optHostName      = 12
	optDomainName    = 15
	optMTU           = 26
	optBroadcast     = 28
	optNTP           = 42
	optVendor        = 43 // PXE 2.1 §2.2.2
	optRequested     = 50
	optLeaseTime     = 51
	optOverload      = 52
	optMessageType   = 53
	optServer        = 54
	optWanted        = 55
	optMessage       = 56
	optMaxSize       = 57
	optRenewal       = 58
	optRebinding     = 59
	optClass         = 60
	optClient        = 61
	optTFTPServer    = 66
	optBootFile      = 67
	optUserClass     = 77 // RFC 3004
	optAgent         = 82 // RFC 3046
	optArchitecture  = 93 // RFC 4578
	optMachine       = 97 // RFC 4578
	optEtherboot     = 175
	optEnd           = 255
	subCircuit       = 1  // of option 82, RFC 3046: the port
	subRemote        = 2  // of option 82, RFC 3046: the switch
	subLinkSelection = 5  // of option 82, RFC 3527
	subOverride      = 11 // of option 82, RFC 5107
	subSourcePort    = 19 // of option 82, RFC 8357
)

// options finds the values of a packet's options. The zero value has none.
type options struct {
	b      []byte    // the packet
	joined []byte    // values that came in parts, put together (RFC 3396 §5)
	at     [256]span // by code
}

// span is where a value is; the zero span is nowhere.
type span struct{ from, size uint16 }

// inJoined marks a span in joined. Packets are shorter.
const inJoined = 1 << 15

// maxJoined bounds what values that come in many parts may cost to put together.
const maxJoined = 4 * maxPacket

// read takes in the options of a packet that is long enough to have any. A packet whose options do not end, or end in
// the middle of one, is fault.Invalid.
func (o *options) read(b []byte) error {
	o.b, o.joined, o.at = b, o.joined[:0], [256]span{}
	if ended, err := o.readField(offOptions, len(b)); err != nil {
		return err
	} else if !ended {
		return fault.New(fault.Invalid, "the options of a DHCP packet do not end")
	}
	// RFC 2131 §4.1: options go on in the fields that are overloaded, in file first.
	overload := o.get(optOverload)
	if len(overload) != 1 {
		return nil
	}
	if overload[0]&1 != 0 {
		if _, err := o.readField(offFile, offCookie); err != nil {
			return err
		}
	}
	if overload[0]&2 != 0 {
		if _, err := o.readField(offSname, offFile); err != nil {
			return err
		}
	}
	return nil
}

// readField reads the options between two offsets, and tells whether the end of options is there.
func (o *options) readField(i, end int) (ended bool, err error) {
	for i < end {
		code := o.b[i]
		i++
		switch code {
		case optPad:
			continue
		case optEnd:
			return true, nil
		}
		if i >= end || i+1+int(o.b[i]) > end {
			return false, fault.New(fault.Invalid, "option %d of a DHCP packet is cut short", code)
		}
		size := int(o.b[i])
		i++
		if err := o.add(code, span{uint16(i), uint16(size)}); err != nil {
			return false, err
		}
		i += size
	}
	return false, nil
}

// add notes a value, behind what there is of the option.
func (o *options) add(code byte, s span) error {
	old := o.at[code]
	if old.from == 0 {
		o.at[code] = s
		return nil
	}
	first, more := o.value(old), o.value(s)
	from := len(o.joined)
	if old.from&inJoined != 0 && int(old.from&^inJoined)+int(old.size) == from { // it is the last one there
		from -= int(old.size)
	} else {
		o.joined = append(o.joined, first...)
	}
	o.joined = append(o.joined, more...)
	if len(o.joined) > maxJoined {
		return fault.New(fault.Invalid, "option %d of a DHCP packet comes in too many parts", code)
	}
	o.at[code] = span{uint16(from) | inJoined, uint16(len(o.joined) - from)}
	return nil
}

func (o *options) value(s span) []byte {
	b := o.b
	if s.from&inJoined != 0 {
		b = o.joined
	}
	from, to := int(s.from&^inJoined), int(s.from&^inJoined)+int(s.size)
	return b[from:to:to]
}

// get returns an option's value; nil if it is not there.
func (o *options) get(code byte) []byte {
	if o.at[code].from == 0 {
		return nil
	}
	return o.value(o.at[code])
}

// has tells whether an option is there, which may be empty.
func (o *options) has(code byte) bool { return o.at[code].from != 0 }

// wants tells whether the client asked for an option. One that asks for none gets all (RFC 2131 §3.5).
func (o *options) wants(code byte) bool {
	return !o.has(optWanted) || bytes.IndexByte(o.get(optWanted), code) >= 0
}

// xid is the transaction of a packet.
func xid(b []byte) uint32 { return binary.BigEndian.Uint32(b[offXID:]) }

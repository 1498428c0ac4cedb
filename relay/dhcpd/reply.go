package dhcpd

import (
	"encoding/binary"
	"net/netip"
	"time"
)

const (
	// minReply is the length of a BOOTP packet. Some clients and relay agents drop what is shorter (RFC 951).
	minReply = 300
	// maxOptions is how many options a reply has at most, with room to spare.
	maxOptions = 32
)

// reply is a packet to a client while it is made. It is used again for the next one; the values of its options are
// either in it or belong to somebody who keeps them until it is encoded.
type reply struct {
	kind           messageType
	broadcast      bool
	ciaddr, yiaddr netip.Addr // invalid: 0.0.0.0
	siaddr         netip.Addr
	file           string

	options [maxOptions]option
	n       int
	small   [256]byte // values that are made for this reply
	used    int
}

type option struct {
	code  byte
	value []byte
}

// begin makes it an empty reply.
func (r *reply) begin(kind messageType) {
	r.kind, r.broadcast, r.file, r.n, r.used = kind, false, "", 0, 0
	r.ciaddr, r.yiaddr, r.siaddr = netip.Addr{}, netip.Addr{}, netip.Addr{}
	r.putByte(optMessageType, byte(kind))
}

// put sets an option to a value that outlives the reply.
func (r *reply) put(code byte, value []byte) {
	for i := range r.n {
		if r.options[i].code == code {
			r.options[i].value = value
			return
		}
	}
	r.options[r.n] = option{code, value}
	r.n++
}

// room is where a value of n bytes can be made.
func (r *reply) room(n int) []byte {
	if r.used+n > len(r.small) {
		return make([]byte, n)
	}
	b := r.small[r.used : r.used+n : r.used+n]
	r.used += n
	return b
}

func (r *reply) putByte(code, value byte) {
	b := r.room(1)
	b[0] = value
	r.put(code, b)
}

func (r *reply) putText(code byte, text string) {
	b := r.room(len(text))
	copy(b, text)
	r.put(code, b)
}

func (r *reply) putSeconds(code byte, d time.Duration) {
	b := r.room(4)
	binary.BigEndian.PutUint32(b, uint32(d/time.Second))
	r.put(code, b)
}

// putAddrs sets an option to those of the addresses that are of IPv4, if there are any.
func (r *reply) putAddrs(code byte, addrs ...netip.Addr) {
	b := r.room(4 * len(addrs))[:0]
	for _, a := range addrs {
		if a.Is4() {
			four := a.As4()
			b = append(b, four[:]...)
		}
	}
	if len(b) > 0 {
		r.put(code, b)
	}
}

// drop removes an option.
func (r *reply) drop(code byte) {
	for i := range r.n {
		if r.options[i].code == code {
			r.n--
			r.options[i] = r.options[r.n]
			return
		}
	}
}

// size is the length of the encoded reply.
func (r *reply) size() int {
	n := offOptions + 1
	for _, o := range r.options[:r.n] {
		n += len(o.value) + 2*max(1, (len(o.value)+254)/255)
	}
	return n
}

// fit keeps the reply within what the client takes: 576 bytes, or what it says in option 57, with the headers of IP and
// UDP (RFC 2131 §2, RFC 2132 §9.10).
func (r *reply) fit(q *query) {
	limit := 576
	if b := q.options.get(optMaxSize); len(b) == 2 {
		limit = min(max(limit, int(binary.BigEndian.Uint16(b))), maxPacket)
	}
	const headers = 28
	for _, code := range expendable {
		if r.size() <= limit-headers {
			return
		}
		r.drop(code)
	}
}

// expendable are the options that may be left out of a reply that is too long, the first ones first.
var expendable = []byte{optNTP, optBroadcast, optDomainName, optHostName, optTFTPServer, optMTU, optDNS, optMachine}

// encode writes the reply to a packet as bytes, and returns how many there are; 0 if it does not fit, which fit keeps
// from happening, but for agents that add more to a packet than one may have.
func (r *reply) encode(b []byte, q *query) int {
	if r.size() > len(b) {
		return 0
	}
	// RFC 3046 §2.2: option 82 is the last one.
	order := func(o option) int {
		if o.code == optAgent {
			return optEnd
		}
		return int(o.code)
	}
	for i := 1; i < r.n; i++ { // they are few, and nearly in order
		for j := i; j > 0 && order(r.options[j]) < order(r.options[j-1]); j-- {
			r.options[j], r.options[j-1] = r.options[j-1], r.options[j]
		}
	}
	clear(b[:offOptions])
	b[offOp] = opReply
	b[offHType], b[offHLen] = q.b[offHType], q.b[offHLen]
	copy(b[offXID:offXID+4], q.b[offXID:])
	b[offFlags] = q.b[offFlags] & 0x80
	if r.broadcast {
		b[offFlags] |= 0x80
	}
	for at, a := range map4(r.ciaddr, r.yiaddr, r.siaddr, q.giaddr) {
		copy(b[offCiaddr+4*at:], a[:])
	}
	copy(b[offChaddr:offSname], q.b[offChaddr:offChaddr+min(16, int(q.b[offHLen]))])
	copy(b[offFile:offCookie-1], r.file)
	copy(b[offCookie:], cookie)
	n := offOptions
	for _, o := range r.options[:r.n] {
		for value := o.value; ; {
			part := min(255, len(value)) // RFC 3396: a long one comes in parts
			b[n], b[n+1] = o.code, byte(part)
			n += 2 + copy(b[n+2:], value[:part])
			if value = value[part:]; len(value) == 0 {
				break
			}
		}
	}
	b[n] = optEnd
	n++
	if n < minReply {
		clear(b[n:minReply])
		n = minReply
	}
	return n
}

// map4 is the bytes of addresses; an invalid one is 0.0.0.0.
func map4(addrs ...netip.Addr) (all [4][4]byte) {
	for i, a := range addrs {
		if a.Is4() {
			all[i] = a.As4()
		}
	}
	return all
}

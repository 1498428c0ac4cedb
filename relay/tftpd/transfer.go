package tftpd

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Times of a transfer. A packet that is not acknowledged is sent again after what the client usually takes and some more
// (RFC 6298): after a lost one, half a second a block is what makes a transfer slow. Then after twice as long each time,
// because a ROM that paints its screen may not look at its card for seconds.
const (
	firstWait = 400 * time.Millisecond // nothing is known of the client yet
	leastWait = 20 * time.Millisecond
	longWait  = mostWait * time.Second
	patience  = 20 * time.Second // until a client that has said something is given up
	unproven  = 10 * time.Second // and one that has not, which is sent nothing after maxUnproven packets
	linger    = 2 * time.Second  // that a transfer is remembered after its end
)

// maxUnproven is how many packets a client gets that has acknowledged nothing: its request may have been sent by somebody
// else in its name.
const maxUnproven = 3

// stage is how far a transfer is.
type stage uint8

const (
	asked stage = iota // nothing was acknowledged yet: the client may not be there at all
	going
	over // remembered, so that what is still on the wire is not taken for a stranger's
)

// transfer is one program on its way to one client. It does no I/O and is given the time.
type transfer struct {
	peer  netip.AddrPort
	local netip.Addr // where the client sent its request to, and so where it hears from; invalid: the system's choice
	ask   string     // the request, as it came
	name  string
	node  catalog.NodeName
	hw    catalog.HardwareAddr
	body  []byte
	terms terms
	began time.Time

	stage  stage
	opened bool // the OACK was acknowledged, or there was none
	acked  int  // blocks acknowledged, from the first
	sent   int  // and sent
	plain  bool // the kernel does not segment for it

	due   time.Time // when what is not acknowledged is sent again, or the transfer ends
	heard time.Time
	tries int       // packets or windows sent since the last progress
	first time.Time // when the first of them was sent
	last  time.Time
	back  bool // what follows acked was sent again already, because the client asked for it

	wait     time.Duration // RFC 6298's RTO
	mean     time.Duration // and SRTT; 0: not measured yet
	variance time.Duration // and RTTVAR
}

func newTransfer(p *packet, name string, body []byte, t terms, now time.Time) *transfer {
	x := &transfer{peer: p.from, local: p.to, ask: string(p.data), name: name, body: body, terms: t, began: now, heard: now, wait: firstWait, opened: t.answer == nil}
	if t.wait > 0 {
		x.wait = time.Duration(t.wait) * time.Second
	}
	x.sent = x.upTo()
	x.note(now)
	return x
}

// blocks is how many the program has: the last is shorter than the others, and may be empty.
func (t *transfer) blocks() int { return len(t.body)/t.terms.block + 1 }

// upTo is the block after the last that may be under way now.
func (t *transfer) upTo() int {
	if !t.opened {
		return 0
	}
	return min(t.acked+t.terms.window, t.blocks())
}

// note is called when something is sent.
func (t *transfer) note(now time.Time) {
	if t.tries++; t.tries == 1 {
		t.first = now
	}
	t.last, t.due = now, now.Add(t.wait)
}

// reply is what an acknowledgement leads to.
type reply uint8

const (
	nothing reply = iota
	send          // what burst returns
	done          // it was the last
)

// acknowledge handles an acknowledgement.
func (t *transfer) acknowledge(block uint16, now time.Time) reply {
	if t.stage == over {
		return nothing
	}
	if !t.opened { // only the OACK can be meant
		if block != 0 {
			return nothing
		}
		t.heard, t.opened = now, true
		t.measure(now)
		return t.onward(now)
	}
	// Block numbers have 16 bits and begin again after 65535: what counts is how far one is from the last.
	ahead := int(int16(block - uint16(t.acked)))
	switch {
	case ahead < 0 || t.acked+ahead > t.sent:
		return nothing
	case ahead == 0:
		return t.again(now)
	}
	t.heard = now
	whole := t.acked+ahead == t.sent
	if whole {
		t.measure(now)
	}
	t.acked += ahead
	t.back = !whole // else the client lacks what follows, and will have it now
	if t.acked == t.blocks() {
		return done
	}
	return t.onward(now)
}

// onward sends what follows.
func (t *transfer) onward(now time.Time) reply {
	t.tries = 0
	t.sent = t.upTo()
	t.note(now)
	return send
}

// again handles an acknowledgement that came already. With one block at a time it means nothing: to answer it would
// double every packet that follows (RFC 1123 §4.2.3.1). In a window it is how a client says that it lacks the first
// block, if it can have seen any of the window.
func (t *transfer) again(now time.Time) reply {
	if t.acked == 0 && t.stage == asked {
		return nothing
	}
	t.heard = now
	if t.terms.window == 1 || t.back || now.Sub(t.last) < t.mean/2 {
		return nothing
	}
	t.back = true
	t.note(now)
	return send
}

// overdue handles that nothing came until t.due. It is false when the transfer is given up.
func (t *transfer) overdue(now time.Time) (again, alive bool) {
	silent := now.Sub(t.heard)
	switch {
	case t.stage == over:
		return false, false
	case t.stage == asked && t.tries >= maxUnproven:
		t.due = t.heard.Add(unproven)
		return false, silent < unproven
	case silent >= patience:
		return false, false
	}
	if t.terms.wait == 0 {
		t.wait = min(2*t.wait, longWait)
	}
	t.note(now)
	return true, true
}

// measure learns how long the client takes (RFC 6298 §2). Of what was sent again it counts from the first time, other than
// Karn's algorithm, which takes nothing from that: it would never learn of a client that has become slow, such as one
// on a machine with too much to do, and send it everything twice. After a loss it waits a little too long for a while.
func (t *transfer) measure(now time.Time) {
	took := now.Sub(t.first)
	if t.mean == 0 {
		t.mean, t.variance = took, took/2
	} else {
		t.variance += ((t.mean - took).Abs() - t.variance) / 4
		t.mean += (took - t.mean) / 8
	}
	if t.terms.wait > 0 { // the client says how long to wait
		return
	}
	t.wait = min(max(t.mean+4*t.variance, leastWait), longWait)
}

// burst is what is to be sent now: the OACK, or what was not acknowledged.
func (t *transfer) burst() burst {
	b := burst{to: t.peer, from: t.local, plain: &t.plain}
	if !t.opened {
		b.whole = t.terms.answer
		return b
	}
	b.first, b.count, b.size = t.acked+1, t.sent-t.acked, t.terms.block
	b.body = t.body[t.acked*b.size : min(t.sent*b.size, len(t.body))]
	return b
}

// burst is packets to one client, in a row: one as it is, or blocks of a program.
type burst struct {
	to    netip.AddrPort
	from  netip.Addr // invalid: the system's choice
	whole []byte

	body  []byte // of all blocks
	first int    // the first one's number, from 1
	count int
	size  int   // of all but the last
	plain *bool // set when the kernel does not segment
}

// block is the i-th block's header and content.
func (b *burst) block(i int, head *[header]byte) []byte {
	binary.BigEndian.PutUint16(head[:], opData)
	binary.BigEndian.PutUint16(head[2:], uint16(b.first+i))
	return b.body[min(i*b.size, len(b.body)):min((i+1)*b.size, len(b.body))]
}

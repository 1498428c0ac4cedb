package tftpd

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bounds of what the kernel is given at once.
const (
	maxBatch    = 64         // packets read, or messages sent
	maxPieces   = 1024       // blocks of all messages
	maxSegments = 64         // of one message (UDP_MAX_SEGMENTS, before Linux 6.9)
	maxDatagram = 65535 - 28 // bytes, all segments of a message together
	buffer      = 4 << 20    // bytes of a socket, each way: all transfers' acknowledgements, and many windows
)

// fullWait is how long is waited for room in the socket, which packets to a dead client may take up; then what there is to
// send is lost.
const fullWait = 20 * time.Millisecond

// kernelPort is a socket of the kernel's, for IPv4. One system call reads or sends many packets, blocks are sent from where
// the program lies, and those of a window go down the stack as one message that is cut up at its end (UDP_SEGMENT).
type kernelPort struct {
	*net.UDPConn
	raw  syscall.RawConn
	mtus mtus

	read  batch
	write batch
	in    [maxBatch]packet
	bufs  [maxBatch][maxRequest + 64]byte

	heads  [maxPieces][header]byte
	pieces [2 * maxPieces]unix.Iovec
	used   int              // of heads, and twice that of pieces
	whose  [maxBatch]*burst // the messages' that are cut up, nil for others
	again  []*burst         // those that the kernel did not cut up
}

// batch is messages for one system call.
type batch struct {
	msgs  [maxBatch]message
	iovs  [maxBatch]unix.Iovec // of messages in one piece
	peers [maxBatch]unix.RawSockaddrInet4
	notes [maxBatch]note
	from  int // the first of them that is yet to be handled
	to    int // after the last

	run   func(fd uintptr) bool // see call
	trap  uintptr               // the system call
	wait  bool                  // for the socket, while it is not ready
	done  int                   // messages that the call handled
	errno syscall.Errno
}

// message is the system's struct mmsghdr.
type message struct {
	unix.Msghdr
	n uint32
}

// note is what goes with a message: this computer's address, and the length of a segment. It is aligned for the kernel's
// structures.
type note [8]uint64

func (n *note) at(offset int) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(n), offset) }

// put writes a control message at an offset, and returns its content and where the next one begins.
func (n *note) put(offset int, level, kind int32, size int) (content unsafe.Pointer, next int) {
	h := (*unix.Cmsghdr)(n.at(offset))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(size))
	return n.at(offset + unix.CmsgLen(0)), offset + unix.CmsgSpace(size)
}

// newKernelPort takes a socket over. It is false for one that is not the kernel's, or not for IPv4 alone.
func newKernelPort(c net.PacketConn) (*kernelPort, bool) {
	udp, ok := c.(*net.UDPConn)
	if !ok {
		return nil, false
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, false
	}
	if err := raw.Control(func(fd uintptr) {
		domain, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		ok = err == nil && domain == unix.AF_INET && unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1) == nil
		for _, option := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, buffer) // root alone may: what the system gives does for most
		}
	}); err != nil || !ok {
		return nil, false
	}
	p := &kernelPort{UDPConn: udp, raw: raw}
	p.read.trap, p.read.wait, p.read.to = unix.SYS_RECVMMSG, true, maxBatch
	p.write.trap = unix.SYS_SENDMMSG
	p.read.run, p.write.run = p.read.call, p.write.call // once: a method value is made anew each time
	for i := range maxBatch {
		p.read.iovs[i].Base = &p.bufs[i][0]
		p.read.iovs[i].SetLen(len(p.bufs[i]))
		p.read.msgs[i].Iov = &p.read.iovs[i]
		p.read.msgs[i].SetIovlen(1)
		for _, b := range []*batch{&p.read, &p.write} {
			b.msgs[i].Name, b.msgs[i].Namelen = (*byte)(unsafe.Pointer(&b.peers[i])), unix.SizeofSockaddrInet4
			b.msgs[i].Control = (*byte)(unsafe.Pointer(&b.notes[i]))
			b.msgs[i].SetControllen(len(note{}) * 8)
			b.peers[i].Family = unix.AF_INET
		}
	}
	return p, true
}

// sibling is a port of its own at the same address, for transfers.
func (p *kernelPort) sibling() (*kernelPort, error) {
	local, ok := p.LocalAddr().(*net.UDPAddr)
	if !ok {
		return nil, errors.New("the socket for requests has no address")
	}
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: local.IP})
	if err != nil {
		return nil, err
	}
	s, ok := newKernelPort(c)
	if !ok {
		c.Close()
		return nil, errors.New("a socket for transfers cannot be set up")
	}
	return s, nil
}

func (p *kernelPort) until(t time.Time) error { return p.SetReadDeadline(t) }

// call makes the system call. The runtime calls it again when the socket is ready, until it is true. The call never waits,
// and is not announced to the scheduler: that would take the processor away from it each time, and costs a fifth of all.
func (b *batch) call(fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall6(b.trap, fd, uintptr(unsafe.Pointer(&b.msgs[b.from])), uintptr(b.to-b.from), unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		b.done, b.errno = int(n), errno
		if errno != 0 {
			b.done = 0
		}
		return errno != unix.EAGAIN || !b.wait
	}
}

func (p *kernelPort) receive() ([]packet, error) {
	for {
		p.tidy()
		if err := p.raw.Read(p.read.run); err != nil {
			return nil, err
		}
		if p.read.errno != 0 {
			return nil, os.NewSyscallError("recvmmsg", p.read.errno)
		}
		if in := p.taken(); len(in) > 0 {
			return in, nil
		}
	}
}

func (p *kernelPort) poll() []packet {
	p.tidy()
	p.read.done = 0
	_ = p.raw.Control(func(fd uintptr) { p.read.call(fd) }) // it fails when the port is closed, which receive tells
	return p.taken()
}

// tidy undoes what the kernel wrote where messages are read to.
func (p *kernelPort) tidy() {
	for i := range p.read.done {
		p.read.msgs[i].Namelen = unix.SizeofSockaddrInet4
		p.read.msgs[i].SetControllen(len(note{}) * 8)
	}
}

// taken is what was read, without packets that were cut, and broadcasts, which a server ignores (RFC 1123 §4.2.3.5).
func (p *kernelPort) taken() []packet {
	in := p.in[:0]
	for i := range p.read.done {
		m, n := &p.read.msgs[i], &p.read.notes[i]
		if m.Flags&unix.MSG_TRUNC != 0 || m.Namelen != unix.SizeofSockaddrInet4 {
			continue
		}
		c := packet{from: addrPort(&p.read.peers[i]), mtu: ethernet, data: p.bufs[i][:m.n]}
		if h := (*unix.Cmsghdr)(n.at(0)); int(m.Controllen) >= unix.CmsgLen(unix.SizeofInet4Pktinfo) && h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO {
			info := (*unix.Inet4Pktinfo)(n.at(unix.CmsgLen(0)))
			if none := [4]byte{}; info.Spec_dst == none {
				in = append(in, c) // it came before the socket was told to take that down
				continue
			}
			if info.Addr != info.Spec_dst {
				continue
			}
			c.to = netip.AddrFrom4(info.Addr)
			if len(c.data) > header && c.data[1] == opRead { // an acknowledgement needs none
				c.mtu = p.mtus.of(int(info.Ifindex))
			}
		}
		in = append(in, c)
	}
	return in
}

func addrPort(a *unix.RawSockaddrInet4) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&a.Port))[:]))
}

func (p *kernelPort) send(out []burst) {
	p.again = p.again[:0]
	for i := range out {
		p.add(&out[i])
	}
	p.flush()
	for _, b := range p.again {
		*b.plain = true
		p.add(b)
	}
	p.flush()
}

// add puts a burst into the batch, and sends the batch when it is full.
func (p *kernelPort) add(b *burst) {
	if b.whole != nil {
		m, i := p.message(b)
		p.write.iovs[i].Base = &b.whole[0]
		p.write.iovs[i].SetLen(len(b.whole))
		m.Iov = &p.write.iovs[i]
		m.SetIovlen(1)
		return
	}
	most := 1
	if !*b.plain {
		most = max(1, min(maxSegments, maxDatagram/(header+b.size)))
	}
	for at := 0; at < b.count; at += most {
		count := min(most, b.count-at)
		if p.used+count > maxPieces {
			p.flush()
		}
		m, i := p.message(b)
		pieces := p.pieces[2*p.used : 2*p.used : 2*(p.used+count)]
		for j := range count {
			head := &p.heads[p.used]
			p.used++
			body := b.block(at+j, head)
			pieces = append(pieces, unix.Iovec{Base: &head[0], Len: header})
			if len(body) > 0 {
				pieces = append(pieces, unix.Iovec{Base: &body[0], Len: uint64(len(body))})
			}
		}
		m.Iov = &pieces[0]
		m.SetIovlen(len(pieces))
		if count > 1 {
			content, end := p.write.notes[i].put(int(m.Controllen), unix.SOL_UDP, unix.UDP_SEGMENT, 2)
			*(*uint16)(content) = uint16(header + b.size)
			m.SetControllen(end)
			p.whose[i] = b
		}
	}
}

// message is the next one of the batch, to the burst's client and from where it looks for the answer.
func (p *kernelPort) message(b *burst) (*message, int) {
	if p.write.to == maxBatch {
		p.flush()
	}
	i := p.write.to
	p.write.to++
	p.whose[i] = nil
	m, peer := &p.write.msgs[i], &p.write.peers[i]
	peer.Addr = b.to.Addr().As4()
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&peer.Port))[:], b.to.Port())
	end := 0
	if b.from.IsValid() {
		var content unsafe.Pointer
		content, end = p.write.notes[i].put(0, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
		*(*unix.Inet4Pktinfo)(content) = unix.Inet4Pktinfo{Spec_dst: b.from.As4()}
	}
	m.SetControllen(end)
	return m, i
}

// flush sends the batch.
func (p *kernelPort) flush() {
	w := &p.write
	for w.from = 0; w.from < w.to; {
		if err := p.raw.Write(w.run); err != nil {
			break // closed
		}
		switch {
		case w.errno == 0:
			w.from += w.done
		case w.errno == unix.EAGAIN:
			if !p.awaitRoom() {
				w.from = w.to
			}
		default:
			// EIO where the interface computes no checksums, EINVAL where a segment does not fit it or the kernel is old.
			if b := p.whose[w.from]; b != nil && (len(p.again) == 0 || p.again[len(p.again)-1] != b) {
				p.again = append(p.again, b)
			}
			w.from++
		}
	}
	w.from, w.to, p.used = 0, 0, 0
}

// awaitRoom waits for room in the socket and sends the rest of the batch's beginning. It is false if there was none.
func (p *kernelPort) awaitRoom() bool {
	w := &p.write
	_ = p.SetWriteDeadline(time.Now().Add(fullWait))
	w.wait = true
	err := p.raw.Write(w.run)
	w.wait = false
	_ = p.SetWriteDeadline(time.Time{})
	if err == nil && w.errno == 0 {
		w.from += w.done
	}
	return err == nil
}

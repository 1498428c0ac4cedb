package storm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// TFTP (RFC 1350, with the options of RFC 2347 to 2349 and 7440) as firmware does it: a block that fits an Ethernet frame,
// and six tries of four seconds.
const (
	tftpBlock   = 1468
	tftpTimeout = 4 * time.Second
	tftpTries   = 6
	maxLoader   = 16 << 20
)

// Opcodes of TFTP.
const (
	opRead  = 1
	opData  = 3
	opAck   = 4
	opError = 5
	opOAck  = 6
)

// tftp fetches a file, and throws it away; it returns how many bytes it has.
func (m *machine) tftp(ctx context.Context, server, file string) (int64, error) {
	ip, err := netip.ParseAddr(server)
	if err != nil {
		return 0, fmt.Errorf("%q is no address of a TFTP server", server)
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: m.Address.AsSlice()})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	t := &transfer{to: netip.AddrPortFrom(ip, 69), block: 512, window: 1, want: m.storm.cfg.Window, announced: -1}
	words := []string{file, "octet", "tsize", "0", "blksize", strconv.Itoa(tftpBlock)}
	if t.want > 1 {
		words = append(words, "windowsize", strconv.Itoa(t.want))
	}
	t.send = append(binary.BigEndian.AppendUint16(nil, opRead), strings.Join(append(words, ""), "\x00")...)
	b := make([]byte, 4+tftpBlock+1)
	for !t.over {
		if err := m.tftpStep(ctx, conn, t, b); err != nil {
			return 0, err
		}
	}
	_, _ = conn.WriteToUDPAddrPort(t.send, t.to) // the last acknowledgement: nobody answers it
	if t.announced >= 0 && t.announced != t.got {
		return 0, fmt.Errorf("%d bytes came of %d announced", t.got, t.announced)
	}
	return t.got, nil
}

// tftpStep says what is to be said, and takes packets until there is something to say again.
func (m *machine) tftpStep(ctx context.Context, conn *net.UDPConn, t *transfer, b []byte) error {
	for silent := 0; silent < tftpTries; silent++ {
		if silent > 0 {
			m.storm.tally.retry("loader")
		}
		if _, err := conn.WriteToUDPAddrPort(t.send, t.to); err != nil {
			return err
		}
		conn.SetReadDeadline(time.Now().Add(tftpTimeout))
		for {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return err
			}
			answer, err := t.take(b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
			if answer || err != nil {
				return err
			}
		}
	}
	return errors.New("the TFTP server does not answer")
}

// transfer is one file on its way.
type transfer struct {
	to        netip.AddrPort // port 69, then the transfer's own
	bound     bool
	send      []byte // to be repeated until something comes
	next      uint16 // block expected next, less one
	inWindow  int    // blocks since the last acknowledgement
	block     int
	window    int
	want      int // window asked for
	got       int64
	announced int64
	over      bool
}

// take handles a packet and tells whether send is to be sent now.
func (t *transfer) take(b []byte, from netip.AddrPort) (bool, error) {
	if from.Addr() != t.to.Addr() || t.bound && from.Port() != t.to.Port() || len(b) < 4 {
		return false, nil
	}
	switch op := binary.BigEndian.Uint16(b); {
	case op == opError:
		return true, fmt.Errorf("TFTP error %d: %s", binary.BigEndian.Uint16(b[2:]), strings.TrimRight(string(b[4:]), "\x00"))
	case op == opOAck && !t.bound:
		t.to, t.bound = from, true
		if err := t.agree(strings.Split(strings.TrimSuffix(string(b[2:]), "\x00"), "\x00")); err != nil {
			return true, err
		}
	case op == opData && binary.BigEndian.Uint16(b[2:]) == t.next+1 && len(b)-4 <= t.block:
		t.to, t.bound = from, true
		t.next++
		t.inWindow++
		t.got += int64(len(b) - 4)
		if t.got > maxLoader {
			return true, errors.New("the boot program does not end")
		}
		t.over = len(b)-4 < t.block
		if t.inWindow < t.window && !t.over {
			return false, nil
		}
	case op == opData && t.bound && t.inWindow > 0: // a block is missing: what came before it is all there is (RFC 7440 §4)
	case op == opData && t.bound && t.window == 1 && binary.BigEndian.Uint16(b[2:]) == t.next: // the acknowledgement was lost
	default: // an old block again: the acknowledgement is under way, or its time comes
		return false, nil
	}
	t.inWindow = 0
	t.send = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(t.send[:0], opAck), t.next)
	return true, nil
}

// agree takes the options that the server acknowledges.
func (t *transfer) agree(words []string) error {
	for i := 0; i+1 < len(words); i += 2 {
		n, err := strconv.ParseInt(words[i+1], 10, 64)
		switch name := strings.ToLower(words[i]); {
		case err != nil || name == "blksize" && (n < 8 || n > tftpBlock) || name == "windowsize" && (n < 1 || n > int64(t.want)):
			return fmt.Errorf("the server answers %s=%s", words[i], words[i+1])
		case name == "blksize":
			t.block = int(n)
		case name == "tsize":
			t.announced = n
		case name == "windowsize" && t.want > 1:
			t.window = int(n)
		default:
			return fmt.Errorf("the server answers the option %s, which nobody asked for", words[i])
		}
	}
	return nil
}

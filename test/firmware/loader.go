package firmware

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

// loader is what the firmware does: an address, and the boot program.
func (m *Machine) loader(ctx context.Context) error {
	ack, err := m.dhcp(ctx, m.rom())
	if err != nil {
		return err
	}
	if err := m.passes(ctx, boot.StageDHCP); err != nil {
		return err
	}
	file, server := bootFile(ack)
	var b []byte
	if m.cfg.Firmware == boot.FirmwareHTTP64 {
		// UEFI 2.10 §24.7.3.1: an offer to an HTTP client is only for it if it says so.
		if ack.ClassIdentifier() != "HTTPClient" {
			return fmt.Errorf("the firmware wants HTTP boot, and the server's class is %q", ack.ClassIdentifier())
		}
		b, err = m.get(ctx, file, connectTime)
	} else {
		b, err = m.tftp(ctx, server, file)
	}
	if err != nil {
		return fmt.Errorf("fetching %s from %s: %w", file, server, err)
	}
	if len(b) == 0 {
		return fmt.Errorf("the boot program %s is empty", file)
	}
	m.note("runs %s of %d bytes", file, len(b))
	return m.passes(ctx, boot.StageLoader)
}

// TFTP (RFC 1350, with the options of RFC 2347 to 2349) as firmware does it: a block that fits an Ethernet frame, and
// six tries of four seconds. UEFI asks for a window, too (RFC 7440), as EDK II has since 2020; ROMs of BIOS know none.
const (
	tftpBlock   = 1468
	tftpWindow  = 4
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

// tftp fetches a file.
func (m *Machine) tftp(ctx context.Context, server, file string) ([]byte, error) {
	conn, err := m.host.ListenPacket(m.host.Addr().String() + ":0")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	ip := net.ParseIP(server)
	if ip == nil {
		return nil, fmt.Errorf("%q is no address of a TFTP server", server)
	}
	t := &transfer{conn: conn, to: &net.UDPAddr{IP: ip, Port: 69}, block: 512, window: 1}
	words := []string{file, "octet", "tsize", "0", "blksize", strconv.Itoa(tftpBlock)}
	if m.cfg.Firmware != boot.FirmwareBIOS {
		words = append(words, "windowsize", strconv.Itoa(tftpWindow))
	}
	t.send = append(binary.BigEndian.AppendUint16(nil, opRead), strings.Join(append(words, ""), "\x00")...)
	for !t.over {
		if err := t.step(ctx); err != nil {
			return nil, err
		}
	}
	_, _ = conn.WriteTo(t.send, t.to) // the last acknowledgement: nobody answers it
	if t.size >= 0 && t.announced && int64(len(t.got)) != t.size {
		return nil, fmt.Errorf("%d bytes came of %d announced", len(t.got), t.size)
	}
	return t.got, nil
}

// transfer is one file on its way.
type transfer struct {
	conn      net.PacketConn
	to        *net.UDPAddr // port 69, then the transfer's own
	bound     bool
	send      []byte // to be repeated until the next packet comes
	next      uint16 // block expected next, less one
	block     int
	window    int
	since     int // blocks since the last acknowledgement
	size      int64
	announced bool
	got       []byte
	over      bool
}

// step sends what is to be said and takes the packet that answers it.
func (t *transfer) step(ctx context.Context) error {
	b := make([]byte, 4+tftpBlock+1)
	for silent := 0; silent < tftpTries; {
		if _, err := t.conn.WriteTo(t.send, t.to); err != nil {
			return err
		}
		t.since = 0
		t.conn.SetReadDeadline(time.Now().Add(tftpTimeout))
		for {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			n, from, err := t.conn.ReadFrom(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				silent++
				break
			}
			if err != nil {
				return err
			}
			if t.again(b[:n]) {
				break // the acknowledgement was lost: say it again
			}
			taken, err := t.take(b[:n], from.(*net.UDPAddr))
			if err != nil {
				return err
			}
			if taken {
				if t.since == 0 || t.since == t.window || t.over {
					return nil
				}
				t.conn.SetReadDeadline(time.Now().Add(tftpTimeout)) // the rest of the window is on its way
			}
		}
	}
	return errors.New("the TFTP server does not answer")
}

// again tells whether a packet is a block that came already, or one too early: in both cases the server is to go on after
// the last one that came in order (RFC 7440 §4).
func (t *transfer) again(b []byte) bool {
	if t.next == 0 || len(b) < 4 || binary.BigEndian.Uint16(b) != opData {
		return false
	}
	block := binary.BigEndian.Uint16(b[2:])
	return block == t.next && t.since == 0 || t.window > 1 && int16(block-t.next) > 1
}

// take handles a packet and tells whether it was the one waited for.
func (t *transfer) take(b []byte, from *net.UDPAddr) (bool, error) {
	if !from.IP.Equal(t.to.IP) || t.bound && from.Port != t.to.Port || len(b) < 4 {
		return false, nil
	}
	switch op := binary.BigEndian.Uint16(b); {
	case op == opError:
		return true, fmt.Errorf("TFTP error %d: %s", binary.BigEndian.Uint16(b[2:]), strings.TrimRight(string(b[4:]), "\x00"))
	case op == opOAck && !t.bound:
		words := strings.Split(strings.TrimSuffix(string(b[2:]), "\x00"), "\x00")
		for i := 0; i+1 < len(words); i += 2 {
			n, err := strconv.ParseInt(words[i+1], 10, 64)
			switch name := strings.ToLower(words[i]); {
			case err != nil || name == "blksize" && (n < 8 || n > tftpBlock):
				return true, fmt.Errorf("the server answers %s=%s", words[i], words[i+1])
			case name == "blksize":
				t.block = int(n)
			case name == "windowsize" && n >= 1 && n <= tftpWindow:
				t.window = int(n)
			case name == "tsize":
				t.size, t.announced = n, true
			default:
				return true, fmt.Errorf("the server answers the option %s, which nobody asked for", words[i])
			}
		}
	case op == opData && binary.BigEndian.Uint16(b[2:]) == t.next+1 && len(b)-4 <= t.block:
		t.next++
		t.since++
		t.got = append(t.got, b[4:]...)
		t.over = len(b)-4 < t.block
		if len(t.got) > maxLoader {
			return true, errors.New("the boot program does not end")
		}
	default:
		return false, nil
	}
	t.to, t.bound = &net.UDPAddr{IP: from.IP, Port: from.Port}, true
	t.send = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, opAck), t.next)
	return true, nil
}

// connectTime is how long firmware and iPXE try to connect: iPXE's SYNs wait a quarter of a second and then twice as
// long each, up to ten seconds.
const connectTime = 15750 * time.Millisecond

// get fetches a file by plain HTTP. Where the answer does not begin, or stops, for the time given, it is given up; 0 is
// for ever.
func (m *Machine) get(ctx context.Context, url string, progress time.Duration) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alarm := func() {}
	if progress > 0 {
		t := time.AfterFunc(progress, func() { cancel(errors.New("connection timed out")) })
		defer t.Stop()
		alarm = func() { t.Reset(progress) }
	}
	tr := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, connectTime)
			defer cancel()
			return m.host.Dial(ctx, network, addr)
		},
		DisableKeepAlives: true, DisableCompression: true,
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "iPXE/1.21.1")
	a, err := tr.RoundTrip(r)
	if err != nil {
		return nil, cause(ctx, err)
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", a.StatusCode)
	}
	var got []byte
	b := make([]byte, 64<<10)
	for {
		n, err := a.Body.Read(b)
		got = append(got, b[:n]...)
		if n > 0 {
			alarm()
		}
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return nil, cause(ctx, err)
		}
	}
}

// cause is why ctx ended, or else err.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

package tftpd_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// wishes are the options of a client; what is 0 is not asked for.
type wishes struct{ block, window, wait int }

// fetched is what came of a fetch.
type fetched struct {
	body    []byte
	options map[string]string // of the OACK
	packets int
	ports   map[int]bool // that the server sent from
}

// fetch takes a program as firmware does. Of the packets that come, lose says which are to be lost.
func fetch(conn net.PacketConn, to net.Addr, name string, w wishes, lose func(packet int) bool) (f fetched, err error) {
	f.options, f.ports = map[string]string{}, map[int]bool{}
	words := []string{name, "octet", "tsize", "0"}
	for _, o := range []struct {
		name  string
		value int
	}{{"blksize", w.block}, {"windowsize", w.window}, {"timeout", w.wait}} {
		if o.value > 0 {
			words = append(words, o.name, strconv.Itoa(o.value))
		}
	}
	say := append([]byte{0, 1}, strings.Join(append(words, ""), "\x00")...)
	block, window, have, behind := 512, 1, 0, 0
	b := make([]byte, 1<<16)
	send := func(p []byte) error {
		say = p
		_, err := conn.WriteTo(p, to)
		return err
	}
	acknowledge := func() error {
		behind = 0
		return send(binary.BigEndian.AppendUint16([]byte{0, 4}, uint16(have)))
	}
	if err := send(say); err != nil {
		return f, err
	}
	for silent := 0; silent < 6; {
		if err := conn.SetReadDeadline(time.Now().Add(4 * time.Second)); err != nil {
			return f, err
		}
		n, from, err := conn.ReadFrom(b)
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			silent++
			if err := send(say); err != nil {
				return f, err
			}
			continue
		} else if err != nil {
			return f, err
		}
		if f.packets++; lose != nil && lose(f.packets) {
			continue
		}
		to, silent = from, 0
		f.ports[from.(*net.UDPAddr).Port] = true
		switch op := binary.BigEndian.Uint16(b); {
		case op == 5:
			return f, fmt.Errorf("error %d: %s", binary.BigEndian.Uint16(b[2:]), strings.TrimRight(string(b[4:n]), "\x00"))
		case op == 6 && have == 0:
			words := strings.Split(string(b[2:n]), "\x00")
			for i := 0; i+1 < len(words); i += 2 {
				f.options[words[i]] = words[i+1]
			}
			if v := f.options["blksize"]; v != "" {
				block, _ = strconv.Atoi(v)
			}
			if v := f.options["windowsize"]; v != "" {
				window, _ = strconv.Atoi(v)
			}
			if err := acknowledge(); err != nil {
				return f, err
			}
		case op == 3 && binary.BigEndian.Uint16(b[2:]) == uint16(have+1):
			have++
			behind++
			f.body = append(f.body, b[4:n]...)
			last := n-4 < block
			if last || behind == window {
				if err := acknowledge(); err != nil {
					return f, err
				}
			}
			if last {
				return f, nil
			}
		case op == 3: // RFC 7440 §4: a gap; the server goes on after the last block that was in order
			if err := acknowledge(); err != nil {
				return f, err
			}
		}
	}
	return f, fmt.Errorf("nothing after %d bytes", len(f.body))
}

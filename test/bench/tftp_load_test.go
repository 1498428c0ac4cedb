//go:build bench

package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// fetchers are many machines that fetch one program by TFTP, at addresses of their own from 10.1.0.1 on. Every byte is
// compared.
type fetchers struct {
	server  netip.AddrPort
	name    string
	program []byte
	clients int
	each    int     // transfers of each client, one after the other
	window  int     // 1: none is asked for
	loss    float64 // of the packets that come: by dice that fall the same each time
}

// loaded is what came of it.
type loaded struct {
	wall   time.Duration
	each   []time.Duration // of each transfer
	window int             // that the server agreed to
	failed error           // one of the errors
	fails  int
}

// Times of a client: it says again what it said last when nothing comes, as iPXE and EDK II do within seconds.
const (
	loadWait  = time.Second
	loadTries = 30
)

func (l fetchers) run() loaded {
	var all loaded
	var mu sync.Mutex
	var running sync.WaitGroup
	began := time.Now()
	for i := range l.clients {
		running.Go(func() {
			addr := netip.AddrFrom4([4]byte{10, 1, byte((i + 1) >> 8), byte(i + 1)})
			dice := rand.New(rand.NewPCG(uint64(i), 1))
			for range l.each {
				start := time.Now()
				window, err := l.fetch(addr, dice)
				took := time.Since(start)
				mu.Lock()
				all.window = window
				if all.each = append(all.each, took); err != nil {
					all.failed, all.fails = err, all.fails+1
				}
				mu.Unlock()
			}
		})
	}
	running.Wait()
	all.wall = time.Since(began)
	return all
}

// fetch is one transfer. It returns the window that was agreed on.
func (l fetchers) fetch(addr netip.Addr, dice *rand.Rand) (window int, err error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return l.over(conn, dice)
}

// over is one transfer over a socket.
func (l fetchers) over(conn *net.UDPConn, dice *rand.Rand) (window int, err error) {
	words := []string{l.name, "octet", "blksize", "1468", "tsize", "0"}
	if l.window > 1 {
		words = append(words, "windowsize", strconv.Itoa(l.window))
	}
	ask := append([]byte{0, 1}, strings.Join(append(words, ""), "\x00")...)
	c := loadClient{fetchers: l, conn: conn, to: l.server, say: ask, block: 512, window: 1, gap: -1}
	b := make([]byte, 2048)
	for tries := 0; tries < loadTries; {
		if c.say != nil {
			if _, err := conn.WriteToUDPAddrPort(c.say, c.to); err != nil {
				return c.window, err
			}
			c.last, c.say = c.say, nil
			if c.have == c.blocks() {
				return c.window, nil
			}
			if err := conn.SetReadDeadline(time.Now().Add(loadWait)); err != nil {
				return c.window, err
			}
		}
		n, from, err := conn.ReadFromUDPAddrPort(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			tries++
			if c.say = c.last; c.have > 0 {
				c.acknowledge()
			}
			continue
		}
		if err != nil {
			return c.window, err
		}
		if l.loss > 0 && dice.Float64() < l.loss {
			continue
		}
		tries = 0
		if err := c.take(b[:n], from); err != nil {
			return c.window, err
		}
	}
	return c.window, fmt.Errorf("nothing comes after block %d", c.have)
}

// loadClient is one transfer's state.
type loadClient struct {
	fetchers
	conn      *net.UDPConn
	to        netip.AddrPort
	bound     bool // to is the transfer's own port
	say, last []byte
	block     int
	window    int
	have      int // blocks, in order
	since     int // of them since the last acknowledgement
	gap       int // after which block the server was told to go on already
	ack       [4]byte
}

func (c *loadClient) blocks() int { return len(c.program)/c.block + 1 }

func (c *loadClient) acknowledge() {
	c.ack = [4]byte{0, 4}
	binary.BigEndian.PutUint16(c.ack[2:], uint16(c.have))
	c.say, c.since = c.ack[:], 0
}

func (c *loadClient) take(p []byte, from netip.AddrPort) error {
	if len(p) < 4 || c.bound && from != c.to {
		return nil
	}
	c.to, c.bound = from, true
	switch block := binary.BigEndian.Uint16(p[2:]); p[1] {
	case 5:
		return fmt.Errorf("the server says %q", p[4:])
	case 6:
		if c.have > 0 {
			return nil
		}
		words := strings.Split(string(p[2:]), "\x00")
		for i := 0; i+1 < len(words); i += 2 {
			n, err := strconv.Atoi(words[i+1])
			switch {
			case err != nil:
				return fmt.Errorf("the server answers %q", p)
			case words[i] == "blksize":
				c.block = n
			case words[i] == "windowsize":
				c.window = n
			case words[i] == "tsize" && n != len(c.program):
				return fmt.Errorf("the program has %d bytes, says the server, and not %d", n, len(c.program))
			}
		}
		c.acknowledge()
	case 3:
		switch ahead := int16(block - uint16(c.have)); {
		case ahead == 1:
			want := c.program[min(c.have*c.block, len(c.program)):min((c.have+1)*c.block, len(c.program))]
			if !bytes.Equal(p[4:], want) {
				return fmt.Errorf("block %d is wrong", block)
			}
			c.have++
			c.since++
			if c.since >= c.window || c.have == c.blocks() {
				c.acknowledge()
			}
		case ahead > 1 && c.gap != c.have: // RFC 7440 §4: once for each gap
			c.gap = c.have
			c.acknowledge()
		}
	}
	return nil
}

package tftpd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/relay/tftpd"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// bubble runs a server at 10.1.0.250 in virtual time; everybody in 10.1.0.0/16 is known.
func bubble(t *testing.T, f func(n *memnet.Network, r *recorder, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Config{})
		defer n.Close()
		n.Segment("rack", "10.1.0.0/16")
		conn, err := n.Host("relay", "10.1.0.250").Join("rack").ListenPacket(":69")
		if err != nil {
			t.Fatal(err)
		}
		r := &recorder{came: make(chan bool, 10_000)}
		rack := netip.MustParsePrefix("10.1.0.0/16")
		s := tftpd.New(tftpd.Config{Conn: conn, SinglePort: true, Loader: loader, Record: r.record, Log: slog.New(slog.DiscardHandler),
			Machine: func(a netip.Addr) (catalog.NodeName, catalog.HardwareAddr, bool) {
				return catalog.NodeName(a.String()), "", rack.Contains(a)
			}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		stopped := false
		stop := func() {
			if !stopped {
				stopped = true
				cancel()
				if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			}
		}
		f(n, r, stop)
		stop()
	})
}

// firmware is a client that a test drives packet by packet.
type firmware struct {
	t    *testing.T
	conn net.PacketConn
	to   net.Addr
}

func boots(t *testing.T, n *memnet.Network, addr string) *firmware {
	t.Helper()
	h := n.Host(addr, addr).Join("rack")
	conn, err := h.ListenPacket(addr + ":0")
	if err != nil {
		t.Fatal(err)
	}
	return &firmware{t, conn, &net.UDPAddr{IP: net.IPv4(10, 1, 0, 250), Port: 69}}
}

func (f *firmware) ask(words ...string) {
	f.t.Helper()
	f.send(append([]byte{0, 1}, strings.Join(append(words, ""), "\x00")...))
}

func (f *firmware) acknowledge(block uint16) {
	f.t.Helper()
	f.send(binary.BigEndian.AppendUint16([]byte{0, 4}, block))
}

func (f *firmware) send(b []byte) {
	f.t.Helper()
	if _, err := f.conn.WriteTo(b, f.to); err != nil {
		f.t.Fatal(err)
	}
}

// hear returns the next packet, nil if none comes.
func (f *firmware) hear(within time.Duration) []byte {
	f.t.Helper()
	if err := f.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		f.t.Fatal(err)
	}
	b := make([]byte, 2000)
	n, _, err := f.conn.ReadFrom(b)
	if err != nil {
		return nil
	}
	return b[:n]
}

// fetch takes the whole program.
func (f *firmware) fetch(w wishes) fetched {
	f.t.Helper()
	got, err := fetch(f.conn, f.to, "undionly.kpxe", w, nil)
	if err != nil || !bytes.Equal(got.body, program) {
		f.t.Errorf("%s: %d bytes, %v", f.conn.LocalAddr(), len(got.body), err)
	}
	return got
}

func TestFirmwareFetchesOverAnyPacketConn(t *testing.T) {
	bubble(t, func(n *memnet.Network, r *recorder, _ func()) {
		for i, w := range []wishes{{}, {block: 1468}, {block: 1468, window: 16}} {
			boots(t, n, fmt.Sprintf("10.1.0.%d", i+1)).fetch(w)
			<-r.came
		}
		if e := r.events[0]; e.Node != "10.1.0.1" || e.Bytes != int64(len(program)) {
			t.Errorf("recorded %+v", e)
		}
	})
}

// What is lost is sent again after what the client usually takes, not after a second: 545 blocks of which about 22 need
// a second try.
func TestLostPacketsAreSentAgainSoon(t *testing.T) {
	for window, most := range map[int]time.Duration{1: 3 * time.Second, 4: 1500 * time.Millisecond, 16: time.Second} {
		bubble(t, func(n *memnet.Network, r *recorder, _ func()) {
			n.SetLoss(0.02)
			began := time.Now()
			got := boots(t, n, "10.1.0.1").fetch(wishes{block: 1468, window: window})
			took := time.Since(began)
			t.Logf("window %d: %s, %d packets for %d blocks", window, took, got.packets, len(program)/1468+1)
			if took > most {
				t.Errorf("window %d: with 2 %% of the packets lost it took %s, want %s at most", window, took, most)
			}
			n.SetLoss(0)
		})
	}
}

func TestASilentClientIsGivenUp(t *testing.T) {
	bubble(t, func(n *memnet.Network, r *recorder, _ func()) {
		for name, request := range map[string][]string{
			"10.1.0.1": {"undionly.kpxe", "octet"},
			"10.1.0.2": {"undionly.kpxe", "octet", "blksize", "1468", "tsize", "0"},
		} {
			f := boots(t, n, name)
			f.ask(request...)
			asked, packets, bytes := 2+len(strings.Join(request, "\x00"))+1, 0, 0
			for p := f.hear(20 * time.Second); p != nil && p[1] != 5; p = f.hear(20 * time.Second) {
				packets, bytes = packets+1, bytes+len(p)
			}
			t.Logf("%d bytes asked, %d packets of together %d bytes sent", asked, packets, bytes)
			if packets != 3 {
				t.Errorf("%d packets to a client that acknowledges nothing, want 3", packets)
			}
		}
	})
}

// A client that asks and asks has so many transfers and no more, the latest ones; another one is served all the while.
func TestOneClientCannotTakeAllTransfers(t *testing.T) {
	bubble(t, func(n *memnet.Network, r *recorder, _ func()) {
		h := n.Host("greedy", "10.1.0.1").Join("rack")
		var all []*firmware
		for range 20 {
			conn, err := h.ListenPacket("10.1.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			f := &firmware{t, conn, &net.UDPAddr{IP: net.IPv4(10, 1, 0, 250), Port: 69}}
			f.ask("undionly.kpxe", "octet")
			if p := f.hear(100 * time.Millisecond); p == nil || p[1] != 3 {
				t.Fatalf("%q, want a block", p)
			}
			f.acknowledge(1)
			all = append(all, f)
			time.Sleep(time.Millisecond)
		}
		ended := 0
		for i, f := range all {
			over := false
			for p := f.hear(50 * time.Millisecond); p != nil && !over; p = f.hear(50 * time.Millisecond) {
				over = p[1] == 5
			}
			if over {
				ended++
			}
			if over != (i < 16) {
				t.Errorf("transfer %d of 20 was ended: %t", i+1, over)
			}
		}
		if ended != 16 {
			t.Errorf("%d of 20 transfers at once were ended, want 16", ended)
		}
		boots(t, n, "10.1.0.2").fetch(wishes{block: 1468})
	})
}

// A relay that loses its network, or is switched off, in the middle of transfers, ends all the same.
func TestTheServerEndsInTheMiddleOfTransfers(t *testing.T) {
	for name, how := range map[string]func(n *memnet.Network){
		"stopped":             func(*memnet.Network) {},
		"the socket was shut": func(n *memnet.Network) { n.Kill("relay") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(n *memnet.Network, r *recorder, stop func()) {
				silent, lively := boots(t, n, "10.1.0.1"), boots(t, n, "10.1.0.2")
				silent.ask("undionly.kpxe", "octet")
				lively.ask("undionly.kpxe", "octet")
				for block := range uint16(10) {
					if p := lively.hear(time.Second); p == nil || p[1] != 3 {
						t.Fatalf("block %d: %q", block+1, p)
					}
					lively.acknowledge(block + 1)
				}
				how(n)
				time.Sleep(50 * time.Millisecond)
				began := time.Now()
				stop()
				if took := time.Since(began); took > 0 {
					t.Errorf("it took %s to end", took)
				}
			})
		})
	}
}

func TestAFloodOfWrongNamesIsTakenDownNotRecorded(t *testing.T) {
	bubble(t, func(n *memnet.Network, r *recorder, _ func()) {
		f := boots(t, n, "10.1.0.1")
		for i := range 50 {
			f.ask(fmt.Sprintf("pxelinux.cfg/%d", i), "octet")
			if p := f.hear(time.Second); p == nil || p[1] != 5 {
				t.Errorf("%q, want an error", p)
			}
		}
		if len(r.events) != 1 || !strings.Contains(r.events[0].Error, "pxelinux.cfg/0") {
			t.Errorf("%d events, want one", len(r.events))
		}
	})
}

// Requests in the names of machines that never answer, 40 000 a second: none of them keeps an honest machine out, and the
// server remembers only so many.
func TestAFloodInOthersNamesKeepsNobodyOut(t *testing.T) {
	bubble(t, func(n *memnet.Network, r *recorder, _ func()) {
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		var victims []*firmware
		for i := range 100 {
			h := n.Host(fmt.Sprintf("victim%d", i), fmt.Sprintf("10.1.0.%d", 100+i)).Join("rack")
			for range 4 {
				conn, err := h.ListenPacket(fmt.Sprintf("10.1.0.%d:0", 100+i))
				if err != nil {
					t.Fatal(err)
				}
				victims = append(victims, &firmware{t, conn, &net.UDPAddr{IP: net.IPv4(10, 1, 0, 250), Port: 69}})
			}
		}
		var running sync.WaitGroup
		running.Go(func() {
			for sent := 0; sent < 20_000 && ctx.Err() == nil; sent += 40 {
				for i := range 40 {
					victims[(sent+i)%len(victims)].ask("undionly.kpxe", "octet", "blksize", "1468", "tsize", "0")
				}
				time.Sleep(time.Millisecond)
			}
		})
		began := time.Now()
		for i := range 5 {
			time.Sleep(50 * time.Millisecond)
			boots(t, n, fmt.Sprintf("10.1.0.%d", 1+i)).fetch(wishes{block: 1468, window: 4})
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("five honest machines took %s", took)
		}
		stop()
		running.Wait()
	})
}

// Who guesses ports can acknowledge the beginning of transfers in the names of machines that are not there, and take all
// places so. They are free again soon.
func TestTransfersThatOnlyBeganMakeRoom(t *testing.T) {
	bubble(t, func(n *memnet.Network, r *recorder, _ func()) {
		for i := range 1030 {
			addr := fmt.Sprintf("10.1.%d.%d", 1+i/200, 1+i%200)
			h := n.Host(addr, addr).Join("rack")
			for range 4 {
				conn, err := h.ListenPacket(addr + ":0")
				if err != nil {
					t.Fatal(err)
				}
				f := &firmware{t, conn, &net.UDPAddr{IP: net.IPv4(10, 1, 0, 250), Port: 69}}
				f.ask("undionly.kpxe", "octet")
				f.hear(100 * time.Millisecond)
				f.acknowledge(1)
			}
		}
		began := time.Now()
		boots(t, n, "10.1.0.2").fetch(wishes{block: 1468})
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("an honest machine took %s", took)
		}
	})
}

//go:build bench

package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/ipv4"
)

// dhcpSeeds are packets that a relay understands: straight from a machine, and through an agent with option 82.
func dhcpSeeds() [][]byte {
	var seeds [][]byte
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform, dhcpv4.MessageTypeDecline, dhcpv4.MessageTypeRelease} {
		for _, agent := range []string{"0.0.0.0", "10.1.3.9"} {
			m, err := dhcpv4.New(dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(kind), dhcpv4.WithGatewayIP(net.ParseIP(agent)),
				dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003016")), dhcpv4.WithOption(dhcpv4.OptUserClass("iPXE")),
				dhcpv4.WithGeneric(dhcpv4.OptionClientSystemArchitectureType, []byte{0, 7}), dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, make([]byte, 17)),
				dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, []byte("\x01\x05eth/1\x02\x04leaf")), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 1, 0, 9))))
			if err == nil {
				seeds = append(seeds, m.ToBytes())
			}
		}
	}
	return seeds
}

func tftpSeeds() [][]byte {
	ask := "\x00\x01" + tftpProgram + "\x00octet\x00blksize\x001468\x00tsize\x000\x00windowsize\x0016\x00timeout\x001\x00"
	return [][]byte{[]byte(ask), []byte(ask[:26]), []byte("\x00\x04\x00\x00"), []byte("\x00\x04\x00\x01"), []byte("\x00\x03\x00\x01data"), []byte("\x00\x05\x00\x00no\x00"), []byte("\x00\x02x\x00octet\x00")}
}

// mutate changes a few bytes of a packet, cuts it or makes it longer.
func mutate(dice *rand.Rand, seed, into []byte) []byte {
	b := append(into[:0], seed...)
	for range 1 + dice.IntN(6) {
		at := dice.IntN(len(b))
		switch dice.IntN(8) {
		case 0:
			b[at] = 0xff
		case 1:
			b[at] = 0
		case 2:
			b[at] ^= 1 << dice.IntN(8)
		case 3:
			b = b[:at+1]
		case 4:
			b = append(b, b[at:]...)[:min(len(b)+len(b)-at, 1400)]
		default:
			b[at] = byte(dice.Uint32())
		}
	}
	return b
}

// barrage sends packets from several sockets, a batch with each system call.
func (y *siege) barrage(ctx context.Context, from []string, port uint16, count int, next func(dice *rand.Rand, into []byte) []byte) (sent int64) {
	var total atomic.Int64
	var running sync.WaitGroup
	for i := range 2 {
		running.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(i), uint64(port)))
			var conns []*ipv4.PacketConn
			for j, f := range from {
				if j%2 != i%min(2, len(from)) {
					continue
				}
				conn, err := y.packets(f)
				if err != nil {
					y.t.Error(err)
					return
				}
				defer conn.Close()
				conns = append(conns, ipv4.NewPacketConn(conn))
			}
			to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(hostileRelay), port))
			msgs := make([]ipv4.Message, 64)
			bufs := make([][]byte, len(msgs))
			for k := range msgs {
				bufs[k] = make([]byte, 0, 3000)
			}
			for n := 0; n < count/2 && ctx.Err() == nil && len(conns) > 0; n += len(msgs) {
				for k := range msgs {
					msgs[k] = ipv4.Message{Buffers: [][]byte{next(dice, bufs[k])}, Addr: to}
				}
				conn := conns[dice.IntN(len(conns))]
				for rest := msgs; len(rest) > 0; {
					done, err := conn.WriteBatch(rest, 0)
					if done <= 0 || err != nil {
						break // an ICMP error of an earlier one, or no room: what is lost is lost
					}
					total.Add(int64(done))
					rest = rest[done:]
				}
			}
		})
		if len(from) == 1 {
			break
		}
	}
	running.Wait()
	return total.Load()
}

// mutated sends packets made of good ones, from that many sockets.
func (y *siege) mutated(ctx context.Context, seeds [][]byte, port uint16, count, sockets int) string {
	var from []string
	for i := range sockets {
		from = append(from, fmt.Sprintf("10.1.1.%d:0", i+1))
	}
	sent := y.barrage(ctx, from, port, count, func(dice *rand.Rand, into []byte) []byte { return mutate(dice, seeds[dice.IntN(len(seeds))], into) })
	return fmt.Sprintf("%d packets", sent)
}

// flood sends one good packet again and again, from one port.
func (y *siege) flood(ctx context.Context, seed []byte, port uint16, count int) string {
	sent := y.barrage(ctx, []string{"10.1.2.1:0"}, port, 2*count, func(_ *rand.Rand, into []byte) []byte { return append(into[:0], seed...) })
	return fmt.Sprintf("%d packets", sent)
}

// spoofed sends requests for a boot program in the names of two hundred machines, which never acknowledge anything.
func (y *siege) spoofed(ctx context.Context, count int, within time.Duration) string {
	var conns []*net.UDPConn
	for i := range 200 {
		conn, err := y.packets(fmt.Sprintf("10.1.5.%d:0", i+1))
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	began, sent := time.Now(), 0
	for ; sent < count && ctx.Err() == nil; sent++ {
		if sent%100 == 99 { // each 100 from another port
			conn, err := y.packets(fmt.Sprintf("10.1.5.%d:0", 1+sent/100%200))
			if err != nil {
				return err.Error()
			}
			defer conn.Close()
			conns[sent/100%200] = conn
		}
		_, _ = conns[sent%200].WriteToUDPAddrPort(tftpSeeds()[0], netip.MustParseAddrPort(hostileRelay+":69"))
		if early := within*time.Duration(sent)/time.Duration(count) - time.Since(began); early > 0 {
			<-time.After(early)
		}
	}
	return fmt.Sprintf("%d packets in %.1f s", sent, time.Since(began).Seconds())
}

// garbage speaks to the relay's HTTP what is none.
func (y *siege) garbage(ctx context.Context, count int) string {
	seeds := []string{
		"GET /loader/" + tftpProgram + " HTTP/1.1\r\nHost: relay\r\nRange: bytes=0-5,9-\r\n\r\n", "POST /script HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nx",
		"GET /script?mac=52:54:00:00:00:01&uuid=1 HTTP/1.1\r\nHost: x\r\n\r\n", "GET /chunk/" + strings.Repeat("a", 64) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\nffffffffffffffff\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "GET " + strings.Repeat("/..", 900) + " HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.1\r\n" + strings.Repeat("X-Y: z\r\n", 300) + "\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	}
	var answered atomic.Int64
	var running sync.WaitGroup
	for w := range 8 {
		running.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(w), 7))
			for range count / 8 {
				if ctx.Err() != nil {
					return
				}
				conn, err := y.dial(ctx)
				if err != nil {
					continue
				}
				_ = conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
				_, _ = conn.Write(mutate(dice, []byte(seeds[dice.IntN(len(seeds))]), nil))
				if n, _ := io.Copy(io.Discard, io.LimitReader(conn, 1<<16)); n > 0 {
					answered.Add(1)
				}
				conn.Close()
			}
		})
	}
	running.Wait()
	return fmt.Sprintf("%d connections, %d answered", count/8*8, answered.Load())
}

// slow holds connections of three kinds: heads that come byte by byte, bodies that do, and readers that do not read.
func (y *siege) slow(ctx context.Context, count int, hold time.Duration) string {
	ctx, stop := context.WithTimeout(ctx, hold)
	defer stop()
	var opened, cut atomic.Int64
	var running sync.WaitGroup
	for i := range count {
		running.Go(func() {
			conn, err := y.dial(ctx)
			if err != nil {
				return
			}
			defer conn.Close()
			opened.Add(1)
			begin := []string{"GET /healthz HTTP/1.1\r\nHost: x\r\n", "POST /script HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
				strings.Repeat("GET /loader/"+tftpProgram+" HTTP/1.1\r\nHost: x\r\n\r\n", 50)}[i%3]
			_, _ = io.WriteString(conn, begin)
			for i%3 < 2 {
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Second):
				}
				if _, err := io.WriteString(conn, "x"); err != nil {
					cut.Add(1)
					return
				}
			}
			<-ctx.Done()
		})
	}
	running.Wait()
	return fmt.Sprintf("%d of %d connections, %d cut off", opened.Load(), count, cut.Load())
}

//go:build bench

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// siege is the other end of the relay's cable: a network namespace that has all addresses of 10.1.0.0/16.
type siege struct {
	t  *testing.T
	do chan func() // run by the thread that lives there
}

func newSiege(t *testing.T) *siege {
	t.Helper()
	y := &siege{t, make(chan func())}
	thread := make(chan int)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		thread <- unix.Gettid()
		for f := range y.do {
			f()
		}
	}()
	tid := <-thread
	t.Cleanup(func() { close(y.do) })
	ip(t, fmt.Sprintf("link add s0 type veth peer name c0 netns %d", tid))
	ip(t, "addr add "+hostileRelay+"/8 dev s0")
	ip(t, "link set s0 up")
	for _, s := range []string{"link set lo up", "addr add 10.3.0.1/8 dev c0", "link set c0 up", "route add local 10.1.0.0/16 dev lo"} {
		y.in(func() { ip(t, s) })
	}
	return y
}

func ip(t *testing.T, args string) {
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Errorf("ip %s: %v: %s", args, err, out)
	}
}

// in runs f where the siege is: sockets that it opens belong there for good.
func (y *siege) in(f func()) {
	done := make(chan bool)
	y.do <- func() { defer close(done); f() }
	<-done
}

// packets opens a socket for packets behind the siege.
func (y *siege) packets(from string) (conn *net.UDPConn, err error) {
	y.in(func() { conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from))) })
	return conn, err
}

// dial opens a connection from behind the siege to the relay's plain HTTP.
func (y *siege) dial(ctx context.Context) (conn net.Conn, err error) {
	var fd int
	y.in(func() {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	to := unix.SockaddrInet4{Port: 4480, Addr: netip.MustParseAddr(hostileRelay).As4()}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 2}) // connect's, too
	if err := unix.Connect(fd, &to); err != nil {
		unix.Close(fd)
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "tcp")
	defer f.Close()
	return net.FileConn(f)
}

// honest is clients that do what they should, one of each kind, over and over.
type honest struct {
	yard    *siege
	program []byte

	mu     sync.Mutex
	served map[string]int
	late   map[string]int
	why    map[string]error
}

// run asks until ctx ends.
func (h *honest) run(ctx context.Context) {
	h.served, h.late, h.why = map[string]int{}, map[string]int{}, map[string]error{}
	var running sync.WaitGroup
	for name, ask := range map[string]func(i int) error{"DHCP": h.dhcp, "TFTP": h.tftp, "HTTP": h.http} {
		for worker := range 2 {
			running.Go(func() {
				for i := worker; ctx.Err() == nil; i += 2 {
					began := time.Now()
					err := ask(i)
					h.mu.Lock()
					if took := time.Since(began); err == nil && took <= hostileWithin {
						h.served[name]++
					} else {
						h.late[name]++
						h.why[name] = fmt.Errorf("one took %s: %v", took.Round(time.Millisecond), err)
					}
					h.mu.Unlock()
					select {
					case <-time.After(20 * time.Millisecond):
					case <-ctx.Done():
					}
				}
			})
		}
	}
	running.Wait()
}

func (h *honest) report() string {
	var s []string
	for _, name := range []string{"DHCP", "TFTP", "HTTP"} {
		s = append(s, fmt.Sprintf("%s %d of %d", name, h.served[name], h.served[name]+h.late[name]))
	}
	return strings.Join(s, ", ")
}

// problem says which clients were not served as they should be; "" if all were.
func (h *honest) problem() string {
	for _, name := range []string{"DHCP", "TFTP", "HTTP"} {
		if all := h.served[name] + h.late[name]; all == 0 || 100*h.served[name] < hostileShare*all {
			return fmt.Sprintf("%s: %d of %d honest clients were served within %s: %v", name, h.served[name], all, hostileWithin, h.why[name])
		}
	}
	return ""
}

// dhcp asks for the address of a declared node, through a relay agent, and again after half a second as agents' clients do.
func (h *honest) dhcp(i int) error {
	agent := fmt.Sprintf("10.1.3.%d", 1+i%2)
	conn, err := h.yard.packets(agent + ":67")
	if err != nil {
		return err
	}
	defer conn.Close()
	q, err := dhcpv4.NewDiscovery(net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(1 + i%hostileNodes)}, dhcpv4.WithGatewayIP(net.ParseIP(agent)))
	if err != nil {
		return err
	}
	q.HopCount = 1
	b := make([]byte, 1500)
	for range 4 {
		if _, err := conn.WriteToUDPAddrPort(q.ToBytes(), netip.MustParseAddrPort(hostileRelay+":67")); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			return err
		}
		for {
			n, _, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				break
			}
			if a, err := dhcpv4.FromBytes(b[:n]); err == nil && a.TransactionID == q.TransactionID && a.MessageType() == dhcpv4.MessageTypeOffer {
				return nil
			}
		}
	}
	return errors.New("no offer")
}

func (h *honest) tftp(i int) error {
	conn, err := h.yard.packets(fmt.Sprintf("10.1.4.%d:0", 1+i%200))
	if err != nil {
		return err
	}
	defer conn.Close()
	l := fetchers{server: netip.MustParseAddrPort(hostileRelay + ":69"), name: tftpProgram, program: h.program, window: 4}
	_, err = l.over(conn, rand.New(rand.NewPCG(1, 1)))
	return err
}

func (h *honest) http(int) error {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return h.yard.dial(ctx) }}
	a, err := (&http.Client{Transport: tr, Timeout: 2 * hostileWithin}).Get("http://" + hostileRelay + ":4480/loader/" + tftpProgram)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != http.StatusOK || len(b) != len(h.program) {
		return fmt.Errorf("status %d, %d bytes, %w", a.StatusCode, len(b), err)
	}
	return nil
}

package tftpd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/relay/tftpd"
)

// program has no two blocks that are alike.
var program = func() []byte {
	b, dice := make([]byte, 0, 800_000), rand.New(rand.NewPCG(1, 2))
	for len(b) < cap(b) {
		b = binary.BigEndian.AppendUint64(b, dice.Uint64())
	}
	return b
}()

type recorder struct {
	mu     sync.Mutex
	events []boot.Event
	came   chan bool
}

func (r *recorder) record(e boot.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	r.came <- true
}

func loader(name string) ([]byte, bool) { return program, name == "undionly.kpxe" }

// start runs a server on the loopback.
func start(t *testing.T, single, known bool) (addr string, r *recorder) {
	t.Helper()
	r = &recorder{came: make(chan bool, 100)}
	addr, _ = serve(t, tftpd.Config{SinglePort: single, Loader: loader, Record: r.record,
		Machine: func(a netip.Addr) (catalog.NodeName, catalog.HardwareAddr, bool) {
			return "n1", "52:54:00:00:00:01", known && a == netip.MustParseAddr("127.0.0.1")
		}})
	return addr, r
}

func serve(t *testing.T, cfg tftpd.Config) (addr string, s *tftpd.Server) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Conn, cfg.Log = conn, slog.New(slog.DiscardHandler)
	s = tftpd.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if s.Stats().Panics > 0 {
			t.Error("the server failed inside")
		}
	})
	return conn.LocalAddr().String(), s
}

// get fetches from a server on the loopback.
func get(t *testing.T, addr, name string, w wishes) (fetched, error) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return fetch(conn, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)), name, w, nil)
}

func TestFirmwareGetsItsProgramAndTheFetchIsRecorded(t *testing.T) {
	for _, single := range []bool{false, true} {
		addr, r := start(t, single, true)
		for _, name := range []string{"undionly.kpxe", "/undionly.kpxe", "undionly.kpxe\xff"} {
			for _, w := range []wishes{{}, {block: 1468}, {block: 1468, window: 4}, {block: 1468, window: 64, wait: 1}} {
				got, err := get(t, addr, name, w)
				if err != nil || !bytes.Equal(got.body, program) {
					t.Fatalf("%q, %+v: %d bytes, %v", name, w, len(got.body), err)
				}
				if len(got.ports) != 1 {
					t.Errorf("%q: %d ports of the server", name, len(got.ports))
				}
				if port := netip.MustParseAddrPort(addr).Port(); got.ports[int(port)] != single {
					t.Errorf("single port %t: the answer came from %v, the requests' port is %d", single, got.ports, port)
				}
				<-r.came
			}
		}
		if e := r.events[0]; e.Stage != boot.StageLoader || e.Node != "n1" || e.Bytes != int64(len(program)) {
			t.Errorf("recorded %+v", e)
		}
	}
}

func TestNamesReachNothingButTheTable(t *testing.T) {
	addr, _ := start(t, false, true)
	for _, name := range []string{"../undionly.kpxe", "/etc/passwd", "../../../../etc/passwd", "undionly.kpxe/", "", "UNDIONLY.KPXE", strings.Repeat("x", 400)} {
		if got, err := get(t, addr, name, wishes{block: 1468}); err == nil || !strings.Contains(err.Error(), "error 1: file not found") {
			t.Errorf("%q: %d bytes, %v", name, len(got.body), err)
		}
	}
}

func TestStrangersGetNothing(t *testing.T) {
	addr, _ := start(t, false, false)
	if got, err := get(t, addr, "undionly.kpxe", wishes{block: 1468}); err == nil || !strings.Contains(err.Error(), "not served here") {
		t.Errorf("%d bytes, %v", len(got.body), err)
	}
}

func TestGarbageDoesNotStopTheServer(t *testing.T) {
	for _, single := range []bool{false, true} {
		addr, _ := start(t, single, true)
		c, err := net.Dial("udp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, p := range []string{"", "\x00", "\x00\x01", "\x00\x01a", "\x00\x01a\x00", "\x00\x01a\x00octet", "\x00\x02x\x00octet\x00", "\x00\x03", "\x00\x04\x00\x01", "\x00\x05\x00\x01x\x00", "\xff\xff", "\x00\x01undionly.kpxe\x00octet\x00blksize\x00-1\x00", strings.Repeat("\x00\x01", 700)} {
			c.Write([]byte(p))
		}
		if got, err := get(t, addr, "undionly.kpxe", wishes{block: 1468}); err != nil || !bytes.Equal(got.body, program) {
			t.Errorf("%d bytes, %v", len(got.body), err)
		}
	}
}

// Programs whose last block is empty, and one of more blocks than a block number counts.
func TestProgramsOfAnyLengthArriveWhole(t *testing.T) {
	for _, length := range []int{1, 511, 512, 513, 1468 * 4, 1468 * 16, 65537 * 512} {
		body := bytes.Repeat(program[:8191], length/8191+1)[:length]
		r := &recorder{came: make(chan bool, 10)}
		addr, s := serve(t, tftpd.Config{
			Loader:  func(string) ([]byte, bool) { return body, true },
			Record:  r.record,
			Machine: func(netip.Addr) (catalog.NodeName, catalog.HardwareAddr, bool) { return "n1", "", true },
		})
		ways := []wishes{{}, {block: 512, window: 7}, {block: 1468, window: 16}, {block: 60000, window: 2}}
		if length > 1<<20 {
			ways = []wishes{{block: 512, window: 16}}
		}
		for _, w := range ways {
			if got, err := get(t, addr, "x", w); err != nil || !bytes.Equal(got.body, body) {
				t.Errorf("%d bytes, %+v: %d bytes, %v", length, w, len(got.body), err)
			}
			<-r.came
		}
		if st := s.Stats(); st.Served != uint64(len(ways)) || st.Bytes != uint64(len(ways)*length) {
			t.Errorf("%+v", st)
		}
	}
}

package tftpd_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pin/tftp/v3"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/relay/tftpd"
)

// program is longer than a block number can count at 512 bytes a block, less one wrap.
var program = bytes.Repeat([]byte("iPXE"), 200_000)

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

func start(t *testing.T, single, known bool) (addr string, r *recorder) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r = &recorder{came: make(chan bool, 100)}
	s := tftpd.New(tftpd.Config{Conn: conn, SinglePort: single, Loader: loader, Record: r.record, Log: slog.New(slog.DiscardHandler),
		Machine: func(a netip.Addr) (catalog.NodeName, catalog.HardwareAddr, bool) {
			return "n1", "52:54:00:00:00:01", known && a == netip.MustParseAddr("127.0.0.1")
		}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn.LocalAddr().String(), r
}

func fetch(t *testing.T, addr, name string, blksize int) ([]byte, error) {
	c, err := tftp.NewClient(addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetTimeout(2 * time.Second)
	c.SetBlockSize(blksize)
	c.RequestTSize(true)
	w, err := c.Receive(name, "octet")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = w.WriteTo(&b)
	return b.Bytes(), err
}

func TestFirmwareGetsItsProgramAndTheFetchIsRecorded(t *testing.T) {
	for _, single := range []bool{false, true} {
		addr, r := start(t, single, true)
		for _, name := range []string{"undionly.kpxe", "/undionly.kpxe", "undionly.kpxe\xff"} {
			got, err := fetch(t, addr, name, 1468)
			if err != nil || !bytes.Equal(got, program) {
				t.Fatalf("%q: %d bytes, %v", name, len(got), err)
			}
			<-r.came
		}
		if e := r.events[0]; e.Stage != boot.StageLoader || e.Node != "n1" || e.Bytes != int64(len(program)) {
			t.Errorf("recorded %+v", e)
		}
	}
}

func TestOldFirmwareWithSmallBlocks(t *testing.T) {
	addr, _ := start(t, false, true)
	if got, err := fetch(t, addr, "undionly.kpxe", 512); err != nil || !bytes.Equal(got, program) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestNamesReachNothingButTheTable(t *testing.T) {
	addr, _ := start(t, false, true)
	for _, name := range []string{"../undionly.kpxe", "/etc/passwd", "../../../../etc/passwd", "undionly.kpxe/", "", "UNDIONLY.KPXE", strings.Repeat("x", 400)} {
		if got, err := fetch(t, addr, name, 1468); err == nil {
			t.Errorf("%q: %d bytes", name, len(got))
		}
	}
}

func TestStrangersGetNothing(t *testing.T) {
	addr, _ := start(t, false, false)
	if got, err := fetch(t, addr, "undionly.kpxe", 1468); err == nil {
		t.Errorf("%d bytes", len(got))
	}
}

func TestGarbageDoesNotStopTheServer(t *testing.T) {
	addr, _ := start(t, false, true)
	c, err := net.Dial("udp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, p := range []string{"", "\x00", "\x00\x01", "\x00\x01a", "\x00\x01a\x00", "\x00\x01a\x00octet", "\x00\x02x\x00octet\x00", "\x00\x03", "\x00\x04\x00\x01", "\x00\x05\x00\x01x\x00", "\xff\xff", "\x00\x01undionly.kpxe\x00octet\x00blksize\x00-1\x00", strings.Repeat("\x00\x01", 700)} {
		c.Write([]byte(p))
	}
	if got, err := fetch(t, addr, "undionly.kpxe", 1468); err != nil || !bytes.Equal(got, program) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

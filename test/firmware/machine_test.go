package firmware_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/relay/tftpd"
	"github.com/wulfmesh/wulfmesh/test/firmware"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// server is a boot server of the smallest kind: one address, one boot program, files by path.
type server struct {
	net  *memnet.Network
	host *memnet.Host

	mu    sync.Mutex
	files map[string][]byte
	seen  []string // what machines asked for
	deaf  int      // DISCOVERs not to be answered
}

// bubble runs f with a server and a machine on one segment, and checks that nothing stays behind.
func bubble(t *testing.T, kind boot.Firmware, f func(t *testing.T, s *server, m *firmware.Machine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Config{})
		n.Segment("rack", "10.0.0.0/24")
		s := &server{net: n, host: n.Host("server", "10.0.0.1").Join("rack"), files: map[string][]byte{}}
		m := firmware.New(firmware.Config{Net: n, Name: "n1", Segment: "rack", Hardware: "52:54:00:00:00:01", Firmware: kind, Dir: t.TempDir()})
		stop := s.run(t)
		f(t, s, m)
		m.PowerOff()
		stop()
		if open := n.Open(); len(open) != 0 {
			t.Errorf("left open: %q", open)
		}
		if t.Failed() {
			t.Log("\n" + m.Trace())
		}
	})
}

func (s *server) see(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, fmt.Sprintf(format, args...))
}

func (s *server) story() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.seen, "; ")
}

func (s *server) put(path, content string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = []byte(content)
	return path
}

// run serves DHCP, TFTP and HTTP until the function that it returns is called.
func (s *server) run(t *testing.T) (stop func()) {
	t.Helper()
	var running sync.WaitGroup
	conn, err := s.host.ListenPacketOn("rack", ":67")
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() { s.dhcp(conn) })
	files, err := s.host.ListenPacket(":69")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	loads := tftpd.New(tftpd.Config{
		Conn: files, Log: slog.New(slog.DiscardHandler), Record: func(boot.Event) {},
		Machine: func(netip.Addr) (catalog.NodeName, catalog.HardwareAddr, bool) { return "n1", "", true },
		Loader: func(name string) ([]byte, bool) {
			s.see("tftp %s", name)
			return []byte(strings.Repeat("x", 30_000)), true
		},
	})
	running.Go(func() { _ = loads.Run(ctx) })
	l, err := s.host.Listen(":80")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(s.http), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	running.Go(func() { _ = web.Serve(l) })
	return func() {
		conn.Close()
		cancel()
		web.Close()
		running.Wait()
	}
}

func (s *server) http(w http.ResponseWriter, r *http.Request) {
	s.see("http %s", r.URL.Path[:min(len(r.URL.Path), 15)])
	s.mu.Lock()
	b, ok := s.files[r.URL.Path]
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Write(b)
}

func (s *server) dhcp(conn net.PacketConn) {
	b := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		q, err := dhcpv4.FromBytes(b[:n])
		if err != nil {
			continue
		}
		s.see("%s %ds %v", strings.ToLower(q.MessageType().String()), q.NumSeconds, q.UserClass())
		s.mu.Lock()
		s.deaf--
		deaf := s.deaf >= 0
		s.mu.Unlock()
		if deaf {
			continue
		}
		kind := dhcpv4.MessageTypeOffer
		if q.MessageType() == dhcpv4.MessageTypeRequest {
			kind = dhcpv4.MessageTypeAck
		}
		file, class := "loader", ""
		switch arch := q.ClientArch(); {
		case len(q.UserClass()) > 0:
			file = "http://10.0.0.1/script"
		case len(arch) == 1 && arch[0] == 16:
			file, class = "http://10.0.0.1/loader", "HTTPClient"
		}
		a, err := dhcpv4.NewReplyFromRequest(q, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 9)),
			dhcpv4.WithServerIP(net.IPv4(10, 0, 0, 1)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 0, 1))),
			dhcpv4.WithOption(dhcpv4.OptBootFileName(file)))
		if err != nil {
			continue
		}
		if class != "" {
			a.UpdateOption(dhcpv4.OptClassIdentifier(class))
		}
		_, _ = conn.WriteTo(a.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
	}
}

// A machine does what firmware does, hop by hop; here its kernel is then told nothing and the machine starts over.
func TestFirmwareToKernel(t *testing.T) {
	for kind, loader := range map[boot.Firmware]string{
		boot.FirmwareBIOS: "tftp loader", boot.FirmwareEFI64: "tftp loader", boot.FirmwareHTTP64: "http /loader",
	} {
		t.Run(string(kind), func(t *testing.T) {
			bubble(t, kind, func(t *testing.T, s *server, m *firmware.Machine) {
				kernel, initrd := "/chunk/"+chunk.Of([]byte("kernel")).String(), "/chunk/"+chunk.Of([]byte("initrd")).String()
				s.put(kernel, "kernel")
				s.put(initrd, "initrd")
				s.put("/loader", "loader")
				s.put("/script", "#!ipxe\nkernel --name kernel http://10.0.0.1"+kernel+" initrd=x a=b\ninitrd --name x http://10.0.0.1"+initrd+"\nboot\n")
				m.PowerOn()
				time.Sleep(6 * time.Second)
				want := "discover 0s []; request 0s []; " + loader + "; discover 0s [iPXE]; request 0s [iPXE]; http /script; http /chunk/" +
					kernel[7:15] + "; http /chunk/" + initrd[7:15]
				if got := s.story(); got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				if err := m.Failed(); err == nil || !strings.Contains(err.Error(), "kernel command line has no wulf.node=") {
					t.Errorf("it failed with %v", err)
				}
				if c := m.Counts(); c.Starts != 1 || c.Wrong != 0 || m.Up() {
					t.Errorf("counts %+v", c)
				}
				s.put(kernel, "kernal")
				time.Sleep(10 * time.Second)
				if c := m.Counts(); c.Starts != 2 || c.Wrong != 1 {
					t.Errorf("with a wrong byte it counts %+v", c)
				}
			})
		})
	}
}

func TestFirmwareAsksWithItsOwnPatience(t *testing.T) {
	bubble(t, boot.FirmwareBIOS, func(t *testing.T, s *server, m *firmware.Machine) {
		s.deaf = 4
		m.PowerOn()
		time.Sleep(76 * time.Second)
		if got, want := s.story(), "discover 0s []; discover 4s []; discover 12s []; discover 28s []; discover 0s []; request 0s []; tftp loader; "+
			"discover 0s [iPXE]; request 0s [iPXE]; http /script"; !strings.HasPrefix(got, want) {
			t.Errorf("got  %s\nwant %s …", got, want)
		}
		if err := m.Failed(); err == nil || !strings.Contains(err.Error(), "HTTP status 404") {
			t.Errorf("it failed with %v", err)
		}
	})
}

func TestAMachineWithoutPowerHoldsNothing(t *testing.T) {
	bubble(t, boot.FirmwareBIOS, func(t *testing.T, s *server, m *firmware.Machine) {
		s.put("/script", "#!ipxe\nsleep 100\n")
		m.PowerOn()
		m.PowerOn()
		time.Sleep(10 * time.Second)
		if got := m.Stage(); got != boot.StageScript {
			t.Errorf("it is at %q", got)
		}
		m.PowerOff()
		m.PowerOff()
		if err := s.net.Host("thief").SetAddrs("10.0.0.9"); err != nil {
			t.Error(err)
		}
		if m.Stage() != "" || m.Up() {
			t.Error("it is on")
		}
		m.PowerOn()
		time.Sleep(10 * time.Second)
		if err := m.Failed(); err == nil || !strings.Contains(err.Error(), "in use by host thief") {
			t.Errorf("with an address of somebody else it failed with %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.WaitUp(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// A relay that loses its power says nothing any more; what the script says of time-outs decides.
func TestAStalledDownloadEndsByItsTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		option string
		want   bool
	}{"with": {"--timeout 5000", true}, "without": {"", false}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, boot.FirmwareBIOS, func(t *testing.T, s *server, m *firmware.Machine) {
				s.put("/big", strings.Repeat("x", 4<<20))
				s.put("/script", "#!ipxe\nsleep 5\nkernel "+c.option+" http://10.0.0.1/big || goto gone\nsleep 1000\n:gone\nsleep 2000\n")
				s.host.SetBandwidth(1 << 20)
				m.PowerOn()
				time.Sleep(10 * time.Second)
				s.net.Stall("server")
				time.Sleep(30 * time.Second)
				if got := strings.Contains(m.Trace(), "cannot fetch /big"); got != c.want {
					t.Errorf("gave up: %v, want %v", got, c.want)
				}
			})
		})
	}
}

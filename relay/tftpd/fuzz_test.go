package tftpd

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// sink is a transfer that takes everything.
type sink struct{ n int64 }

func (s *sink) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(io.Discard, r)
	s.n += n
	return n, err
}
func (s *sink) SetSize(int64)           {}
func (s *sink) RemoteAddr() net.UDPAddr { return net.UDPAddr{IP: net.IPv4(10, 1, 0, 1), Port: 2000} }

// Whatever the name, nothing is served but what is in the table.
func FuzzName(f *testing.F) {
	for _, name := range []string{"undionly.kpxe", "/undionly.kpxe", "undionly.kpxe\xff", "../undionly.kpxe", "//undionly.kpxe\x00", "", "\xff"} {
		f.Add(name)
	}
	asked := ""
	s := New(Config{
		Loader: func(name string) ([]byte, bool) {
			asked = name
			return []byte("program"), name == "undionly.kpxe"
		},
		Machine: func(netip.Addr) (catalog.NodeName, catalog.HardwareAddr, bool) { return "n1", "", true },
		Record:  func(boot.Event) {}, Log: slog.New(slog.DiscardHandler),
	})
	f.Fuzz(func(t *testing.T, name string) {
		out := &sink{}
		err := s.read(t.Context(), name, out)
		if (err == nil) != (asked == "undionly.kpxe") || (out.n > 0) != (err == nil) {
			t.Errorf("%q: %d bytes, %v", name, out.n, err)
		}
		if err == nil && (!strings.Contains(name, "undionly.kpxe") || strings.Contains(name, "..")) {
			t.Errorf("%q was taken for undionly.kpxe", name)
		}
	})
}

package tftpd_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/relay/tftpd"
)

func TestAProgramArrivesByIPv6(t *testing.T) {
	conn, err := net.ListenPacket("udp6", "[::]:0")
	if err != nil {
		t.Skip("this computer has no IPv6:", err)
	}
	r := &recorder{came: make(chan bool, 100)}
	s := tftpd.New(tftpd.Config{Conn: conn, Loader: loader, Record: r.record, Log: slog.New(slog.DiscardHandler),
		Machine: func(a netip.Addr) (catalog.NodeName, catalog.HardwareAddr, bool) {
			return "n1", "52:54:00:00:00:01", a == netip.IPv6Loopback()
		}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	to := &net.UDPAddr{IP: net.IPv6loopback, Port: conn.LocalAddr().(*net.UDPAddr).Port}
	client, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skip("this computer has no IPv6:", err)
	}
	defer client.Close()
	got, err := fetch(client, to, "undionly.kpxe", wishes{block: 1468, window: 4}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.body, program) {
		t.Error("it arrived broken")
	}
	// 1500 less the headers of IPv6 and UDP, and its own.
	if got.options["blksize"] != "1448" {
		t.Errorf("blocks of %s bytes: packets do not fit the link", got.options["blksize"])
	}
	<-r.came
	if e := r.events[0]; e.Node != "n1" || e.Address != "::1" {
		t.Errorf("told %+v", e)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

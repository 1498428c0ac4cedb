package dhcpd

import (
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// An interface that gets another address is opened anew, and nobody else is blamed for holding its port.
func TestAnInterfaceThatChangesIsServedOn(t *testing.T) {
	y := newYard(t, hwKnown, "10.1.0.250/24")
	k := newCluster(t, time.Now())
	k.do(time.Now(), catalog.SetRelay{Name: "r1", Networks: &[]catalog.NetworkName{"rack1"}}, catalog.DeleteRelay{Name: "r2"})
	lines := make(logged, 100)
	cfg := k.config("r1", &journal{}, nil)
	cfg.Log = slog.New(slog.NewTextHandler(lines, nil))
	s := New(cfg)
	y.serve(s)
	lines.wait(t, "serving DHCP", "10.1.0.250")
	y.ip("-n " + y.server + " addr add 10.1.0.240/24 dev s0")
	lines.wait(t, "serving DHCP", "10.1.0.240")
	if !s.Serving() {
		t.Error("it does not say that it serves")
	}
	y.ip("-n " + y.server + " link set s0 down")
	again, late := time.NewTicker(100*time.Millisecond), time.After(8*time.Second)
	defer again.Stop()
	for s.Serving() {
		select {
		case <-again.C:
		case <-late:
			t.Fatal("it says that it serves, without an interface")
		}
	}
}

// logged is what a server logs.
type logged chan string

func (l logged) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// wait wants the next line to have all the words.
func (l logged) wait(t *testing.T, words ...string) {
	t.Helper()
	select {
	case line := <-l:
		for _, w := range words {
			if !strings.Contains(line, w) {
				t.Fatalf("%q has no %q", line, w)
			}
		}
	case <-time.After(8 * time.Second):
		t.Fatalf("no line with %q", words)
	}
}

// An interface that was down for a moment is asked on and heard as before.
func TestProbesOutliveAnInterfaceThatGoesDown(t *testing.T) {
	y := newYard(t, hwUnknown, "10.1.0.250/24")
	squatter := netip.MustParseAddr("10.1.0.200")
	y.ip("-n " + y.client + " addr add 10.1.0.200/24 dev c0")
	var a *arp
	err := y.do(func() error {
		ifi, err := net.InterfaceByName("s0")
		if err != nil {
			return err
		}
		a, err = listenARP(ifi)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	heard, done := make(chan netip.Addr, 100), make(chan struct{})
	go func() {
		defer close(done)
		a.Hear(func(at netip.Addr, _ net.HardwareAddr) { heard <- at })
	}()
	defer func() { a.Close(); <-done }()
	y.ip("-n " + y.server + " link set s0 down")
	y.ip("-n " + y.server + " link set s0 up")
	again, late := time.NewTicker(200*time.Millisecond), time.After(8*time.Second)
	defer again.Stop()
	for {
		_ = a.Probe(squatter) // the link may not be up yet
		select {
		case at := <-heard:
			if at != squatter {
				t.Errorf("%s answers, want %s", at, squatter)
			}
			return
		case <-again.C:
		case <-late:
			t.Fatal("nobody is heard after the interface was down")
		}
	}
}

package controller_test

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/controller"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// A relay's certificate is of the right authority, and must not open the replicated log for that (CVE-2021-37219).
func TestOnlyControllersSpeakTheLogsProtocol(t *testing.T) {
	bubble(t, 1, func(t *testing.T, c *cluster) {
		relay, err := c.relay("r1", "10.1.0.1")
		if err != nil {
			t.Fatal(err)
		}
		operator, err := controller.OperatorCredentials(c.ctls[0].dir, "alice")
		if err != nil {
			t.Fatal(err)
		}
		own, err := pki.LoadCredentials(c.ctls[0].dir + "/identity.pem")
		if err != nil {
			t.Fatal(err)
		}
		for who, q := range map[string]struct {
			own *pki.Credentials
			may bool
		}{"a relay": {relay, false}, "an operator": {operator, false}, "a controller": {own, true}} {
			raw, err := c.admin.Dial(t.Context(), "tcp", c.ctls[0].addr())
			if err != nil {
				t.Fatal(err)
			}
			conn := tls.Client(raw, pki.ClientTLS(pki.NewKeeper(q.own), []string{api.ALPNRaft}, pki.Controller))
			err = conn.HandshakeContext(t.Context())
			if err == nil { // in TLS 1.3 the client learns only by reading that its certificate was refused
				conn.SetReadDeadline(time.Now().Add(time.Second))
				_, err = conn.Read(make([]byte, 1))
			}
			ne, timeout := err.(net.Error)
			if got := timeout && ne.Timeout(); got != q.may {
				t.Errorf("%s: %v", who, err)
			}
			conn.Close()
		}
	})
}

func TestConnectionsThatDoNothingAreClosedAndDoNotKeepOthersOut(t *testing.T) {
	bubble(t, 1, func(t *testing.T, c *cluster) {
		idle := c.net.Host("idle", "10.0.0.200")
		start := time.Now()
		var conns []net.Conn
		for range 200 {
			conn, err := idle.Dial(t.Context(), "tcp", c.ctls[0].addr())
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
		}
		c.change(addNode("n1"))
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("a write took %s meanwhile", took)
		}
		for _, conn := range conns {
			io.Copy(io.Discard, conn)
			conn.Close()
		}
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("connections without a handshake were kept for %s", took)
		}
	})
}

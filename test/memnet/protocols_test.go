package memnet_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/test/memnet"
)

func TestHTTPRunsInVirtualTime(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		server, client := n.Host("server", "10.0.0.1"), n.Host("client", "10.0.0.2")
		srv := &http.Server{
			ReadHeaderTimeout: 5 * time.Second,
			ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(3 * time.Second)
				fmt.Fprint(w, r.RemoteAddr)
			}),
		}
		l := listen(t, server, ":80")
		done := make(chan error)
		go func() { done <- srv.Serve(l) }()

		tr := &http.Transport{DialContext: client.Dial}
		start := time.Now()
		resp, err := (&http.Client{Transport: tr}).Get("http://server/boot")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if host, _, _ := net.SplitHostPort(string(body)); err != nil || host != "10.0.0.2" {
			t.Errorf("the handler saw %q, %v", body, err)
		}
		if took := time.Since(start); took < 3*time.Second || took > 3100*time.Millisecond {
			t.Errorf("took %v", took)
		}

		slow := dial(t, client, "server:80")
		io.WriteString(slow, "GET / HT")
		start = time.Now()
		io.ReadAll(slow)
		if took := time.Since(start); took < 5*time.Second || took > 5100*time.Millisecond {
			t.Errorf("half a request was dropped after %v, want 5 s", took)
		}
		slow.Close()
		tr.CloseIdleConnections()
		srv.Shutdown(t.Context())
		if err := <-done; err != http.ErrServerClosed {
			t.Error(err)
		}
		if open := n.Open(); len(open) != 0 {
			t.Errorf("left open: %q", open)
		}
	})
}

// certificate is self-signed and valid in the bubble's year 2000.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestMutualTLSAndHTTP2Work(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		server, client := n.Host("server", "10.0.0.1"), n.Host("client", "10.0.0.2")
		cert, pool := certificate(t, "server")
		srv := &http.Server{
			TLSConfig: &tls.Config{
				MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert},
				ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
			},
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				k, _ := io.Copy(io.Discard, r.Body)
				fmt.Fprint(w, r.Proto, " ", k)
			}),
		}
		l := listen(t, server, ":443")
		done := make(chan error)
		go func() { done <- srv.ServeTLS(l, "", "") }()
		tr := &http.Transport{
			DialContext: client.Dial, ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
		}
		const size = 3 << 20 // several windows
		// The answer to the server's settings waits for a lock that whoever writes a body holds, and for locks time does not
		// go on in a bubble: both ends settle first.
		first, err := (&http.Client{Transport: tr}).Get("https://server/")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, first.Body)
		first.Body.Close()
		resp, err := (&http.Client{Transport: tr}).Post("https://server/", "", io.LimitReader(zeros{}, size))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := fmt.Sprint("HTTP/2.0 ", size); string(got) != want || err != nil {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
		sent := n.Sent(func(f memnet.Flow) bool { return f.From == "client" && f.To == "server" && f.Port == 443 })
		if sent.Conns != 1 || sent.Bytes < size || sent.Bytes > size+size/20 {
			t.Errorf("counted %+v for a body of %d", sent, size)
		}
		tr.CloseIdleConnections()
		srv.Shutdown(t.Context())
		<-done
		if open := n.Open(); len(open) != 0 {
			t.Errorf("left open: %q", open)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// layer is all that raft's own transport needs.
type layer struct {
	net.Listener
	host *memnet.Host
}

func (l layer) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := ctxFor(timeout)
	defer cancel()
	return l.host.Dial(ctx, "tcp", string(to))
}

type discard struct{}

func (discard) Apply(*raft.Log) any                 { return nil }
func (discard) Snapshot() (raft.FSMSnapshot, error) { return nil, fmt.Errorf("none") }
func (discard) Restore(io.ReadCloser) error         { return nil }

func TestRaftElectsAndFailsOverOnItsNetworkTransport(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		var members raft.Configuration
		var rafts []*raft.Raft
		var transports []*raft.NetworkTransport
		for i := range 3 {
			name := fmt.Sprintf("c%d", i)
			h := n.Host(name, net.IPv4(10, 0, 0, byte(i+1)).String())
			members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(name), Address: raft.ServerAddress(name + ":4400")})
			transports = append(transports, raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
				Stream: layer{listen(t, h, h.Addr().String()+":4400"), h}, MaxPool: 3, Timeout: 2 * time.Second, Logger: hclog.NewNullLogger(),
			}))
		}
		for i, tr := range transports {
			cfg := raft.DefaultConfig()
			cfg.LocalID, cfg.Logger = members.Servers[i].ID, hclog.NewNullLogger()
			store, snaps := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
			if err := raft.BootstrapCluster(cfg, store, store, snaps, tr, members); err != nil {
				t.Fatal(err)
			}
			r, err := raft.NewRaft(cfg, discard{}, store, store, snaps, tr)
			if err != nil {
				t.Fatal(err)
			}
			rafts = append(rafts, r)
		}
		leader := func(but int) int {
			for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
				for i, r := range rafts {
					if i != but && r.State() == raft.Leader {
						return i
					}
				}
			}
			t.Fatal("no leader in a minute")
			return -1
		}
		first := leader(-1)
		if err := rafts[first].Apply([]byte("a"), time.Second).Error(); err != nil {
			t.Fatal(err)
		}
		n.Cut(fmt.Sprintf("c%d", first))
		start := time.Now()
		second := leader(first)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("fail-over took %v", took)
		}
		if err := rafts[second].Apply([]byte("b"), time.Second).Error(); err != nil {
			t.Fatal(err)
		}
		n.Heal()
		time.Sleep(10 * time.Second)
		if got, want := rafts[first].AppliedIndex(), rafts[second].AppliedIndex(); got != want {
			t.Errorf("the one that was cut off has applied %d of %d", got, want)
		}
		for i, r := range rafts {
			if err := r.Shutdown().Error(); err != nil {
				t.Error(err)
			}
			transports[i].Close()
		}
		n.Close()
		time.Sleep(time.Minute) // raft's pipelines end at their own pace
	})
}

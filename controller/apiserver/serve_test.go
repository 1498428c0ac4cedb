package apiserver

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

func TestSlowClientsAreShed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		n := memnet.New(memnet.Config{})
		defer n.Close()
		host, client := n.Host("c1", "10.0.0.1"), n.Host("slow", "10.0.0.2")
		l, err := host.Listen(":80")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Serve(ctx, l) }()
		for what, text := range map[string]string{
			"in the header": "GET /v1/nodes HTTP/1.1\r\nHost: x\r\nX-A: ",
			"in the body":   "POST /v1/join/relay HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
		} {
			c, err := client.Dial(t.Context(), "tcp", "c1:80")
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if _, err := io.WriteString(c, text); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, c)
			if took := time.Since(start); took > time.Minute {
				t.Errorf("a client that stops %s is kept for %s", what, took)
			}
			c.Close()
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve ended with %v", err)
		}
	})
}

func TestStoppingLetsRequestsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		n := memnet.New(memnet.Config{})
		defer n.Close()
		host, admin := n.Host("c1", "10.0.0.1"), n.Host("admin", "10.0.0.2")
		l, err := host.Listen(":80")
		if err != nil {
			t.Fatal(err)
		}
		entered, release := make(chan struct{}), make(chan struct{})
		b.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-release
			io.WriteString(w, "done")
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Serve(ctx, l) }()
		got := make(chan string, 1)
		transport := &http.Transport{DialContext: admin.Dial}
		defer transport.CloseIdleConnections()
		go func() {
			a, err := (&http.Client{Transport: transport}).Get("http://c1:80/")
			if err != nil {
				got <- err.Error()
				return
			}
			defer a.Body.Close()
			text, _ := io.ReadAll(a.Body)
			got <- string(text)
		}()
		<-entered
		cancel()
		time.Sleep(time.Second)
		close(release)
		if text := <-got; text != "done" {
			t.Errorf("the request under way was answered with %q", text)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve ended with %v", err)
		}
	})
}

func TestTheSocketKnowsWhoAsks(t *testing.T) {
	b := newBench(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, l) }()
	client := api.NewClient(api.ClientConfig{Endpoints: func() []string { return []string{api.UnixScheme + path} }})
	rev, err := client.Change(t.Context(), addNode("n1"), api.ChangeOptions{})
	if err != nil || rev == 0 {
		t.Errorf("a change through the socket by uid %d: %v", os.Geteuid(), err)
	}
	var st api.ControllerStatus
	if err := client.Get(t.Context(), api.PathStatus, &st); err != nil || st.Name != "c1" {
		t.Errorf("status %+v, %v", st, err)
	}
	client.Close()

	// A connection that is neither TLS nor a unix socket is nobody's.
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- b.Serve(ctx, plain) }()
	a, err := http.Get("http://" + plain.Addr().String() + api.PathStatus)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(a.Body)
	a.Body.Close()
	if a.StatusCode != http.StatusForbidden || !strings.Contains(string(text), "denied") {
		t.Errorf("without TLS: %d %s", a.StatusCode, text)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	for range 2 {
		if err := <-done; err != nil {
			t.Errorf("Serve ended with %v", err)
		}
	}
}

package mesh

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// ClientAs is a client that shows a relay's certificate, from the relay's host, to members of a role at these
// endpoints: what the relay could do, or whoever stole its data.
func (m *Mesh) ClientAs(r *Relay, to pki.Role, endpoints ...string) *api.Client {
	m.t.Helper()
	own, err := pki.LoadCredentials(filepath.Join(r.dir, "identity.pem"))
	if err != nil {
		m.t.Fatal(err)
	}
	c := api.NewClient(api.ClientConfig{
		Endpoints: func() []string { return endpoints }, TLS: pki.ClientTLS(pki.NewKeeper(own), []string{api.ALPNHTTP}, to), Dial: r.host.Dial,
	})
	m.clients = append(m.clients, c)
	return c
}

// MeshAddr is where other relays and agents reach a relay.
func (r *Relay) MeshAddr() string { return r.at(api.PortMesh) }

// BootURL is a path of a relay's plain HTTP.
func (r *Relay) BootURL(path string) string { return "http://" + r.at(api.PortBoot) + path }

func (r *Relay) at(port uint16) string {
	return net.JoinHostPort(r.host.Addr().String(), strconv.Itoa(int(port)))
}

// Visitor is a host in the rack that belongs to nobody, for what anybody could do there. It is made once.
func (m *Mesh) Visitor() *memnet.Host {
	if m.visitor == nil {
		m.visitor = m.Net.Host("visitor", "10.1.200.1").Join(Segment)
	}
	return m.visitor
}

// Visit fetches a URL by plain HTTP from the visitor's host, and returns status and body; 0 without an answer.
func (m *Mesh) Visit(url string) (int, []byte) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 30*time.Second)
	defer cancel()
	tr := &http.Transport{DialContext: m.Visitor().Dial, DisableKeepAlives: true}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	a, err := tr.RoundTrip(q)
	if err != nil {
		return 0, nil
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		return 0, nil
	}
	return a.StatusCode, b
}

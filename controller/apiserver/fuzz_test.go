package apiserver

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// FuzzRequests sends every route whatever bodies and queries, from those who may use it. Nothing of that may be
// answered as a failure of the server.
func FuzzRequests(f *testing.F) {
	b := newBench(f)
	b.told.whatever = true
	b.joins.all = rate.NewLimiter(rate.Inf, 1)
	relayCert := b.admitRelay("r1", "10.1.0.1", "rack")
	good := b.token(api.TokenRequest{Role: catalog.TokenRelay, Networks: []catalog.NetworkName{"rack"}, Uses: 1000})
	for i := range table {
		f.Add(uint8(i), "since=1&wait=0s", []byte(`{}`))
	}
	f.Add(uint8(0), "", encode(f, api.ChangeRequest{Kind: "node.add", Change: encode(f, addNode("n1"))}))
	f.Add(uint8(0), "", []byte(`{"request":"a","kind":"node.set","change":{"nodes":["n1"],"set":{"nets":{"default":{"address":"10.1.0.9"}}}},"dry_run":true}`))
	f.Add(indexOf(api.PathJoinRelay), "", encode(f, api.JoinRelay{Token: good, CSR: b.csr(), Relay: newRelay("r5", "10.1.0.5", nil)}))
	f.Add(indexOf(api.PathJoinControl), "", encode(f, api.JoinController{Token: good, CSR: b.csr(), Name: "c5", API: "10.0.0.5:4400"}))
	f.Add(indexOf(api.PathEvents), "", []byte(`{"events":[{"stage":"dhcp","time":"2026-01-01T00:00:00Z","hardware":"52:54:00:00:00:01"}]}`))
	f.Add(indexOf(api.PathRelayStatus), "", []byte(`{"name":"r1","revision":3,"members":["r2"]}`))
	f.Add(indexOf(api.PathOverlay), "", []byte(`{"format":1,"files":[{"path":"etc/motd","type":"file","content":"aGk="}]}`))
	f.Fuzz(func(t *testing.T, at uint8, query string, body []byte) {
		rt := table[int(at)%len(table)]
		q, _ := url.ParseQuery(query)
		if wait, _ := time.ParseDuration(q.Get("wait")); q.Get("watch") != "" || wait > 0 {
			return // it would do nothing but wait
		}
		path := strings.NewReplacer("{name}", "r1", "{path}", "%2Fr1", "{id}", strings.Repeat("0", 64)).Replace(rt.path)
		cs := &tls.ConnectionState{}
		switch {
		case rt.allow&relay != 0:
			cs.PeerCertificates = []*x509.Certificate{relayCert}
		case rt.allow&controller != 0:
			cs.PeerCertificates = []*x509.Certificate{b.c1}
		case rt.allow&admins != 0:
			cs = nil
		}
		b.t = t
		start := time.Now()
		w := b.send(cs, rt.method, path, query, body)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s %s?%s took %s: %d %.300s", rt.method, path, query, took, w.Code, w.Body)
		}
		if w.Code == 500 {
			t.Errorf("%s %s?%s: %s", rt.method, path, query, w.Body)
		}
	})
}

func indexOf(path string) uint8 {
	for i, rt := range table {
		if rt.path == path && rt.method != "GET" {
			return uint8(i)
		}
	}
	panic(path)
}

package apiserver

import (
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// rights is what each route allows, written down a second time and in other words, so that a slip in the table shows.
// r relay, c controller, o operator and root, - nobody in particular.
var rights = map[string]string{
	"POST /v1/changes":                    "co",
	"GET /v1/read-point":                  "c",
	"GET /v1/catalog":                     "rco",
	"GET /v1/chunks/{id}":                 "rco",
	"PUT /v1/chunks/{id}":                 "co",
	"POST /v1/events":                     "r",
	"POST /v1/relays/{name}/status":       "r",
	"GET /v1/secrets":                     "r",
	"POST /v1/join/relay":                 "-",
	"POST /v1/join/controller":            "-",
	"POST /v1/certificate":                "rc",
	"GET /v1/tokens":                      "o",
	"POST /v1/tokens":                     "o",
	"GET /v1/openapi.json":                "o",
	"GET /v1/status":                      "rco",
	"GET /v1/nodes":                       "o",
	"POST /v1/nodes/query":                "o",
	"GET /v1/nodes/{name}":                "o",
	"GET /v1/nodes/{name}/why":            "o",
	"POST /v1/nodes/why":                  "o",
	"GET /v1/profiles":                    "o",
	"GET /v1/networks":                    "o",
	"GET /v1/ssh/authorities":             "o",
	"GET /v1/groups/{name}":               "o",
	"GET /v1/history":                     "o",
	"GET /v1/boots":                       "o",
	"GET /v1/discover":                    "o",
	"GET /v1/discover/rules":              "o",
	"POST /v1/discover/try":               "o",
	"GET /v1/images":                      "o",
	"POST /v1/images/{name}":              "o",
	"POST /v1/images/{name}/versions":     "o",
	"POST /v1/chunks/missing":             "o",
	"POST /v1/chunks/collect":             "oc",
	"POST /v1/chunks/verify":              "oc",
	"GET /v1/overlays":                    "o",
	"GET /v1/overlays/{name}":             "o",
	"PUT /v1/overlays/{name}":             "o",
	"GET /v1/files":                       "o",
	"GET /v1/files/{path}":                "o",
	"PUT /v1/files/{path}":                "o",
	"DELETE /v1/files/{path}":             "o",
	"PATCH /v1/overlays/{name}":           "o",
	"GET /v1/relays":                      "o",
	"GET /v1/controllers":                 "co",
	"DELETE /v1/controllers/{name}":       "co",
	"POST /v1/leader":                     "co",
	"GET /v1/boots/sessions":              "o",
	"GET /v1/boots/sessions/{name}":       "co",
	"GET /v1/boots/sessions/{name}/nodes": "o",
	"GET /metrics":                        "o",
	"GET /v1/images/{name}/residency":     "o",
}

func TestEveryRouteAllowsWhomItShouldAndNobodyElse(t *testing.T) {
	b := newBench(t)
	b.told.whatever = true
	callers := []struct {
		who  string
		mark string // in rights
		cert *x509.Certificate
		uid  int // for those without; -1: TLS and no certificate
	}{
		{"relay", "r", b.admitRelay("r1", "10.1.0.1", "rack"), 0},
		{"controller", "c", b.c1, 0},
		{"operator", "o", b.certificate(pki.Identity{Role: pki.Operator, Name: "alice"}), 0},
		{"node", "n", b.certificate(pki.Identity{Role: pki.Node, Name: "n1"}), 0},
		{"a relay that is not admitted", "x", b.certificate(pki.Identity{Role: pki.Relay, Name: "r9"}), 0},
		{"a relay with another key", "x", b.certificate(pki.Identity{Role: pki.Relay, Name: "r1"}), 0},
		{"a controller that is not admitted", "x", b.certificate(pki.Identity{Role: pki.Controller, Name: "c9"}), 0},
		{"nobody", "-", nil, -1},
		{"root on the socket", "o", nil, 0},
		{"another user on the socket", "x", nil, os.Geteuid() + 4711},
	}
	seen := map[string]bool{}
	for _, rt := range table {
		route := rt.method + " " + rt.path
		seen[route] = true
		want, ok := rights[route]
		if !ok {
			t.Errorf("%s is in the table and its rights are not written down in this test", route)
			continue
		}
		path := strings.NewReplacer("{name}", "r1", "{path}", "%2Fr1", "{id}", strings.Repeat("0", 64)).Replace(rt.path)
		for _, c := range callers {
			var err error
			if c.cert == nil && c.uid >= 0 {
				err = problemOf(t, b.local(c.uid, rt.method, path, []byte("{}")))
			} else {
				err = problemOf(t, b.ask(c.cert, rt.method, path, struct{}{}))
			}
			allowed := strings.Contains(want, c.mark)
			if c.mark == "c" && (rt.method == "DELETE" || rt.path == api.PathLeader) {
				allowed = false // only in somebody's name
			}
			if got := !errors.Is(err, fault.Denied); got != allowed {
				t.Errorf("%s by %s: allowed %v (%v), want %v", route, c.who, got, err, allowed)
			}
		}
	}
	for route := range rights {
		if !seen[route] {
			t.Errorf("%s is not in the table", route)
		}
	}
}

func TestARouteWithoutARightIsRefused(t *testing.T) {
	b := newBench(t)
	defer func() {
		if recover() == nil {
			t.Error("it was served")
		}
	}()
	b.routes([]route{{method: "GET", path: "/v1/open", serve: (*Server).getStatus}})
}

func TestUnknownPathsAndMethodsAreNotServed(t *testing.T) {
	b := newBench(t)
	for _, q := range []struct{ method, path string }{{"GET", "/"}, {"GET", "/v1"}, {"GET", "/v1/nope"}, {"GET", "/../etc/passwd"}} {
		if w := b.ask(nil, q.method, q.path, nil); w.Code != http.StatusNotFound && w.Code/100 != 3 {
			t.Errorf("%s %s: %d", q.method, q.path, w.Code)
		}
	}
	if w := b.ask(nil, "DELETE", api.PathNodes, nil); w.Code == http.StatusOK {
		t.Errorf("DELETE of all nodes: %d", w.Code)
	}
}

func TestAnExpiredCertificateEndsAnOpenConnectionToo(t *testing.T) {
	b := newBench(t)
	cert, err := b.ca.Sign(b.csr(), pki.Identity{Role: pki.Operator, Name: "alice"}, nil, time.Minute, time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	err = problemOf(t, b.ask(parse(t, cert), "GET", api.PathNodes, nil))
	if !errors.Is(err, fault.Denied) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired certificate: %v", err)
	}
}

func TestARemovedRelayIsOutAtOnce(t *testing.T) {
	b := newBench(t)
	r1 := b.admitRelay("r1", "10.1.0.1", "rack")
	if err := problemOf(t, b.ask(r1, "GET", api.PathSecrets, nil)); err != nil {
		t.Fatal(err)
	}
	b.must(catalog.DeleteRelay{Name: "r1"})
	for _, rt := range table {
		if rt.allow&relay == 0 {
			continue
		}
		path := strings.NewReplacer("{name}", "r1", "{path}", "%2Fr1", "{id}", strings.Repeat("0", 64)).Replace(rt.path)
		if err := problemOf(t, b.ask(r1, rt.method, path, struct{}{})); !errors.Is(err, fault.Denied) {
			t.Errorf("%s %s by a removed relay: %v", rt.method, rt.path, err)
		}
	}
}

func TestARelaySpeaksForItselfOnly(t *testing.T) {
	b := newBench(t)
	r1, r2 := b.admitRelay("r1", "10.1.0.1", "rack"), b.admitRelay("r2", "10.1.0.2", "rack")
	if err := problemOf(t, b.ask(r1, "POST", "/v1/relays/r2/status", api.RelayStatus{Name: "r2"})); !errors.Is(err, fault.Denied) {
		t.Errorf("r1 reported for r2: %v", err)
	}
	if err := problemOf(t, b.ask(r2, "POST", "/v1/relays/r2/status", api.RelayStatus{Name: "r1", Revision: 7})); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.relays.get("r1"); ok {
		t.Error("a report of r2 counts for r1")
	}
	seen, ok := b.relays.get("r2")
	if !ok || seen.status.Revision != 7 {
		t.Errorf("the report of r2: %+v, %v", seen, ok)
	}
}

func TestSecretsAreThoseOfTheNetworksServed(t *testing.T) {
	b := newBench(t)
	get := func(cert *x509.Certificate) api.RelaySecrets {
		w := b.ask(cert, "GET", api.PathSecrets, nil)
		var s api.RelaySecrets
		if err := problemOf(t, w); err != nil {
			t.Fatal(err)
		}
		if err := unmarshal(w.Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := get(b.admitRelay("r1", "10.1.0.1", "rack"))
	if len(s.Gossip) != 32 || len(s.Networks) != 1 || len(s.Networks["rack"]) != 32 || len(s.Tickets) != 1 || len(s.Tickets["rack"]) != 32 {
		t.Errorf("of a relay that serves rack: %v", s)
	}
	if string(s.Networks["rack"]) == string(s.Tickets["rack"]) {
		t.Error("the ticket key is the network's key")
	}
	s = get(b.admitRelay("r2", "10.2.0.1", "other"))
	if len(s.Networks) != 0 || len(s.Tickets) != 1 || len(s.Tickets["other"]) != 32 {
		t.Errorf("of a relay that serves a network without secrets: %v", s)
	}
}

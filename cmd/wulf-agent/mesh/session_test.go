package mesh_test

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// Whoever answers at a relay's address is believed only as a relay of the node's own cluster.
func TestOnlyRelaysOfTheClusterAreBelieved(t *testing.T) {
	bubble(t, func(l *lab) {
		other, err := pki.NewCA("lab", time.Now())
		if err != nil {
			l.t.Fatal(err)
		}
		access := pki.Access{Protocols: []string{api.ALPNHTTP}, Anonymous: true}
		never := func(http.ResponseWriter, *http.Request) {
			l.t.Error("a request reached somebody who is not a relay of the cluster")
		}
		l.serveAs("r1", pki.ServerTLS(credentials(l.t, other, pki.Relay, "r1"), access), never)
		l.serveAs("r2", pki.ServerTLS(credentials(l.t, l.ca, pki.Controller, "c1"), access), never)
		l.serve("r3", sends([]byte("chunk")))
		if got, err := l.mesh.Fetch(l.t.Context(), chunk.RefOf([]byte("chunk"))); err != nil || string(got) != "chunk" {
			l.t.Errorf("got %q, %v", got, err)
		}
	})
}

// An answer to a claim that is lost must not cost the boot: the relay knows the claim again, but no other one.
func TestAClaimIsRepeatedAsTheSameClaim(t *testing.T) {
	bubble(t, func(l *lab) {
		var claims []api.SessionRequest
		note := func(r *http.Request) {
			var q api.SessionRequest
			if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
				l.t.Error(err)
			}
			claims = append(claims, q)
		}
		l.serve("r1", func(w http.ResponseWriter, r *http.Request) {
			note(r)
			if len(claims) == 1 {
				panic(http.ErrAbortHandler)
			}
			api.WriteJSON(w, api.Session{Token: "session", Relays: []string{"r3:4481"}})
		})
		l.serve("r2", func(w http.ResponseWriter, r *http.Request) {
			note(r)
			_, _ = io.WriteString(w, `{"token":"wrong","expires":`)
		})
		s, err := l.mesh.Claim(l.t.Context(), "ticket")
		if err != nil || s.Token != "session" {
			l.t.Fatalf("%+v, %v", s, err)
		}
		for _, c := range claims {
			if c.Ticket != "ticket" || c.Claim != claims[0].Claim || len(c.Claim) < 20 || len(c.Claim) > api.MaxClaim {
				l.t.Errorf("claimed %+v, and before %+v", c, claims[0])
			}
		}
		if len(claims) != 3 {
			l.t.Errorf("%d claims", len(claims))
		}
		// From now on the session's relays are asked, and shown the session.
		l.reached()
		l.serve("r3", func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Authorization"); got != "Bearer session" {
				l.t.Errorf("Authorization is %q", got)
			}
			sends([]byte("chunk"))(w, r)
		})
		if _, err := l.mesh.Fetch(l.t.Context(), chunk.RefOf([]byte("chunk"))); err != nil {
			l.t.Error(err)
		}
		l.wantReached("with the session", "r3")
	})
}

func TestARenewalShowsTheSessionAndTakesTheNextOne(t *testing.T) {
	bubble(t, func(l *lab) {
		l.serve("r1", func(w http.ResponseWriter, r *http.Request) {
			var q api.SessionRequest
			if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q != (api.SessionRequest{}) {
				l.t.Errorf("asked for %+v, %v", q, err)
			}
			api.WriteJSON(w, api.Session{Token: r.Header.Get("Authorization") + "'"})
		})
		l.mesh.SetSession(api.Session{Token: "one"})
		for _, want := range []string{"Bearer one'", "Bearer Bearer one''"} {
			if s, err := l.mesh.Renew(l.t.Context()); err != nil || s.Token != want {
				l.t.Errorf("got %q, %v, want %q", s.Token, err, want)
			}
		}
	})
}

// A ticket of any length that relays make has room on the command line of the kernel.
func TestPlansLeaveRoomForEveryTicket(t *testing.T) {
	if boot.MaxTicket < pki.MaxTicket {
		t.Errorf("plans leave room for %d bytes, and tickets have up to %d", boot.MaxTicket, pki.MaxTicket)
	}
}

package service_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/session"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestANodeThatWasBootedInTwoStagesTellsThatItIsUp(t *testing.T) {
	bubble(t, func(l *lab) {
		l.booted(catalog.MethodTwoStage)
		if err := l.run(func() { time.Sleep(5*time.Minute + 30*time.Second) }); err != nil {
			l.t.Error(err)
		}
		for _, e := range l.told() {
			if e.Node != "n1" || e.Boot != "b1" || e.Hardware != "52:54:00:00:00:01" {
				l.t.Errorf("event %+v", e)
			}
		}
		if got := l.stages(); !strings.HasPrefix(got, "init up alive alive alive alive alive") || len(got) > len("init up alive alive alive alive alive alive") {
			l.t.Errorf("told of %q", got)
		}
		if len(l.claimed()) != 0 {
			l.t.Errorf("it claimed %+v, though stage one had", l.claimed())
		}
	})
}

// A one-stage boot has no network before the node's own init: the service claims what stage one could not.
func TestANodeThatWasBootedInOneStageClaimsItsBoot(t *testing.T) {
	bubble(t, func(l *lab) {
		l.booted(catalog.MethodOneStage)
		if err := l.run(func() { time.Sleep(30 * time.Second) }); err != nil {
			l.t.Error(err)
		}
		l.wantStages("overlay init up")
		if s := l.state(); s.Ticket != "" || s.Session == nil || s.Session.Token != "session 1" {
			l.t.Errorf("the state is %+v", s)
		}
		// Started again, it goes on with the session: a ticket is good for one claim.
		if err := l.run(func() { time.Sleep(30 * time.Second) }); err != nil {
			l.t.Error(err)
		}
		l.wantStages("init up")
		if len(l.claimed()) != 1 {
			l.t.Errorf("claims %+v", l.claimed())
		}
	})
}

func TestTheServiceOutlivesItsRelays(t *testing.T) {
	bubble(t, func(l *lab) {
		l.booted(catalog.MethodTwoStage)
		err := l.run(func() {
			time.Sleep(2*l.interval + 15*time.Second)
			l.wantStages("init up alive alive")
			l.net.Cut("relay")
			l.declare(map[string]string{"etc/hosts": "later"})
			time.Sleep(time.Hour)
			l.net.Heal()
			time.Sleep(5 * time.Minute)
			l.wantContent(map[string]string{"etc/hosts": "later"})
			if got := len(l.stages()) / len("alive "); got < 3 || got > 15 {
				l.t.Errorf("after the hour came %d heart-beats", got)
			}
		})
		if err != nil {
			l.t.Error(err)
		}
	})
}

func TestTheServiceWaitsForARelayToClaimAt(t *testing.T) {
	bubble(t, func(l *lab) {
		l.booted(catalog.MethodOneStage)
		l.net.Cut("relay")
		err := l.run(func() {
			time.Sleep(10 * time.Minute)
			l.net.Heal()
			time.Sleep(30 * time.Second)
			l.wantStages("overlay init up")
		})
		if err != nil {
			l.t.Error(err)
		}
	})
}

func TestTheSessionIsRenewedInItsSecondHalf(t *testing.T) {
	bubble(t, func(l *lab) {
		l.interval = 10 * time.Minute
		l.booted(catalog.MethodTwoStage)
		err := l.run(func() {
			time.Sleep(11*time.Hour + 55*time.Minute)
			if len(l.claimed()) != 0 {
				l.t.Errorf("renewed early: %+v", l.claimed())
			}
			time.Sleep(25 * time.Minute)
			if len(l.claimed()) != 1 || l.claimed()[0].Ticket != "" {
				l.t.Errorf("renewed with %+v", l.claimed())
			}
			if s := l.state().Session; s.Token != "session 1" || time.Until(s.Expires) < 23*time.Hour {
				l.t.Errorf("kept %+v", s)
			}
			l.declare(map[string]string{"etc/hosts": "with the new session"}) // the old one is denied
			time.Sleep(l.interval + time.Second)
			l.wantContent(map[string]string{"etc/hosts": "with the new session"})
		})
		if err != nil {
			l.t.Error(err)
		}
	})
}

func TestTheServiceTellsWhyItCannotGoOn(t *testing.T) {
	bubble(t, func(l *lab) {
		if err := l.run(func() { time.Sleep(time.Second) }); !errors.Is(err, fault.NotFound) {
			l.t.Errorf("on a machine that something else booted: %v", err)
		}
		l.booted(catalog.MethodOneStage)
		l.refuse(true)
		// One relay is away, so that nobody can say that all deny; this is the other's address only.
		s := l.state()
		s.Relays = []string{"10.0.0.3:4481"}
		if err := session.Save(l.root, s); err != nil {
			l.t.Fatal(err)
		}
		if err := l.run(func() { time.Sleep(time.Minute) }); !errors.Is(err, fault.Denied) {
			l.t.Errorf("with a ticket that nobody takes: %v", err)
		}
		l.wantStages("")
		l.refuse(false)
		broken := errors.New("default.target failed")
		if err := l.runUntil(func(context.Context) error { return broken }, func() { time.Sleep(time.Minute) }); !errors.Is(err, broken) {
			l.t.Errorf("a node that does not come up: %v", err)
		}
		if told := l.told(); len(told) == 0 || told[len(told)-1].Error != broken.Error() {
			l.t.Errorf("it told of %+v", told)
		}
	})
}

// A node on its way up is not up, however long it takes; and the service ends when it is told to.
func TestANodeIsUpWhenItSaysSo(t *testing.T) {
	bubble(t, func(l *lab) {
		l.booted(catalog.MethodTwoStage)
		up := make(chan struct{})
		reached := func(ctx context.Context) error {
			select {
			case <-up:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		err := l.runUntil(reached, func() {
			time.Sleep(10 * time.Minute)
			l.wantStages("init")
		})
		if err != nil {
			l.t.Errorf("told to end: %v", err)
		}
		err = l.runUntil(reached, func() {
			time.Sleep(time.Minute)
			close(up)
			time.Sleep(time.Second)
			l.wantStages("init up")
		})
		if err != nil {
			l.t.Error(err)
		}
	})
}

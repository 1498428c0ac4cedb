package journal_test

import (
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// trouble is what a relay tells of a system that has no luck with DHCP.
func trouble(after int, node catalog.NodeName, device catalog.HardwareAddr) boot.Event {
	return boot.Event{Time: t0.Add(time.Duration(after) * time.Second), Node: node, Hardware: device, Stage: boot.StageDHCP, Relay: "r1", Error: "no address is free"}
}

func TestASystemThatHasTroubleWithDHCPDoesNotStartAgain(t *testing.T) {
	const second = catalog.HardwareAddr("52:54:00:00:00:02")
	up := whole("b1", 0)
	for i := range up {
		up[i].Manifest = chunk.Of([]byte("m"))
	}
	declared := lab(t, relay()...)
	for name, events := range map[string][]boot.Event{
		"its own device":        {trouble(3600, "n1", hw), trouble(9000, "n1", hw)},
		"another of its own":    {trouble(3600, "n1", second)},
		"a server nobody knows": {trouble(3600, "", hw)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j := open(t, dir)
			beat := event(3590, boot.StageAlive, "b1")
			beat.Revision = declared.Revision
			j.Record(up)
			j.Record([]boot.Event{beat})
			j.Record(events)
			beat.Time = t0.Add(4 * time.Hour)
			j.Record([]boot.Event{beat})
			boots := j.Boot("n1")
			if len(boots) != 1 || boots[0].Stage != boot.StageUp || boots[0].Error != "" || boots[0].Hardware != hw || !boots[0].Last.Equal(up[8].Time) || len(boots[0].Events) != 9+len(events) {
				t.Errorf("boots %+v", boots)
			}
			if s := j.Sessions(beat.Time); len(s) != 1 || s[0].Nodes != 1 || s[0].Again != 0 || s[0].Took != 8*time.Second || len(s[0].Errors) != 0 {
				t.Errorf("sessions %+v", s)
			}
			if w, err := j.Why(declared, "n1", nil, beat.Time); err != nil || !strings.Contains(w.Verdict, "nothing is wrong") {
				t.Errorf("verdict %q, %v", w.Verdict, err)
			}
			if err := j.Rewrite(); err != nil {
				t.Fatal(err)
			}
			if boots := open(t, dir).Boot("n1"); len(boots) != 1 || boots[0].Stage != boot.StageUp {
				t.Errorf("after a restart: %+v", boots)
			}
			last := trouble(5*3600, "n1", hw)
			j.Record([]boot.Event{last})
			if w, err := j.Why(declared, "n1", nil, last.Time.Add(time.Hour)); err != nil || !strings.Contains(w.Verdict, "has not been heard for 2h0m0s, and DHCP gives it no address: no address is free") {
				t.Errorf("verdict %q, %v", w.Verdict, err)
			}
		})
	}
}

// The agent asks for an address of its own, and firmware has trouble too: both are troubles of the boot that goes on.
func TestTroubleWithDHCPOnTheWayIsThatOfTheBoot(t *testing.T) {
	j := open(t, "")
	j.Record(append(whole("b1", 0)[:4], trouble(8, "n1", hw)))
	if b := j.Boot("n1"); len(b) != 1 || b[0].Stage != boot.StageKernel || b[0].Error != "no address is free" {
		t.Errorf("boots %+v", b)
	}
	j = open(t, "")
	j.Record([]boot.Event{trouble(0, "n1", hw), trouble(1200, "n1", hw)})
	if b := j.Boot("n1"); len(b) != 1 || b[0].Stage != boot.StageDHCP || b[0].Error == "" || !b[0].Last.Equal(t0.Add(20*time.Minute)) {
		t.Errorf("boots %+v", b)
	}
	if s := j.Sessions(t0.Add(time.Hour)); len(s) != 0 {
		t.Errorf("sessions %+v", s)
	}
	wrong := trouble(3000, "n1", hw) // by TFTP
	wrong.Address = "10.1.0.1"
	j.Record([]boot.Event{wrong})
	if s := j.Sessions(t0.Add(time.Hour)); len(s) != 1 || s[0].Nodes != 1 {
		t.Errorf("sessions %+v", s)
	}
}

// The answer of the first relay was lost, and the clock of the other one is a little off.
func TestWhatANodeTellsTwoRelaysIsTakenOnce(t *testing.T) {
	j := open(t, "")
	for i, relay := range []catalog.RelayName{"r1", "r2", "r3"} {
		all := whole("b1", 0)
		for k := range all {
			if all[k].Stage.Index() >= boot.StageStageOne.Index() {
				all[k].Relay, all[k].Bytes = relay, 1000
				all[k].Time = all[k].Time.Add(time.Duration(i) * 300 * time.Millisecond)
			}
		}
		j.Record(all)
	}
	if b := j.Boot("n1"); len(b) != 1 || len(b[0].Events) != 9 {
		t.Errorf("boots %+v", b)
	}
	if s := j.Sessions(t0.Add(time.Hour)); len(s) != 1 || s[0].Events != 9 || s[0].Bytes != 5000 {
		t.Errorf("sessions %+v", s)
	}
}

// The relay to which the node told that it lives is four minutes ahead of the one that saw it start again.
func TestARelayWhoseClockIsAheadMakesNoTwins(t *testing.T) {
	for name, tc := range map[string]struct {
		relay catalog.RelayName
		beat  int
		want  string
	}{
		"ahead":                  {"r2", 240, "it is booting"},
		"the same relay":         {"r1", 240, "another machine with its hardware address"},
		"it goes on and goes on": {"r2", 600, "another machine with its hardware address"},
	} {
		t.Run(name, func(t *testing.T) {
			j := open(t, "")
			beat := event(10+tc.beat, boot.StageAlive, "b1")
			beat.Relay = tc.relay
			j.Record(append(whole("b1", 0), beat))
			j.Record(whole("b2", 20)[:2])
			if w, err := j.Why(lab(t, relay()...), "n1", nil, t0.Add(30*time.Second)); err != nil || !strings.Contains(w.Verdict, tc.want) {
				t.Errorf("verdict %q, %v", w.Verdict, err)
			}
		})
	}
}

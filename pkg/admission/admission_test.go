package admission

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var began = time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)

func gate(slots, reserve int) *Gate {
	return New(Config{Slots: slots, Reserve: reserve, Rand: rand.New(rand.NewPCG(1, 2))})
}

func TestMachineFetchesAllItNeedsInOneTurn(t *testing.T) {
	g := gate(1, 0)
	for range 8 {
		if !g.Ask(began, "n1", false).Admitted {
			t.Fatal("a machine whose turn it is waits for itself")
		}
	}
	if a := g.Ask(began, "n2", false); a.Admitted || a.Place != 0 || a.Wait <= 0 || a.Back < soonest {
		t.Errorf("the next one: %+v", a)
	}
	if a := g.Ask(began, "n3", false); a.Admitted || a.Place != 1 {
		t.Errorf("the one after: %+v", a)
	}
	now := began.Add(2 * time.Second)
	for range 8 {
		g.End(now, "n1")
	}
	if g.Ask(now.Add(time.Second), "n2", false).Admitted {
		t.Error("a pause of a second is no end")
	}
	if g.Ask(now.Add(2*time.Second), "n1", false).Admitted == false {
		t.Error("after a pause of two seconds its turn is over")
	}
	g.End(now.Add(2*time.Second), "n1")
	g.Done(now.Add(2*time.Second), "n1")
	if !g.Ask(now.Add(2*time.Second), "n2", false).Admitted {
		t.Error("it is done, and the next one waits still")
	}
}

func TestWhoComesBackKeepsItsPlace(t *testing.T) {
	g := gate(1, 0)
	g.Ask(began, "n1", false)
	back := g.Ask(began, "n2", false).Back
	g.Ask(began.Add(time.Second), "n3", false)
	if a := g.Ask(began.Add(back), "n2", false); a.Place != 0 {
		t.Errorf("it comes back and is told %+v", a)
	}
	now := began.Add(back)
	g.End(now, "n1")
	g.Done(now, "n1")
	if !g.Ask(now, "n2", false).Admitted {
		t.Error("it is not admitted")
	}
	g.End(now, "n2")
	g.Done(now, "n2")
	now = now.Add(time.Hour)
	if l := g.Load(now); l.Waiting != 0 || l.Busy != 0 {
		t.Errorf("one that never came back stands in line for ever: %+v", l)
	}
}

// A free slot does not wait for somebody who is not here; those who are here take turns in the order of their arrival.
func TestThoseWhoWaitHereAreCalledInOrder(t *testing.T) {
	g := gate(1, 0)
	g.Ask(began, "n1", false)
	for _, who := range []string{"away", "n2", "n3"} {
		g.Ask(began, who, false)
	}
	g.Stay("n3")
	g.Stay("n2")
	g.End(began, "n1")
	g.Done(began, "n1")
	if got := g.Next(began); len(got) != 1 || got[0] != "n2" {
		t.Fatalf("called is %q", got)
	}
	if a := g.Ask(began, "away", false); a.Admitted || a.Place != 0 {
		t.Errorf("who comes back too late: %+v", a)
	}
	g.Leave(began, "n2") // it is gone before it could begin
	if got := g.Next(began); len(got) != 1 || got[0] != "n3" {
		t.Fatalf("called is %q", got)
	}
}

// A machine in the middle of a boot, whose kernel starts for longer than a visit may be idle, goes before those that have
// not begun.
func TestBootThatHasBegunGoesFirst(t *testing.T) {
	g := gate(1, 0)
	g.Ask(began, "n1", false)
	g.End(began, "n1")
	g.Ask(began, "n2", false)
	g.Ask(began, "n3", false)
	now := began.Add(20 * time.Second)
	if !g.Ask(now, "n2", false).Admitted {
		t.Fatal("an idle visit is not over")
	}
	if a := g.Ask(now, "n1", false); a.Place != 0 {
		t.Errorf("it is told %+v", a)
	}
	g.End(now, "n2")
	g.Done(now, "n2")
	if !g.Ask(now, "n1", false).Admitted {
		t.Error("it does not go on")
	}
}

func TestVisitEndsWhenItIsSaid(t *testing.T) {
	g := gate(1, 0)
	g.Ask(began, "n1", false)
	g.Pause(began, "n1") // said while the last bytes are sent
	if g.Ask(began, "n2", false).Admitted {
		t.Error("a slot is lent twice")
	}
	g.End(began, "n1")
	if !g.Ask(began, "n2", false).Admitted {
		t.Error("a visit goes on that is over")
	}
	g.Ask(began, "n3", false)
	if a := g.Ask(began, "n1", false); a.Place != 0 {
		t.Errorf("in the middle of its boot it is told %+v", a)
	}
	g.Done(began, "n2")
	g.End(began, "n2")
	g.Ask(began, "n1", false)
	if a := g.Ask(began, "n2", false); a.Place != 1 {
		t.Errorf("after its boot it is told %+v", a)
	}
}

func TestMachineWithoutConnectionsIsSoonForgotten(t *testing.T) {
	g := gate(1, 0)
	g.Ask(began, "n1", false)
	g.End(began, "n1")
	g.Away(began, "n1")
	if !g.Ask(began.Add(300*time.Millisecond), "n1", false).Admitted { // firmware has one for each file
		t.Error("between two connections its turn is over")
	}
	now := began.Add(300 * time.Millisecond)
	g.End(now, "n1")
	g.Away(now, "n1")
	if !g.Ask(now.Add(UsualIdle/8), "n2", false).Admitted {
		t.Error("it is gone, and has its slot still")
	}
}

func TestReserveIsForUrgentMachines(t *testing.T) {
	g := gate(2, 1)
	for i := range 10 {
		g.Ask(began, fmt.Sprint("n", i), false)
	}
	if !g.Ask(began, "u1", true).Admitted {
		t.Fatal("an urgent machine waits although there is a reserve")
	}
	if a := g.Ask(began, "u2", true); a.Admitted || a.Place != 0 {
		t.Errorf("the second urgent machine: %+v", a)
	}
	g.End(began, "n0")
	g.Done(began, "n0")
	if g.Ask(began, "n2", false).Admitted == false {
		t.Error("who is here waits for one who is not")
	}
	g.Stay("u2")
	g.Stay("n3")
	g.End(began, "n1")
	g.Done(began, "n1")
	if got := g.Next(began); len(got) != 1 || got[0] != "u2" {
		t.Errorf("called is %q", got)
	}
}

func TestSlowReadersGiveTheirSlotUp(t *testing.T) {
	g := gate(2, 0)
	for _, who := range []string{"slow", "fast", "n1"} {
		g.Ask(began, who, false)
	}
	g.Stay("n1")
	var called []string
	for i := range 100 {
		now := began.Add(time.Duration(i) * 100 * time.Millisecond)
		g.Sent(now, "fast", 1<<20)
		g.Sent(now, "slow", 1<<10)
		for _, who := range g.Next(now) {
			called = append(called, who)
			g.Ask(now, who, false)
		}
	}
	if len(called) != 1 {
		t.Fatalf("called is %q", called)
	}
	l := g.Load(began.Add(10 * time.Second))
	if l.Slow != 1 || l.Busy != 2 {
		t.Errorf("the load is %+v", l)
	}
}

func TestLineIsBounded(t *testing.T) {
	g := New(Config{Slots: 1, Line: 10, Rand: rand.New(rand.NewPCG(1, 2))})
	for i := range 1000 {
		who := fmt.Sprint("n", i)
		a := g.Ask(began, who, false)
		if want := i > 0 && i <= 10; g.Waits(who) != want {
			t.Errorf("%s is told %+v, and waits: %v", who, a, g.Waits(who))
		}
		if i > 0 && (a.Admitted || a.Back < soonest || a.Back > latest) {
			t.Errorf("%s is told %+v", who, a)
		}
	}
	now := began
	for i := range 1000 {
		g.Done(now, fmt.Sprint("n", i))
		now = now.Add(time.Minute)
		g.Ask(now, fmt.Sprint("m", i), false)
		g.End(now, fmt.Sprint("m", i))
	}
	if len(g.past) > 10 || len(g.in) > 2 {
		t.Errorf("%d are remembered, %d are in", len(g.past), len(g.in))
	}
}

func TestDeclaredSlotsHold(t *testing.T) {
	g := gate(7, 0)
	s := storm{gate: g, machines: 100, bytes: 64 << 20, link: 1 << 30, each: 100 << 20}
	s.run(t)
	if l := g.Load(s.now); l.Slots != 7 {
		t.Errorf("%d slots", l.Slots)
	}
	g.Set(0, 3)
	if l := g.Load(s.now); l.Slots != start || l.Reserve != 3 {
		t.Errorf("the load is %+v", l)
	}
}

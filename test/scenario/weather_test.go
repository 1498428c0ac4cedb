package scenario

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// The weather of a storm is drawn from its seed before it begins: which mesh it is, what breaks, when, and for how
// long. Told again with the same seed it is the same, to the moment. What happens between two moments is not: the
// scheduler and the dice of Raft and memberlist choose that anew each time.
type weather struct {
	size    mesh.Size
	speed   int64 // bytes a second of each relay's host
	over    time.Duration
	strikes []strike
}

// strike is something that breaks at a moment after power on, and is mended after a while.
type strike struct {
	at, lasts time.Duration
	what      int // of the disasters
	dice      uint64
}

// forecast draws the weather of a seed.
func forecast(seed uint64) weather {
	dice := rand.New(rand.NewPCG(seed, 0x77656174686572))
	w := weather{
		size: mesh.Size{
			Controllers: 3, Relays: 2 + dice.IntN(4), Nodes: 8 + dice.IntN(17), Seed: seed, Image: 300<<10 + dice.IntN(1<<20), Loss: 0.02 * dice.Float64(),
		},
		speed: 1<<20 + dice.Int64N(5<<20),
		over:  between(dice, time.Second, 20*time.Second),
	}
	for range 3 + dice.IntN(7) {
		w.strikes = append(w.strikes, strike{
			at: between(dice, 0, 75*time.Second), lasts: between(dice, 2*time.Second, 50*time.Second), what: dice.IntN(len(disasters())), dice: dice.Uint64(),
		})
	}
	slices.SortFunc(w.strikes, func(a, b strike) int { return int(a.at - b.at) })
	return w
}

// Machines are switched on while the weather is bad, whatever it brings. When it is over all nodes are up; nothing that
// was acknowledged is lost; all controllers and relays hold the same; no wrong byte was taken for a right one; and the
// controllers have sent each version of the image a few times at most, however often relays died meanwhile.
func TestNodesBootInAnyWeather(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		w := forecast(seed)
		mesh.Run(t, w.size, func(t *testing.T, m *mesh.Mesh) { w.pass(t, m) })
	})
}

func (w weather) pass(t *testing.T, m *mesh.Mesh) {
	s := &season{t: t, m: m, speed: w.speed, loss: w.size.Loss, down: map[string]bool{}, served: map[string]int64{}}
	defer func() {
		if t.Failed() {
			t.Logf("the weather was\n%s", strings.Join(s.told, "\n"))
		}
	}()
	for _, r := range m.Relays {
		r.SetBandwidth(w.speed)
	}
	writes := writeEvery(t, m, 1, 3*time.Second)
	began, off := time.Now(), slices.Clone(m.Nodes)
	type mending struct {
		at time.Time
		do func()
	}
	var mendings []mending
	// One thing after the other: whatever comes next, a machine, a disaster or its end.
	for strikes := w.strikes; ; {
		next, act := time.Time{}, (func())(nil)
		take := func(at time.Time, do func()) {
			if act == nil || at.Before(next) {
				next, act = at, do
			}
		}
		if len(off) > 0 {
			take(began.Add(w.over*time.Duration(len(m.Nodes)-len(off))/time.Duration(len(m.Nodes))), func() {
				m.PowerOn(off[0])
				off = off[1:]
			})
		}
		if len(strikes) > 0 {
			k := strikes[0]
			take(began.Add(k.at), func() {
				strikes = strikes[1:]
				d := disasters()[k.what]
				s.say("%s", d.name)
				if mend := d.do(s, rand.New(rand.NewPCG(k.dice, 0))); mend != nil {
					mendings = append(mendings, mending{time.Now().Add(k.lasts), func() { s.say("over: %s", d.name); mend() }})
				}
			})
		}
		for i, x := range mendings {
			take(x.at, func() {
				mendings = slices.Delete(mendings, i, i+1)
				x.do()
			})
		}
		if act == nil {
			break
		}
		time.Sleep(time.Until(next))
		act()
	}
	m.Net.SetLoss(w.size.Loss)
	m.Net.Heal()
	m.WaitUp(10*time.Minute, m.Nodes...)
	writes.progress(m, 5)
	writes.stop()
	m.Settle()
	writes.check(m)
	told(t, m, m.Nodes...)
	for _, c := range m.Controllers {
		s.count(c)
	}
	size, sent := int64(0), int64(0)
	for _, ref := range m.Chunks(m.Version(mesh.Image)) {
		size += ref.Size
		sent += ref.Size * s.served[ref.ID.String()]
	}
	t.Logf("%d machines, %d relays, %d bytes of image, %d disasters, %.1f copies from controllers", len(m.Nodes), len(m.Relays), size, len(w.strikes), float64(sent)/float64(size))
	if sent > 4*size {
		t.Errorf("controllers sent %.1f copies of the image", float64(sent)/float64(size))
	}
}

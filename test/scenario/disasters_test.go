package scenario

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// disaster breaks something; what it returns mends that.
type disaster struct {
	name string
	do   func(s *season, dice *rand.Rand) (mend func())
}

// season is a storm under way.
type season struct {
	t         *testing.T
	m         *mesh.Mesh
	speed     int64   // of relays, when nothing is wrong with them
	loss      float64 // of packets, likewise
	published int
	served    map[string]int64 // by chunk: how often controllers that have ended since sent it
	down      map[string]bool  // what is broken now, by name of its host
	split     bool
	told      []string
}

func (s *season) say(format string, args ...any) {
	s.told = append(s.told, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

// relay chooses one that is well, if that leaves another; nil otherwise.
func (s *season) relay(dice *rand.Rand) *mesh.Relay {
	var well []*mesh.Relay
	for _, r := range s.m.Relays {
		if !s.down[r.Name] {
			well = append(well, r)
		}
	}
	if len(well) < 2 {
		return nil
	}
	return well[dice.IntN(len(well))]
}

// controller chooses one that is well, if no other is broken: a majority must be left for what is published meanwhile.
func (s *season) controller(dice *rand.Rand) *mesh.Controller {
	for _, c := range s.m.Controllers {
		if s.down[c.Name] {
			return nil
		}
	}
	return s.m.Controllers[dice.IntN(len(s.m.Controllers))]
}

// ends makes a disaster of a way to end a process or to cut it off.
func ends(of func(s *season, dice *rand.Rand) string, how func(*mesh.Mesh, string)) func(*season, *rand.Rand) func() {
	return func(s *season, dice *rand.Rand) func() {
		name := of(s, dice)
		if name == "" {
			return nil
		}
		s.down[name] = true
		for _, c := range s.m.Controllers {
			if c.Name == name {
				s.count(c) // a new start counts from nothing
			}
		}
		how(s.m, name)
		s.say("it is %s", name)
		return func() {
			s.m.Net.Heal(name)
			s.m.Restart(name)
			delete(s.down, name)
		}
	}
}

// count takes in what a controller has sent since it was started.
func (s *season) count(c *mesh.Controller) {
	for id, n := range c.ChunksServed() {
		s.served[id] += n
	}
}

func aRelay(s *season, dice *rand.Rand) string {
	if r := s.relay(dice); r != nil {
		return r.Name
	}
	return ""
}

func aController(s *season, dice *rand.Rand) string {
	if c := s.controller(dice); c != nil {
		return c.Name
	}
	return ""
}

func disasters() []disaster {
	kill := func(m *mesh.Mesh, name string) { m.Kill(name) }
	power := func(m *mesh.Mesh, name string) { m.PowerCut(name) }
	stop := func(m *mesh.Mesh, name string) { m.Stop(name) }
	cut := func(m *mesh.Mesh, name string) { m.Net.Cut(name) }
	stall := func(m *mesh.Mesh, name string) { m.Net.Stall(name) }
	return []disaster{
		{"a relay is killed", ends(aRelay, kill)},
		{"a relay loses its power", ends(aRelay, power)},
		{"a relay is stopped", ends(aRelay, stop)},
		{"a relay is cut off", ends(aRelay, cut)},
		{"a relay goes dumb", ends(aRelay, stall)},
		{"a controller is killed", ends(aController, kill)},
		{"a controller loses its power", ends(aController, power)},
		{"a controller is cut off", ends(aController, cut)},
		{"a controller goes dumb", ends(aController, stall)},
		{"all controllers are gone", (*season).allControllers},
		{"the leader is alone", (*season).lonelyLeader},
		{"the relays are split", (*season).splitRelays},
		{"a relay loses its cache", (*season).loseCache},
		{"a relay's disk rots", (*season).rot},
		{"a relay flaps", (*season).flap},
		{"a relay is slow", (*season).slow},
		{"packets are lost", (*season).lossy},
		{"the image changes", (*season).publish},
		{"machines are reset", (*season).reset},
	}
}

func (s *season) allControllers(*rand.Rand) func() {
	if s.split || s.down[s.m.Controllers[0].Name] {
		return nil
	}
	names := mesh.Names(s.m.Controllers...)
	for _, n := range names {
		if s.down[n] {
			return nil
		}
	}
	for _, n := range names {
		s.down[n] = true
	}
	s.m.CutControllers()
	return func() {
		s.m.Net.Heal(names...)
		for _, n := range names {
			delete(s.down, n)
		}
	}
}

func (s *season) lonelyLeader(dice *rand.Rand) func() {
	if s.controller(dice) == nil {
		return nil
	}
	leader := s.m.Leader()
	s.down[leader.Name] = true
	s.m.Net.Partition([]string{leader.Name}, mesh.Names(s.m.Followers()...))
	s.say("it is %s", leader.Name)
	return func() {
		s.m.Net.Heal(leader.Name)
		delete(s.down, leader.Name)
	}
}

// splitRelays has two halves of the relays not hear each other; controllers and machines reach both.
func (s *season) splitRelays(dice *rand.Rand) func() {
	var names []string
	for _, r := range s.m.Relays {
		if s.down[r.Name] {
			return nil // mending it would mend a part of the split
		}
		names = append(names, r.Name)
	}
	if s.split || len(names) < 2 {
		return nil
	}
	dice.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	half := names[:1+dice.IntN(len(names)-1)]
	s.split = true
	s.m.Net.Partition(half, names[len(half):])
	s.say("on one side %q", half)
	return func() {
		s.m.Net.Heal(half...)
		s.split = false
	}
}

// loseCache is a relay whose disk was replaced: it comes back at once and fills itself.
func (s *season) loseCache(dice *rand.Rand) func() {
	r := s.relay(dice)
	if r == nil {
		return nil
	}
	s.m.Kill(r.Name)
	if err := os.RemoveAll(filepath.Join(r.Dir(), "chunks")); err != nil {
		s.t.Fatal(err)
	}
	s.m.Restart(r.Name)
	s.say("it is %s", r.Name)
	return func() {}
}

func (s *season) rot(dice *rand.Rand) func() {
	r := s.relay(dice)
	if r == nil {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(r.Dir(), "chunks", "??", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range files {
		id, err := chunk.ParseID(filepath.Base(f))
		if err != nil || dice.IntN(3) > 0 {
			continue
		}
		if b, err := os.ReadFile(f); err == nil && len(b) > 0 && chunk.Of(b) == id {
			s.say("%s of %s rots", id.Short(), r.Name)
			damage(s.t, dice, r, id)
		}
	}
	return func() {}
}

// flap has a relay go up and down every few seconds.
func (s *season) flap(dice *rand.Rand) func() {
	r := s.relay(dice)
	if r == nil {
		return nil
	}
	s.say("it is %s", r.Name)
	for range 4 {
		s.m.Kill(r.Name)
		time.Sleep(between(dice, time.Second, 4*time.Second))
		s.m.Restart(r.Name)
		time.Sleep(between(dice, 2*time.Second, 5*time.Second))
	}
	return func() {}
}

func (s *season) slow(dice *rand.Rand) func() {
	r := s.relay(dice)
	if r == nil {
		return nil
	}
	r.SetBandwidth(64 << 10)
	s.say("it is %s", r.Name)
	return func() { r.SetBandwidth(s.speed) }
}

func (s *season) lossy(dice *rand.Rand) func() {
	s.m.Net.SetLoss(0.05 + 0.2*dice.Float64())
	return func() { s.m.Net.SetLoss(s.loss) }
}

func (s *season) publish(dice *rand.Rand) func() {
	if s.controller(dice) == nil || s.split {
		return nil
	}
	s.published++
	s.m.Publish(mesh.Image, s.m.Seed()*100+uint64(s.published))
	return func() {}
}

func (s *season) reset(dice *rand.Rand) func() {
	for _, n := range s.m.Nodes {
		if dice.IntN(4) == 0 {
			n.Reset()
		}
	}
	return func() {}
}

package scenario

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// Everything at once: for some minutes controllers and relays die by turns, networks split, disks rot, images change and
// machines are reset, while writes go on. When peace comes, every node is up, nothing that was acknowledged is lost, all
// controllers and relays hold the same, and not one wrong byte was served.
func TestAllIsWellAfterTheStorm(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3, Relays: 2, Nodes: 6, Image: 900 << 10, Loss: 0.02}, func(t *testing.T, m *mesh.Mesh, dice *rand.Rand) {
		for _, r := range m.Relays {
			r.SetBandwidth(4 << 20)
		}
		m.PowerOn(m.Nodes...)
		w := write(t, m, 1)
		s := &storm{m: m, dice: dice}
		for range 10 {
			time.Sleep(between(dice, time.Second, 12*time.Second))
			m.Nodes[dice.IntN(len(m.Nodes))].Reset() // somebody boots all the time
			s.strike(t)
		}
		m.Net.Heal()
		for _, c := range m.Controllers {
			m.Restart(c.Name)
		}
		for _, r := range m.Relays {
			m.Restart(r.Name)
		}
		t.Logf("it struck: %q", s.struck)
		m.WaitUp(10*time.Minute, m.Nodes...)
		w.progress(m, 5)
		w.stop()
		m.Settle()
		w.check(m)
		told(t, m, m.Nodes...)
	})
}

// storm does harm, but never to more than one controller and one relay at a time.
type storm struct {
	m      *mesh.Mesh
	dice   *rand.Rand
	struck []string
	seed   uint64

	controller, relay string // that are down or cut off
}

func (s *storm) strike(t *testing.T) {
	t.Helper()
	ends := []func(...string){s.m.Kill, s.m.PowerCut, s.m.Stop, s.m.Net.Cut, s.m.Net.Stall}
	c, r := s.m.Controllers[s.dice.IntN(3)], s.m.Relays[s.dice.IntN(2)]
	at := s.dice.IntN(len(ends))
	switch what := s.dice.IntN(8); {
	case s.controller != "" && what < 3:
		s.say("controller %s is back", s.controller)
		s.m.Net.Heal(s.controller)
		s.m.Restart(s.controller)
		s.controller = ""
	case s.relay != "" && what < 5:
		s.say("relay %s is back", s.relay)
		s.m.Net.Heal(s.relay)
		s.m.Restart(s.relay)
		s.relay = ""
	case what < 2:
		s.say("controller %s, way %d", c.Name, at)
		ends[at](c.Name)
		s.controller = c.Name
	case what == 2:
		s.say("the leader is alone")
		leader := s.m.Leader()
		s.m.Net.Partition([]string{leader.Name}, mesh.Names(s.m.Followers()...))
		s.controller = leader.Name
	case what < 5:
		s.say("relay %s, way %d", r.Name, at)
		ends[at](r.Name)
		s.relay = r.Name
	case what == 5:
		s.rot(t, r)
	case what == 6 && s.controller == "":
		s.seed++
		s.say("image %d", s.seed)
		s.m.Publish(mesh.Image, s.m.Seed()*100+s.seed)
	default:
		s.say("nothing")
	}
}

// rot damages whatever of the present image a relay has on disk.
func (s *storm) rot(t *testing.T, r *mesh.Relay) {
	t.Helper()
	if s.controller != "" {
		return
	}
	for _, ref := range s.m.Chunks(s.m.Version(mesh.Image)) {
		if _, err := os.Stat(r.ChunkFile(ref.ID)); err == nil && s.dice.IntN(2) == 0 {
			s.say("%s rots on %s", ref.ID.Short(), r.Name)
			damage(t, s.dice, r, ref.ID)
		}
	}
}

func (s *storm) say(format string, args ...any) {
	s.struck = append(s.struck, time.Now().Format("04:05 ")+fmt.Sprintf(format, args...))
}

package capacity

import (
	"math"
	"reflect"
	"testing"
	"time"
)

func predict(t *testing.T, s Site) Forecast {
	t.Helper()
	f, err := Predict(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// atOnce is a site whose machines take no time for themselves, so that what is left can be worked out by hand.
func atOnce(s Site) Site {
	const nothing = time.Nanosecond
	s.Machine = Machine{Firmware: nothing, Spread: nothing, DHCP: nothing, TFTP: 1e12, Chain: nothing, Kernel: nothing, Unpack: 1e15, Init: nothing}
	s.Costs = Costs{Cores: 1000, DHCP: nothing, Script: nothing, Claim: nothing, Overlay: nothing, Plain: nothing, Chunks: nothing}
	s.Boot, s.Loader, s.Overlay = 1, 1, 1
	return s
}

func near(got, want time.Duration, share float64) bool {
	return math.Abs(got.Seconds()-want.Seconds()) <= share*want.Seconds()
}

// Where the relay's link is the neck, all of it is used until the last machine has its image.
func TestALinkThatIsTheNeckIsUsedToTheEnd(t *testing.T) {
	s := atOnce(Site{Nodes: 64, Relays: 1, Image: 1e9, NodeLink: 1e9, RelayLink: 1e9})
	f := predict(t, s)
	if !near(f.Up.Max, 64*time.Second, 0.05) {
		t.Errorf("64 images of a second each take %v", f.Up.Max)
	}
	if f.Bound != "the relays' links" || f.Busy < 0.95 {
		t.Errorf("bound by %s, the link busy %.2f", f.Bound, f.Busy)
	}
	if want := 64e9; f.Egress != want {
		t.Errorf("the relay sends %g bytes, want %g", f.Egress, want)
	}
}

// Where relays are fast, a node gets its image as fast as its own card takes it: the floor.
func TestFastRelaysLeaveNodesTheirOwnCards(t *testing.T) {
	f := predict(t, atOnce(Site{Nodes: 640, Relays: 10, Image: 1e9, NodeLink: 1e9, RelayLink: 200e9, Slots: 200}))
	if !near(f.Image.Max, f.Floor, 0.05) || !near(f.Floor, time.Second, 0.01) || f.Bound != "the nodes' cards" {
		t.Errorf("the last image takes %v, the floor is %v, bound by %s", f.Image.Max, f.Floor, f.Bound)
	}
}

// Twice the relays halve what the relays' links decide; the rest stays.
func TestRelaysShareTheNodes(t *testing.T) {
	one := predict(t, atOnce(Site{Nodes: 1000, Relays: 10, Image: 1e9, NodeLink: 1e9, RelayLink: 1e9}))
	two := predict(t, atOnce(Site{Nodes: 1000, Relays: 20, Image: 1e9, NodeLink: 1e9, RelayLink: 1e9}))
	if !near(2*two.Up.Max, one.Up.Max, 0.1) {
		t.Errorf("10 relays take %v, 20 take %v", one.Up.Max, two.Up.Max)
	}
}

// Cold relays get each chunk from the controllers about once, and all of it soon after their own links allow.
func TestColdRelaysFillFromOneAnother(t *testing.T) {
	for _, relays := range []int{1, 2, 50, 600} {
		f := predict(t, Site{Nodes: relays * 4, Relays: relays, Image: 1e9, Cold: true})
		if f.Fill.Copies < 0.99 || f.Fill.Copies > 1.01 {
			t.Errorf("%d relays: the controllers send %.2f copies", relays, f.Fill.Copies)
		}
		if f.Fill.Took < f.Fill.Ideal || f.Fill.Took > 5*f.Fill.Ideal {
			t.Errorf("%d relays: filled after %v, a link alone takes %v", relays, f.Fill.Took, f.Fill.Ideal)
		}
		if f.Fill.Uneven > 1.5 {
			t.Errorf("%d relays: one of them sends %.2f copies", relays, f.Fill.Uneven)
		}
	}
	zones := predict(t, Site{Nodes: 400, Relays: 100, Zones: 4, ZoneLink: Link(1), Image: 1e9, Cold: true})
	if least := seconds(1e9 / Link(1)); zones.Fill.Took < least {
		t.Errorf("zones are filled after %v, and their links take %v for one copy", zones.Fill.Took, least)
	}
}

// No phase is lost: what the phases take together is what a boot takes.
func TestPhasesAddUp(t *testing.T) {
	s := Site{Nodes: 200, Relays: 4, Cold: true, Over: 10 * time.Second}.Defaults()
	ends := fill(&s).ends
	b := newGroup(&s, 0, 50, ends[0]).play()
	if len(b.nodes) != 50 {
		t.Fatalf("%d nodes", len(b.nodes))
	}
	for i, n := range b.nodes {
		for step := range stepNames {
			if n.at[step+1] < n.at[step] {
				t.Errorf("node %d ends %s before it began", i, stepNames[step])
			}
		}
		if up := n.at[len(stepNames)] - n.at[0]; up < s.Machine.Firmware+s.Machine.Init {
			t.Errorf("node %d is up after %v", i, up)
		}
	}
}

func TestTheSameSiteHasTheSameForecast(t *testing.T) {
	s := Site{Nodes: 3000, Relays: 40, Zones: 3, Cold: true, Over: 20 * time.Second}
	if a, b := predict(t, s), predict(t, s); !reflect.DeepEqual(a, b) {
		t.Errorf("%+v and %+v", a, b)
	}
}

func TestASiteThatCannotBeIsRefused(t *testing.T) {
	for _, s := range []Site{{Nodes: -1}, {Relays: -1}, {Nodes: 1e9}, {Zones: 9, Relays: 3}, {Image: -5}, {NodeLink: 1}, {Slots: -1}, {Controllers: 99}, {RelayLink: math.NaN()},
		{Over: -time.Second}, {Machine: Machine{Firmware: -time.Minute}}, {Machine: Machine{Init: -1}}, {Machine: Machine{Spread: 1e6 * time.Hour}}, {Costs: Costs{Chunks: -1}}} {
		if f, err := Predict(s); err == nil {
			t.Errorf("%+v: %+v", s, f.Up)
		}
	}
}

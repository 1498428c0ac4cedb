// Package capacity says beforehand how long a boot storm will take: for sizes that no test machine has, from the links,
// the image and the relays of a site. It plays the storm in virtual time, with the order in which relays really fetch
// from one another and the admission with which they really serve.
//
// It is pure: the same site gives the same forecast. What is drawn by lot, when each machine asks, comes from a generator
// with a fixed seed.
package capacity

import (
	"cmp"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Site is what a forecast is made of. Sizes are bytes, rates bytes a second. Defaults fills in what is zero.
type Site struct {
	Nodes       int `json:"nodes"`
	Relays      int `json:"relays"` // that serve
	Zones       int `json:"zones"`  // over which relays are spread evenly; a chunk enters each about once
	Controllers int `json:"controllers"`

	Image    int64 `json:"image"`    // as served
	Unpacked int64 `json:"unpacked"` // its files
	Chunk    int64 `json:"chunk"`    // a segment, on average
	Boot     int64 `json:"boot"`     // kernel and stage one
	Loader   int64 `json:"loader"`   // the boot program
	Overlay  int64 `json:"overlay"`  // a node's overlays, as sent

	NodeLink       float64 `json:"node_link"`
	RelayLink      float64 `json:"relay_link"`
	ControllerLink float64 `json:"controller_link"`
	ZoneLink       float64 `json:"zone_link"` // into each zone, where there are several; 0: no limit of its own

	Cold  bool          `json:"cold"`  // relays have nothing of the image when the first machine asks
	Over  time.Duration `json:"over"`  // machines are switched on one after the other, in this time
	Slots int           `json:"slots"` // of each relay; 0: as many as admission finds

	Machine Machine `json:"machine"`
	Costs   Costs   `json:"costs"`
}

// Machine is what machines take by themselves, however fast everything else is.
type Machine struct {
	Firmware time.Duration `json:"firmware"` // from power to the first packet
	Spread   time.Duration `json:"spread"`   // between the quickest and the slowest of them
	DHCP     time.Duration `json:"dhcp"`     // the firmware's handshake
	TFTP     float64       `json:"tftp"`     // bytes a second that the firmware takes of its boot program
	Chain    time.Duration `json:"chain"`    // from the boot program to its script: it starts, and asks DHCP again
	Kernel   time.Duration `json:"kernel"`   // from the last byte of stage one to its first request
	Unpack   float64       `json:"unpack"`   // bytes of files a second
	Init     time.Duration `json:"init"`     // from switch_root to up
}

// Costs is what a relay's processors do for a node.
type Costs struct {
	Cores   float64       `json:"cores"`
	DHCP    time.Duration `json:"dhcp"` // a handshake
	Script  time.Duration `json:"script"`
	Claim   time.Duration `json:"claim"`   // of a ticket, with the handshake of TLS
	Overlay time.Duration `json:"overlay"` // rendering and sending both
	Plain   time.Duration `json:"plain"`   // a gigabyte of kernels, which are verified as they are sent
	Chunks  time.Duration `json:"chunks"`  // a gigabyte of segments, which agents verify
}

// Link is a rate of so many gigabits a second, of which the headers of Ethernet, IP and TCP leave 94 % (1448 bytes of
// 1538 on the wire).
func Link(gigabits float64) float64 { return gigabits * 1e9 / 8 * 1448 / 1538 }

// Defaults returns the site with what is zero replaced: an image of 1 GB, cards of 10 Gbit/s, a relay for 64 nodes, and
// what was measured of our programs (docs/storms.md says where each comes from).
func (s Site) Defaults() Site {
	set(&s.Nodes, 64)
	set(&s.Relays, max(1, (s.Nodes+63)/64))
	set(&s.Zones, 1)
	set(&s.Controllers, 3)
	set(&s.Image, 1e9)
	set(&s.Unpacked, s.Image*5/2)
	set(&s.Chunk, 1<<20)
	set(&s.Boot, 60e6)
	set(&s.Loader, 300e3)
	set(&s.Overlay, 200e3)
	set(&s.NodeLink, Link(10))
	set(&s.RelayLink, Link(25))
	set(&s.ControllerLink, Link(10))
	m, c := &s.Machine, &s.Costs
	set(&m.Firmware, 60*time.Second)
	set(&m.Spread, 20*time.Second)
	set(&m.DHCP, 4*time.Second)
	set(&m.TFTP, 5e6)
	set(&m.Chain, 3*time.Second)
	set(&m.Kernel, 6*time.Second)
	set(&m.Unpack, 2e9)
	set(&m.Init, 15*time.Second)
	set(&c.Cores, 8)
	set(&c.DHCP, 100*time.Microsecond)
	set(&c.Script, time.Millisecond)
	set(&c.Claim, 3*time.Millisecond)
	set(&c.Overlay, 50*time.Millisecond)
	set(&c.Plain, 1000*time.Millisecond)
	set(&c.Chunks, 100*time.Millisecond)
	return s
}

func set[T int | int64 | float64 | time.Duration](v *T, usual T) {
	if *v == 0 {
		*v = usual
	}
}

// Bounds of a site: what a forecast still makes in seconds.
const (
	maxNodes  = 1_000_000
	maxRelays = 20_000
	maxChunks = 4096 // larger images are played with fewer, larger chunks
	maxTime   = 7 * 24 * time.Hour
)

func (s *Site) check() error {
	for _, v := range []struct {
		what    string
		is      float64
		low, up float64
	}{
		{"nodes", float64(s.Nodes), 1, maxNodes}, {"relays", float64(s.Relays), 1, maxRelays},
		{"zones", float64(s.Zones), 1, float64(s.Relays)}, {"controllers", float64(s.Controllers), 1, 9},
		{"the image's size", float64(s.Image), 1, 1e13}, {"the size of the image's files", float64(s.Unpacked), 1, 1e13},
		{"a node's link", s.NodeLink, 1e3, 1e12}, {"a relay's link", s.RelayLink, 1e3, 1e12},
		{"a controller's link", s.ControllerLink, 1e3, 1e12}, {"slots", float64(s.Slots), 0, 1e6}, {"a zone's link", s.ZoneLink, 0, 1e12},
		{"a segment's size", float64(s.Chunk), 1, 1e13}, {"the size of kernel and stage one", float64(s.Boot), 1, 1e13},
		{"the boot program's size", float64(s.Loader), 1, 1e13}, {"the rate of TFTP", s.Machine.TFTP, 1, 1e18}, {"the rate of unpacking", s.Machine.Unpack, 1, 1e18},
		{"a relay's processors", s.Costs.Cores, 0.1, 1024},
	} {
		if !(v.is >= v.low && v.is <= v.up) { // what is no number is not either
			return fault.New(fault.Invalid, "%s: %v is not between %v and %v", v.what, v.is, v.low, v.up)
		}
	}
	m, k := s.Machine, s.Costs
	for _, v := range []struct {
		what string
		is   time.Duration
	}{
		{"the time within which machines are switched on", s.Over}, {"the time of the firmware", m.Firmware}, {"what the slowest firmware takes longer", m.Spread},
		{"the time of DHCP", m.DHCP}, {"the time from the boot program to its script", m.Chain}, {"the time of the kernel", m.Kernel}, {"the time of init", m.Init},
		{"what a handshake of DHCP costs", k.DHCP}, {"what a script costs", k.Script}, {"what a ticket costs", k.Claim}, {"what overlays cost", k.Overlay},
		{"what a gigabyte for firmware costs", k.Plain}, {"what a gigabyte for agents costs", k.Chunks},
	} {
		if v.is < 0 || v.is > maxTime {
			return fault.New(fault.Invalid, "%s: %v is not between 0s and %v", v.what, v.is, maxTime)
		}
	}
	return nil
}

// Phase is a part of a boot, and how long it took for how many.
type Phase struct {
	Name string        `json:"name"`
	P50  time.Duration `json:"p50"`
	P95  time.Duration `json:"p95"`
	P99  time.Duration `json:"p99"`
	Max  time.Duration `json:"max"`
}

// phase sums up durations, which it sorts.
func phase(name string, all []time.Duration) Phase {
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[min(len(all)-1, int(q*float64(len(all))))] }
	return Phase{name, at(0.50), at(0.95), at(0.99), all[len(all)-1]}
}

// Forecast is how the storm will go.
type Forecast struct {
	Site   Site          `json:"site"`   // with what was filled in
	Up     Phase         `json:"up"`     // from power to up
	Phases []Phase       `json:"phases"` // of it, waiting included
	Image  Phase         `json:"image"`  // from asking for the image to having it: the part that the network decides
	Floor  time.Duration `json:"floor"`  // the image's time if the node had everything to itself
	Bound  string        `json:"bound"`  // what decides about the image's time
	Slots  int           `json:"slots"`  // in use at the busiest time, at a relay
	Queue  int           `json:"queue"`  // waiting at the worst time, at a relay

	Fill    Fill    `json:"fill"`
	Egress  float64 `json:"egress"`  // bytes of a relay to nodes
	Busy    float64 `json:"busy"`    // share of a relay's link in use from the first image to the last, 0 to 1
	Control float64 `json:"control"` // messages a second that reach each controller, at most
}

// Predict plays the storm. It takes about a second for 100 000 nodes. Errors are fault.Invalid.
func Predict(s Site) (Forecast, error) {
	s = s.Defaults()
	if err := s.check(); err != nil {
		return Forecast{}, err
	}
	f := Forecast{Site: s}
	f.Fill = fill(&s)
	groups := sample(&s, f.Fill.ends)
	var all []boots
	for _, g := range groups {
		all = append(all, g.play())
	}
	f.sum(all)
	f.Floor = seconds(float64(s.Image) / s.imageRate())
	f.Bound = s.bound(f.Image.P50 <= f.Floor+f.Floor/20)
	return f, nil
}

// imageRate is what a node takes of an image by itself: what its card brings, or what it unpacks.
func (s *Site) imageRate() float64 {
	return min(s.NodeLink, s.Machine.Unpack*float64(s.Image)/float64(s.Unpacked))
}

// serveRate is what a relay gives: what its link takes, or what its processors can send.
func (s *Site) serveRate() float64 {
	return min(s.RelayLink, s.Costs.Cores/s.Costs.Chunks.Seconds()*1e9)
}

// bound names what a node waits for while it gets its image; free says that most wait for nothing but themselves.
func (s *Site) bound(free bool) string {
	switch {
	case free && s.imageRate() == s.NodeLink:
		return "the nodes' cards"
	case free:
		return "the nodes' unpacking"
	case s.serveRate() < s.RelayLink:
		return "the relays' processors"
	}
	return "the relays' links"
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (f *Forecast) sum(all []boots) {
	var up, image []time.Duration
	var steps [len(stepNames)][]time.Duration
	for _, b := range all {
		for _, n := range b.nodes {
			up = append(up, n.at[len(stepNames)]-n.at[0])
			image = append(image, n.at[stepImage+1]-n.at[stepImage])
			for i := range stepNames {
				steps[i] = append(steps[i], n.at[i+1]-n.at[i])
			}
		}
		f.Slots, f.Queue = max(f.Slots, b.slots), max(f.Queue, b.queue)
		f.Egress = max(f.Egress, b.bytes)
		f.Busy = max(f.Busy, b.busy)
	}
	f.Up, f.Image = phase("up", up), phase("image", image)
	for i, name := range stepNames {
		f.Phases = append(f.Phases, phase(name, steps[i]))
	}
	f.Control = control(&f.Site)
}

// control is how many messages a second reach a controller: each relay sends its events in batches, the more relays there
// are the fewer of each, and its status.
func control(s *Site) float64 {
	each := float64(s.Relays)
	return each/api.LingerOf(s.Relays).Seconds() + each/api.ReportEvery(s.Relays).Seconds()
}

// loads is how many nodes each relay serves: a rack's relays share its nodes evenly, see pkg/boot.
func (s *Site) loads() []int {
	loads := make([]int, s.Relays)
	for n := range s.Nodes {
		loads[n%s.Relays]++
	}
	return loads
}

// sample chooses the relays whose storms are played: all of them if they are few, else some of each load, the busiest one
// among them.
func sample(s *Site, ends []time.Duration) []*group {
	const most = 16
	count, loads := min(s.Relays, most), s.loads()
	order := make([]int, s.Relays)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(loads[a], loads[b]), cmp.Compare(ends[a], ends[b]), cmp.Compare(a, b))
	})
	var all []*group
	for i := range count {
		relay := order[s.Relays-1]
		if count > 1 {
			relay = order[i*(s.Relays-1)/(count-1)]
		}
		if loads[relay] > 0 {
			all = append(all, newGroup(s, relay, loads[relay], ends[relay]))
		}
	}
	return all
}

package capacity

import (
	"container/heap"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/admission"
)

// The steps of a boot, between whose ends its phases lie.
const (
	stepFirmware = iota
	stepDHCP
	stepLoader
	stepScript
	stepKernel
	stepStageOne
	stepImage
	stepOverlay
	stepInit
)

// Steps are the names of a forecast's phases, in order.
func Steps() []string { return stepNames[:] }

var stepNames = [...]string{"firmware", "dhcp", "loader", "script", "kernel", "stage-one", "image", "overlay", "init"}

// node is a machine's way through its boot: when it began each step, and at last when it was up.
type node struct {
	at    [len(stepNames) + 1]time.Duration
	step  int
	waits bool // for its turn to fetch, with an open connection
	asks  bool // it was told to come back, and comes
}

// What httpd and agents do with those whose turn has not come: firmware waits, an agent if its turn is near.
const (
	agentWaits = 8 * time.Second
	look       = time.Second // after which the relay looks who is next, in any case
)

// boots is what came of a relay's machines.
type boots struct {
	nodes        []node
	slots, queue int
	bytes        float64
	busy         float64
}

// group is a relay and its machines.
type group struct {
	site  *Site
	nodes []node
	fill  time.Duration // from when on it has all of the image
	first time.Duration // when the first machine asked for something of the image
	dice  *rand.Rand

	now     time.Duration
	turns   turns           // machines that go on by themselves
	free    []time.Duration // when each of the relay's processors is idle
	classes []*class        // of transfers, by step
	gate    *admission.Gate
	looking bool
	result  boots
	moved   float64       // bytes of the image
	began   time.Duration // the first transfer of it; -1: none yet
	ended   time.Duration
}

func newGroup(s *Site, relay, nodes int, fill time.Duration) *group {
	g := &group{site: s, nodes: make([]node, 1+nodes), fill: fill, first: -1, began: -1, dice: rand.New(rand.NewPCG(uint64(relay), 0x73746f726d))}
	g.free = make([]time.Duration, max(1, int(s.Costs.Cores+0.5)))
	g.gate = admission.New(admission.Config{Slots: s.Slots, Rand: g.dice})
	g.classes = []*class{
		stepLoader: {most: s.Machine.TFTP, all: s.RelayLink},
		stepKernel: {most: s.NodeLink, all: s.Costs.Cores / s.Costs.Plain.Seconds() * 1e9},
		stepImage:  {most: s.imageRate(), all: s.serveRate()},
	}
	for i := range g.nodes {
		if i == nobody {
			continue
		}
		n := &g.nodes[i]
		n.at[0] = time.Duration(g.dice.Float64() * float64(s.Over))
		g.turn(n.at[0]+s.Machine.Firmware+time.Duration(g.dice.Float64()*float64(s.Machine.Spread)), i)
	}
	return g
}

// turn is a machine that has come to the end of a step.
type turn struct {
	at   time.Duration
	node int
}

type turns []turn

func (t turns) Len() int           { return len(t) }
func (t turns) Less(i, j int) bool { return t[i].at < t[j].at }
func (t turns) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *turns) Push(x any)        { *t = append(*t, x.(turn)) }
func (t *turns) Pop() any {
	old := *t
	x := old[len(old)-1]
	*t = old[:len(old)-1]
	return x
}

func (g *group) turn(at time.Duration, node int) { heap.Push(&g.turns, turn{at, node}) }

// play goes from event to event until all machines are up.
func (g *group) play() boots {
	for {
		next, of := time.Duration(-1), (*class)(nil)
		if len(g.turns) > 0 {
			next = g.turns[0].at
		}
		rates := g.share()
		for i, c := range g.classes {
			if c == nil || len(c.open) == 0 {
				continue
			}
			if end := g.now + seconds((c.open[0].end-c.served)/rates[i]); next < 0 || end < next {
				next, of = end, c
			}
		}
		if next < 0 {
			break
		}
		g.elapse(max(next, g.now), rates)
		if of != nil {
			g.delivered(heap.Pop(&of.open).(transfer).node)
			continue
		}
		t := heap.Pop(&g.turns).(turn)
		g.proceed(t.node)
	}
	g.result.nodes, g.result.bytes = g.nodes[nobody+1:], g.moved
	if g.began >= 0 && g.ended > g.began {
		g.result.busy = g.moved / (g.site.RelayLink * (g.ended - g.began).Seconds())
	}
	return g.result
}

// proceed ends a machine's step and begins the next.
func (g *group) proceed(i int) {
	n, s := &g.nodes[i], g.site
	switch {
	case i == nobody:
		g.looking = false
		g.admit()
		return
	case n.asks:
		n.asks = false
		g.ask(i)
		return
	case n.step == stepImage:
		g.moved += float64(s.Image)
		g.ended = g.now
		g.left(i, g.gate.Done)
	}
	n.step++
	n.at[n.step] = g.now
	switch n.step {
	case stepDHCP:
		g.turn(g.work(s.Costs.DHCP)+s.Machine.DHCP, i)
	case stepLoader:
		g.transfer(stepLoader, i, s.Loader)
	case stepScript:
		g.turn(g.work(s.Costs.DHCP+s.Costs.Script)+s.Machine.Chain, i)
	case stepKernel:
		if g.first < 0 {
			g.first = g.now
		}
		g.ask(i)
	case stepStageOne:
		g.turn(g.work(s.Costs.Claim)+s.Machine.Kernel, i)
	case stepImage:
		g.ask(i)
	case stepOverlay:
		g.turn(g.work(s.Costs.Overlay), i)
	case stepInit:
		g.turn(g.now+s.Machine.Init, i)
	}
}

// nobody is whose turn it is to have the relay look who is next.
const nobody = 0

// ask has a machine ask for what it fetches in its step.
func (g *group) ask(i int) {
	n, who := &g.nodes[i], strconv.Itoa(i)
	a := g.gate.Ask(g.time(), who, false)
	switch {
	case a.Admitted:
		g.begin(i)
	case g.gate.Waits(who) && (n.step == stepKernel || a.Wait <= agentWaits):
		g.gate.Stay(who)
		n.waits = true
		g.look()
	default:
		n.asks = true
		g.turn(g.now+a.Back, i)
	}
	g.result.queue = max(g.result.queue, g.gate.Load(g.time()).Waiting)
}

// admit has those begin whose turn has come.
func (g *group) admit() {
	for _, who := range g.gate.Next(g.time()) {
		i, err := strconv.Atoi(who)
		if err != nil || !g.nodes[i].waits {
			continue
		}
		g.nodes[i].waits = false
		if g.gate.Ask(g.time(), who, false).Admitted {
			g.begin(i)
		}
		g.gate.Leave(g.time(), who)
	}
	g.look()
}

// look has the relay look again in a moment, while somebody waits.
func (g *group) look() {
	if !g.looking && g.gate.Load(g.time()).Waiting > 0 {
		g.looking = true
		g.turn(g.now+look, nobody)
	}
}

// begin begins the transfer of a machine's step.
func (g *group) begin(i int) {
	load := g.gate.Load(g.time())
	g.result.slots = max(g.result.slots, load.Busy)
	if g.nodes[i].step == stepKernel {
		g.transfer(stepKernel, i, g.site.Boot)
		return
	}
	if g.began < 0 {
		g.began = g.now
	}
	g.transfer(stepImage, i, g.site.Image)
}

// left ends a machine's transfer, and says whether it comes again.
func (g *group) left(i int, say func(time.Time, string)) {
	who := strconv.Itoa(i)
	g.gate.End(g.time(), who)
	say(g.time(), who)
	g.admit()
}

// time is the present, as the gate wants it.
func (g *group) time() time.Time { return time.Unix(0, 0).Add(g.now) }

// delivered ends a transfer. An image that the relay itself has not whole yet is there when it has.
func (g *group) delivered(i int) {
	switch g.nodes[i].step {
	case stepImage:
		g.turn(max(g.now, g.first+g.fill), i)
		return
	case stepKernel:
		g.left(i, g.gate.Pause)
	}
	g.proceed(i)
}

// work has one of the relay's processors do something, after what it does already, and says when that is done.
func (g *group) work(d time.Duration) time.Duration {
	idle := 0
	for i, at := range g.free {
		if at < g.free[idle] {
			idle = i
		}
	}
	g.free[idle] = max(g.now, g.free[idle]) + d
	return g.free[idle]
}

package storm

import (
	"cmp"
	"maps"
	"math"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// Method is how a storm's figures come about, as reports say it.
const Method = "simulated machines in one process; real packets for DHCP, TFTP, HTTP and TLS; a machine's time runs from its power-on to the moment " +
	"when its relays had its event `up`; POST, drivers, unpacking and init take no time; everything named by a digest is verified"

// Report is what became of a storm. Its JSON is report.json; durations are nanoseconds.
type Report struct {
	Format   int           `json:"format"` // 1: November 2026
	Method   string        `json:"method"`
	Host     string        `json:"host"` // that made the load
	Began    time.Time     `json:"began"`
	Took     time.Duration `json:"took"`
	CPU      time.Duration `json:"cpu"` // processor time of this process
	Spread   time.Duration `json:"spread"`
	Machines int           `json:"machines"`
	Up       int           `json:"up"`
	Down     string        `json:"down,omitempty"` // machines that are not up, as a node set
	ToUp     Spread        `json:"to_up"`          // of those that are
	Starts   int           `json:"starts"`         // from power or from a failure; as many as machines, if all goes well

	Phases      []Phase        `json:"phases"`
	Retries     map[string]int `json:"retries"` // of packets and requests, by who asked again
	Errors      []Error        `json:"errors"`
	Bytes       int64          `json:"bytes"`      // that machines received, without headers
	Verified    int64          `json:"verified"`   // of those, held against their digests
	Unverified  int64          `json:"unverified"` // of what a machine booted from and that has a digest: 0, or there is a mistake
	Wrong       int64          `json:"wrong"`      // files that were not what their names said, noticed and fetched again
	ImageBytes  int64          `json:"image_bytes"`
	Relays      []Egress       `json:"relays"`
	Controllers []Egress       `json:"controllers,omitempty"` // of those that could be asked
	Copies      float64        `json:"copies"`                // controllers' egress, in copies of what one machine fetches
	Timeline    []Sample       `json:"timeline"`
}

// Spread is how a duration is distributed.
type Spread struct {
	P50 time.Duration `json:"p50"`
	P90 time.Duration `json:"p90"`
	P99 time.Duration `json:"p99"`
	Max time.Duration `json:"max"`
}

// Phase is a step of all boots.
type Phase struct {
	Name    boot.Stage `json:"name"`
	Reached int        `json:"reached"` // machines
	Took    Spread     `json:"took"`
	Bytes   int64      `json:"bytes"`
	Rate    float64    `json:"rate"` // machines a second that finished it, from the first to the last
	Peak    int        `json:"peak"` // in the second in which most did
}

// Error is one thing that went wrong, as often as it did.
type Error struct {
	Text  string        `json:"text"`
	Count int           `json:"count"`
	Ended int           `json:"ended"` // starts that it ended; the others went on
	Nodes string        `json:"nodes"` // a node set; of very many, some
	First time.Duration `json:"first"`
	Last  time.Duration `json:"last"`
}

// Egress is what somebody sent.
type Egress struct {
	Name     string `json:"name"`
	Bytes    int64  `json:"bytes"`
	Machines int    `json:"machines,omitempty"`
}

// AddControllers adds what controllers sent meanwhile.
func (r *Report) AddControllers(sent []Egress) {
	r.Controllers = sent
	total := int64(0)
	for _, c := range sent {
		total += c.Bytes
	}
	if r.ImageBytes > 0 {
		r.Copies = float64(total) / float64(r.ImageBytes)
	}
}

// report puts together what the machines and the tally know. Nothing runs any more.
func (s *Storm) report() *Report {
	t := s.tally
	r := &Report{
		Format: 1, Method: Method, Host: hostLine(), Began: t.began.UTC(), Took: t.since(), CPU: cpu() - t.cpu, Spread: s.cfg.Spread, Machines: len(s.machines),
		Retries: t.retries, Bytes: t.bytes.Load(), Verified: t.checked.Load(), Wrong: t.wrong.Load(), Timeline: t.samples,
	}
	for _, n := range t.chunks {
		r.ImageBytes += n
	}
	var toUp []time.Duration
	var down []string
	relays := map[string]*Egress{}
	for _, m := range s.machines {
		r.Starts += m.starts
		if m.finished {
			r.Up++
			toUp = append(toUp, m.reached[atUp]-m.on)
		} else {
			down = append(down, string(m.Name))
		}
		for name, n := range m.relays {
			if relays[name] == nil {
				relays[name] = &Egress{Name: name}
			}
			relays[name].Bytes += n
			relays[name].Machines++
		}
	}
	r.ToUp, r.Down = spreadOf(toUp), nodeset.Fold(down)
	for _, name := range slices.Sorted(maps.Keys(relays)) {
		r.Relays = append(r.Relays, *relays[name])
	}
	for i, name := range Phases() {
		r.Phases = append(r.Phases, s.phase(i, name))
	}
	for text, g := range t.groups {
		names := make([]string, 0, len(g.names))
		for n := range g.names {
			names = append(names, string(n))
		}
		r.Errors = append(r.Errors, Error{Text: text, Count: g.count, Ended: g.ended, Nodes: nodeset.Fold(names), First: g.first, Last: g.last})
	}
	// Two counts of the same: what was taken, and what was held against a digest.
	r.Unverified = max(0, r.Phases[atKernel].Bytes+r.Phases[atImage].Bytes-r.Verified)
	slices.SortFunc(r.Errors, func(a, b Error) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.Text, b.Text)) })
	return r
}

func (s *Storm) phase(at int, name boot.Stage) Phase {
	p := Phase{Name: name}
	var took, when []time.Duration
	seconds := map[int]int{}
	for _, m := range s.machines {
		p.Bytes += m.bytes[at]
		if m.reached[at] == 0 {
			continue
		}
		took, when = append(took, m.took[at]), append(when, m.reached[at])
		second := int(m.reached[at] / time.Second)
		seconds[second]++
		p.Peak = max(p.Peak, seconds[second])
	}
	p.Reached, p.Took = len(took), spreadOf(took)
	if len(when) > 1 {
		if d := slices.Max(when) - slices.Min(when); d > 0 {
			p.Rate = math.Round(10*float64(len(when)-1)/d.Seconds()) / 10
		}
	}
	return p
}

// spreadOf sorts the durations.
func spreadOf(d []time.Duration) Spread {
	if len(d) == 0 {
		return Spread{}
	}
	slices.Sort(d)
	at := func(share float64) time.Duration {
		return d[min(len(d)-1, int(math.Ceil(share*float64(len(d))))-1)].Round(time.Millisecond)
	}
	return Spread{at(0.5), at(0.9), at(0.99), at(1)}
}

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// hostLine says what the load came from.
func hostLine() string {
	return runtime.GOOS + "/" + runtime.GOARCH + ", " + plural(runtime.NumCPU(), "processor") + ", " + runtime.Version()
}

package dhcpd

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/relay/guard"
)

// How often who may ask. What is beyond is dropped before it costs more than a look: a machine that is known is served
// as long as the processor can read what comes, whatever the others do.
const (
	// A machine asks some six times while it boots, in pairs, and firmware that gets no answer repeats itself within
	// seconds. One that asks more often than this is in trouble, and gets no better of being answered.
	machineRate, machineBurst = 20, 60
	// Machines that no node claims, behind one port of an agent that names its ports. Some agents are one port to a whole
	// rack.
	portRate, portBurst = 50, 200
	// The same on a whole link, or through one agent: a few racks of new machines may be switched on at once.
	strangerRate, strangerBurst = 500, 2000
	// And all of them: who can forge agents can forge many.
	strangersRate, strangersBurst = 4000, 8000
	// Answers of servers that are no relays, on a link, and how often one is reported: who can forge one can forge many.
	foreignRate, foreignBurst = 50, 50
	reportRate, reportBurst   = 0.1, 5
)

// limiterLen is how many buckets a limiter has: enough that a flood of random senders leaves each with tokens.
const limiterLen = 1 << 15

// limits are those of a server.
type limits struct {
	machines, ports, agents, all *guard.Limiter
	foreign, reports             *guard.Limiter
	floods                       floods
}

func newLimits() limits {
	return limits{
		machines: guard.NewLimiter(machineRate, machineBurst, limiterLen), ports: guard.NewLimiter(portRate, portBurst, limiterLen),
		agents: guard.NewLimiter(strangerRate, strangerBurst, limiterLen), all: guard.NewLimiter(strangersRate, strangersBurst, 1),
		foreign: guard.NewLimiter(foreignRate, foreignBurst, 64), reports: guard.NewLimiter(reportRate, reportBurst, 1),
	}
}

// admits tells whether a packet may be handled. known is whether a node claims the machine.
func (l *limits) admits(now time.Time, k *key, p *datagram, known bool) bool {
	if !l.machines.Take(k.hw[:], now) {
		return false
	}
	if known {
		return true
	}
	var where [64]byte
	agent := append(where[:0], k.giaddr[:4]...)
	agent = append(agent, p.link.Name...)
	port := portOf(p.bytes())
	if len(port) > 0 && !l.ports.Take(append(agent, port...), now) || !l.agents.Take(agent, now) || !l.all.Take(nil, now) {
		l.floods.see(now, p.link.Name, k.giaddr, port)
		return false
	}
	return true
}

// portOf is what an agent says of the port through which a packet came: option 82 as it is.
func portOf(b []byte) []byte {
	for o := b[offOptions:]; len(o) >= 2 && o[0] != optEnd; {
		if o[0] == optPad {
			o = o[1:]
			continue
		}
		if len(o) < 2+int(o[1]) {
			return nil
		}
		if o[0] == optAgent {
			return o[2 : 2+int(o[1])]
		}
		o = o[2+int(o[1]):]
	}
	return nil
}

// floods remembers where too much came from last.
type floods struct {
	mu    sync.Mutex
	where string
	key   [128]byte
	n     int
	since time.Time
	last  time.Time
}

// floodFor is for how long a flood counts as a problem after it ended.
const floodFor = time.Minute

func (f *floods) see(now time.Time, link string, giaddr [6]byte, port []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var key [128]byte
	n := copy(key[:], giaddr[:4])
	n += copy(key[n:], link)
	copy(key[n:], port)
	if key != f.key || now.Sub(f.last) > floodFor {
		f.where, f.key, f.n, f.since = place(link, giaddr, port), key, 0, now
	}
	f.n, f.last = f.n+1, now
}

func place(link string, giaddr [6]byte, port []byte) string {
	agent := netip.AddrFrom4([4]byte(giaddr[:4]))
	switch {
	case agent.IsUnspecified():
		return "on " + link
	case len(port) == 0:
		return fmt.Sprintf("through agent %s", agent)
	}
	return fmt.Sprintf("through agent %s, option 82 %s", agent, hex.EncodeToString(port[:min(len(port), 40)]))
}

func (f *floods) lines(now time.Time) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == 0 || now.Sub(f.last) > floodFor {
		return nil
	}
	return []string{fmt.Sprintf("machines that no node claims ask DHCP too often %s: %d packets since %s were not answered", f.where, f.n, f.since.UTC().Format(time.TimeOnly))}
}

// Package memnet is an IPv4 network in memory, for tests that run a whole mesh inside one testing/synctest bubble.
//
// A Network has hosts; a Host listens and dials as the net package does, with real *net.TCPAddr and *net.UDPAddr
// addresses, so production code cannot tell the difference. All waiting is on timers and condition variables that
// testing/synctest knows, and no lock is held while anything waits: virtual time moves on when everybody is idle.
// Outside a bubble the package works in real time.
//
// How it treats traffic:
//   - A stream buffers up to a window, like TCP, and is not lock-step like net.Pipe. A dial succeeds as soon as the
//     listener's backlog has room, a dial to a port without a listener is refused, and a dial to an address that is cut
//     off or belongs to nobody waits and then times out.
//   - A packet is sent without blocking. It is dropped when the receiver's queue is full, when the link loses it, and
//     when nobody listens. A packet to 255.255.255.255 reaches the other hosts of the sender's segments.
//   - Every transfer takes the link's latency, and where a host has a bandwidth, the time to send and to receive it.
//
// Make the Network inside the bubble that uses it. The methods of all types may be called by any number of goroutines.
package memnet

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config sizes a Network. The zero value is a quiet LAN.
type Config struct {
	Latency     time.Duration // one way, between two hosts; 0 means 200 µs, negative means none
	Loss        float64       // share of packets lost, 0 to 1; streams lose nothing
	Window      int           // bytes a stream holds in each direction; 0 means 256 KiB
	Backlog     int           // connections a listener keeps unaccepted; 0 means 128
	PacketQueue int           // packets a packet socket keeps unread; 0 means 256
	DialTimeout time.Duration // how long a dial waits at most, whatever its context allows; 0 means 30 s
	Seed        uint64        // of the dice that lose packets
}

// Network joins hosts. Every host reaches every other until it is cut.
type Network struct {
	cfg   Config
	links links

	mu       sync.Mutex
	hosts    map[string]*Host
	addrs    map[netip.Addr]*Host
	segments map[string]netip.Prefix
	isolated map[*Host]bool     // by Cut and Stall
	blocked  map[[2]*Host]bool  // by Partition and CutOneWay: from, to
	filters  map[filter]bool    // by Block
	conns    map[*conn]struct{} // stream ends not yet closed
	counters map[Flow]*counter  // what was sent
	dice     *rand.Rand         // for losses
	changed  chan struct{}      // closed and made anew when a waiting dial has reason to try again
}

// New returns a network without hosts.
func New(cfg Config) *Network {
	switch {
	case cfg.Latency == 0:
		cfg.Latency = 200 * time.Microsecond
	case cfg.Latency < 0:
		cfg.Latency = 0
	}
	orElse(&cfg.Window, 256<<10)
	orElse(&cfg.Backlog, 128)
	orElse(&cfg.PacketQueue, 256)
	orElse(&cfg.DialTimeout, 30*time.Second)
	return &Network{
		cfg:      cfg,
		links:    links{usual: Link{Latency: cfg.Latency, Loss: cfg.Loss}, special: map[[2]*Host]Link{}},
		hosts:    map[string]*Host{},
		addrs:    map[netip.Addr]*Host{},
		segments: map[string]netip.Prefix{},
		isolated: map[*Host]bool{},
		blocked:  map[[2]*Host]bool{},
		filters:  map[filter]bool{},
		conns:    map[*conn]struct{}{},
		counters: map[Flow]*counter{},
		dice:     rand.New(rand.NewPCG(cfg.Seed, 0x6d656d6e6574)),
		changed:  make(chan struct{}),
	}
}

func orElse[T int | time.Duration](v *T, usual T) {
	if *v == 0 {
		*v = usual
	}
}

// Host adds a host with its IPv4 addresses, none for a machine that has yet to ask DHCP. It panics when the name or
// an address is taken or is no IPv4 address: that is a mistake in the test.
func (n *Network) Host(name string, addrs ...string) *Host {
	h := &Host{net: n, name: name, streams: map[netip.AddrPort]*listener{}, nextPort: firstEphemeral}
	n.mu.Lock()
	taken := n.hosts[name] != nil
	if !taken {
		n.hosts[name] = h
	}
	n.mu.Unlock()
	if taken {
		panic(fmt.Sprintf("memnet: there is a host %q already", name))
	}
	if err := h.SetAddrs(addrs...); err != nil {
		panic("memnet: " + err.Error())
	}
	return h
}

// Segment declares a layer-2 segment, such as the VLAN of a rack, with the prefix of the addresses on it. Hosts become
// members with Join; packets between addresses are routed whether or not segments exist. It panics on a bad prefix.
func (n *Network) Segment(name, prefix string) {
	p := netip.MustParsePrefix(prefix).Masked()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.segments[name] = p
}

// Close kills every host.
func (n *Network) Close() {
	n.mu.Lock()
	var names []string
	for name := range n.hosts {
		names = append(names, name)
	}
	n.mu.Unlock()
	n.Kill(names...)
}

// Open lists the sockets that nobody closed, one line each and sorted, for tests that check that a server left
// nothing behind. Ends of connections count until they are closed, also when their peer is gone.
func (n *Network) Open() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var lines []string
	for _, h := range n.hosts {
		for _, l := range h.streams {
			lines = append(lines, fmt.Sprintf("%s tcp listens on %s", h.name, l.addr))
		}
		for _, p := range h.packets {
			lines = append(lines, fmt.Sprintf("%s udp listens on %s", h.name, p.local))
		}
	}
	for c := range n.conns {
		lines = append(lines, fmt.Sprintf("%s tcp %s to %s %s", c.host.name, c.local, c.peer.host.name, c.remote))
	}
	slices.Sort(lines)
	return lines
}

// lookup finds a host by its name or one of its addresses, with or without a port. It panics when there is none.
func (n *Network) lookup(who string) *Host {
	if h := n.hosts[who]; h != nil {
		return h
	}
	name := who
	if i := strings.LastIndexByte(who, ':'); i >= 0 {
		name = who[:i]
	}
	if h := n.hosts[name]; h != nil {
		return h
	}
	if a, err := netip.ParseAddr(name); err == nil {
		if h := n.addrs[a]; h != nil {
			return h
		}
	}
	panic(fmt.Sprintf("memnet: there is no host %q", who))
}

func (n *Network) lookupAll(who []string) []*Host {
	hosts := make([]*Host, len(who))
	for i, w := range who {
		hosts[i] = n.lookup(w)
	}
	return hosts
}

// stir makes waiting dials try again. n.mu is held.
func (n *Network) stir() {
	close(n.changed)
	n.changed = make(chan struct{})
}

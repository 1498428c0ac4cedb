package memnet

// filter is a port of a host that a firewall keeps somebody from.
type filter struct {
	from, to *Host // from is nil for everybody
	net      string
	port     uint16
}

// Block drops what is sent to a port of the hosts, network "tcp" or "udp", by one of from, or by anybody if from is nil.
// Nobody is told: a dial waits and then times out. Connections that are open stay. Heal undoes it.
func (n *Network) Block(from, to []string, network string, port uint16) {
	n.mu.Lock()
	defer n.mu.Unlock()
	senders := []*Host{nil}
	if from != nil {
		senders = n.lookupAll(from)
	}
	for _, a := range senders {
		for _, b := range n.lookupAll(to) {
			n.filters[filter{a, b, network, port}] = true
		}
	}
}

// lets tells whether no firewall keeps a from a port of b. n.mu is held.
func (n *Network) lets(a, b *Host, network string, port uint16) bool {
	return len(n.filters) == 0 || a == b || !n.filters[filter{a, b, network, port}] && !n.filters[filter{nil, b, network, port}]
}

// ethernet is the MTU of a host and of the network between hosts, unless somebody says otherwise.
const ethernet = 1500

// SetMTU says what the host believes to be its largest packet; 0 is what everybody has. Where both ends of a stream
// believe in more than the network between them carries, a write that is larger vanishes, and so does all behind it: no
// switch says what it drops.
func (h *Host) SetMTU(bytes int) { h.mtu.Store(int64(bytes)) }

// swallows tells whether the network drops what a sends to b in writes of that size.
func swallows(a, b *Host, size int) bool {
	believed := min(a.mtu.Load(), b.mtu.Load())
	return a != b && believed > ethernet && size > ethernet
}

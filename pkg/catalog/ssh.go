package catalog

import (
	"iter"
	"slices"
	"strings"
)

// SSHAuthority says by which key the host keys of a network's nodes are certified, and which hosts those are.
type SSHAuthority struct {
	Network NetworkName `json:"network"`
	Key     string      `json:"key"`   // type and base64
	Hosts   []string    `json:"hosts"` // names and addresses of its nodes
}

// KnownHosts is the authority as a line of ssh's known_hosts, without the line end, for hosts by ssh's patterns: with it,
// ssh knows every node of the network, old and new.
func (a SSHAuthority) KnownHosts(hosts ...string) string {
	return "@cert-authority " + strings.Join(hosts, ",") + " " + a.Key + " " + string(a.Network)
}

// SSHAuthorities yields the authorities of the networks, in the order of their names, each with the nodes that boot in its
// network.
func (c *Catalog) SSHAuthorities() iter.Seq[*SSHAuthority] {
	return func(yield func(*SSHAuthority) bool) {
		hosts := map[NetworkName][]string{}
		for n := range c.Nodes() {
			if r := c.resolve(n); r.Primary != nil && r.Primary.Network != nil && r.Primary.Network.SSHAuthority != "" {
				hosts[r.Primary.Network.Name] = append(hosts[r.Primary.Network.Name], r.HostNames()...)
			}
		}
		for n := range c.Networks() {
			if n.SSHAuthority != "" && !yield(&SSHAuthority{n.Name, n.SSHAuthority, append([]string{}, hosts[n.Name]...)}) {
				return
			}
		}
	}
}

// HostNames are the names and addresses by which a node is reached, each once, those of the device it boots from first:
// with its network's domain, its own, up to the first dot; and for each device that has an address the name followed by that
// of the device, as the shipped overlay hosts has them.
func (r *Resolved) HostNames() []string {
	short, _, dotted := strings.Cut(string(r.Node.Name), ".")
	var all []string
	add := func(name string) {
		if isHost(name) && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	device := func(n *ResolvedNet) {
		if !n.Address.IsValid() && !n.Address6.IsValid() {
			return
		}
		if n.Address.IsValid() {
			add(n.Address.Addr().String())
		}
		if n.Address6.IsValid() {
			add(n.Address6.Addr().String())
		}
		add(string(r.Node.Name) + "-" + n.Name)
		if n.Device != "" {
			add(string(r.Node.Name) + "-" + n.Device)
		}
	}
	if p := r.Primary; p != nil && p.Network != nil && p.Network.Domain != "" && !dotted {
		add(short + "." + p.Network.Domain)
	}
	add(string(r.Node.Name))
	add(short)
	if r.Primary != nil {
		device(r.Primary)
	}
	for i := range r.Nets {
		device(&r.Nets[i])
	}
	return all
}

// isHost tells whether a name means itself in a list of ssh's patterns.
func isHost(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && !strings.ContainsRune("-.:_", r)
	})
}

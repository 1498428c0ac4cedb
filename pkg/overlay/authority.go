package overlay

import (
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// SshCAs are lines of ssh's known_hosts, one for each network: by which key the host keys of its nodes are certified, and
// all their names. Nothing in them is secret.
func (d *Dot) SshCAs() []string {
	x := d.run
	x.reads(Input{ScopeAll, "SSHAuthority", ""})
	fleet := x.view.World.Fleet
	if fleet == nil {
		return nil
	}
	var all []*catalog.SSHAuthority
	of := map[catalog.NetworkName]*catalog.SSHAuthority{}
	for i := range fleet.Len() {
		own := fleet.Node(i).SSHAuthority
		if own.Key == "" {
			continue
		}
		a := of[own.Network]
		if a == nil {
			a = &catalog.SSHAuthority{Network: own.Network, Key: own.Key}
			of[own.Network], all = a, append(all, a)
		}
		a.Hosts = append(a.Hosts, own.Hosts...)
	}
	lines := make([]string, len(all))
	for i, a := range all {
		lines[i] = a.KnownHosts(a.Hosts...)
	}
	return lines
}

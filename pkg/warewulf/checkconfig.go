package warewulf

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// enabled tells whether Warewulf configures a DHCP server; it does unless it is told not to.
func (d *DHCP) enabled() bool { return d.Enabled == nil || *d.Enabled }

// counterparts says what becomes of settings that have no counterpart in wulfmesh. A path stands for all below it; the
// first that fits counts.
var counterparts = []struct{ path, what, fix string }{
	{"warewulf.secure", "relays tell nodes apart by ticket and certificate, not by port", "none needed"},
	{"warewulf.port", "relays have ports of their own", "open the relays' ports in the firewall"},
	{"warewulf.tls port", "relays have ports of their own", "open the relays' ports in the firewall"},
	{"warewulf.tls", "there is TLS wherever the node can speak it", "none needed"},
	{"warewulf.update interval", "runtime overlays are refreshed when they change", "none needed"},
	{"warewulf.autobuild overlays", "overlays are rendered when a node asks", "none needed"},
	{"warewulf.host overlay", "no file of the server is written", "keep what the overlay host made by other means"},
	{"warewulf.grubboot", "nodes boot by iPXE of the distribution", "see to Secure Boot before you move"},
	{"warewulf.systemd name", "there is no such service", "none needed"},
	{"api", "the controllers' API has users and roles of its own", "make a user for each program"},
	{"dhcp.template", "relays answer the nodes that they know, others from a pool if there is one", "make no pool for what static was"},
	{"dhcp.systemd name", "relays answer DHCP themselves", "stop the old service when you move"},
	{"dhcp.overlays", "relays answer DHCP themselves", "none needed"},
	{"tftp.enabled", "relays send boot programs themselves", "none needed"},
	{"tftp.tftproot", "relays send boot programs from memory", "serve other files of that directory by other means"},
	{"tftp.systemd name", "relays send boot programs themselves", "stop the old service when you move"},
	{"tftp.ipxe", "relays take iPXE of the distribution", "see whether the nodes need the binaries named here"},
	{"tftp.overlays", "relays send boot programs themselves", "none needed"},
	{"nfs", "nothing is exported here", "keep the exports in /etc/exports of the server"},
	{"ssh", "controllers make the nodes' SSH keys", "none needed"},
	{"hostfile", "no file of the server is written", "none needed"},
	{"image mounts", "images are made by other tools", "none needed"},
	{"wwclient", "the agent is no service that listens", "none needed"},
	{"paths", "the programs have directories of their own", "none needed, but give these paths to the import"},
}

// check looks at the configuration by itself.
func (c *Config) check() []Hazard {
	h := &hazards{file: ConfigFile}
	c.checkPools(h)
	told := make(map[string]bool)
	for _, path := range slices.Sorted(maps.Keys(c.at)) {
		for _, p := range counterparts {
			if path != p.path && !strings.HasPrefix(path, p.path+".") && !strings.HasPrefix(path, p.path+"[") && !strings.HasPrefix(path, p.path+" ") {
				continue
			}
			if !told[p.path] {
				h.add(NoCounterpart, Note, path, c.at[path], "it has no counterpart: "+p.what, p.fix)
			}
			told[p.path] = true
			break
		}
	}
	slices.SortStableFunc(h.all, func(a, b Hazard) int { return a.Line - b.Line })
	return h.found()
}

// checkPools looks whether the ranges of DHCP are ranges of the server's network, and spare the server.
func (c *Config) checkPools(h *hazards) {
	if c.DHCP == nil || !c.DHCP.enabled() {
		return
	}
	for _, r := range []struct {
		key         string
		first, last IP
		server      IP
	}{
		{"dhcp.range start", c.DHCP.RangeStart, c.DHCP.RangeEnd, c.IPAddr},
		{"dhcp.range6 start", c.DHCP.Range6Start, c.DHCP.Range6End, c.IPAddr6},
	} {
		at := c.at[r.key]
		first, last := r.first.Addr(), r.last.Addr()
		switch {
		case r.first == "" && r.last == "":
			continue
		case r.first == "" || r.last == "":
			h.add(InvalidPool, Error, r.key, at, "a range needs its first and its last address", "add the other one")
			continue
		case first.Is4() != last.Is4() || last.Less(first):
			h.add(InvalidPool, Error, r.key, at, fmt.Sprintf("%s to %s is no range", first, last), "put the lower address first")
			continue
		}
		if r.server != "" && within(r.server.Addr(), r.first, r.last) {
			h.add(PoolOverlap, Error, r.key, at, fmt.Sprintf("the server's own address %s is in the range", r.server), "move the range")
		}
		if p, ok := c.prefix(); ok && first.Is4() && (!p.Contains(first) || !p.Contains(last)) {
			h.add(InvalidPool, Error, r.key, at, fmt.Sprintf("%s to %s is not in the network %s", first, last, p), "correct the range or the network")
		}
	}
}

// prefix is the IPv4 network of the server, if the configuration says it.
func (c *Config) prefix() (netip.Prefix, bool) {
	base := c.Network
	if base == "" {
		base = c.IPAddr
	}
	if !isMask(c.Netmask) || !base.Addr().Is4() {
		return netip.Prefix{}, false
	}
	ones := 0
	for _, b := range c.Netmask.Addr().As4() {
		for ; b != 0; b <<= 1 {
			ones++
		}
	}
	return netip.PrefixFrom(base.Addr(), ones).Masked(), true
}

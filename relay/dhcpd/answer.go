package dhcpd

import (
	"encoding/binary"
	"net/netip"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// answer makes the reply. It is a pure function: any relay of the network makes the same reply to the same packet, but
// for what names the relay itself.
func answer(r *reply, sit *situation, v verdict) {
	q := sit.q
	r.begin(v.kind)
	server := sit.me.Addr
	if q.giaddr.IsValid() && q.agent.override.IsValid() {
		server = q.agent.override
	}
	r.putAddrs(optServer, server)
	r.echo(optAgent, q)  // RFC 3046 §2.2: whole
	r.echo(optClient, q) // RFC 6842
	if v.kind == msgNak {
		r.putText(optMessage, v.reason)
		r.broadcast = q.giaddr.IsValid() // §4.3.2: the agent must not send it to an address that the client has to give up
		return
	}
	if v.kind == msgAck {
		r.ciaddr = q.ciaddr // RFC 2131 table 3
	}
	r.yiaddr = v.addr
	if v.term > 0 {
		r.putSeconds(optLeaseTime, v.term)
		r.putSeconds(optRenewal, v.term/2)
		r.putSeconds(optRebinding, v.term*7/8)
	}
	if sit.net.DHCP != catalog.DHCPProxy {
		putNetwork(r, sit)
	}
	putBoot(r, sit)
	r.fit(q)
}

// echo copies an option of the request.
func (r *reply) echo(code byte, q *query) {
	if q.options.has(code) {
		r.put(code, q.options.get(code))
	}
}

// putNetwork adds what a machine has to know of the network.
func putNetwork(r *reply, sit *situation) {
	n, o := sit.net, &sit.q.options
	mask := r.room(4)
	binary.BigEndian.PutUint32(mask, ^uint32(0)<<(32-n.Prefix.Bits()))
	r.put(optSubnetMask, mask)
	r.putAddrs(optRouter, sit.gateway)
	if o.wants(optDNS) {
		r.putAddrs(optDNS, n.DNS...)
	}
	if o.wants(optNTP) {
		r.putAddrs(optNTP, n.NTP...)
	}
	if o.wants(optHostName) && sit.hostname != "" {
		r.putText(optHostName, sit.hostname)
	}
	if o.wants(optDomainName) && n.Domain != "" {
		r.putText(optDomainName, n.Domain)
	}
	if o.wants(optMTU) && sit.mtu > 0 {
		mtu := r.room(2)
		binary.BigEndian.PutUint16(mtu, uint16(sit.mtu))
		r.put(optMTU, mtu)
	}
	if o.wants(optBroadcast) && n.Prefix.Bits() < 31 {
		r.putAddrs(optBroadcast, lastOf(n.Prefix))
	}
}

// putBoot adds what to boot.
func putBoot(r *reply, sit *situation) {
	file := sit.bootFile()
	if file == "" {
		return
	}
	o := &sit.q.options
	r.siaddr, r.file = sit.me.Addr, file
	if o.wants(optBootFile) {
		r.putText(optBootFile, file)
	}
	switch f := sit.firmware; {
	case f == boot.FirmwareIPXE && sit.net.DHCP == catalog.DHCPProxy:
		r.putText(optClass, classPXE) // by which iPXE knows a proxy's offer
	case f == boot.FirmwareIPXE:
		r.put(optEtherboot, noProxyDHCP)
	case f == boot.FirmwareHTTP64, f == boot.FirmwareHTTPArm64:
		// UEFI takes an offer for one of HTTP boot by this class alone, and the URL from option 67 alone.
		r.putText(optClass, classHTTP)
		r.putText(optBootFile, file)
	default:
		r.putText(optClass, classPXE)
		r.put(optVendor, bootAtOnce)
		if o.wants(optTFTPServer) {
			r.putText(optTFTPServer, sit.me.Addr.String())
		}
	}
	if id := o.get(optMachine); len(id) == 17 {
		r.put(optMachine, id) // PXE 2.1 table 2-3: ROMs look for their own UUID in the answer
	}
}

var (
	// noProxyDHCP in iPXE's option: without it iPXE waits for a ProxyDHCP server that may still speak up.
	noProxyDHCP = []byte{176, 1, 1}
	// bootAtOnce is PXE_DISCOVERY_CONTROL = 8: take the boot file from this offer at once, no menu, no boot server discovery.
	bootAtOnce = []byte{6, 1, 8, 255}
)

// lastOf is the broadcast address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	n := binary.BigEndian.Uint32(a[:]) | ^uint32(0)>>p.Bits()
	binary.BigEndian.PutUint32(a[:], n)
	return netip.AddrFrom4(a)
}

package relay

import (
	"github.com/wulfmesh/wulfmesh/relay/httpd"
	"github.com/wulfmesh/wulfmesh/relay/tftpd"
)

// counters are what DHCP and TFTP have done since the start, for /metrics. Rates of them tell a flood from a storm.
func (r *Relay) counters() []httpd.Counter {
	var all []httpd.Counter
	family := func(name, help string, by ...httpd.Count) {
		all = append(all, httpd.Counter{Name: name, Help: help, By: by})
	}
	if r.dhcp != nil {
		s := r.dhcp.Stats()
		family("dhcp_packets_total", "DHCP packets that came, by what became of them; accepted ones may wait for another relay's answer.",
			httpd.Count{Of: "malformed", N: s.Malformed}, httpd.Count{Of: "limited", N: s.Limited}, httpd.Count{Of: "repeated", N: s.Repeated},
			httpd.Count{Of: "dropped", N: s.Dropped}, httpd.Count{Of: "foreign", N: s.Foreign}, httpd.Count{Of: "silent", N: s.Silent},
			httpd.Count{Of: "accepted", N: less(s.Received, s.Malformed, s.Limited, s.Repeated, s.Dropped, s.Foreign, s.Silent)})
		family("dhcp_answers_total", "DHCP answers.", httpd.Count{Of: "offer", N: s.Offers}, httpd.Count{Of: "ack", N: s.Acks}, httpd.Count{Of: "nak", N: s.Naks},
			httpd.Count{Of: "unsent", N: s.Unsent})
		family("dhcp_strangers_total", "Signs of DHCP servers that are no relays.", httpd.Count{N: s.Strangers})
		family("dhcp_panics_total", "DHCP packets on which the code failed.", httpd.Count{N: s.Panics})
	}
	if r.dhcp6 != nil {
		s := r.dhcp6.Stats()
		family("dhcp6_packets_total", "DHCPv6 packets that came, by what became of them.",
			httpd.Count{Of: "malformed", N: s.Malformed}, httpd.Count{Of: "limited", N: s.Limited}, httpd.Count{Of: "foreign", N: s.Foreign}, httpd.Count{Of: "silent", N: s.Silent},
			httpd.Count{Of: "accepted", N: less(s.Received, s.Malformed, s.Limited, s.Foreign, s.Silent)})
		family("dhcp6_answers_total", "DHCPv6 answers.", httpd.Count{Of: "advertise", N: s.Advertises}, httpd.Count{Of: "reply", N: s.Replies}, httpd.Count{Of: "unsent", N: s.Unsent})
		family("dhcp6_panics_total", "DHCPv6 packets on which the code failed.", httpd.Count{N: s.Panics})
	}
	var t tftpd.Stats
	for _, of := range r.tftp {
		s := of.Stats()
		t.Requests, t.Served, t.Bytes, t.Repeated = t.Requests+s.Requests, t.Served+s.Served, t.Bytes+s.Bytes, t.Repeated+s.Repeated
		t.Refused, t.Lost, t.Panics = t.Refused+s.Refused, t.Lost+s.Lost, t.Panics+s.Panics
	}
	if len(r.tftp) > 0 {
		family("tftp_requests_total", "Requests of boot programs by TFTP, by what became of them.",
			httpd.Count{Of: "begun", N: t.Requests}, httpd.Count{Of: "refused", N: t.Refused}, httpd.Count{Of: "lost", N: t.Lost})
		family("tftp_programs_total", "Boot programs that arrived whole.", httpd.Count{N: t.Served})
		family("tftp_bytes_total", "Bytes of these.", httpd.Count{N: t.Bytes})
		family("tftp_repeated_total", "Windows that were sent again because nothing came.", httpd.Count{N: t.Repeated})
		family("tftp_panics_total", "TFTP packets on which the code failed.", httpd.Count{N: t.Panics})
	}
	return all
}

// less is a number without parts of it, which may be newer than it.
func less(n uint64, parts ...uint64) uint64 {
	for _, p := range parts {
		n -= min(n, p)
	}
	return n
}

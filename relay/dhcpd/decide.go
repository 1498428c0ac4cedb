package dhcpd

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/relay/lease"
)

// verdict is what is to be said to a machine; the zero verdict is silence.
type verdict struct {
	kind    messageType   // 0: nothing
	addr    netip.Addr    // invalid: none
	term    time.Duration // of the lease; 0: none
	reason  string        // of a NAK
	trouble string        // what a person should know of it, "" for nothing
	again   bool          // the lease is not on disk yet, or it is not known yet whether the address is free
	after   time.Duration // when to come back; 0: soon
	next    bool          // the address is taken; try the next one
}

func nak(format string, args ...any) verdict {
	return verdict{kind: msgNak, reason: fmt.Sprintf(format, args...)}
}

// decide is the server's part of RFC 2131 §4.3.
func (s *Server) decide(sit *situation) verdict {
	if sit.net.DHCP == catalog.DHCPProxy {
		return decideProxy(sit)
	}
	if sit.pxe {
		return verdict{} // port 4011 is for networks in which another server gives the addresses
	}
	switch sit.q.kind {
	case msgDiscover:
		return s.discover(sit)
	case msgRequest:
		return s.request(sit)
	case msgDecline:
		return s.decline(sit)
	case msgRelease:
		if sit.isMe(sit.q.server) && !sit.declared.IsValid() {
			s.cfg.Leases.Release(sit.net.Name, sit.hw, sit.q.ciaddr)
		}
		return verdict{}
	case msgInform:
		if !sit.net.Prefix.Contains(sit.q.ciaddr) {
			return verdict{}
		}
		return verdict{kind: msgAck} // no address and no lease: the client has configured itself (§4.3.5)
	}
	return verdict{}
}

// discover answers DHCPDISCOVER.
func (s *Server) discover(sit *situation) verdict {
	if a := sit.declared; a.IsValid() {
		return verdict{kind: msgOffer, addr: a, term: NodeLease}
	}
	if !sit.net.Pool.First.IsValid() {
		return verdict{trouble: fmt.Sprintf("it gets no address: %s, and network %s has no pool for unknown machines", unknown(sit), sit.net.Name)}
	}
	a, err := s.cfg.Leases.Offer(sit.net.Name, sit.hw, sit.q.requested)
	switch {
	case errors.Is(err, fault.Full):
		return verdict{trouble: "it gets no address: " + err.Error()}
	case err != nil:
		return verdict{} // another relay's turn
	}
	if v, free := s.vet(sit, a); !free {
		return v
	}
	return verdict{kind: msgOffer, addr: a, term: lease.Lease}
}

// unknown says why a machine has no declared address here.
func unknown(sit *situation) string {
	if sit.problem != nil {
		return sit.problem.Error()
	}
	return fmt.Sprintf("node %s has no address in network %s", sit.node, sit.net.Name)
}

// request answers DHCPREQUEST, whose meaning is in which fields are set (RFC 2131 §4.3.2).
func (s *Server) request(sit *situation) verdict {
	q := sit.q
	want := q.requested // SELECTING, INIT-REBOOT
	if !want.IsValid() {
		want = q.ciaddr // RENEWING, REBINDING; and clients in the wild that select like that
	}
	switch {
	case q.server.IsValid() && !sit.isMe(q.server):
		s.cfg.Leases.Forget(sit.net.Name, sit.hw)
		return verdict{}
	case !want.IsValid():
		return verdict{}
	case !sit.net.Prefix.Contains(want):
		return nak("%s is not in network %s", want, sit.net.Name)
	}
	if a := sit.declared; a.IsValid() {
		if a != want {
			return nak("%s is not the address of %s", want, sit.node)
		}
		return verdict{kind: msgAck, addr: a, term: NodeLease}
	}
	switch err := s.confirm(sit, want); {
	case err == nil:
		return verdict{kind: msgAck, addr: want, term: lease.Lease}
	case errors.Is(err, fault.Unavailable):
		return verdict{again: true}
	case errors.Is(err, fault.Conflict):
		return nak("%s", err)
	}
	return verdict{} // somebody else's to say
}

// confirm asks the book, but not in a network without a pool: there all unknown machines are left in peace.
func (s *Server) confirm(sit *situation, want netip.Addr) error {
	if !sit.net.Pool.First.IsValid() {
		return fault.New(fault.NotFound, "network %s has no pool", sit.net.Name)
	}
	return s.cfg.Leases.Confirm(sit.net.Name, sit.hw, want)
}

// decline answers DHCPDECLINE with silence (§4.3.3), but not in the journal: somebody uses an address that is not his.
func (s *Server) decline(sit *situation) verdict {
	at := sit.q.requested
	switch {
	case !sit.isMe(sit.q.server) || !at.IsValid():
		return verdict{}
	case at == sit.declared:
		return verdict{trouble: fmt.Sprintf("its address %s is used by another machine already", at)}
	case s.cfg.Leases.Decline(sit.net.Name, sit.hw, at):
		return verdict{trouble: fmt.Sprintf("address %s of the pool is used by another machine; it is left out for a while", at)}
	}
	return verdict{}
}

// decideProxy is the part of a server that only says what to boot (PXE 2.1 §2.2): it offers no address, and speaks
// only to firmware.
func decideProxy(sit *situation) verdict {
	if sit.firmware == boot.FirmwareNone || sit.bootFile() == "" {
		return verdict{}
	}
	if sit.pxe && !sit.net.Prefix.Contains(sit.from.Addr()) {
		return verdict{} // the answer would go there
	}
	switch {
	case sit.q.kind == msgDiscover && !sit.pxe:
		return verdict{kind: msgOffer}
	case sit.q.kind == msgRequest && sit.pxe, sit.q.kind == msgInform && sit.pxe:
		return verdict{kind: msgAck}
	}
	return verdict{}
}

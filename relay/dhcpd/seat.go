package dhcpd

import (
	"net"
	"net/netip"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/relay/guard"
)

// world is what the server answers from until something changes of which plans are made. What is kept in it is worked
// out once: a machine asks some six times at each boot, and says the same in all but the transaction.
type world struct {
	edition any
	scope   Scope
	known   guard.Recent[[6]byte, struct{}] // machines that nodes claim
	seats   guard.Recent[seatKey, *seat]    // nil: this relay has nothing to say to the machine
}

// seatKey names a machine at a stage of its boot, in a network.
type seatKey struct {
	mac      [6]byte
	network  *catalog.Network
	firmware boot.Firmware
}

// seat is what answers to a machine have in common.
type seat struct {
	hw       catalog.HardwareAddr
	mac      net.HardwareAddr // the same
	firmware boot.Firmware
	net      *catalog.Network
	revision catalog.Revision

	node     catalog.NodeName // "": none claims the machine
	hostname string
	problem  error      // why it cannot boot
	declared netip.Addr // the address that the catalog gives it in the network; invalid if it gives none
	gateway  netip.Addr
	mtu      int

	me   boot.Relay // this relay as the machine sees it
	rank int        // of this relay in the machine's order

	loader string // the boot program for its firmware
	file   string // where the firmware goes on, if the relay has that program; "" if it has nowhere to go
}

// world is the present one.
func (s *Server) world() *world {
	edition := s.cfg.Planner.Edition()
	if w := s.present.Load(); w != nil && w.edition == edition {
		return w
	}
	w := &world{edition: edition, scope: s.cfg.Scope()}
	s.present.Store(w)
	return w
}

// isKnown tells whether a node claims the machine.
func (s *Server) isKnown(w *world, mac [6]byte) bool {
	if _, ok := w.known.Get(mac); ok {
		return true
	}
	if !s.cfg.Planner.Known(hardware(mac)) {
		return false
	}
	w.known.Put(mac, struct{}{})
	return true
}

func hardware(mac [6]byte) catalog.HardwareAddr {
	return catalog.HardwareAddr(net.HardwareAddr(mac[:]).String())
}

// seat finds what is known of a machine in a network; nil means that this relay has nothing to say to it there.
func (s *Server) seat(w *world, mac [6]byte, firmware boot.Firmware, n *catalog.Network) *seat {
	key := seatKey{mac, n, firmware}
	if t, ok := w.seats.Get(key); ok {
		return t
	}
	t := s.newSeat(key)
	if s.cfg.Planner.Edition() == w.edition { // else it may be of the world that comes next
		w.seats.Put(key, t)
	}
	return t
}

func (s *Server) newSeat(k seatKey) *seat {
	mac, hw := net.HardwareAddr(k.mac[:]), hardware(k.mac)
	plan, err := s.cfg.Planner.Plan(boot.Request{Hardware: hw, Firmware: k.firmware, Network: k.network.Name, Relay: s.cfg.Relay})
	if err != nil {
		return nil
	}
	rank := plan.Rank(s.cfg.Relay)
	if rank < 0 {
		return nil
	}
	t := &seat{
		hw: hw, mac: mac, firmware: k.firmware, net: k.network, revision: plan.Revision, node: plan.Node, hostname: plan.Hostname, problem: plan.Problem,
		gateway: k.network.Gateway, mtu: k.network.MTU, me: plan.Relays[rank], rank: rank, loader: plan.Loader,
	}
	if a := plan.Address; plan.Known() && a.IsValid() && k.network.Prefix.Contains(a.Addr()) {
		t.declared, t.gateway, t.mtu = a.Addr(), plan.Gateway, plan.MTU
	}
	switch k.firmware {
	case boot.FirmwareNone:
	case boot.FirmwareIPXE:
		t.file = "http://" + t.me.Boot() + api.ScriptPath(string(hw))
	case boot.FirmwareHTTP64, boot.FirmwareHTTPArm64:
		t.file = "http://" + t.me.Boot() + api.LoaderPath(t.loader)
	default:
		t.file = t.loader
	}
	return t
}

// wantsLoader tells whether the firmware is one that fetches a boot program.
func (t *seat) wantsLoader() bool {
	return t.firmware != boot.FirmwareNone && t.firmware != boot.FirmwareIPXE
}

package rig

import (
	"errors"
	"fmt"
	"net/netip"
)

// A Room is the machine room of the demo and of most tests: three controllers on a control network, and a rack whose
// machines reach nobody but two relays, which have a leg in each.
//
//	c1 10.99.0.11  c2 10.99.0.12  c3 10.99.0.13
//	  └──────────────┴──────┬───────┘   control 10.99.0.0/24
//	         r1 10.99.0.21  │  r2 10.99.0.22
//	            10.77.0.1   │     10.77.0.2
//	              └─────────┴─────────┘ rack 10.77.0.0/24
//	                 machines
type Room struct {
	*Rig
	Control, Rack *Segment
	Controllers   []Place
	Relays        []Place
}

// A Place is a host of the room with its addresses.
type Place struct {
	*Host
	Control netip.Addr // on the control network
	Rack    netip.Addr // in the rack; the zero Addr of a controller
}

// RackNetwork is the network of the rack.
func RackNetwork() netip.Prefix { return netip.MustParsePrefix("10.77.0.0/24") }

// Interfaces of the hosts of a room.
const (
	ControlDev = "control0"
	RackDev    = "rack0"
)

// NewRoom builds a room in the rig, which must be new.
func NewRoom(r *Rig) (*Room, error) {
	room := &Room{Rig: r}
	var err, errs error
	if room.Control, err = r.Segment("control"); err != nil {
		return nil, err
	}
	if room.Rack, err = r.Segment("rack"); err != nil {
		return nil, err
	}
	place := func(name, control, rack string) Place {
		host, err := r.Host(name)
		if err != nil {
			errs = errors.Join(errs, err)
			return Place{}
		}
		p := Place{Host: host, Control: netip.MustParseAddr(control)}
		errs = errors.Join(errs, host.Connect(room.Control, ControlDev, netip.PrefixFrom(p.Control, 24)))
		if rack != "" {
			p.Rack = netip.MustParseAddr(rack)
			errs = errors.Join(errs, host.Connect(room.Rack, RackDev, netip.PrefixFrom(p.Rack, RackNetwork().Bits())))
		}
		return p
	}
	for i := 1; i <= 3; i++ {
		room.Controllers = append(room.Controllers, place(fmt.Sprintf("c%d", i), fmt.Sprintf("10.99.0.1%d", i), ""))
	}
	for i := 1; i <= 2; i++ {
		room.Relays = append(room.Relays, place(fmt.Sprintf("r%d", i), fmt.Sprintf("10.99.0.2%d", i), fmt.Sprintf("10.77.0.%d", i)))
	}
	return room, errs
}

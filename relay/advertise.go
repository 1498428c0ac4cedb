package relay

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/relay/radvd"
)

// interfacesLook is how often it is looked which interfaces reach a served network.
const interfacesLook = 15 * time.Second

// advertise answers router solicitations on the interfaces that reach a network which the relay serves, as they come
// and go.
func (r *Relay) advertise(ctx context.Context) error {
	for ctx.Err() == nil {
		where := r.interfaces()
		until, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = radvd.New(radvd.Config{Interfaces: where, Log: r.log}).Run(until) // says itself what it cannot do
		}()
		for pause(ctx, interfacesLook) && slices.EqualFunc(where, r.interfaces(), radvd.Interface.Equal) {
		}
		stop()
		<-done
	}
	return nil
}

// interfaces are those of this machine with an address in a network that the relay serves, and the prefixes in which
// machines there boot by IPv6: those in which the relay itself has an address.
func (r *Relay) interfaces() []radvd.Interface {
	c := r.feed.Catalog()
	self, ok := c.Relay(r.settings.Name)
	if !ok {
		return nil
	}
	var networks []*catalog.Network
	for _, name := range self.Networks {
		if n, ok := c.Network(name); ok {
			networks = append(networks, n)
		}
	}
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var where []radvd.Interface
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 {
			continue
		}
		var own []netip.Addr
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				own = append(own, p.Addr().Unmap())
			}
		}
		at, reaches := radvd.Interface{Name: i.Name}, false
		for _, n := range networks {
			reaches = reaches || slices.ContainsFunc(own, n.Holds)
			if r.dhcp6 != nil && n.Boots6() && slices.ContainsFunc(own, n.Prefix6.Contains) {
				at.Prefixes = append(at.Prefixes, n.Prefix6)
			}
		}
		if reaches {
			where = append(where, at)
		}
	}
	slices.SortFunc(where, func(a, b radvd.Interface) int { return strings.Compare(a.Name, b.Name) })
	return where
}

package relay

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/relay/radvd"
)

// interfacesLook is how often it is looked which interfaces reach a served network.
const interfacesLook = 15 * time.Second

// advertise answers router solicitations on the interfaces that reach a network which the relay serves, as they come
// and go.
func (r *Relay) advertise(ctx context.Context) error {
	for ctx.Err() == nil {
		names := r.interfaces()
		until, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = radvd.New(radvd.Config{Interfaces: names, Log: r.log}).Run(until) // says itself what it cannot do
		}()
		for pause(ctx, interfacesLook) && slices.Equal(names, r.interfaces()) {
		}
		stop()
		<-done
	}
	return nil
}

// interfaces are those of this machine with an address in a network that the relay serves.
func (r *Relay) interfaces() []string {
	c := r.feed.Catalog()
	self, ok := c.Relay(r.settings.Name)
	if !ok {
		return nil
	}
	served := func(a netip.Addr) bool {
		for _, name := range self.Networks {
			if n, ok := c.Network(name); ok && n.Prefix.Contains(a) {
				return true
			}
		}
		return false
	}
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var names []string
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 {
			continue
		}
		if slices.ContainsFunc(addrs, func(a net.Addr) bool {
			p, err := netip.ParsePrefix(a.String())
			return err == nil && served(p.Addr().Unmap())
		}) {
			names = append(names, i.Name)
		}
	}
	slices.Sort(names)
	return names
}

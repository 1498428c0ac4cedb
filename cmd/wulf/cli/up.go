package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/controller"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/relay"
)

// upNetwork is the network that `wulf up` declares.
const upNetwork catalog.NetworkName = "default"

func (p *program) up() *cli.Command {
	v := verb{
		name: "up", usage: "be a whole small cluster: a controller and a relay in one process",
		about: "The first time it makes a cluster and the network --cidr, and lets its relay join. It is a cluster like any other: " +
			"more controllers and relays may join it.",
		examples: []string{"wulf up --cidr 10.1.0.0/16 --address 10.1.255.250"},
		run:      p.upRun,
	}
	v.flags = append(v.flags,
		text("cidr", "the network in which nodes boot, as `PREFIX`/BITS; this machine answers DHCP there"),
		text("pool", "addresses there for machines that are not known: `FIRST-LAST`"),
		text("gateway", "the `ADDRESS` of its router"),
		text("cluster", "the `NAME` of the new cluster"),
		text("listen", fmt.Sprintf("the controller listens at `ADDRESS:PORT` (default :%d)", api.PortController)),
		dataFlag(filepath.Dir(controllerData)))
	for _, f := range placeFlags() {
		if f.Names()[0] != "advertise" { // both are reached at the first address
			v.flags = append(v.flags, f)
		}
	}
	v.flags = append(append(v.flags, serveFlags()...), logFlags()...)
	return v.command()
}

func (p *program) upRun(c *cli.Context) error {
	log, err := p.logger(c)
	if err != nil {
		return err
	}
	settings, err := relaySettings(c)
	if err != nil {
		return err
	}
	wanted := settingsOf(c)
	if len(settings.Addresses) > 0 {
		_, port, err := net.SplitHostPort(cmp.Or(wanted.Listen, fmt.Sprintf(":%d", api.PortController)))
		if err != nil {
			return fault.New(fault.Invalid, "--listen %q is not an address to listen on", wanted.Listen).WithFix("write it as ADDRESS:PORT or :PORT")
		}
		wanted.Advertise = net.JoinHostPort(settings.Addresses[0].String(), port)
	}
	dir := filepath.Join(c.String("data"), filepath.Base(controllerData))
	if _, err := controller.LoadSettings(dir); errors.Is(err, fault.NotFound) {
		if _, err := newNetwork(c); err != nil { // before anything is made
			return err
		}
	}
	ctl, err := p.openController(c, log, dir, wanted)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(c.Context)
	g.Go(func() error { return ctl.Run(ctx) })
	g.Go(func() error { return p.upRelay(ctx, c, log, settings, ctl.Settings().Advertise) })
	return ended(c.Context, g.Wait())
}

// upRelay lets the relay join if it has not yet, and runs it.
func (p *program) upRelay(ctx context.Context, c *cli.Context, log *slog.Logger, settings relay.Settings, endpoint string) error {
	dir := filepath.Join(c.String("data"), filepath.Base(relayData))
	if _, err := relay.LoadSettings(dir); errors.Is(err, fault.NotFound) {
		if err := p.upJoin(ctx, c, dir, settings, endpoint); err != nil {
			return err
		}
	}
	r, err := p.openRelay(c, log, dir)
	if err != nil {
		return err
	}
	ready(ctx, log, "controller and relay")
	return r.Run(ctx)
}

// upTime is how long the first start of a cluster may take.
const upTime = time.Minute

// upJoin declares the network, if there is none, and lets the relay join with a token made for it.
func (p *program) upJoin(ctx context.Context, c *cli.Context, dir string, settings relay.Settings, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, upTime)
	defer cancel()
	socket := api.UnixScheme + p.socket(c)
	root := api.NewClient(api.ClientConfig{Endpoints: func() []string { return []string{socket} }})
	defer root.Close()
	networks, err := p.upNetworks(ctx, c, root)
	if err != nil {
		return err
	}
	var token api.TokenResult
	if err := root.Post(ctx, api.PathTokens, api.TokenRequest{Role: catalog.TokenRelay, Networks: networks, Uses: 1, TTL: upTime}, &token); err != nil {
		return err
	}
	_, err = relay.Join(ctx, dir, relay.JoinConfig{Token: token.Token, Endpoints: []string{endpoint}, Settings: settings})
	return err
}

// upNetworks are all networks of the cluster; if there is none, the one that the flags describe is declared.
func (p *program) upNetworks(ctx context.Context, c *cli.Context, root *api.Client) ([]catalog.NetworkName, error) {
	var list api.List[catalog.Network]
	for { // the cluster may not have begun
		err := root.Get(ctx, api.PathNetworks, &list)
		if err == nil {
			break
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
	var names []catalog.NetworkName
	for _, n := range list.Items {
		names = append(names, n.Name)
	}
	if len(names) > 0 {
		return names, nil
	}
	n, err := newNetwork(c)
	if err != nil {
		return nil, err
	}
	_, err = root.Change(ctx, catalog.AddNetwork{Network: n}, api.ChangeOptions{})
	return []catalog.NetworkName{n.Name}, err
}

// newNetwork is the network that the flags describe. There is no default: whoever answers DHCP in a network where
// somebody else does takes it down.
func newNetwork(c *cli.Context) (catalog.Network, error) {
	n := catalog.Network{Name: upNetwork}
	if err := readNetwork(c, &n); err != nil {
		return n, err
	}
	if !n.Prefix.IsValid() {
		return n, fault.New(fault.Invalid, "the cluster has no network in which nodes boot").WithFix("name one, in which this machine is to answer DHCP: wulf up --cidr 10.1.0.0/16")
	}
	return n, nil
}

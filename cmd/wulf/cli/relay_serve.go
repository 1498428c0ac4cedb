package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/relay"
)

// tftpPort is where firmware asks for its boot program (RFC 1350 §4).
const tftpPort = 69

func (p *program) relayJoinVerb() verb {
	return verb{
		name: "join", usage: "make this machine a relay of a cluster", args: "TOKEN HOST:PORT…", least: 2, most: unlimited,
		about: "HOST:PORT is any controller of the cluster. TOKEN may be - to read it from standard input, which keeps it out of the list of processes.",
		examples: []string{
			"wulf relay join TOKEN 10.0.0.1:4400",
			"wulf relay join TOKEN 10.0.0.1:4400 --address 10.1.255.250",
		},
		flags: append(placeFlags(), dataFlag(relayData)), run: p.relayJoin,
	}
}

// placeFlags say what a relay is by itself, when it joins.
func placeFlags() []cli.Flag {
	return []cli.Flag{
		text("name", "its `NAME`, if the token says none; else the host's"),
		texts("address", "nodes reach it at `IP`; several: again, or with commas; else all addresses of this machine"),
		text("advertise", "other relays reach it at `IP`; else the first address"),
		number("boot-port", fmt.Sprintf("its `PORT` of plain HTTP, for firmware and boot loaders (default %d)", api.PortBoot)),
		number("mesh-port", fmt.Sprintf("its `PORT` of HTTPS, for agents and other relays (default %d)", api.PortMesh)),
		number("gossip-port", fmt.Sprintf("its `PORT` for the relays' gossip, TCP and UDP (default %d)", api.PortGossip)),
	}
}

// serveFlags say what a relay does while it runs.
func serveFlags() []cli.Flag {
	return []cli.Flag{
		toggle("no-dhcp", "do not serve DHCP"),
		toggle("no-tftp", "do not serve boot programs by TFTP"),
		toggle("tftp-single-port", "answer TFTP from port 69 itself, for firewalls that let no other port through"),
		toggle("no-ipv6", "boot nothing by IPv6, and do not tell machines that there is no IPv6 router, for which iPXE would wait"),
		texts("loaders", "look for boot programs in `DIR` (default: "+strings.Join(relay.LoaderDirs(), ", ")+")"),
		text("cache", "keep at most `SIZE` of chunks, as 200GiB (default: what the disk has)"),
		duration("stale-after", 24*time.Hour, "step back behind other relays when no controller has confirmed the catalog for `TIME`"),
	}
}

func (p *program) relayRunVerb() verb {
	return verb{
		name: "run", usage: "be a relay, until told to stop",
		examples: []string{"wulf relay run", "wulf relay run --no-dhcp"},
		flags:    append(append(serveFlags(), dataFlag(relayData)), logFlags()...), run: p.relayRun,
	}
}

// relaySettings are what the flags say of a relay; what they do not say is left for the relay to choose.
func relaySettings(c *cli.Context) (relay.Settings, error) {
	s := relay.Settings{Name: catalog.RelayName(c.String("name"))}
	for _, v := range names(c, "address") {
		a, err := address("address", v)
		if err != nil {
			return s, err
		}
		s.Addresses = append(s.Addresses, a)
	}
	if c.IsSet("advertise") {
		var err error
		if s.Advertise, err = address("advertise", c.String("advertise")); err != nil {
			return s, err
		}
	}
	for _, f := range []struct {
		flag string
		port *uint16
	}{{"boot-port", &s.BootPort}, {"mesh-port", &s.MeshPort}, {"gossip-port", &s.GossipPort}} {
		n := c.Int(f.flag)
		if c.IsSet(f.flag) && (n < 1 || n > 65535) {
			return s, fault.New(fault.Invalid, "--%s %d is not a port", f.flag, n).WithFix("choose 1 to 65535")
		}
		*f.port = uint16(n)
	}
	return s, nil
}

func (p *program) relayJoin(c *cli.Context) error {
	settings, err := relaySettings(c)
	if err != nil {
		return err
	}
	token, err := p.joinToken(c)
	if err != nil {
		return err
	}
	ctx, cancel := timeLimit(c)
	defer cancel()
	s, err := relay.Join(ctx, c.String("data"), relay.JoinConfig{Token: token, Endpoints: c.Args().Tail(), Settings: settings})
	if err != nil {
		return err
	}
	fmt.Fprintf(p.err, "relay %s of cluster %s, for nodes at %s\n", s.Name, s.Cluster, ipTexts(s.Addresses))
	if p.hints() {
		fmt.Fprintln(p.err, "next: systemctl enable --now wulf-relay")
	}
	return nil
}

// openRelay makes the relay of a data directory, with the sockets that it serves on. It serves when it runs.
func (p *program) openRelay(c *cli.Context, log *slog.Logger, dir string) (r *relay.Relay, err error) {
	s, err := relay.LoadSettings(dir)
	if err != nil {
		return nil, err
	}
	budget, err := parseSize(c.String("cache"))
	if err != nil {
		return nil, err
	}
	var open []io.Closer
	defer func() {
		if err != nil {
			for _, o := range open {
				o.Close()
			}
		}
	}()
	stream := func(port uint16) (net.Listener, error) {
		l, err := listenTCP(c.Context, ":"+strconv.Itoa(int(port)))
		if err == nil {
			open = append(open, l)
		}
		return l, err
	}
	packets := func(network string, port uint16) (net.PacketConn, error) {
		l, err := listenUDP(c.Context, network, ":"+strconv.Itoa(int(port)))
		if err == nil {
			open = append(open, l)
		}
		return l, err
	}
	cfg := relay.Config{
		Dir: dir, DHCP: !c.Bool("no-dhcp"), SinglePort: c.Bool("tftp-single-port"), Advertise: !c.Bool("no-ipv6"), Loaders: c.StringSlice("loaders"), Budget: budget,
		StaleAfter: c.Duration("stale-after"), Version: p.env.Version, Log: log,
	}
	if cfg.Boot, err = stream(s.BootPort); err != nil {
		return nil, err
	}
	if cfg.Mesh, err = stream(s.MeshPort); err != nil {
		return nil, err
	}
	if cfg.Gossip, err = stream(s.GossipPort); err != nil {
		return nil, err
	}
	if cfg.GossipPackets, err = packets("udp", s.GossipPort); err != nil {
		return nil, err
	}
	if !c.Bool("no-tftp") {
		if cfg.TFTP, err = packets("udp4", tftpPort); err != nil {
			return nil, err
		}
		if !c.Bool("no-ipv6") {
			if cfg.TFTP6, err = packets("udp6", tftpPort); err != nil {
				log.Warn("boot programs are not served by TFTP over IPv6", "relay", s.Name, "err", err) // a machine may have no IPv6 at all
			}
		}
	}
	if r, err = relay.New(cfg); err != nil {
		return nil, err
	}
	log.Info("starting", "relay", s.Name, "cluster", s.Cluster, "addresses", ipTexts(s.Addresses), "dhcp", cfg.DHCP, "tftp", cfg.TFTP != nil,
		"version", p.env.Version)
	return r, nil
}

func (p *program) relayRun(c *cli.Context) error {
	log, err := p.logger(c)
	if err != nil {
		return err
	}
	r, err := p.openRelay(c, log, c.String("data"))
	if err != nil {
		return err
	}
	ready(c.Context, log, "relay")
	return ended(c.Context, r.Run(c.Context))
}

// ended is how a program that serves ended: well, if it was told to.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// listenUDP is listenTCP for packets. The network is udp, or udp4 for IPv4 only.
func listenUDP(ctx context.Context, network, address string) (net.PacketConn, error) {
	l, err := new(net.ListenConfig).ListenPacket(ctx, network, address)
	if err != nil {
		return nil, listenFault(err)
	}
	return l, nil
}

// parseSize reads a number of bytes as people write it, such as 200GiB or 200GB; "" is 0.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	digits := strings.TrimRight(s, "KMGTiBb ")
	n, err := strconv.ParseInt(digits, 10, 64)
	unit, ok := map[string]int64{
		"": 1, "B": 1, "K": 1 << 10, "KiB": 1 << 10, "M": 1 << 20, "MiB": 1 << 20, "G": 1 << 30, "GiB": 1 << 30, "T": 1 << 40, "TiB": 1 << 40,
		"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	}[strings.TrimSpace(s[len(digits):])]
	if err != nil || !ok || n < 0 || n > 1<<62/unit {
		return 0, fault.New(fault.Invalid, "%q is not a size", s).WithFix("write it as 200GiB")
	}
	return n * unit, nil
}

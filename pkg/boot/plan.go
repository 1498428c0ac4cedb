package boot

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Plan is the answer to a Request: everything that DHCP, TFTP, HTTP and the agent need to say to one machine.
// It names content by its digest, so that the same plan gives the same bytes from any relay.
type Plan struct {
	Revision catalog.Revision // of the catalog that it comes from
	Node     catalog.NodeName // "" for a machine that no node claims
	Hostname string           // the node's name up to the first dot

	Network *catalog.Network // nil if the machine asks in no network of the cluster
	Address netip.Prefix     // the address declared for it; invalid: one of the network's pool, if it has one
	Gateway netip.Addr
	MTU     int // 0: the device's own

	Address6 netip.Addr // of the network, declared or made of the hardware address; invalid: none

	Loader string  // the program for its firmware (see Loaders); "" if there is none for it
	Relays []Relay // where it may fetch, best first; the first is the one that should answer it

	// For a node that can boot; see Problem.
	Image        string       // as declared, such as debian:latest
	Manifest     chunk.Ref    // the version
	Kernel       chunk.Kernel // kernel and stage one
	Method       string       // catalog.MethodTwoStage, MethodOneStage or MethodWarewulf
	Init         string
	Root         string
	Args         []string // kernel arguments declared
	Unpacked     int64    // bytes of the image's files
	ImageSize    int64    // bytes of the image, as served
	Secrets      bool     // whether relays of its network may hold the node's secrets
	BootHardware catalog.HardwareAddr
	Warewulf     Warewulf // for catalog.MethodWarewulf

	// Problem is why the machine cannot boot, in words for its screen and for `wulf node why`; nil if it can.
	Problem error
}

// Known tells whether the plan is for a node.
func (p *Plan) Known() bool { return p.Node != "" }

// Rank is the place of a relay in the plan's order, 0 for the preferred one, and -1 if it does not serve it.
func (p *Plan) Rank(name catalog.RelayName) int {
	return slices.IndexFunc(p.Relays, func(r Relay) bool { return r.Name == name })
}

// maxSources bounds the relays that a machine is told of: enough to outlive those that die at once, and few enough
// for the kernel's command line.
const maxSources = 4

// Sources are the relays from which the machine is told to fetch, best first: the first few of Relays.
func (p *Plan) Sources() []Relay { return p.Relays[:min(len(p.Relays), maxSources)] }

// Loaders are the boot programs by firmware: the names under which TFTP and HTTP serve them.
// They are iPXE as distributions package it: undionly uses the card's own PXE driver, snponly the firmware's,
// so neither needs a driver for the card.
var Loaders = map[Firmware]string{
	FirmwareBIOS:      "undionly.kpxe",
	FirmwareEFI64:     "snponly.efi",
	FirmwareEFIArm64:  "snponly-arm64.efi",
	FirmwareHTTP64:    "snponly.efi",
	FirmwareHTTPArm64: "snponly-arm64.efi",
}

// Resolve answers a request from a catalog. It fails only where there is nothing to say at all: with
// fault.Denied if the answering relay is not admitted, and with fault.NotFound if it does not serve the network
// of the request. A machine that cannot boot gets a plan with a Problem.
func Resolve(c *catalog.Catalog, req Request) (Plan, error) {
	self, ok := c.Relay(req.Relay)
	if !ok {
		return Plan{}, fault.New(fault.Denied, "relay %s is not admitted", req.Relay).WithFix("let it join: wulf relay token, wulf relay join")
	}
	p := Plan{Revision: c.Revision, Loader: Loaders[req.Firmware], BootHardware: req.Hardware}
	if req.Network != "" {
		if !slices.Contains(self.Networks, req.Network) {
			return Plan{}, fault.New(fault.NotFound, "relay %s does not serve network %s", req.Relay, req.Network)
		}
		p.Network, _ = c.Network(req.Network)
	}
	node, ok := c.NodeByHardware(req.Hardware)
	if !ok {
		p.address6(c, netip.Addr{})
		p.Relays = rank(c, p.Network, string(req.Hardware), "", "", req)
		p.Problem = fault.New(fault.NotFound, "no node has the hardware address %s", req.Hardware).
			WithFix("wulf discover claim %s NODE", req.Hardware)
		return p, nil
	}
	r, err := c.Resolve(node.Name)
	if err != nil {
		return Plan{}, err
	}
	p.Node, p.Hostname = node.Name, hostname(node.Name)
	if i := slices.IndexFunc(r.Nets, func(n catalog.ResolvedNet) bool { return n.Hardware == req.Hardware }); i >= 0 {
		p.address(r.Nets[i], req.Network)
		p.address6(c, r.Nets[i].Address6.Addr())
	}
	p.Relays = rank(c, p.Network, string(node.Name), value(r.Settings.Rack), value(r.Settings.Zone), req)
	p.content(r)
	return p, nil
}

// address takes the declared address of the device, unless the machine asks in another network than the one
// that it is declared in: there the address would be of no use to it, and a NAK is due (RFC 2131 §4.3.2).
func (p *Plan) address(d catalog.ResolvedNet, asked catalog.NetworkName) {
	if d.Network != nil && asked != "" && d.Network.Name != asked {
		p.Problem = fault.New(fault.Conflict, "node %s asks in network %s but its device %s is declared in %s", p.Node, asked, d.Name, d.Network.Name).
			WithFix("check the cabling, or: wulf node set %s --netname %s --network %s", p.Node, d.Name, asked)
		return
	}
	if d.Network != nil {
		p.Network = d.Network
	}
	p.Address, p.Gateway, p.MTU = d.Address, d.Gateway, d.MTU
}

// content decides what the node boots.
func (p *Plan) content(r *catalog.Resolved) {
	s := r.Settings
	p.Method, p.Init, p.Root, p.Args = *s.Method, *s.Init, cmp.Or(s.RootDevice(), *s.Root), s.Kernel.Args
	p.Secrets = p.Network != nil && p.Network.Secrets == catalog.SecretsRelay
	if p.Problem != nil {
		return
	}
	if s.RootDevice() != "" && p.Method != catalog.MethodTwoStage { // profiles and node say it together
		p.Problem = fault.New(fault.Invalid, "the root of node %s is on %s, and with the method %s the kernel unpacks the image into memory", p.Node, p.Root, p.Method).
			WithFix("wulf node set %s --method two-stage", p.Node)
		return
	}
	if s.Image == nil {
		p.Problem = fault.New(fault.NotFound, "node %s has no image", p.Node).WithFix("wulf node set %s --image NAME", p.Node)
		return
	}
	if r.Version.Manifest.ID.IsZero() {
		p.Problem = fault.New(fault.NotFound, "image %s of node %s does not exist", *s.Image, p.Node).WithFix("wulf image list")
		return
	}
	_, at, err := r.Kernel()
	if err != nil {
		p.Problem = err
		return
	}
	p.Image, p.Manifest, p.Kernel = *s.Image, r.Version.Manifest, r.Version.Kernels[at]
	p.Unpacked, p.ImageSize = r.Version.Unpacked, r.Version.Size
	if p.Problem = r.Allowed(p.Network); p.Problem != nil {
		return
	}
	if p.Method == catalog.MethodWarewulf {
		p.warewulf(r)
	}
	if len(p.Relays) == 0 {
		p.Problem = fault.New(fault.Unavailable, "no relay serves node %s where it is declared", p.Node).WithFix("see wulf relay list, and wulf node show %s --blame", p.Node)
		return
	}
	p.Problem = p.check(Session{Boot: strings.Repeat("x", MaxBoot), Ticket: strings.Repeat("x", MaxTicket)})
}

// rank orders the relays that serve the network: those of the node's rack, of its zone, the others; alive before
// dead; and within each so that load spreads and all relays agree, see lot.
func rank(c *catalog.Catalog, network *catalog.Network, node, rack, zone string, req Request) []Relay {
	const inRack, inZone, elsewhere = 0, 1, 2
	type ranked struct {
		Relay
		away bool // or unwell
	}
	var places [elsewhere + 1][]ranked
	for r := range c.Relays() {
		if network != nil && !slices.Contains(r.Networks, network.Name) || network == nil && r.Name != req.Relay {
			continue
		}
		addr, ok := reach(r, network)
		if !ok {
			continue
		}
		place := elsewhere
		switch {
		case rack != "" && r.Rack == rack:
			place = inRack
		case zone != "" && r.Zone == zone:
			place = inZone
		}
		self := r.Name == req.Relay
		away := self && req.Unwell || !self && req.Live != nil && !slices.Contains(req.Live, r.Name)
		places[place] = append(places[place], ranked{Relay{Name: r.Name, Addr: addr, BootPort: r.BootPort, MeshPort: r.MeshPort}, away})
	}
	l := lotOf(node)
	var here, away []Relay
	for _, relays := range places {
		// Those that are away have their turn, too: else all machines would change their relay when one goes.
		for _, r := range order(l, relays, func(r ranked) catalog.RelayName { return r.Name }) {
			if r.away {
				away = append(away, r.Relay)
			} else {
				here = append(here, r.Relay)
			}
		}
	}
	return append(here, away...)
}

// reach is the address of a relay that a machine in the network uses: one in the network itself if there is any.
func reach(r *catalog.Relay, network *catalog.Network) (netip.Addr, bool) {
	if network != nil {
		if i := slices.IndexFunc(r.Addresses, network.Prefix.Contains); i >= 0 {
			return r.Addresses[i], true
		}
	}
	if len(r.Addresses) == 0 {
		return netip.Addr{}, false
	}
	return r.Addresses[0], true
}

func hostname(n catalog.NodeName) string {
	for i := range n {
		if n[i] == '.' {
			return string(n[:i])
		}
	}
	return string(n)
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

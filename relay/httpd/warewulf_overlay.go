package httpd

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
	"github.com/wulfmesh/wulfmesh/relay/feed"
)

// wwOverlay sends a node's overlays of a kind as a cpio archive. What is secret is in it only for who showed the ticket of
// this boot, as in a one-stage boot.
func (s *Server) wwOverlay(w http.ResponseWriter, r *http.Request, c *caller, kind string) error {
	release, err := s.turn(w, r, firmwareTime)
	if err != nil {
		return err
	}
	defer release()
	o, err := s.images.open(r.Context(), c.plan.Manifest.ID)
	if err != nil {
		return err
	}
	files, with, err := s.overlays.files(r.Context(), c.plan.Node, kind, c.boot != "")
	if err != nil {
		s.refused(c, kind, err)
		return err
	}
	if files, err = pointHere(files, kind, c.plan.Relays[0]); err != nil {
		s.refused(c, kind, err)
		return err
	}
	parts, err := archive(files, o.tree)
	if err != nil {
		return err
	}
	b, err := s.overlays.body(parts, c.gzip, with)
	if err != nil {
		return err
	}
	whole, err := s.stream(w, r, b)
	if whole && kind == wwRuntime && c.boot != "" {
		// The last that a boot asks for. A command line, where an initramfs finds its ticket, any user of the node may read.
		s.claims.finish(c.used, wwSystem, wwRuntime)
	}
	if whole {
		s.sentTo(c, kind, "__"+map[string]string{wwSystem: "SYSTEM", wwRuntime: "RUNTIME"}[kind]+"__.img", b.size)
	}
	return err
}

// clientFile is where wwclient reads its server's address and port. The overlay wwinit copies the server's own file there,
// as it is, so that no template can tell it of relays.
const clientFile = "etc/warewulf/warewulf.conf"

// pointHere has that file name a relay. Where the system overlays have none, because the site has no file to copy, it is made:
// wwclient looks nowhere else.
func pointHere(files []overlay.Rendered, kind string, to boot.Relay) ([]overlay.Rendered, error) {
	at := slices.IndexFunc(files, func(f overlay.Rendered) bool { return f.Path == clientFile })
	f := overlay.Rendered{Path: clientFile, Type: overlay.TypeFile, Mode: 0o644}
	switch {
	case at < 0 && kind != wwSystem, at >= 0 && files[at].Type != overlay.TypeFile:
		return files, nil
	case at < 0:
		at, files = len(files), append(files, f)
	default:
		f = overlay.Rendered{Path: clientFile, Type: overlay.TypeFile, Mode: files[at].Mode, UID: files[at].UID, GID: files[at].GID, Content: files[at].Content}
	}
	var err error
	if f.Content, err = warewulf.ClientConfig(f.Content, netip.AddrPortFrom(to.Addr, to.BootPort)); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "overlay file %s", f.Path)
	}
	files[at] = f
	return files, nil
}

// files renders a node's overlays of a kind: with its secrets, for which it waits as patient does, or without any. It tells
// which ones those were.
func (o *overlays) files(ctx context.Context, node catalog.NodeName, kind string, secrets bool) ([]overlay.Rendered, *feed.Secrets, error) {
	made, err := o.withSecrets(ctx, func() (*rendered, error) {
		made := &rendered{catalog: o.cfg.Feed.Catalog(), secrets: o.cfg.Feed.Secrets(), bare: !secrets}
		return made, o.render(ctx, made, node, kind)
	})
	if err != nil {
		return nil, nil, err
	}
	return slices.Clone(made.result.Files), made.secrets, nil
}

// serverOf is what the templates of a node that boots by Warewulf's method are told of the server: what the site says of
// it, but the address and port of the node's first relay, which its wwclient asks from then on. nil for all other nodes.
func (o *overlays) serverOf(ctx context.Context, c *catalog.Catalog, r *catalog.Resolved) (*overlay.Server, error) {
	if *r.Settings.Method != catalog.MethodWarewulf || r.Primary == nil || r.Primary.Network == nil {
		return nil, nil
	}
	p, err := o.cfg.Feed.Plan(boot.Request{Hardware: r.Primary.Hardware, Network: r.Primary.Network.Name, Relay: o.cfg.Name, Live: o.cfg.Live()})
	if err != nil || len(p.Relays) == 0 {
		return nil, err
	}
	s, err := o.renderer.Server(ctx, c)
	if err != nil {
		return nil, err
	}
	first, network := p.Relays[0], r.Primary.Network.Prefix
	s.Ipaddr, s.Netmask, s.Network, s.Ipaddr6, s.PrefixLen6 = first.Addr.String(), "", "", "", ""
	if network.Contains(first.Addr) {
		s.Netmask, s.Network = net.IP(net.CIDRMask(network.Bits(), 32)).String(), network.Addr().String()
	}
	s.Warewulf.Port, s.Warewulf.TLSEnabled = int(first.BootPort), false // relays speak plainly to what trusts no certificate of theirs
	return &s, nil
}

// Package view makes of Warewulf's configuration what the templates of overlays see: the server of warewulf.conf, and the
// nodes of nodes.conf. Both files are read by pkg/warewulf; the engine that templates run in is pkg/overlay.
package view

import (
	"cmp"
	"net"

	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

// ReadServer makes of the text of a warewulf.conf what templates see of it. What that file must not say is
// fault.Invalid, with its line.
func ReadServer(text []byte) (overlay.Server, error) {
	c, err := warewulf.ParseConfig(text)
	if err != nil {
		return overlay.Server{}, err
	}
	return Server(c), nil
}

// Server is what templates see of a warewulf.conf. What it does not say is as Warewulf's packages have it; a nil Config
// says nothing. Nobody is asked for addresses: those that Warewulf would take from the machine it runs on stay empty.
func Server(c *warewulf.Config) overlay.Server {
	s := overlay.DefaultServer()
	if c == nil {
		return s
	}
	s.Ipaddr, s.Netmask, s.Network = string(c.IPAddr), string(c.Netmask), string(c.Network)
	s.Ipaddr6, s.PrefixLen6 = string(c.IPAddr6), c.PrefixLen6
	if s.Network == "" {
		s.Network = network(s.Ipaddr, s.Netmask)
	}
	if d := c.Warewulf; d != nil {
		daemon(&s.Warewulf, d)
	}
	if d := c.DHCP; d != nil {
		s.Dhcp = overlay.DhcpService{
			Enabled: truth(d.Enabled, true), Template: cmp.Or(d.Template, s.Dhcp.Template),
			RangeStart: string(d.RangeStart), RangeEnd: string(d.RangeEnd), Range6Start: string(d.Range6Start), Range6End: string(d.Range6End),
			SystemdName: cmp.Or(d.SystemdName, s.Dhcp.SystemdName),
		}
	}
	if n := c.NFS; n != nil {
		s.Nfs.Enabled, s.Nfs.SystemdName = truth(n.Enabled, true), cmp.Or(n.SystemdName, s.Nfs.SystemdName)
		for _, e := range n.ExportPaths {
			if e != nil {
				s.Nfs.ExportsExtended = append(s.Nfs.ExportsExtended, overlay.NfsExport{Path: e.Path, ExportOptions: e.ExportOptions})
			}
		}
	}
	if c.SSH != nil && c.SSH.KeyTypes != nil {
		s.Ssh.KeyTypes = c.SSH.KeyTypes
	}
	if t := c.TFTP; t != nil {
		s.Tftp.Enabled, s.Tftp.TftpRoot, s.Tftp.SystemdName = truth(t.Enabled, true), cmp.Or(t.Root, s.Tftp.TftpRoot), cmp.Or(t.SystemdName, s.Tftp.SystemdName)
		if len(t.IPXE) > 0 { // all of them or none
			s.Tftp.IpxeBinaries = t.IPXE
		}
	}
	if c.Paths != nil {
		paths(&s.Paths, c.Paths)
	}
	return s
}

func daemon(s *overlay.WarewulfService, d *warewulf.Server) {
	s.Port, s.TlsPort, s.UpdateInterval = cmp.Or(d.Port, s.Port), cmp.Or(d.TLSPort, s.TlsPort), cmp.Or(d.UpdateInterval, s.UpdateInterval)
	s.TLSEnabled, s.GrubBoot = truth(d.TLS, false), truth(d.GrubBoot, false)
	s.Secure = truth(d.Secure, true)
	s.SecureFiles = truth(d.SecureFiles, s.Secure)
	s.AutobuildOverlays, s.EnableHostOverlay = truth(d.AutobuildOverlays, true), truth(d.HostOverlay, true)
	s.SystemdName = d.SystemdName
}

func paths(s *overlay.ServerPaths, p *warewulf.Paths) {
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&s.Bindir, p.Bindir}, {&s.Sysconfdir, p.Sysconfdir}, {&s.Localstatedir, p.Localstatedir}, {&s.Cachedir, p.Cachedir},
		{&s.Ipxesource, p.IPXESource}, {&s.Srvdir, p.Srvdir}, {&s.Firewallddir, p.Firewallddir}, {&s.Systemddir, p.Systemddir},
		{&s.Datadir, p.Datadir}, {&s.WWOverlaydir, p.WWOverlaydir}, {&s.WWChrootdir, p.WWChrootdir},
		{&s.WWProvisiondir, p.WWProvisiondir}, {&s.WWClientdir, p.WWClientdir}, {&s.WWFilesdir, p.WWFilesdir},
	} {
		*f.to = cmp.Or(f.from, *f.to)
	}
}

// network is where an address is, "" if its netmask does not say it.
func network(addr, mask string) string {
	ip, m := net.ParseIP(addr).To4(), net.IPMask(net.ParseIP(mask).To4())
	if ip == nil || m == nil {
		return ""
	}
	return ip.Mask(m).String()
}

func truth(said *bool, otherwise bool) bool {
	if said == nil {
		return otherwise
	}
	return *said
}

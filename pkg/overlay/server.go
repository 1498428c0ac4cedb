package overlay

import (
	"net"
	"net/netip"
	"path"
	"strconv"
)

// Server is what templates see of the server that Warewulf's administrators configured in warewulf.conf: `.Ipaddr`,
// `.Warewulf.Port`, `.Paths.Sysconfdir`, under the names that those templates use. Addresses are texts, and "" is none,
// so that `{{if .Ipaddr}}` asks for one.
type Server struct {
	Ipaddr     string
	Netmask    string
	Network    string
	Ipaddr6    string
	PrefixLen6 string
	Dhcp       DhcpService
	Nfs        NfsService
	Ssh        SshService
	Warewulf   WarewulfService
	Tftp       TftpService
	Paths      ServerPaths
}

// WarewulfService is the daemon that nodes are provisioned from.
type WarewulfService struct {
	Port              int
	TlsPort           int
	TLSEnabled        bool
	Secure            bool // runtime overlays are for privileged ports only
	SecureFiles       bool
	UpdateInterval    int // seconds
	AutobuildOverlays bool
	EnableHostOverlay bool
	GrubBoot          bool
	SystemdName       string
}

// DhcpService is the DHCP server.
type DhcpService struct {
	Enabled     bool
	Template    string // "static" reserves an address for each node
	RangeStart  string
	RangeEnd    string
	Range6Start string
	Range6End   string
	SystemdName string
}

// NfsService is what the server exports.
type NfsService struct {
	Enabled         bool
	ExportsExtended []NfsExport
	SystemdName     string
}

// NfsExport is a directory that the server exports.
type NfsExport struct {
	Path          string
	ExportOptions string
}

// SshService is which keys the cluster has, the most important first.
type SshService struct{ KeyTypes []string }

// TftpService is the TFTP server.
type TftpService struct {
	Enabled      bool
	TftpRoot     string
	SystemdName  string
	IpxeBinaries map[string]string // by DHCP's architecture type, such as 00:07
}

// ServerPaths is where things lie on the server.
type ServerPaths struct {
	Bindir         string
	Sysconfdir     string
	Localstatedir  string
	Cachedir       string
	Ipxesource     string
	Srvdir         string
	Firewallddir   string
	Systemddir     string
	Datadir        string
	WWOverlaydir   string
	WWChrootdir    string
	WWProvisiondir string
	WWClientdir    string
	WWFilesdir     string
}

// DefaultServer is what Warewulf's packages have where warewulf.conf says nothing.
func DefaultServer() Server {
	return Server{
		Dhcp: DhcpService{Enabled: true, Template: "default", SystemdName: "dhcpd"},
		Nfs:  NfsService{Enabled: true, SystemdName: "nfsd"},
		Ssh:  SshService{KeyTypes: []string{"ed25519", "ecdsa", "rsa"}},
		Warewulf: WarewulfService{
			Port: 9873, TlsPort: 9874, Secure: true, SecureFiles: true, UpdateInterval: 60, AutobuildOverlays: true, EnableHostOverlay: true,
		},
		Tftp: TftpService{Enabled: true, TftpRoot: "/var/lib/tftpboot", SystemdName: "tftp", IpxeBinaries: map[string]string{
			"00:00": "undionly.kpxe", "00:07": "ipxe-snponly-x86_64.efi", "00:09": "ipxe-snponly-x86_64.efi", "00:0B": "arm64-efi/snponly.efi",
		}},
		Paths: ServerPaths{
			Bindir: "/usr/bin", Sysconfdir: "/etc", Localstatedir: "/var/lib", Cachedir: "/var/cache", Ipxesource: "/usr/share/ipxe",
			Srvdir: "/var/lib", Firewallddir: "/usr/lib/firewalld/services", Systemddir: "/usr/lib/systemd/system", Datadir: "/usr/share",
			WWOverlaydir: "/var/lib/warewulf/overlays", WWChrootdir: "/var/lib/warewulf/chroots", WWProvisiondir: "/var/lib/warewulf/provision",
			WWClientdir: "/warewulf", WWFilesdir: "/var/lib/warewulf/files",
		},
	}
}

// IpCIDR is the server's address with the length of its prefix, "" if either is unknown.
func (s Server) IpCIDR() string { return s.withMask(s.Ipaddr) }

// NetworkCIDR is the server's network with the length of its prefix, "" if either is unknown.
func (s Server) NetworkCIDR() string { return s.withMask(s.Network) }

// Ipv6 tells whether the server has an IPv6 address.
func (s Server) Ipv6() bool { return s.Ipaddr6 != "" }

// IpCIDR6 is the server's IPv6 address with the length of its prefix, "" if either is unknown.
func (s Server) IpCIDR6() string {
	if p := s.prefix6(); p.IsValid() {
		return p.String()
	}
	return ""
}

// Network6 is the first address of the server's IPv6 network, "" if that is unknown.
func (s Server) Network6() string {
	if p := s.prefix6(); p.IsValid() {
		return p.Masked().Addr().String()
	}
	return ""
}

// NetworkCIDR6 is the server's IPv6 network with the length of its prefix, "" if that is unknown.
func (s Server) NetworkCIDR6() string {
	if p := s.prefix6(); p.IsValid() {
		return p.Masked().String()
	}
	return ""
}

// prefix6 is invalid for what is no IPv6 address, or no length of one's prefix.
func (s Server) prefix6() netip.Prefix {
	addr, err := netip.ParseAddr(s.Ipaddr6)
	bits, wrong := strconv.Atoi(s.PrefixLen6)
	if err != nil || wrong != nil || !addr.Is6() || addr.Is4In6() || addr.Zone() != "" {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(addr, bits)
}

// withMask writes an IPv4 address of the server with its netmask. One with holes is written in hexadecimal digits, as
// templates have always had it.
func (s Server) withMask(addr string) string {
	ip, m := net.ParseIP(addr).To4(), net.IPMask(net.ParseIP(s.Netmask).To4())
	if ip == nil || m == nil {
		return ""
	}
	return (&net.IPNet{IP: ip, Mask: m}).String()
}

// NodesConf is the path of nodes.conf.
func (p ServerPaths) NodesConf() string { return path.Join(p.Sysconfdir, "warewulf/nodes.conf") }

// AuthenticationConf is the path of auth.conf.
func (p ServerPaths) AuthenticationConf() string {
	return path.Join(p.Sysconfdir, "warewulf/auth.conf")
}

// OciBlobCachedir is where layers of images are kept.
func (p ServerPaths) OciBlobCachedir() string { return path.Join(p.Cachedir, "warewulf") }

// SiteOverlaydir is the directory of the site's overlays.
func (p ServerPaths) SiteOverlaydir() string { return p.WWOverlaydir }

// DistributionOverlaydir is the directory of the overlays that came with Warewulf.
func (p ServerPaths) DistributionOverlaydir() string {
	return path.Join(p.Datadir, "warewulf/overlays")
}

// OverlayProvisiondir is where built overlays are.
func (p ServerPaths) OverlayProvisiondir() string { return path.Join(p.WWProvisiondir, "overlays") }

// ImageProvisiondir is where built images are.
func (p ServerPaths) ImageProvisiondir() string { return path.Join(p.WWProvisiondir, "images") }

// EnableTLS and SecurePort are the names that some versions of Warewulf have for TLSEnabled and TlsPort: their overlay
// wwinit asks for them.
func (w WarewulfService) EnableTLS() bool { return w.TLSEnabled }

// SecurePort is TlsPort: see EnableTLS.
func (w WarewulfService) SecurePort() int { return w.TlsPort }

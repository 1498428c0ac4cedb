package warewulf

import (
	"net/netip"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Config is what warewulf.conf says, in the form of 4.7. What is empty or nil is not said; Warewulf then has a default.
type Config struct {
	Comment     string     `yaml:"comment,omitempty" json:"comment,omitempty"`
	IPAddr      IP         `yaml:"ipaddr,omitempty" json:"ipaddr,omitempty"` // none: whatever the server's address is
	Netmask     IP         `yaml:"netmask,omitempty" json:"netmask,omitempty"`
	Network     IP         `yaml:"network,omitempty" json:"network,omitempty"`
	FQDN        string     `yaml:"fqdn,omitempty" json:"fqdn,omitempty"`
	IPAddr6     IP         `yaml:"ipaddr6,omitempty" json:"ipaddr6,omitempty"`
	PrefixLen6  string     `yaml:"prefixlen6,omitempty" json:"prefixlen6,omitempty"`
	Warewulf    *Server    `yaml:"warewulf,omitempty" json:"warewulf,omitempty"`
	API         *API       `yaml:"api,omitempty" json:"api,omitempty"`
	DHCP        *DHCP      `yaml:"dhcp,omitempty" json:"dhcp,omitempty"`
	TFTP        *TFTP      `yaml:"tftp,omitempty" json:"tftp,omitempty"`
	NFS         *NFS       `yaml:"nfs,omitempty" json:"nfs,omitempty"`
	SSH         *SSH       `yaml:"ssh,omitempty" json:"ssh,omitempty"`
	Hostfile    *Hostfile  `yaml:"hostfile,omitempty" json:"hostfile,omitempty"` // what follows 4.7
	ImageMounts []*Mount   `yaml:"image mounts,omitempty" json:"image mounts,omitempty"`
	WWClient    *WWClient  `yaml:"wwclient,omitempty" json:"wwclient,omitempty"`
	Paths       *Paths     `yaml:"paths,omitempty" json:"paths,omitempty"`
	Mounts      []NFSMount `yaml:"-" json:"-"` // what nodes mounted before 4.6; see Nodes.AddMounts
	Hazards     []Hazard   `yaml:"-" json:"-"` // met while reading, in the order of the file

	at map[string]Position // of the keys, by their path
}

// Server is the daemon warewulfd.
type Server struct {
	Port              int    `yaml:"port,omitempty" json:"port,omitempty"`
	TLSPort           int    `yaml:"tls port,omitempty" json:"tls port,omitempty"`
	TLS               *bool  `yaml:"tls,omitempty" json:"tls,omitempty"`
	Secure            *bool  `yaml:"secure,omitempty" json:"secure,omitempty"`
	SecureFiles       *bool  `yaml:"secure files,omitempty" json:"secure files,omitempty"`
	UpdateInterval    int    `yaml:"update interval,omitempty" json:"update interval,omitempty"` // seconds
	AutobuildOverlays *bool  `yaml:"autobuild overlays,omitempty" json:"autobuild overlays,omitempty"`
	HostOverlay       *bool  `yaml:"host overlay,omitempty" json:"host overlay,omitempty"`
	GrubBoot          *bool  `yaml:"grubboot,omitempty" json:"grubboot,omitempty"`
	SystemdName       string `yaml:"systemd name,omitempty" json:"systemd name,omitempty"`
}

// API is the REST API.
type API struct {
	Enabled        *bool    `yaml:"enabled,omitempty" json:"enabled,omitempty"`
	TLS            *bool    `yaml:"tls,omitempty" json:"tls,omitempty"`
	AllowedSubnets []string `yaml:"allowed subnets,omitempty" json:"allowed subnets,omitempty"`
}

// DHCP is the DHCP server that Warewulf configures.
type DHCP struct {
	Enabled     *bool    `yaml:"enabled,omitempty" json:"enabled,omitempty"`   // default true
	Template    string   `yaml:"template,omitempty" json:"template,omitempty"` // static: only nodes with an address are answered
	RangeStart  IP       `yaml:"range start,omitempty" json:"range start,omitempty"`
	RangeEnd    IP       `yaml:"range end,omitempty" json:"range end,omitempty"`
	Range6Start IP       `yaml:"range6 start,omitempty" json:"range6 start,omitempty"`
	Range6End   IP       `yaml:"range6 end,omitempty" json:"range6 end,omitempty"`
	SystemdName string   `yaml:"systemd name,omitempty" json:"systemd name,omitempty"`
	Overlays    []string `yaml:"overlays,omitempty" json:"overlays,omitempty"`
}

// TFTP is the TFTP server that Warewulf configures.
type TFTP struct {
	Enabled     *bool             `yaml:"enabled,omitempty" json:"enabled,omitempty"`
	Root        string            `yaml:"tftproot,omitempty" json:"tftproot,omitempty"`
	SystemdName string            `yaml:"systemd name,omitempty" json:"systemd name,omitempty"`
	IPXE        map[string]string `yaml:"ipxe,omitempty" json:"ipxe,omitempty"` // by DHCP's architecture type, such as 00:07
	Overlays    []string          `yaml:"overlays,omitempty" json:"overlays,omitempty"`
}

// NFS is what the server exports.
type NFS struct {
	Enabled     *bool     `yaml:"enabled,omitempty" json:"enabled,omitempty"`
	ExportPaths []*Export `yaml:"export paths,omitempty" json:"export paths,omitempty"`
	SystemdName string    `yaml:"systemd name,omitempty" json:"systemd name,omitempty"`
	Overlays    []string  `yaml:"overlays,omitempty" json:"overlays,omitempty"`

	mounts []NFSMount
}

// Export is a directory that the server exports.
type Export struct {
	Path          string `yaml:"path,omitempty" json:"path,omitempty"`
	ExportOptions string `yaml:"export options,omitempty" json:"export options,omitempty"`

	mount        bool // by old keys
	mountOptions string
}

// NFSMount is an export that every node mounts.
type NFSMount struct {
	Path    string
	Options string // none: NFS's own
}

// SSH is which keys Warewulf makes.
type SSH struct {
	KeyTypes []string `yaml:"key types,omitempty" json:"key types,omitempty"`
	Overlays []string `yaml:"overlays,omitempty" json:"overlays,omitempty"`
}

// Hostfile is how the server's own /etc/hosts is made.
type Hostfile struct {
	Overlays []string `yaml:"overlays,omitempty" json:"overlays,omitempty"`
}

// Mount is a file of the server that a shell in an image sees.
type Mount struct {
	Source   string `yaml:"source,omitempty" json:"source,omitempty"`
	Dest     string `yaml:"dest,omitempty" json:"dest,omitempty"`
	ReadOnly *bool  `yaml:"readonly,omitempty" json:"readonly,omitempty"`
	Options  string `yaml:"options,omitempty" json:"options,omitempty"`
	Copy     *bool  `yaml:"copy,omitempty" json:"copy,omitempty"`
}

// WWClient is the daemon on the nodes.
type WWClient struct {
	Port int `yaml:"port,omitempty" json:"port,omitempty"`
}

// Paths is where things lie on the server.
type Paths struct {
	Bindir         string `yaml:"bindir,omitempty" json:"bindir,omitempty"`
	Sysconfdir     string `yaml:"sysconfdir,omitempty" json:"sysconfdir,omitempty"`
	Localstatedir  string `yaml:"localstatedir,omitempty" json:"localstatedir,omitempty"`
	Cachedir       string `yaml:"cachedir,omitempty" json:"cachedir,omitempty"`
	IPXESource     string `yaml:"ipxesource,omitempty" json:"ipxesource,omitempty"`
	Srvdir         string `yaml:"srvdir,omitempty" json:"srvdir,omitempty"`
	Firewallddir   string `yaml:"firewallddir,omitempty" json:"firewallddir,omitempty"`
	Systemddir     string `yaml:"systemddir,omitempty" json:"systemddir,omitempty"`
	Datadir        string `yaml:"datadir,omitempty" json:"datadir,omitempty"`
	WWOverlaydir   string `yaml:"wwoverlaydir,omitempty" json:"wwoverlaydir,omitempty"`
	WWChrootdir    string `yaml:"wwchrootdir,omitempty" json:"wwchrootdir,omitempty"`
	WWProvisiondir string `yaml:"wwprovisiondir,omitempty" json:"wwprovisiondir,omitempty"`
	WWClientdir    string `yaml:"wwclientdir,omitempty" json:"wwclientdir,omitempty"`
	WWFilesdir     string `yaml:"wwfilesdir,omitempty" json:"wwfilesdir,omitempty"`
}

// oldConfigKeys are the old keys of the structs of warewulf.conf.
func oldConfigKeys(into any) []oldKey {
	switch into.(type) {
	case *Config:
		return oldConfig()
	case *serverAndStore:
		return oldServer
	case *NFS:
		return oldNFS
	case *Export:
		return oldExport
	case *DHCP, *TFTP, *SSH, *Hostfile:
		return oldService
	}
	return nil
}

// serverAndStore is Server with the place of a key that went to Paths.
type serverAndStore struct {
	Server    `yaml:",inline"`
	datastore string
}

// oldConfig is a function because a group within reads further groups.
func oldConfig() []oldKey {
	return []oldKey{
		obsolete("WW_INTERNAL", "it numbered versions of the file"),
		{"ipaddr", hasPrefix, func(d *decoder, into any, v oldValue) {
			if addr, p, ok := d.cidr(v.n, v.path); ok {
				c := into.(*Config)
				c.IPAddr = addr
				if p.Addr().Is4() {
					c.fill(p)
				}
			}
		}},
		{"ipaddr6", hasPrefix, readConfig6},
		{"ipv6net", isText, func(d *decoder, into any, v oldValue) {
			readConfig6(d, into, v)
			d.rewritten(v, "ipaddr6 and prefixlen6")
		}},
		{"container mounts", nil, func(d *decoder, into any, v oldValue) {
			c := into.(*Config)
			if len(c.ImageMounts) > 0 {
				d.dropped(v, "image mounts is set too")
				return
			}
			read(d, v, &c.ImageMounts)
			d.rewritten(v, "image mounts")
		}},
		{"warewulf", func(n *yaml.Node) bool { return !isNull(n) }, func(d *decoder, into any, v oldValue) {
			c := into.(*Config)
			var s serverAndStore
			read(d, v, &s)
			c.Warewulf = &s.Server
			if s.datastore == "" {
				return
			}
			if c.Paths == nil {
				c.Paths = new(Paths)
			}
			if c.Paths.Datadir == "" {
				c.Paths.Datadir = s.datastore
			}
		}},
	}
}

var (
	oldServer = []oldKey{
		obsolete("syslog", "the journal has the daemon's output"),
		{"datastore", nil, func(d *decoder, into any, v oldValue) {
			into.(*serverAndStore).datastore = d.text(v.n, v.path)
			d.rewritten(v, "paths.datadir")
		}},
	}

	oldNFS = []oldKey{{"exports", nil, func(d *decoder, into any, v oldValue) {
		nfs := into.(*NFS)
		var paths []*Export
		for _, path := range d.list(v.n, v.path) {
			paths = append(paths, &Export{Path: path})
			nfs.mounts = append(nfs.mounts, NFSMount{Path: path})
		}
		nfs.ExportPaths = append(paths, nfs.ExportPaths...)
		d.rewritten(v, "export paths")
	}}}

	oldExport = []oldKey{
		{"mount", nil, func(d *decoder, into any, v oldValue) {
			if on := d.boolPtr(v.n, v.path); on == nil || !*on {
				d.dropped(v, "nodes do not mount this")
				return
			}
			into.(*Export).mount = true
			d.rewritten(v, "an entry of resources.fstab in nodes.conf")
		}},
		{"mount options", nil, func(d *decoder, into any, v oldValue) {
			e, options := into.(*Export), d.text(v.n, v.path)
			if !e.mount {
				d.dropped(v, "nodes do not mount this")
				return
			}
			e.mountOptions = options
			d.rewritten(v, "an entry of resources.fstab in nodes.conf")
		}},
	}

	// oldService is no old key but two forms of one: a list may have a single name.
	oldService = []oldKey{{"overlays", isText, func(d *decoder, into any, v oldValue) {
		list := strings.Split(d.text(v.n, v.path), ",")
		switch s := into.(type) {
		case *DHCP:
			s.Overlays = list
		case *TFTP:
			s.Overlays = list
		case *SSH:
			s.Overlays = list
		case *Hostfile:
			s.Overlays = list
		}
	}}}
)

// fill takes netmask and network from the prefix of the server's address, where nothing else says them.
func (c *Config) fill(p netip.Prefix) {
	if c.Netmask == "" {
		c.Netmask = mask(p)
	}
	if c.Network == "" {
		c.Network = IP(p.Masked().Addr().String())
	}
}

// readConfig6 reads an IPv6 address with the length of its prefix.
func readConfig6(d *decoder, into any, v oldValue) {
	addr, p, ok := d.cidr(v.n, v.path)
	if !ok {
		return
	}
	c := into.(*Config)
	if c.IPAddr6 == "" {
		c.IPAddr6 = addr
	}
	if c.PrefixLen6 == "" {
		c.PrefixLen6 = strconv.Itoa(p.Bits())
	}
}

// mounted gathers what nodes mounted: plain exports, and those that said so.
func (c *Config) mounted() {
	if c.NFS == nil {
		return
	}
	c.Mounts = c.NFS.mounts
	for _, e := range c.NFS.ExportPaths {
		if e != nil && e.mount {
			c.Mounts = append(c.Mounts, NFSMount{e.Path, e.mountOptions})
		}
	}
}

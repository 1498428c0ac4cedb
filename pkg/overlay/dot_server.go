package overlay

// What templates see of the server that Warewulf's administrators configured. There is none here: it is what the site
// says in its file /etc/warewulf/warewulf.conf, so that templates which name it go on working.

func (d *Dot) server() *Server {
	d.run.reads(Input{ScopeWorld, "Server", ""})
	return d.run.view.server()
}

func (v *View) server() *Server {
	switch {
	case v.Server != nil:
		return v.Server
	case v.World.Server != nil:
		return v.World.Server
	}
	s := DefaultServer()
	return &s
}

func (d *Dot) Ipaddr() string            { return d.server().Ipaddr }
func (d *Dot) IpCIDR() string            { return d.server().IpCIDR() }
func (d *Dot) Netmask() string           { return d.server().Netmask }
func (d *Dot) Network() string           { return d.server().Network }
func (d *Dot) NetworkCIDR() string       { return d.server().NetworkCIDR() }
func (d *Dot) Ipaddr6() string           { return d.server().Ipaddr6 }
func (d *Dot) PrefixLen6() string        { return d.server().PrefixLen6 }
func (d *Dot) IpCIDR6() string           { return d.server().IpCIDR6() }
func (d *Dot) Network6() string          { return d.server().Network6() }
func (d *Dot) NetworkCIDR6() string      { return d.server().NetworkCIDR6() }
func (d *Dot) Ipv6() bool                { return d.server().Ipv6() }
func (d *Dot) Dhcp() DhcpService         { return d.server().Dhcp }
func (d *Dot) Nfs() NfsService           { return d.server().Nfs }
func (d *Dot) Ssh() SshService           { return d.server().Ssh }
func (d *Dot) Warewulf() WarewulfService { return d.server().Warewulf }
func (d *Dot) Tftp() TftpService         { return d.server().Tftp }
func (d *Dot) Paths() ServerPaths        { return d.server().Paths }

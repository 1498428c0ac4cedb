package warewulf

import (
	"bytes"
	"net/netip"

	"go.yaml.in/yaml/v4"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// ClientConfig is a warewulf.conf for the programs of Warewulf on a node: it is that of its server, which the overlay
// wwinit copies, but for where the server is. There it is spoken to without TLS.
func ClientConfig(text []byte, at netip.AddrPort) ([]byte, error) {
	c, err := ParseConfig(text)
	if err != nil {
		return nil, err
	}
	if c.Warewulf == nil {
		c.Warewulf = new(Server)
	}
	c.IPAddr, c.IPAddr6, c.PrefixLen6 = IP(at.Addr().String()), "", ""
	c.Warewulf.Port, c.Warewulf.TLS, c.Warewulf.TLSPort = int(at.Port()), nil, 0
	var b bytes.Buffer
	b.WriteString("# where this node's relay is, and else what the site says\n")
	e := yaml.NewEncoder(&b)
	if err := e.Encode(c); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "writing %s", ConfigFile)
	}
	return b.Bytes(), e.Close()
}

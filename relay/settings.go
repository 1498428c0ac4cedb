package relay

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Settings are what a relay is by itself, before it knows anything of the cluster. Join writes them into its data
// directory.
type Settings struct {
	Cluster    string            `json:"cluster"`
	Name       catalog.RelayName `json:"name"`
	Addresses  []netip.Addr      `json:"addresses"` // where nodes reach it
	Advertise  netip.Addr        `json:"advertise"` // where other relays reach it
	BootPort   uint16            `json:"boot_port"` // plain HTTP, at Addresses
	MeshPort   uint16            `json:"mesh_port"` // HTTPS, at Addresses and Advertise
	GossipPort uint16            `json:"gossip_port"`
	Endpoints  []string          `json:"endpoints"` // controllers, as of the last contact
}

// Where things are in the data directory.
const (
	settingsFile = "relay.json" // written last: a directory without it holds no relay
	identityFile = "identity.pem"
	feedDir      = "feed"   // the catalog and the secrets
	chunksDir    = "chunks" // the cache; it may be removed at any time
	leasesFile   = "leases"
	eventsFile   = "events.json" // boot events that some controller has not taken
)

// LoadSettings reads the settings of the relay in a data directory; fault.NotFound if there is none.
func LoadSettings(dir string) (Settings, error) {
	var s Settings
	path := filepath.Join(dir, settingsFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, fault.New(fault.NotFound, "there is no relay in %s", dir).WithFix("let it join: wulf relay token on a controller, then here: wulf relay join TOKEN ADDRESS")
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil || s.Name == "" || len(s.Endpoints) == 0 {
		return s, fault.Wrap(fault.Corrupt, err, "%s cannot be read", path).WithFix("put back a backup of it, or let the relay join again")
	}
	return s, nil
}

func (s Settings) save(dir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, settingsFile), append(b, '\n'), 0o600)
}

// withDefaults fills in what was not said: a name from the host's, its addresses, the usual ports.
func (s Settings) withDefaults() (Settings, error) {
	if s.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return s, err
		}
		host, _, _ = strings.Cut(host, ".")
		s.Name = catalog.RelayName(host)
	}
	if _, err := catalog.ParseName[catalog.RelayName]("relay", string(s.Name)); err != nil {
		return s, err
	}
	if len(s.Addresses) == 0 {
		var err error
		if s.Addresses, err = hostAddresses(); err != nil {
			return s, err
		}
	}
	for i, a := range s.Addresses {
		if s.Addresses[i] = a.Unmap(); !s.Addresses[i].Is4() || a.IsUnspecified() || a.IsLoopback() {
			return s, fault.New(fault.Invalid, "%s is not an IPv4 address at which nodes can reach this relay", a).WithFix("say one with --address")
		}
	}
	if len(s.Addresses) == 0 {
		return s, fault.New(fault.Invalid, "this machine has no IPv4 address at which nodes could reach it").WithFix("say one with --address")
	}
	if !s.Advertise.IsValid() {
		s.Advertise = s.Addresses[0]
	}
	for _, p := range []struct {
		port  *uint16
		usual uint16
	}{{&s.BootPort, api.PortBoot}, {&s.MeshPort, api.PortMesh}, {&s.GossipPort, api.PortGossip}} {
		if *p.port == 0 {
			*p.port = p.usual
		}
	}
	return s, nil
}

// hostAddresses are those of this machine at which others may reach it.
func hostAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var found []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap().Is4() && p.Addr().IsGlobalUnicast() {
			found = append(found, p.Addr().Unmap())
		}
	}
	return found, nil
}

// declared is how the relay appears in the catalog when it joins.
func (s Settings) declared() catalog.Relay {
	at := func(port uint16) string { return netip.AddrPortFrom(s.Advertise, port).String() }
	return catalog.Relay{
		Name: s.Name, Addresses: s.Addresses, BootPort: s.BootPort, MeshPort: s.MeshPort, Mesh: at(s.MeshPort), Gossip: at(s.GossipPort),
	}
}

package lease

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// fileVersion is the file's format. 1: the first (2026-11).
const fileVersion = 1

// record is what the file holds.
type record struct {
	Version  int               `json:"version"`
	Relay    catalog.RelayName `json:"relay"`
	Written  time.Time         `json:"written"`
	Alive    time.Time         `json:"alive"` // at this time the other relays held this one for alive
	Networks []networkRecord   `json:"networks"`
}

type networkRecord struct {
	Name        catalog.NetworkName `json:"name"`
	UsableFrom  time.Time           `json:"usable_from,omitzero"` // the relay gives no addresses before
	Present     []relayRecord       `json:"present,omitempty"`    // the other relays that may have leases in the pool
	Leases      []leaseRecord       `json:"leases,omitempty"`
	Quarantined []quarantineRecord  `json:"quarantined,omitempty"`
}

type relayRecord struct {
	Name catalog.RelayName `json:"name"`
	Seen time.Time         `json:"seen"` // last held for alive
}

type leaseRecord struct {
	Hardware catalog.HardwareAddr `json:"hardware"`
	Address  netip.Addr           `json:"address"`
	Until    time.Time            `json:"until"`
}

type quarantineRecord struct {
	Address netip.Addr `json:"address"`
	Until   time.Time  `json:"until"`
}

func (r *record) network(name catalog.NetworkName) (networkRecord, bool) {
	i := slices.IndexFunc(r.Networks, func(n networkRecord) bool { return n.Name == name })
	if i < 0 {
		return networkRecord{}, false
	}
	return r.Networks[i], true
}

// decode reads a file. A damaged one, or another relay's, is fault.Corrupt.
func decode(data []byte, relay catalog.RelayName) (record, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, fault.Wrap(fault.Corrupt, err, "lease file")
	}
	if r.Version != fileVersion || r.Relay != relay {
		return record{}, fault.New(fault.Corrupt, "lease file has version %d and is of relay %q", r.Version, r.Relay)
	}
	for i := range r.Networks {
		n := &r.Networks[i]
		n.Leases = n.Leases[:min(len(n.Leases), MaxPool)]
		for _, l := range n.Leases {
			if hw, err := catalog.ParseHardwareAddr(string(l.Hardware)); err != nil || hw != l.Hardware {
				return record{}, fault.New(fault.Corrupt, "lease file holds the hardware address %q", l.Hardware)
			}
		}
	}
	return r, nil
}

// snapshot copies what the file is to hold: it is encoded when nobody has to wait for it any more.
func snapshot(relay catalog.RelayName, now, alive time.Time, pools map[catalog.NetworkName]*pool) *record {
	r := &record{Version: fileVersion, Relay: relay, Written: now.UTC(), Alive: alive.UTC()}
	for name, p := range pools {
		n := networkRecord{Name: name, UsableFrom: p.usableFrom.UTC(), Leases: make([]leaseRecord, 0, len(p.bound))}
		for name, seen := range p.present {
			n.Present = append(n.Present, relayRecord{name, seen.UTC()})
		}
		for hw, b := range p.bound {
			n.Leases = append(n.Leases, leaseRecord{hw, addr(b.at), b.until.UTC()})
		}
		for at, until := range p.quarantined {
			n.Quarantined = append(n.Quarantined, quarantineRecord{addr(at), until.UTC()})
		}
		r.Networks = append(r.Networks, n)
	}
	return r
}

// encode writes a record, its parts in order.
func (r *record) encode() []byte {
	for _, n := range r.Networks {
		slices.SortFunc(n.Present, func(a, b relayRecord) int { return cmp.Compare(a.Name, b.Name) })
		slices.SortFunc(n.Leases, func(a, b leaseRecord) int { return a.Address.Compare(b.Address) })
		slices.SortFunc(n.Quarantined, func(a, b quarantineRecord) int { return a.Address.Compare(b.Address) })
	}
	slices.SortFunc(r.Networks, func(a, b networkRecord) int { return cmp.Compare(a.Name, b.Name) })
	data, err := json.Marshal(r)
	if err != nil { // strings, addresses and times always encode
		panic(err)
	}
	return append(data, '\n')
}

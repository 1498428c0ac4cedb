package dhcpd

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// facts is what a packet of an unknown machine says of it, and of where it is plugged in; nil for one that a node claims.
func (sit *situation) facts() *catalog.Facts {
	if sit.node != "" {
		return nil
	}
	f := catalog.Facts{Network: sit.net.Name, UUID: machineUUID(sit.q.options.get(optMachine))}
	if sit.q.giaddr.IsValid() {
		f.Agent = sit.q.giaddr.String()
	}
	f.Port, f.Switch = circuit(sit.q.agent.circuit), remoteID(sit.q.agent.remote)
	f = f.Clean()
	return &f
}

// machineUUID reads option 97 (RFC 4578 §2.3). Its first three fields come as SMBIOS has them, the lowest byte first.
func machineUUID(b []byte) string {
	if len(b) != 17 || b[0] != 0 {
		return ""
	}
	return catalog.StoredUUID([16]byte(b[1:]))
}

// circuit is the port that a relay agent names (RFC 3046 §3.1): its text; for the form of many switches, type 0 with four
// bytes, VLAN/MODULE/PORT; else the bytes as hexadecimal.
func circuit(b []byte) string {
	if len(b) == 6 && b[0] == 0 && b[1] == 4 {
		return fmt.Sprintf("%d/%d/%d", binary.BigEndian.Uint16(b[2:]), b[4], b[5])
	}
	return wording(b)
}

// remoteID is how a relay agent names itself (RFC 3046 §3.2): its text; for type 0 with six bytes its hardware address.
func remoteID(b []byte) string {
	if len(b) == 8 && b[0] == 0 && b[1] == 6 {
		return net.HardwareAddr(b[2:]).String()
	}
	return wording(b)
}

// wording is bytes as text, without the type 1 and the length that some switches put before it.
func wording(b []byte) string {
	if len(b) > 2 && b[0] == 1 && int(b[1]) == len(b)-2 {
		if text := catalog.FactOf(b[2:]); text == string(b[2:]) {
			return text
		}
	}
	return catalog.FactOf(b)
}

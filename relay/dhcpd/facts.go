package dhcpd

import (
	"encoding/binary"
	"encoding/hex"
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
	u := b[1:]
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(u), binary.LittleEndian.Uint16(u[4:]), binary.LittleEndian.Uint16(u[6:]), u[8:10], u[10:])
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

// wording is bytes as text, if they are text, with or without the type 1 and the length that some switches put before it;
// else as hexadecimal.
func wording(b []byte) string {
	if len(b) > 2 && b[0] == 1 && int(b[1]) == len(b)-2 && printable(b[2:]) {
		return string(b[2:])
	}
	if printable(b) {
		return string(b)
	}
	return hex.EncodeToString(b[:min(len(b), catalog.MaxFact/2)])
}

func printable(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

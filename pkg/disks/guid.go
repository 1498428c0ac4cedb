package disks

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// GUID is an identifier of GPT, as people write it: its bytes in the order of its digits.
type GUID [16]byte

// linux is the type of a partition whose declaration says none: a file system of Linux.
const linux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"

// ParseGUID reads 0FC63DAF-8483-4772-8E79-3D69D8477DE4, in either case.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	bad := fault.New(fault.Invalid, "%.60q is not a GUID", s).WithFix("write it as 0FC63DAF-8483-4772-8E79-3D69D8477DE4")
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return g, bad
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(g) {
		return g, bad
	}
	return GUID(b), nil
}

// String writes the GUID in capitals.
func (g GUID) String() string {
	return fmt.Sprintf("%X-%X-%X-%X-%X", g[0:4], g[4:6], g[6:8], g[8:10], g[10:16])
}

// newGUID makes a random one (RFC 9562, version 4).
func newGUID(random io.Reader) (GUID, error) {
	var g GUID
	if _, err := io.ReadFull(random, g[:]); err != nil {
		return g, fault.Wrap(fault.Internal, err, "making a GUID")
	}
	g[6], g[8] = g[6]&0x0f|0x40, g[8]&0x3f|0x80
	return g, nil
}

// readGUID reads a GUID from a table, where its first three groups are little-endian (UEFI 2.10, appendix A).
func readGUID(b []byte) GUID {
	g := GUID(b[:16])
	g.swap()
	return g
}

// put writes a GUID into a table.
func (g GUID) put(b []byte) {
	g.swap()
	copy(b, g[:])
}

func (g *GUID) swap() {
	binary.BigEndian.PutUint32(g[0:], binary.LittleEndian.Uint32(g[0:]))
	binary.BigEndian.PutUint16(g[4:], binary.LittleEndian.Uint16(g[4:]))
	binary.BigEndian.PutUint16(g[6:], binary.LittleEndian.Uint16(g[6:]))
}

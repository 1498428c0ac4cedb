package disks

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// SwapHeader is the first page of a swap space of size bytes (include/linux/swap.h, union swap_header).
func SwapHeader(size int64, page int, label, id string, random io.Reader) ([]byte, error) {
	last := size/int64(page) - 1
	if last < 9 {
		return nil, fault.New(fault.Invalid, "%d bytes are too few for swap space", size)
	}
	b := make([]byte, page)
	order := binary.NativeEndian
	order.PutUint32(b[1024:], 1)
	order.PutUint32(b[1028:], uint32(min(last, 0xffffffff)))
	if id == "" {
		g, err := newGUID(random)
		if err != nil {
			return nil, err
		}
		id = g.String()
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(raw) != 16 {
		return nil, fault.New(fault.Invalid, "%.60q is not a UUID", id)
	}
	copy(b[1036:1052], raw)
	copy(b[1052:1067], label)
	copy(b[page-10:], "SWAPSPACE2")
	return b, nil
}

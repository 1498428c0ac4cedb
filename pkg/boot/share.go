package boot

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"slices"
	"strconv"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Relays that serve the same machines share them. A hash of the names is fair on average only: of two relays for the 128
// nodes of a rack the busier one often has 80, and a storm lasts as long as the busier one takes. Multiples of the golden
// ratio are fair in every stretch: the fractional parts of n, n+1, n+2, … times it fall into the widest gaps between the ones
// before (Knuth, The Art of Computer Programming 3, §6.4), and so do those of every second or tenth number.

// golden is the fractional part of the golden ratio, in units of 2⁻⁶⁴.
const golden = 0x9e3779b97f4a7c15

// lot is where a machine stands between 0 and 1, in units of 2⁻⁶⁴. It decides in which order it prefers relays.
type lot uint64

// lotOf is the lot of a name: its last number times the golden ratio, from where the rest of the name begins. A name without
// a number stands anywhere.
func lotOf(name string) lot {
	digits := len(name)
	for digits > 0 && len(name)-digits < 9 && '0' <= name[digits-1] && name[digits-1] <= '9' {
		digits--
	}
	begin := sha256.Sum256([]byte(name[:digits]))
	n, _ := strconv.ParseUint(name[digits:], 10, 64) // nothing is 0
	return lot(binary.BigEndian.Uint64(begin[:]) + n*golden)
}

// order puts relays in the order in which the machine prefers them: each has an equal part of what is between 0 and 1, and
// the others an equal part of that. It is the same wherever it is asked for, and whatever the order of the relays was.
func order[T any](l lot, relays []T, name func(T) catalog.RelayName) []T {
	rest := slices.Clone(relays)
	slices.SortFunc(rest, func(a, b T) int { return cmp.Compare(name(a), name(b)) })
	out := make([]T, 0, len(rest))
	for x := uint64(l); len(rest) > 0; {
		at, part := bits.Mul64(x, uint64(len(rest)))
		out, rest = append(out, rest[at]), slices.Delete(rest, int(at), int(at)+1)
		x = part
	}
	return out
}

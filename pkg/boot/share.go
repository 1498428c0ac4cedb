package boot

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Relays that serve the same machines share them. A hash of the names is fair on average only: of two relays for the 128
// nodes of a rack the busier one often has 80, and a storm lasts as long as the busier one takes. So of every sharedBlock
// names that follow one another each relay is preferred by as many as any other, or one more; which ones is drawn for each
// block, so that a rack whose nodes have only even numbers is shared as well as by a hash, and not by one relay alone.
const sharedBlock = 16

// lot is what decides in which order a machine prefers relays. Names that differ in their last number only, and are of one
// block, have numbers from 0 to sharedBlock-1, each another one.
type lot struct {
	key    uint64 // of the block
	number int
}

// lotOf draws the lot of a name. A name without a number has a block of its own.
func lotOf(name string) lot {
	digits := len(name)
	for digits > 0 && len(name)-digits < 9 && '0' <= name[digits-1] && name[digits-1] <= '9' {
		digits--
	}
	n, err := strconv.Atoi(name[digits:])
	if err != nil {
		return lot{key: keyOf(name)}
	}
	l := lot{key: keyOf(name[:digits], strconv.Itoa(n/sharedBlock))}
	var order [sharedBlock]int // a permutation, by Fisher and Yates
	for i := range order {
		order[i] = i
	}
	for i, dice := sharedBlock-1, l.key; i > 0; i-- {
		dice = dice*6364136223846793005 + 1442695040888963407 // Knuth's MMIX generator
		j := int(dice >> 33 % uint64(i+1))
		order[i], order[j] = order[j], order[i]
	}
	l.number = order[n%sharedBlock]
	return l
}

// order puts relays in the order in which the machine prefers them. It is the same wherever it is asked for, and whatever
// the order of the relays was. When the first is away, the next ones are as many of one block's as well.
func (l lot) order(relays []catalog.RelayName) []catalog.RelayName {
	rest := slices.SortedFunc(slices.Values(relays), cmp.Compare[catalog.RelayName])
	out := make([]catalog.RelayName, 0, len(rest))
	for n := l.number; len(rest) > 0; {
		k := len(rest)
		at := (n%k + int(l.key%uint64(k))) % k
		out, rest = append(out, rest[at]), slices.Delete(rest, at, at+1)
		n /= k
	}
	return out
}

func keyOf(parts ...string) uint64 {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.AppendUvarint(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}

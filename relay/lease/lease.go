// Package lease decides which address of a network's pool a machine gets that no node claims.
//
// A node has its declared address for ever and needs no lease. For the others the pool is divided among the relays
// that serve the network, without a word between them: an address belongs to the relay that wins its rendezvous
// hash, among all relays that were held for alive at any moment of the last Lease. So nobody gives away what
// another may have given away before: a relay that falls silent keeps its share until its last lease has ended, and
// one that comes back waits that long itself, unless it was away for less. What a relay may not use it does not
// speak about at all. A relay that lives but gives no addresses, and says so, is as good as away.
//
// Within its own share a relay gives each machine one address, whatever client identifier its firmware, its boot
// loader and its system send, and the same one again as long as nobody else needs it. An address is on disk before
// it is granted, so a restart forgets no lease. An address that some node declares, and one that the network's own
// machinery has, is never given, whatever the pool says.
//
// Two relays can grant one address only where one cannot know of the other: they serve one network, both live, and have
// not heard of one another for longer than Lease+Grace (even then each uses up first what is its own whoever lives); or a
// network's only relay was removed and another joined in its place before its last leases ended.
//
// The steps (pool.go) are pure: they take the time and what is known of the mesh as values. Book runs them.
package lease

import (
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// How long things last. They are constants because all relays of a network must agree on them.
const (
	// Lease is for how long an address is granted. It is short: a machine in the pool waits for somebody to claim it,
	// and gets its real address soon afterwards.
	Lease = 5 * time.Minute
	// Grace is by how much relays may differ in when they notice that one came or went.
	Grace = 30 * time.Second
	// hold is for how long a relay counts as one that uses its share after it was last held for alive.
	hold = Lease + Grace
	// offerHold is for how long an address is kept for a machine that was offered it: PXE ROMs collect offers for
	// some seconds and ask up to four times, after 4, 8, 16 and 32 s (PXE 2.1, §2.2.4).
	offerHold = time.Minute
	// quarantine is for how long an address stays out of use that a machine found taken (DHCPDECLINE).
	quarantine = time.Hour
	// stampEvery is how often a relay writes down that it lives.
	stampEvery = 30 * time.Second
)

// MaxPool bounds the addresses of a pool that are used, the first ones; a larger pool is no error.
const MaxPool = 1 << 14

// peer is a relay that serves the network.
type peer struct {
	name   catalog.RelayName
	joined time.Time
	live   bool
}

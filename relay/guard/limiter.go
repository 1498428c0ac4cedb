package guard

import (
	"hash/maphash"
	"sync"
	"time"
)

// Limiter is a table of token buckets, one for each sender. It is bounded by never growing: two senders that fall to one
// place share its bucket, unless the first one has not asked for so long that it is full again.
type Limiter struct {
	rate, burst float64
	seed        maphash.Seed
	epoch       time.Time

	mu      sync.Mutex
	buckets []bucket
}

type bucket struct {
	owner uint64
	left  float64
	at    time.Duration // when it had so many left, since the limiter's epoch
}

// NewLimiter makes one with so many buckets, each with burst tokens at first, of which rate come back in a second.
func NewLimiter(rate, burst float64, buckets int) *Limiter {
	return &Limiter{rate: rate, burst: burst, seed: maphash.MakeSeed(), epoch: time.Now(), buckets: make([]bucket, buckets)}
}

// Take tells whether a sender may ask once more.
func (l *Limiter) Take(sender []byte, now time.Time) bool {
	owner, at := maphash.Bytes(l.seed, sender), now.Sub(l.epoch)
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.buckets[owner%uint64(len(l.buckets))]
	left := l.burst
	if b.owner != 0 {
		left = min(l.burst, b.left+l.rate*(at-b.at).Seconds())
	}
	if b.owner != owner && left == l.burst {
		b.owner = owner
	}
	b.left, b.at = left, at
	if left < 1 {
		return false
	}
	b.left--
	return true
}

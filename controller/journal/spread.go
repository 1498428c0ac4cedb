package journal

import (
	"math/bits"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
)

// A spread counts durations, so that percentiles cost the same however many there are and a duration can be taken out
// again. Its buckets are a hundredth of a second wide up to 0.64 s, and a sixty-fourth of what they hold beyond.
const (
	tick    = 10 * time.Millisecond
	fine    = 6          // bits of a duration that are told apart
	buckets = 18 << fine // up to a day, about
)

type spread struct {
	in    []uint32 // made when the first duration comes
	count int
	top   time.Duration // the longest
	stale bool          // the longest was taken out
}

func bucket(d time.Duration) int {
	n := uint64(max(d, 0) / tick)
	over := bits.Len64(n >> (fine + 1))
	if n>>fine == 0 {
		return int(n)
	}
	return min(over<<fine+int(n>>over), buckets-1)
}

// middle is a duration that stands for a bucket.
func middle(i int) time.Duration {
	if i < 2<<fine {
		return time.Duration(i) * tick
	}
	over := i>>fine - 1
	low := time.Duration(i-over<<fine) << over
	return (low + time.Duration(1)<<over/2) * tick
}

func (s *spread) add(d time.Duration) {
	if s.in == nil {
		s.in = make([]uint32, buckets)
	}
	s.in[bucket(d)]++
	s.count++
	if d >= s.top {
		s.top, s.stale = d, false
	}
}

func (s *spread) remove(d time.Duration) {
	s.in[bucket(d)]--
	s.count--
	s.stale = s.stale || d >= s.top
}

// longest is the longest duration. all looks at every one again, for when the longest was taken out.
func (s *spread) longest(all func(yield func(time.Duration))) time.Duration {
	if s.stale {
		s.top, s.stale = 0, false
		all(func(d time.Duration) { s.top = max(s.top, d) })
	}
	return s.top
}

// at is the duration that a share of all do not exceed.
func (s *spread) at(share float64) time.Duration {
	rank := int(share*float64(s.count) + 0.999999)
	for i, n := range s.in {
		if rank -= int(n); rank <= 0 && n > 0 {
			return min(middle(i), s.top)
		}
	}
	return 0
}

func (s *spread) view(all func(yield func(time.Duration))) api.Spread {
	if s.count == 0 {
		return api.Spread{}
	}
	top := s.longest(all)
	return api.Spread{Count: s.count, P50: s.at(0.50), P95: s.at(0.95), P99: s.at(0.99), Max: top}
}

package apiserver

import (
	"net"
	"net/http"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// How often joining may be tried: a token has 128 random bits, so this protects the controller and its log from
// work, not the token from guesses.
const (
	joinRate     = 2 // a second, of one address
	joinBurst    = 20
	joinRateAll  = 20
	joinBurstAll = 100
	maxLimited   = 4096 // addresses remembered; then all begin anew
)

// limiter bounds how often something is asked for, by each address and by all.
type limiter struct {
	all *rate.Limiter

	mu sync.Mutex
	by map[netip.Addr]*rate.Limiter
}

func newLimiter() limiter {
	return limiter{all: rate.NewLimiter(joinRateAll, joinBurstAll), by: map[netip.Addr]*rate.Limiter{}}
}

// allow says nil, or that the caller must wait.
func (l *limiter) allow(r *http.Request) error {
	if !l.of(r).Allow() || !l.all.Allow() {
		return fault.New(fault.Unavailable, "too many attempts to join; wait a few seconds")
	}
	return nil
}

func (l *limiter) of(r *http.Request) *rate.Limiter {
	var from netip.Addr
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		from, _ = netip.ParseAddr(host)
		from = from.Unmap().WithZone("")
		if from.Is6() { // whoever has one address of a /64 has all
			p, _ := from.Prefix(64)
			from = p.Addr()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.by[from]
	if one == nil {
		if len(l.by) >= maxLimited {
			clear(l.by)
		}
		one = rate.NewLimiter(joinRate, joinBurst)
		l.by[from] = one
	}
	return one
}

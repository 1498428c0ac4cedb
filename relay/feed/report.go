package feed

import (
	"context"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
)

// report tells every controller how this relay is, every few seconds, the less often the more relays there are, and at once
// when it serves a newer catalog, or Tell was called: somebody may wait for that. Where changes follow one another, it tells
// of one now and then, for all relays have the same to tell. Each controller keeps what it hears to itself, so each must be
// told; one that is away does not hold up the others.
func (f *Feed) report(ctx context.Context) {
	path := strings.Replace(api.PathRelayStatus, "{name}", url.PathEscape(string(f.cfg.Name)), 1)
	var told time.Time // when it was news that was told
	for {
		began, every := time.Now(), f.reportEvery()
		changed := f.Changed() // before the status: what comes after that is told again
		status := f.cfg.Status()
		var wg sync.WaitGroup
		for _, endpoint := range f.cfg.Endpoints() {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, every)
				defer cancel()
				if err := f.cfg.Client.PostAt(ctx, endpoint, path, status, nil); err != nil && ctx.Err() == nil {
					f.cfg.Log.Debug("a controller does not take this relay's status", "relay", f.cfg.Name, "controller", endpoint, "err", err)
				}
			})
		}
		wg.Wait()
		again := time.NewTimer(every - time.Since(began))
		select {
		case <-again.C:
			continue
		case <-changed:
		case <-f.tell:
		case <-ctx.Done():
			return
		}
		again.Stop()
		spread := f.spread()
		rest := time.Until(told.Add(max(reportRest, spread)))
		if !pause(ctx, max(0, rest)+rand.N(spread+1)) {
			return
		}
		told = time.Now()
	}
}

// Tell has controllers told soon how this relay is, because that has changed.
func (f *Feed) Tell() {
	select {
	case f.tell <- struct{}{}:
	default: // they are told already
	}
}

// reportEvery is as long on the average as api.ReportEvery says. It differs each time: relays that were started together
// must not go on reporting together.
func (f *Feed) reportEvery() time.Duration {
	if f.cfg.Relays == nil {
		return api.ReportEvery(1)
	}
	every := api.ReportEvery(f.cfg.Relays())
	return every/2 + rand.N(every)
}

// spread is within what time all relays report a change, so that many do not in one instant.
func (f *Feed) spread() time.Duration {
	if f.cfg.Relays == nil {
		return 0
	}
	return api.SpreadOf(f.cfg.Relays())
}

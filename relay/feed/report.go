package feed

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
)

// report tells every controller how this relay is, every few seconds and when it serves a newer catalog: somebody may
// wait for that. Each keeps what it hears to itself, so each must be told; one that is away does not hold up the others.
func (f *Feed) report(ctx context.Context) {
	path := strings.Replace(api.PathRelayStatus, "{name}", url.PathEscape(string(f.cfg.Name)), 1)
	for {
		began := time.Now()
		changed := f.Changed() // before the status: what comes after that is told again
		status := f.cfg.Status()
		var wg sync.WaitGroup
		for _, endpoint := range f.cfg.Endpoints() {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, reportEvery)
				defer cancel()
				if err := f.cfg.Client.PostAt(ctx, endpoint, path, status, nil); err != nil && ctx.Err() == nil {
					f.cfg.Log.Debug("a controller does not take this relay's status", "relay", f.cfg.Name, "controller", endpoint, "err", err)
				}
			})
		}
		wg.Wait()
		if !pause(ctx, reportRest) || !pauseUntil(ctx, changed, reportEvery-time.Since(began)) {
			return
		}
	}
}

package feed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// follower is the state of the one goroutine that talks to the controllers about the catalog.
type follower struct {
	*Feed
	next   int           // index of the endpoint to ask
	failed int           // endpoints in a row that gave no answer
	denied int           // endpoints in a row that refused this relay
	retry  time.Duration // before the next round
	alone  time.Time     // since when nobody answers; zero: somebody does
	whole  bool          // the next answer must be a whole catalog
	behind string        // the endpoint that was found to be behind this relay
}

// follow asks one controller after the other. It stays with none: a controller that is cut off from its peers, and
// knows of no news for that reason, would keep the news from this relay for ever.
func (f *Feed) follow(ctx context.Context) {
	w := &follower{Feed: f, retry: firstRetry, alone: time.Now(), next: rand.IntN(1 << 16)}
	wait := time.Duration(0) // the first answer comes at once, so that it is known how old the catalog is
	for ctx.Err() == nil {
		endpoints := f.cfg.Endpoints()
		if len(endpoints) == 0 {
			w.lost(fault.New(fault.Unavailable, "no controller is known"), len(endpoints))
			pause(ctx, lastRetry)
			continue
		}
		endpoint := endpoints[w.next%len(endpoints)]
		began := time.Now()
		news, err := w.ask(ctx, endpoint, wait)
		if ctx.Err() != nil {
			return
		}
		had := w.Catalog()
		if err == nil {
			err = w.take(endpoint, news)
		}
		if err == nil {
			w.answered(endpoint)
			if wait > 0 && had == w.Catalog() && time.Since(began) < firstRetry {
				pause(ctx, firstRetry) // a controller that does not wait must not be asked in a busy loop
			}
			wait = pollWait
			continue
		}
		w.next++
		if w.lost(err, len(endpoints)) { // every one was asked
			pause(ctx, w.retry/2+rand.N(w.retry))
			w.retry = min(2*w.retry, lastRetry)
		}
	}
}

func (w *follower) ask(ctx context.Context, endpoint string, wait time.Duration) (api.News, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+pollGrace)
	defer cancel()
	since := w.Catalog().Revision
	if w.whole {
		since, wait = 0, 0
	}
	return w.cfg.Client.CatalogAt(ctx, endpoint, since, wait)
}

// take makes the news the catalog that is served. An error says why it is not.
func (w *follower) take(endpoint string, n api.News) error {
	now := w.Catalog()
	switch {
	case n.Snapshot != nil:
		return w.takeWhole(endpoint, now, n.Snapshot)
	case n.Delta.Revision < now.Revision:
		return w.refuse(endpoint, now.Revision, n.Delta.Revision)
	}
	if len(n.Delta.Entries) == 0 && n.Delta.Revision == now.Revision && n.Delta.Hash == now.Hash {
		w.next++
		return nil
	}
	next, err := api.Follow(now, n.Delta)
	if err != nil {
		w.whole = true
		w.next-- // the same one is asked again, after a pause if it is the only one
		return err
	}
	w.keep(func() error { return w.disk.append(next, n.Delta) })
	w.publish(next)
	return nil
}

func (w *follower) takeWhole(endpoint string, now, c *catalog.Catalog) error {
	w.whole = false
	switch {
	case c.Cluster.Name != w.cfg.Cluster:
		return fault.New(fault.Denied, "controller %s is of cluster %q, not %q", endpoint, c.Cluster.Name, w.cfg.Cluster)
	case c.Revision < now.Revision:
		return w.refuse(endpoint, now.Revision, c.Revision)
	case c.Revision == now.Revision && c.Hash == now.Hash:
		w.next++
		return nil
	case c.Revision == now.Revision:
		w.say(topicDiffers, fmt.Sprintf("at revision %d controller %s had another catalog than this relay; its one was taken", c.Revision, endpoint))
		w.cfg.Log.Error("this relay's catalog was not the controllers'; theirs was taken", "relay", w.cfg.Name, "revision", c.Revision, "controller", endpoint)
	}
	w.keep(func() error { return w.disk.replace(c) })
	w.publish(c)
	return nil
}

// refuse says that something older than what is served already will not be.
func (w *follower) refuse(endpoint string, have, has catalog.Revision) error {
	w.behind = endpoint
	problem := fmt.Sprintf("controller %s is at revision %d, this relay serves revision %d already; if the cluster was restored from a backup, remove the relay's feed directory", endpoint, has, have)
	if w.say(topicBehind, problem) {
		w.cfg.Log.Warn(problem, "relay", w.cfg.Name)
	}
	return fault.New(fault.Unavailable, "%s", problem)
}

// keep writes to disk. A catalog that cannot be written is served all the same: nodes that boot matter more than
// what a restart would find.
func (w *follower) keep(write func() error) {
	err := write()
	problem := ""
	if err != nil {
		problem = "the catalog cannot be kept on disk: " + err.Error()
	}
	if w.say(topicKeep, problem) && err != nil {
		w.cfg.Log.Error("the catalog cannot be kept on disk; a restart would serve an older one", "relay", w.cfg.Name, "err", err)
	}
}

// answered notes that a controller has said what there is.
func (w *follower) answered(endpoint string) {
	c := w.Catalog()
	if !w.alone.IsZero() {
		w.cfg.Log.Info("following the catalog", "relay", w.cfg.Name, "controller", endpoint, "revision", c.Revision)
	}
	w.failed, w.denied, w.retry, w.alone = 0, 0, firstRetry, time.Time{}
	if w.removed.CompareAndSwap(true, false) {
		w.cfg.Log.Warn("the controllers admit this relay again", "relay", w.cfg.Name)
	}
	if w.disk.whole && c.Revision > 0 { // what is on disk cannot be added to, or a write failed
		w.keep(func() error { return w.disk.replace(c) })
	}
	w.say(topicContact, "")
	if w.behind == endpoint {
		w.behind = ""
		w.say(topicBehind, "")
	}
	if c.Revision >= w.disk.floor {
		w.say(topicDisk, "")
	}
	w.mu.Lock()
	w.contact = time.Now()
	w.mu.Unlock()
}

// lost notes that a controller gave no answer, and reports whether now all have been asked in vain.
func (w *follower) lost(err error, endpoints int) bool {
	w.failed++
	if refused(err) {
		w.denied++
	} else {
		w.denied = 0
	}
	if w.denied >= max(denials, endpoints) && w.removed.CompareAndSwap(false, true) {
		w.cfg.Log.Error("the controllers refuse this relay: it stops serving", "relay", w.cfg.Name, "err", err)
		w.dropSecrets()
		w.keep(w.disk.forget) // or a restart would serve again
	}
	if w.alone.IsZero() {
		w.alone = time.Now()
	}
	if time.Since(w.alone) >= lonely {
		if w.say(topicContact, fmt.Sprintf("no controller has answered since %s: %v", w.alone.UTC().Format(time.RFC3339), err)) {
			w.cfg.Log.Warn("no controller answers; nodes boot from the last catalog", "relay", w.cfg.Name, "revision", w.Catalog().Revision, "err", err)
		}
	}
	return w.failed%max(endpoints, 1) == 0
}

// refused tells whether a controller does not want to know this relay: in its answer, or in the TLS handshake
// already, which ends with an alert.
func refused(err error) bool {
	if fault.KindOf(err) == fault.Denied {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

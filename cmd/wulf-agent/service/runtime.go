package service

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/files"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/mesh"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/session"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/units"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// Times of looking after the runtime overlays.
const (
	// driftEvery is how often the files are looked at on the node itself. Where some other program writes the same file over
	// and over, that is how often the two disagree.
	driftEvery = 5 * time.Minute
	breath     = time.Second     // between two listings at least, however often they change
	firstAgain = 5 * time.Second // after a failure; doubles
	lastAgain  = 5 * time.Minute
)

// runtime keeps the files of the runtime overlays as they are declared.
type runtime struct {
	node   catalog.NodeName
	mesh   *mesh.Mesh
	tree   files.Tree
	tell   func(ctx context.Context, owed units.Owed, before func() error) []error // nil: there is no systemd
	record func(boot.Event)
	log    *slog.Logger
	now    *session.Runtime
	save   func() error // of what now points to

	revision catalog.Revision // that the files were last made to follow
	problems problems         // why not all is as it should be
	told     problems         // what of that was reported
	looked   time.Time        // at the files themselves
	again    time.Time        // when to try what has failed; zero if nothing has
	pause    time.Duration    // after the next failure
}

// problems are why files, and units, are not as they should be; "" if they are.
type problems struct{ files, units string }

func (p problems) String() string { return joined("; ", p.files, p.units) }

func (s *service) newRuntime(root, kept *os.Root) *runtime {
	r := &runtime{
		node: s.state.Node, mesh: s.mesh, record: s.reporter.Record, log: s.cfg.Log, now: &s.state.Runtime,
		save:     func() error { return session.Save(s.cfg.Root, s.state) },
		revision: s.state.Revision, looked: time.Now(), pause: firstAgain,
	}
	r.tree = files.Tree{Root: root, Kept: kept, Fetch: r.fetch, Save: func(record files.Record) error {
		r.now.Files = record
		return r.save()
	}}
	if s.cfg.Systemctl != "" || units.Running() {
		r.tell = units.Systemd{Command: s.cfg.Systemctl}.Pay
	}
	if r.now.Failed {
		r.again = time.Now()
	}
	if r.now.Owed == nil {
		r.now.Owed = units.Owed{}
	}
	return r
}

func (r *runtime) fetch(ctx context.Context, ref chunk.Ref, use func(io.Reader) error) error {
	return r.mesh.Content(ctx, r.node, overlay.KindRuntime, ref, use)
}

// beat is the heart-beat: the node is alive, and its files follow that revision, but for what the error says.
func (r *runtime) beat() boot.Event {
	return boot.Event{Stage: boot.StageAlive, Revision: r.revision, Error: r.problems.String()}
}

// keep looks after the files until a time. It learns of a change when that happens: the relay holds its answer back until
// then.
func (r *runtime) keep(ctx context.Context, until time.Time) {
	for ctx.Err() == nil && time.Now().Before(until) {
		began := time.Now()
		result, err := r.refresh(ctx, until)
		if ctx.Err() != nil {
			return
		}
		next := until
		switch {
		case err != nil:
			r.log.Warn("runtime overlays are not refreshed", "err", err)
			r.fail(err)
			next = r.again
		case result != nil:
			next = time.Now().Add(breath)
		case r.now.Failed:
			next = r.again
		}
		units := r.pay(ctx)
		if result != nil || units != "" || r.told != r.problems {
			r.report(result, units, time.Since(began))
		}
		if next.After(until) {
			next = until
		}
		sleep(ctx, time.Until(next))
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// fail notes why files are not as they should be, and puts the next try off, each time for longer. That no relay answers is
// no news: when it can be told it is over.
func (r *runtime) fail(why error) {
	if kind := fault.KindOf(why); kind != fault.Unavailable && kind != fault.Timeout {
		r.problems.files = why.Error()
	}
	r.again = time.Now().Add(r.pause)
	r.pause = min(2*r.pause, lastAgain)
}

func (r *runtime) succeed(revision catalog.Revision) {
	r.revision, r.problems.files, r.now.Failed = revision, "", false
	r.again, r.pause = time.Time{}, firstAgain
}

// refresh asks what is declared and makes the files that. It is nil if they were that already.
func (r *runtime) refresh(ctx context.Context, until time.Time) (*files.Result, error) {
	tag := r.now.Tag
	if r.now.Failed && r.again.Before(until) {
		until = r.again
	}
	if r.now.Failed && time.Until(until) <= 0 || r.drifted() {
		tag = "" // for a listing of all, whatever is here
	}
	wait := max(0, time.Until(until))
	ctx, cancel := context.WithTimeout(ctx, wait+requestTime)
	defer cancel()
	o, err := r.mesh.Overlays(ctx, r.node, overlay.KindRuntime, tag, wait)
	if err != nil {
		return nil, err
	}
	if o.Listing == nil {
		if !r.now.Failed {
			r.succeed(o.Revision)
		}
		return nil, nil
	}
	result, err := r.tree.Apply(ctx, o.Listing, r.now.Files)
	r.now.Files = result.Record
	r.now.Owed.Add(slices.Concat(r.now.Hooks, o.Listing.Hooks), slices.Concat(result.Changed, result.Removed))
	if err != nil {
		r.now.Tag, r.now.Failed = "", true
		return nil, errors.Join(err, r.save())
	}
	r.relabel(ctx, result)
	if !r.now.Asked.Equal(o.Listing.Asked) {
		r.now.Owed.Due()
	}
	r.now.Tag, r.now.Hooks, r.now.Asked = o.Tag, o.Listing.Hooks, o.Listing.Asked
	if r.revision = o.Revision; len(result.Failed) == 0 {
		r.succeed(o.Revision)
	} else {
		r.now.Failed = true
		r.fail(fault.New(fault.Internal, "%s", failures(result.Failed)))
	}
	return result, r.save()
}

// drifted tells, now and then, whether somebody has changed the files on the node.
func (r *runtime) drifted() bool {
	if time.Since(r.looked) < driftEvery {
		return false
	}
	r.looked = time.Now()
	all := r.tree.Drifted(r.now.Files)
	if len(all) > 0 {
		r.log.Info("files of runtime overlays were changed on this node", "files", some(all))
	}
	return len(all) > 0
}

// pay tells units what they are owed, and returns which were told.
func (r *runtime) pay(ctx context.Context) (told string) {
	if len(r.now.Owed) == 0 {
		r.problems.units = ""
		return ""
	}
	before := maps.Clone(r.now.Owed)
	if r.tell == nil {
		r.log.Info("there is no systemd here, so no unit is told that its files have changed", "units", some(slices.Sorted(maps.Keys(before))))
		clear(r.now.Owed)
		return ""
	}
	failed := r.tell(ctx, r.now.Owed, r.save)
	maps.DeleteFunc(before, func(unit string, _ units.Debt) bool { _, owed := r.now.Owed[unit]; return owed })
	switch {
	case len(failed) > 0:
		r.problems.units = failures(failed)
	case len(r.now.Owed) == 0:
		r.problems.units = ""
	}
	if len(before)+len(failed) > 0 {
		if err := r.save(); err != nil {
			r.log.Warn("it is not kept which units were told", "err", err)
		}
	}
	return some(slices.Sorted(maps.Keys(before)))
}

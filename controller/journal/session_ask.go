package journal

import (
	"context"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const (
	watchEvery = 500 * time.Millisecond // a summary at most
	watchAnew  = 10 * time.Second       // and at least
)

// brief is a summary that was made not long ago.
type brief struct {
	at      time.Time
	version uint64
	view    api.BootSession
}

// LastSession is what the newest session is called where a number is asked for.
const LastSession = "last"

// Sessions returns a summary of every session that is remembered, the newest first.
func (j *Journal) Sessions(now time.Time) []api.BootSession {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := make([]api.BootSession, 0, len(j.sessions.list))
	for _, s := range slices.Backward(j.sessions.list) {
		all = append(all, j.summary(s, now))
	}
	return all
}

// Session tells all about a session, by its number or as LastSession. With nodes it tells of these and no others, and the
// last session is the newest that has one of them. It fails with fault.NotFound.
func (j *Journal) Session(ref string, nodes []string, now time.Time) (api.BootSession, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s, err := j.session(ref, nodes, now)
	if err != nil {
		return api.BootSession{}, err
	}
	return j.told(s.of(nodes).view(now, true)), nil
}

// SessionNodes tells how each machine of a session fared, in the order of their names.
func (j *Journal) SessionNodes(ref string, now time.Time) ([]api.SessionNode, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s, err := j.session(ref, nil, now)
	if err != nil {
		return nil, err
	}
	all := make([]api.SessionNode, 0, len(s.machines))
	for _, r := range s.machines {
		all = append(all, r.view(now))
	}
	slices.SortFunc(all, func(a, b api.SessionNode) int {
		if (a.Node == "") != (b.Node == "") {
			return strings.Compare(string(b.Node), string(a.Node))
		}
		return strings.Compare(string(a.Node)+" "+string(a.Hardware), string(b.Node)+" "+string(b.Hardware))
	})
	return all, nil
}

// InSession returns the nodes of a session as the node set @boot: names them: by number or as LastSession, alone or with
// -up, -failed, -silent or -booting.
func (j *Journal) InSession(name string, now time.Time) ([]string, error) {
	ref, state, one := strings.Cut(name, "-")
	if states := []string{api.ResultUp, api.ResultFailed, api.ResultSilent, api.ResultBooting}; one && !slices.Contains(states, state) {
		return nil, fault.New(fault.NotFound, "machines of a boot session are not %q", state).WithFix("they are %s", strings.Join(states, ", "))
	}
	all, err := j.SessionNodes(ref, now)
	if err != nil {
		return nil, err
	}
	var nodes []string
	for _, n := range all {
		if n.Node != "" && (!one || n.State == state) {
			nodes = append(nodes, string(n.Node))
		}
	}
	return nodes, nil
}

// WatchSession yields summaries of a session, at most two a second, as it changes, and one now and then where nothing
// does; LastSession goes on to the next session when one begins. It ends with ctx. What it returns is to be iterated over once.
func (j *Journal) WatchSession(ctx context.Context, ref string, nodes []string) iter.Seq[api.BootSession] {
	return func(yield func(api.BootSession) bool) {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		var before api.BootSession
		var at time.Time
		for {
			now := time.Now()
			if v, ok := j.glance(ref, nodes, now); ok {
				same := v
				same.Took, same.ETA, same.Rate = before.Took, before.ETA, before.Rate
				if !reflect.DeepEqual(same, before) || now.Sub(at) >= watchAnew {
					if !yield(v) {
						return
					}
					before, at = v, now
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// glance is a summary of a session, if there is one.
func (j *Journal) glance(ref string, nodes []string, now time.Time) (api.BootSession, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s, err := j.session(ref, nodes, now)
	if err != nil {
		return api.BootSession{}, false
	}
	if nodes != nil {
		return j.told(s.of(nodes).view(now, false)), true
	}
	return j.summary(s, now), true
}

// summary is a session in short. However many ask, it is made twice a second.
func (j *Journal) summary(s *session, now time.Time) api.BootSession {
	if b := s.brief; b == nil || now.Sub(b.at).Abs() >= watchEvery/2 && (b.version != s.version || b.view.State == api.SessionRunning) {
		s.brief = &brief{now, s.version, j.told(s.view(now, false))}
	}
	return s.brief.view
}

// told adds who tells it.
func (j *Journal) told(v api.BootSession) api.BootSession {
	v.By, v.Since = j.cfg.Name, j.since
	return v
}

// session finds a session by its number, or the last one. A number also means the session that began some minutes before
// and went on: a late event may show that it began earlier than it was known to.
func (j *Journal) session(ref string, nodes []string, now time.Time) (*session, error) {
	list := j.sessions.list
	if ref == LastSession {
		for _, s := range slices.Backward(list) {
			if s.minutes[0]*60 > now.Add(early).Unix() { // a clock is wrong
				continue
			}
			if nodes == nil || slices.ContainsFunc(nodes, func(n string) bool { return s.machines[n] != nil }) {
				return s, nil
			}
		}
		return nil, fault.New(fault.NotFound, "no boot is known")
	}
	number, err := strconv.ParseUint(strings.TrimPrefix(ref, "#"), 10, 64)
	if err != nil {
		return nil, fault.New(fault.Invalid, "a boot session is a number or %s, not %.40q", LastSession, ref).WithFix("wulf boot list")
	}
	for _, s := range slices.Backward(list) {
		for _, m := range s.minutes {
			if numberOf(m) == number {
				return s, nil
			}
		}
	}
	return nil, fault.New(fault.NotFound, "no boot session has the number %d, or it is not remembered any more", number).WithFix("wulf boot list")
}

// of is the session, or what it would be of some nodes alone.
func (s *session) of(nodes []string) *session {
	if nodes == nil {
		return s
	}
	part := &session{minutes: s.minutes}
	var all []*result
	part.tally = newTally(func(yield func(*result) bool) { slices.Values(all)(yield) })
	for _, n := range nodes {
		if r := s.machines[n]; r != nil {
			all = append(all, r)
			open := r.open // its place in the tally of all
			part.tally.add(r)
			r.open = open
			for o := r.older; o != nil; o = o.older {
				part.older++
			}
		}
	}
	return part
}

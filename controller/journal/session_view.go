package journal

import (
	"cmp"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// Bounds of what is told of a session. A summary is as long for 100 000 machines as for ten.
const (
	fewErrors, manyErrors = 5, 64
	fewRelays, manyRelays = 5, 100
	manyImages            = 16
	maxFolded             = 160 // bytes of a node set in a summary
)

// wave is how many of the latest machines the speed of a session is measured by: over the last minute, and longer where fewer came.
const (
	shortWave = time.Minute
	longWave  = 5 * time.Minute
	leastWave = 8 // machines that must have come up before a speed is believed
)

// view tells of a session what was heard of it up to now. Without whole it is a summary.
func (s *session) view(now time.Time, whole bool) api.BootSession {
	v := s.tally.view(now, whole)
	v.Number = numberOf(s.minutes[0])
	v.Again = s.older
	end := time.Unix((s.minutes[len(s.minutes)-1]+1+quiet)*60, 0)
	v.State = api.SessionOver
	if v.Booting > 0 || now.Before(end) && now.After(v.Started) && now.Sub(v.Last) < quiet*time.Minute {
		v.State = api.SessionRunning
	}
	if v.Booting > 0 {
		v.Took = max(now.Sub(v.Started), 0)
	}
	return v
}

// view tells what a tally has counted.
func (t *tally) view(now time.Time, whole bool) api.BootSession {
	v := api.BootSession{Nodes: t.machines, Up: t.up, Failed: t.failed, Bytes: t.bytes, Events: t.events, Errors: []api.SessionError{}, Relays: []api.SessionRelay{}, Images: []api.SessionImage{}}
	at, silent := t.at, map[errorKey][]*result{}
	silentAt := map[catalog.RelayName]int{}
	for _, r := range t.open {
		_, stage := r.state()
		if !r.silent(stage, now) {
			continue
		}
		v.Silent++
		at[stage+1]--
		silentAt[r.relay]++
		key := errorKey{api.ResultSilent, stage, masked(r.error(stage))}
		silent[key] = append(silent[key], r)
	}
	v.Booting = len(t.open) - v.Silent
	v.ToUp = t.toUp.view(func(yield func(time.Duration)) {
		for r := range t.all {
			if state, _ := r.state(); state == api.ResultUp {
				yield(r.took())
			}
		}
	})
	for i, stage := range boot.Stages() {
		p := api.SessionPhase{Stage: stage, At: at[i+1], Passed: t.passed[i]}
		p.Spread = t.phases[i].view(func(yield func(time.Duration)) {
			for r := range t.all {
				r.phases(func(stage int, took time.Duration) {
					if stage == i {
						yield(took)
					}
				})
			}
		})
		v.Phases = append(v.Phases, p)
	}
	v.Started, v.Last = t.span()
	if t.machines == 1 {
		for r := range t.all {
			v.Single = r.machine()
		}
	}
	v.Took = v.Last.Sub(v.Started)
	v.Rate, v.ETA = t.pace(now, v.Started, v.Booting)
	t.viewErrors(&v, silent, whole)
	t.viewRelays(&v, silentAt, whole)
	t.viewImages(&v)
	return v
}

// pace is how many machines come up in a second, and when those that boot will all be if it stays so. It jumps less than
// the counts: it is measured over a minute, and over up to five where few came. While few are up, or none comes any more,
// nobody knows.
func (t *tally) pace(now, started time.Time, booting int) (rate float64, eta time.Duration) {
	bin := now.UnixNano() / int64(pace)
	since, count := now, 0
	for i := int64(1); time.Duration(i)*pace <= longWave; i++ { // the present bin is not full yet
		count += t.upAt[bin-i]
		since = time.Unix(0, (bin-i)*int64(pace))
		if d := now.Sub(since); d >= shortWave && count >= leastWave || since.Before(started) {
			break
		}
	}
	span := time.Unix(0, bin*int64(pace)).Sub(since)
	if count == 0 || span <= 0 {
		return 0, 0
	}
	rate = float64(count) / span.Seconds()
	if count < leastWave || booting == 0 {
		return rate, 0
	}
	return rate, time.Duration(float64(booting) / rate * float64(time.Second)).Round(time.Second)
}

func (t *tally) viewErrors(v *api.BootSession, silent map[errorKey][]*result, whole bool) {
	type group struct {
		errorKey
		count int
		nodes func() string
		any   *result
	}
	var all []group
	quietOnes := map[*result]bool{}
	for key, in := range silent {
		for _, r := range in {
			quietOnes[r] = true
		}
		all = append(all, group{key, len(in), func() string { return foldResults(slices.Values(in)) }, in[0]})
	}
	for key, g := range t.errors {
		n := len(g.results)
		if key.state == api.ResultBooting {
			for r := range g.results {
				if quietOnes[r] {
					n--
				}
			}
		}
		if n == 0 {
			continue
		}
		all = append(all, group{key, n, func() string { return g.fold(quietOnes) }, g.first()})
	}
	rank := func(g group) int {
		return slices.Index([]string{api.ResultFailed, api.ResultSilent, api.ResultBooting}, g.state)
	}
	slices.SortFunc(all, func(a, b group) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.count, a.count), cmp.Compare(a.stage, b.stage), cmp.Compare(a.text, b.text))
	})
	limit := fewErrors
	if whole {
		limit = manyErrors
	}
	for i, g := range all {
		if i >= limit {
			more(v).Errors = len(all) - limit
			break
		}
		e := api.SessionError{State: g.state, Text: g.text, Fix: g.any.fix, Count: g.count, Nodes: g.nodes()}
		if g.stage >= 0 {
			e.Stage = boot.Stages()[g.stage]
		}
		if !whole {
			e.Nodes = shortened(e.Nodes, maxFolded)
		}
		v.Errors = append(v.Errors, e)
	}
}

// first is the result whose message stands for a group, the same on every controller.
func (g *errorGroup) first() *result {
	if g.example == nil || !g.results[g.example] {
		g.example = nil
		for r := range g.results {
			if g.example == nil || r.machine() < g.example.machine() {
				g.example = r
			}
		}
	}
	return g.example
}

func (g *errorGroup) fold(but map[*result]bool) string {
	if len(but) > 0 || g.folded == "" {
		folded := foldResults(func(yield func(*result) bool) {
			for r := range g.results {
				if !but[r] && !yield(r) {
					return
				}
			}
		})
		if len(but) > 0 {
			return folded
		}
		g.folded = folded
	}
	return g.folded
}

// foldResults is the node set of results. Machines that no node claims stand behind it, by their addresses.
func foldResults(all func(yield func(*result) bool)) string {
	var nodes, strangers []string
	for r := range all {
		if r.node != "" {
			nodes = append(nodes, string(r.node))
		} else {
			strangers = append(strangers, r.key)
		}
	}
	folded := nodeset.Fold(nodes)
	slices.Sort(strangers)
	for _, s := range strangers {
		if folded != "" {
			folded += ","
		}
		folded += s
	}
	return folded
}

// shortened cuts a node set where one of its parts ends.
func shortened(s string, n int) string {
	if len(s) <= n {
		return s
	}
	depth, end := 0, 0
	for i := range n {
		switch s[i] {
		case '[':
			depth++
		case ']':
			depth--
		case ',':
			if depth == 0 {
				end = i
			}
		}
	}
	if end == 0 {
		return s[:n] + "…"
	}
	return s[:end] + ",…"
}

func (t *tally) viewRelays(v *api.BootSession, silent map[catalog.RelayName]int, whole bool) {
	limit := fewRelays
	var toUp map[catalog.RelayName]*spread
	if whole {
		limit, toUp = manyRelays, map[catalog.RelayName]*spread{}
		for r := range t.all {
			if state, _ := r.state(); state == api.ResultUp {
				if toUp[r.relay] == nil {
					toUp[r.relay] = &spread{}
				}
				toUp[r.relay].add(r.took())
			}
		}
	}
	for name, n := range t.relays {
		r := api.SessionRelay{Relay: name, Nodes: n.machines, Up: n.up, Failed: n.failed, Silent: silent[name]}
		if s := toUp[name]; s != nil {
			r.P95 = s.at(0.95)
		}
		v.Relays = append(v.Relays, r)
	}
	slices.SortFunc(v.Relays, func(a, b api.SessionRelay) int {
		return cmp.Or(cmp.Compare(b.Failed+b.Silent, a.Failed+a.Silent), cmp.Compare(b.P95, a.P95), cmp.Compare(b.Nodes-b.Up, a.Nodes-a.Up), cmp.Compare(a.Relay, b.Relay))
	})
	if len(v.Relays) > limit {
		more(v).Relays = len(v.Relays) - limit
		v.Relays = v.Relays[:limit:limit]
	}
}

func (t *tally) viewImages(v *api.BootSession) {
	for image, n := range t.images {
		if image != (imageRef{}) {
			v.Images = append(v.Images, api.SessionImage{Image: image.name, Manifest: image.manifest, Nodes: n})
		}
	}
	slices.SortFunc(v.Images, func(a, b api.SessionImage) int {
		return cmp.Or(cmp.Compare(b.Nodes, a.Nodes), cmp.Compare(a.Image, b.Image), cmp.Compare(a.Manifest.String(), b.Manifest.String()))
	})
	if len(v.Images) > manyImages {
		more(v).Images = len(v.Images) - manyImages
		v.Images = v.Images[:manyImages:manyImages]
	}
}

func more(v *api.BootSession) *api.SessionMore {
	if v.More == nil {
		v.More = &api.SessionMore{}
	}
	return v.More
}

// view is how a machine fared.
func (r *result) view(now time.Time) api.SessionNode {
	state, stage := r.state()
	if state == api.ResultBooting && r.silent(stage, now) {
		state = api.ResultSilent
	}
	n := api.SessionNode{Node: r.node, State: state, Started: r.time(r.started), Took: r.took(), Relay: r.relay, Error: r.error(stage)}
	if stage >= 0 {
		n.Stage = boot.Stages()[stage]
	}
	n.Hardware = r.hardware
	return n
}

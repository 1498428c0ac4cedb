package journal

import (
	"bytes"
	"hash/fnv"
	"math"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// How long a machine that boots may say nothing before its session counts it as silent. The longest stage is the image,
// which a node may have to wait for.
const (
	silentAfter = 3 * time.Minute
	silentImage = 20 * time.Minute
)

const stages = 9 // as many as boot.Stages

// never is a moment that was not.
const never = math.MinInt32

// result is what sessions keep of one boot. It is made of the boot's events and comes out the same in whatever order they
// come: each moment is the earliest or latest of its kind, and what else is kept belongs to such a moment.
type result struct {
	key      string // of the machine
	node     catalog.NodeName
	hardware catalog.HardwareAddr
	boot     uint64 // of its ID; 0 before it is known

	base    int64         // Unix milliseconds, to which the moments below are relative
	started int32         // of the first event
	last    int32         // of the last one
	reached [stages]int32 // of the first event of each stage
	failed  int32         // of the last failure
	erred   int32         // of the last error

	relay   catalog.RelayName // that gave out the script first; until then, that saw it first
	relayAt int32
	script  bool
	image   imageRef
	namedAt int32  // when the image's name was told first
	knownAt int32  // and its version
	text    string // of the last error
	fix     string
	bytes   int64
	events  int32

	cell  *cell
	place int     // among the results of its cell
	older *result // the boot of the same machine before, in the same session
	open  int     // its place among those that the session still waits for, and one; 0: it is not there
}

type imageRef struct {
	name     string
	manifest chunk.ID
}

func newResult(key string, e *boot.Event) *result {
	r := &result{key: key, base: e.Time.UnixMilli(), last: never, failed: never, erred: never, relayAt: math.MaxInt32, namedAt: math.MaxInt32, knownAt: math.MaxInt32}
	for i := range r.reached {
		r.reached[i] = never
	}
	return r
}

func (r *result) at(t time.Time) int32 {
	return int32(min(max(t.UnixMilli()-r.base, math.MinInt32+1), math.MaxInt32))
}

func (r *result) time(at int32) time.Time { return time.UnixMilli(r.base + int64(at)).UTC() }

// take adds an event that was not there yet.
func (r *result) take(e *boot.Event) {
	at := r.at(e.Time)
	if r.events++; at < r.started {
		r.started = at
	}
	r.last = max(r.last, at)
	r.bytes += max(e.Bytes, 0)
	if e.Node != "" {
		r.node = e.Node
	}
	setIf(&r.hardware, e.Hardware)
	if e.Boot != "" {
		r.boot = bootHash(e.Boot)
	}
	if i := e.Stage.Index(); i >= 0 && (r.reached[i] == never || at < r.reached[i]) {
		r.reached[i] = at
	}
	if e.Stage == boot.StageFailed {
		r.failed = max(r.failed, at)
	}
	if failed := e.Stage == boot.StageFailed; (failed || e.Error != "") && (at > r.erred || at == r.erred && e.Error > r.text) {
		r.erred, r.text, r.fix = at, e.Error, e.Fix
	}
	if script := e.Stage == boot.StageScript; script && !r.script || script == r.script && (at < r.relayAt || at == r.relayAt && e.Relay < r.relay) {
		r.relay, r.relayAt, r.script = e.Relay, at, script
	}
	if e.Image != "" && (at < r.namedAt || at == r.namedAt && e.Image < r.image.name) {
		r.image.name, r.namedAt = e.Image, at
	}
	if m := &e.Manifest; !m.IsZero() && (at < r.knownAt || at == r.knownAt && bytes.Compare(m[:], r.image.manifest[:]) < 0) {
		r.image.manifest, r.knownAt = *m, at
	}
}

// bootHash stands for the ID of a boot, the same on every controller; it is never 0.
func bootHash(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // a hash takes everything
	return max(h.Sum64(), 1)
}

// furthest is the index of the last stage in the order of boots that was reached, or -1.
func (r *result) furthest() int {
	for i := stages - 1; i >= 0; i-- {
		if r.reached[i] != never {
			return i
		}
	}
	return -1
}

// state is what has become of the boot, but for silence. A failure stands unless the boot got further after it, as an error does.
func (r *result) state() (state string, stage int) {
	stage = r.furthest()
	switch {
	case r.failed != never && (stage < 0 || r.failed >= r.reached[stage]):
		return api.ResultFailed, stage
	case stage == stages-1:
		return api.ResultUp, stage
	}
	return api.ResultBooting, stage
}

// error is what is wrong with the boot, "" if nothing is.
func (r *result) error(stage int) string {
	if r.erred == never || stage >= 0 && r.erred < r.reached[stage] {
		return ""
	}
	return r.text
}

// silent tells whether a boot that goes on should have been heard of by now.
func (r *result) silent(stage int, now time.Time) bool {
	limit := silentAfter
	if stage >= 0 && boot.Stages()[stage] == boot.StageStageOne {
		limit = silentImage
	}
	return now.Sub(r.time(r.last)) > limit
}

// took is how long a boot took to be up; of one that is not, until it was heard of last.
func (r *result) took() time.Duration {
	end := r.last
	if up := r.reached[stages-1]; up != never {
		end = up
	}
	return time.Duration(end-r.started) * time.Millisecond
}

// phases calls for each stage that was reached with the time since the one before that was.
func (r *result) phases(yield func(stage int, took time.Duration)) {
	before := r.started
	for i, at := range r.reached {
		if at == never {
			continue
		}
		yield(i, time.Duration(max(at-before, 0))*time.Millisecond)
		before = max(before, at)
	}
}

// newer tells whether a boot began after another of the same machine.
func (r *result) newer(o *result) bool {
	a, b := r.base+int64(r.started), o.base+int64(o.started)
	return a > b || a == b && r.boot > o.boot
}

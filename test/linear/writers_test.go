package linear

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// size of the crowd.
const (
	writers = 1000
	crowded = 100         // nodes whose comments they write and read; those that they add come on top
	act     = 2 * writers // operations around each loss of a leader
)

// A thousand clients set comments, add nodes and read, at three controllers, while the leader is lost three times with
// all that is under way, and comes back.
//
// Whether an acknowledged write is there, and how often, is not taken from reads alone: see audit.
func TestAThousandWritersLoseNothingAndRepeatNothingWhileLeadersDie(t *testing.T) {
	c := &crowd{}
	var history []porcupine.Operation
	mesh.Run(t, mesh.Size{Controllers: 3, Seed: 3}, func(t *testing.T, m *mesh.Mesh) {
		c.t = t
		history = c.work(m)
	})
	judge(t, history)
}

// crowd is all writers and what they did.
type crowd struct {
	t        *testing.T
	recorder *recorder

	turns chan struct{}         // one for each operation that some writer is to begin
	ended atomic.Int64          // operations, however they ended
	marks map[int]chan struct{} // closed when so many have ended

	mu     sync.Mutex
	writes []write
}

// write is what a writer knows of one of its writes.
type write struct {
	value     string // unlike any other: a comment, or the name of a node that was added
	call, end int64
	outcome   outcome
	revision  catalog.Revision // if it happened
}

type outcome string

const (
	happened outcome = "happened"
	refused  outcome = "refused" // it certainly did not happen
	unknown  outcome = "unknown"
)

// work lets the writers work while leaders die, looks at what is left, and returns what clients saw.
func (c *crowd) work(m *mesh.Mesh) []porcupine.Operation {
	var declared []catalog.Node
	for i := range crowded {
		declared = append(declared, catalog.Node{Name: name(i)})
	}
	m.Change(catalog.AddNodes{Nodes: declared})
	m.Settle()
	start := m.Leader().Catalog()

	losses := []func(...string){m.Kill, m.PowerCut, m.Kill}
	c.recorder = &recorder{began: time.Now()}
	c.turns = make(chan struct{}, act)
	c.marks = map[int]chan struct{}{}
	for i := range losses {
		c.marks[(i+1)*act-writers], c.marks[(i+1)*act-writers/2] = make(chan struct{}), make(chan struct{})
	}
	var working sync.WaitGroup
	for _, w := range c.writers(m) {
		working.Go(w.work)
	}
	for i, lose := range losses {
		c.allow(act)
		<-c.marks[(i+1)*act-writers] // so many are left of this act as there are writers: all of it is under way
		leader := m.Leader().Name
		lose(leader)
		<-c.marks[(i+1)*act-writers/2] // others came through without the one that is lost
		m.Restart(leader)
	}
	c.allow(writers)
	close(c.turns)
	working.Wait()
	m.Settle()
	c.t.Logf("%d operations of %d writers in %s", c.ended.Load(), writers, time.Since(c.recorder.began))
	c.audit(m, start)
	return c.recorder.all()
}

// writers makes the writers. Every second one knows one controller only and waits for it when it is gone; the others
// begin with theirs and go on to the next.
func (c *crowd) writers(m *mesh.Mesh) (all []*writer) {
	for id := range writers {
		i := id % len(m.Controllers)
		known := m.Controllers[i : i+1]
		if id/len(m.Controllers)%2 == 1 {
			known = slices.Concat(m.Controllers[i:], m.Controllers[:i])
		}
		all = append(all, &writer{crowd: c, id: id, ctx: c.t.Context(), dice: rand.New(rand.NewPCG(m.Seed(), uint64(id))), api: m.ClientOf(known...)})
	}
	return all
}

// allow lets so many more operations begin.
func (c *crowd) allow(operations int) {
	for range operations {
		c.turns <- struct{}{}
	}
}

// finished counts an operation that has ended and reaches marks.
func (c *crowd) finished() {
	if mark := c.marks[int(c.ended.Add(1))]; mark != nil {
		close(mark)
	}
}

// writer is one client.
type writer struct {
	crowd *crowd
	id    int
	ctx   context.Context
	dice  *rand.Rand
	api   *api.Client
	count int
}

func (w *writer) work() {
	for range w.crowd.turns {
		w.count++
		value, node := fmt.Sprintf("w%03d-%d", w.id, w.count), w.dice.IntN(crowded)
		switch w.dice.IntN(6) {
		case 0:
			w.add(value)
		case 1, 2:
			w.set(node, value)
		default:
			w.get(node)
		}
		w.crowd.finished()
	}
}

// add makes a node of a name that is its alone. Done twice, it would be a conflict with itself.
func (w *writer) add(name string) {
	w.write(name, catalog.AddNodes{Nodes: []catalog.Node{{Name: catalog.NodeName(name)}}})
}

// set writes a comment.
func (w *writer) set(node int, value string) {
	made := w.write(value, catalog.SetNodes{Nodes: []catalog.NodeName{name(node)}, Set: catalog.Settings{Comment: new(value)}})
	if made.outcome != refused {
		w.crowd.recorder.add(porcupine.Operation{
			ClientId: w.id, Input: input{node: node, write: true, value: value}, Call: made.call, Output: "", Return: made.end,
		}, made.outcome == unknown)
	}
}

// How long a writer waits for what came of a write. A connection to a controller without power gets no answer for 45
// seconds, and whoever asked then asks again; the impatient are left with a write that nobody answers for.
const (
	patient   = 4 * time.Minute
	impatient = 2 * time.Second
)

func (w *writer) write(value string, change catalog.Change) write {
	wait := patient
	if w.dice.IntN(8) == 0 {
		wait = impatient
	}
	ctx, cancel := context.WithTimeout(w.ctx, wait)
	defer cancel()
	c := w.crowd
	made := write{value: value, call: c.recorder.now(), outcome: happened}
	rev, err := w.api.Change(ctx, change, api.ChangeOptions{})
	made.end, made.revision = c.recorder.now(), rev
	switch kind := fault.KindOf(err); kind {
	case "":
	case fault.Unknown, fault.Timeout:
		made.outcome = unknown
	case fault.Unavailable, fault.NotLeader:
		made.outcome = refused
	default:
		made.outcome = refused
		c.t.Errorf("%s of %s, which nobody else writes: %v (%s)", catalog.KindOf(change), value, err, kind)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes = append(c.writes, made)
	return made
}

func (w *writer) get(node int) {
	ctx, cancel := context.WithTimeout(w.ctx, patient)
	defer cancel()
	var v api.NodeView
	call := w.crowd.recorder.now()
	if err := w.api.Get(ctx, strings.Replace(api.PathNode, "{name}", string(name(node)), 1), &v); err != nil {
		if k := fault.KindOf(err); k != fault.Unavailable && k != fault.Timeout && k != fault.NotLeader {
			w.crowd.t.Errorf("reading: %v (%s)", err, k)
		}
		return // whoever got no answer saw nothing
	}
	out := ""
	if v.Settings.Comment != nil {
		out = *v.Settings.Comment
	}
	w.crowd.recorder.add(porcupine.Operation{ClientId: w.id, Input: input{node: node}, Call: call, Output: out, Return: w.crowd.recorder.now()}, false)
}

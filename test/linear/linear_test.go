// Package linear checks that what clients see of a cluster could have been seen of a single machine that does one thing
// after the other: the history of many clients, who write and read nodes through different controllers while leaders
// die, is linearizable by porcupine's verdict.
//
// Every write has a value of its own, so that each read says which write it saw. A write whose outcome is unknown may
// have happened at any time from its call on, until it was seen. A verdict that could not be reached in time counts as a
// failure.
package linear

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// input is an operation on the register that is a node's comment.
type input struct {
	node  int
	write bool
	value string // written
}

// registers is what nodes are without concurrency: each keeps what was written last.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := map[int][]porcupine.Operation{}
		for _, op := range history {
			n := op.Input.(input).node
			parts[n] = append(parts[n], op)
		}
		var all [][]porcupine.Operation
		for _, p := range parts {
			all = append(all, p)
		}
		return all
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		if i := in.(input); i.write {
			return true, i.value
		}
		return out == state, state
	},
	DescribeOperation: func(in, out any) string {
		if i := in.(input); i.write {
			return fmt.Sprintf("set n%d %s", i.node, i.value)
		}
		return fmt.Sprintf("get %v", out)
	},
}

// size of a history.
const (
	clients = 6
	nodes   = 3
	during  = 40 * time.Second
	pause   = 150 * time.Millisecond
)

func TestReadsAndWritesAreLinearizableWhileLeadersDie(t *testing.T) {
	seeds := 2
	if testing.Short() {
		seeds = 1
	}
	if n, err := strconv.Atoi(os.Getenv("WULF_SEEDS")); err == nil {
		seeds = n
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprintf("seed=%d", seed+1), func(t *testing.T) {
			var history []porcupine.Operation
			mesh.Run(t, mesh.Size{Controllers: 3, Seed: seed + 1}, func(t *testing.T, m *mesh.Mesh) {
				history = record(t, m, rand.New(rand.NewPCG(seed, 1)))
			})
			judge(t, history) // outside of the bubble: it takes real time, and none of the mesh's
		})
	}
}

// record lets clients work while leaders die, and returns what they saw.
func record(t *testing.T, m *mesh.Mesh, dice *rand.Rand) []porcupine.Operation {
	var declared []catalog.Node
	for i := range nodes {
		declared = append(declared, catalog.Node{Name: name(i)})
	}
	m.Change(catalog.AddNodes{Nodes: declared})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := &recorder{began: time.Now()}
	var working sync.WaitGroup
	for id := range clients {
		c := &client{t: t, id: id, dice: rand.New(rand.NewPCG(dice.Uint64(), uint64(id))), recorder: r, api: m.ClientOf(m.Controllers[id%len(m.Controllers)])}
		working.Go(func() { c.work(ctx) })
	}
	for end := time.Now().Add(during); time.Now().Before(end); {
		time.Sleep(time.Duration(3+dice.IntN(6)) * time.Second)
		leader := m.Leader().Name
		switch dice.IntN(4) {
		case 0:
			m.Kill(leader)
		case 1:
			m.PowerCut(leader)
		case 2: // it is not told that it leads no more
			m.Net.Stall(leader)
		case 3:
			m.Net.Partition([]string{leader}, mesh.Names(m.Followers()...))
		}
		time.Sleep(time.Duration(4+dice.IntN(6)) * time.Second)
		m.Net.Heal()
		m.Restart(leader)
	}
	cancel()
	working.Wait()
	m.Settle()
	return r.all()
}

func name(i int) catalog.NodeName { return catalog.NodeName(fmt.Sprintf("x%d", i)) }

// recorder collects operations. Times are nanoseconds of the bubble's clock.
type recorder struct {
	began time.Time

	mu      sync.Mutex
	history []porcupine.Operation
	unknown []porcupine.Operation // writes without a known end
}

func (r *recorder) now() int64 { return int64(time.Since(r.began)) }

// add notes an operation, or a write of unknown outcome.
func (r *recorder) add(op porcupine.Operation, unknown bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if unknown {
		r.unknown = append(r.unknown, op)
	} else {
		r.history = append(r.history, op)
	}
}

// all is the history.
func (r *recorder) all() []porcupine.Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return complete(r.history, r.unknown)
}

// complete adds writes of unknown outcome to a history, without a change to whether it is linearizable, but to how long
// it takes to find that out: every write that lasts to the end doubles the ways in which all can have happened. One that
// was seen ended when the first who saw it was answered. One that nobody saw is left out: it can be thought to have
// happened after everything else, and no read would differ without it.
func complete(history, unknown []porcupine.Operation) []porcupine.Operation {
	type seen struct {
		node  int
		value string
	}
	first := map[seen]int64{}
	for _, op := range history {
		if in := op.Input.(input); !in.write {
			s := seen{in.node, op.Output.(string)}
			if at, before := first[s]; !before || op.Return < at {
				first[s] = op.Return
			}
		}
	}
	all := slices.Clone(history)
	for _, op := range unknown {
		in := op.Input.(input)
		if at, was := first[seen{in.node, in.value}]; was {
			op.Return = max(at, op.Call) // seen before it began: that is not linearizable, and has to stay so
			all = append(all, op)
		}
	}
	return all
}

// client works through one controller alone, so that it never hides what that one says.
type client struct {
	t        *testing.T
	id       int
	dice     *rand.Rand
	recorder *recorder
	api      *api.Client
	count    int
}

func (c *client) work(ctx context.Context) {
	for ctx.Err() == nil {
		node := c.dice.IntN(nodes)
		if c.dice.IntN(3) == 0 {
			c.write(ctx, node)
		} else {
			c.read(ctx, node)
		}
		select {
		case <-time.After(pause/2 + time.Duration(c.dice.Int64N(int64(pause)))):
		case <-ctx.Done():
		}
	}
}

// patience is how long an operation may take before its client gives it up.
const patience = 6 * time.Second

func (c *client) write(ctx context.Context, node int) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c.count++
	in := input{node: node, write: true, value: fmt.Sprintf("%d.%d", c.id, c.count)}
	call := c.recorder.now()
	_, err := c.api.Change(ctx, catalog.SetNodes{
		Nodes: []catalog.NodeName{name(node)}, Set: catalog.Settings{Comment: new(in.value)},
	}, api.ChangeOptions{})
	op := porcupine.Operation{ClientId: c.id, Input: in, Call: call, Output: "", Return: c.recorder.now()}
	switch kind := fault.KindOf(err); kind {
	case "":
		c.recorder.add(op, false)
	case fault.Unknown, fault.Timeout:
		c.recorder.add(op, true)
	case fault.Unavailable, fault.NotLeader: // it certainly did not happen
	default:
		c.t.Errorf("writing %s: %v (%s)", in.value, err, kind)
	}
}

func (c *client) read(ctx context.Context, node int) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var v api.NodeView
	call := c.recorder.now()
	err := c.api.Get(ctx, strings.Replace(api.PathNode, "{name}", string(name(node)), 1), &v)
	if err != nil {
		if k := fault.KindOf(err); k != fault.Unavailable && k != fault.Timeout && k != fault.NotLeader {
			c.t.Errorf("reading: %v (%s)", err, k)
		}
		return // whoever got no answer saw nothing
	}
	out := ""
	if v.Settings.Comment != nil {
		out = *v.Settings.Comment
	}
	c.recorder.add(porcupine.Operation{ClientId: c.id, Input: input{node: node}, Call: call, Output: out, Return: c.recorder.now()}, false)
}

// judge fails the test unless the history is linearizable, and leaves a picture of it then.
func judge(t *testing.T, history []porcupine.Operation) {
	t.Helper()
	verdict, info := porcupine.CheckOperationsVerbose(registers, history, time.Minute)
	writes := 0
	for _, op := range history {
		if op.Input.(input).write {
			writes++
		}
	}
	t.Logf("%d writes and %d reads: %s", writes, len(history)-writes, verdict)
	if writes < 20 || len(history)-writes < 50 {
		t.Errorf("the history is too short to prove anything")
	}
	if verdict == porcupine.Ok {
		return
	}
	picture := filepath.Join(os.TempDir(), "wulfmesh-linear-"+strings.ReplaceAll(t.Name(), "/", "-")+".html")
	if err := porcupine.VisualizePath(registers, info, picture); err == nil {
		t.Logf("a picture of it is in %s", picture)
	}
	t.Errorf("the history is not linearizable: %s", verdict)
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	for _, op := range history {
		t.Logf("%8.3f %8.3f client %d: %s", float64(op.Call)/1e9, float64(op.Return)/1e9, op.ClientId, registers.DescribeOperation(op.Input, op.Output))
	}
}

func set(client int, value string, call, end int64) porcupine.Operation {
	return porcupine.Operation{ClientId: client, Input: input{write: true, value: value}, Call: call, Return: end}
}

func get(client int, value string, call, end int64) porcupine.Operation {
	return porcupine.Operation{ClientId: client, Input: input{}, Output: value, Call: call, Return: end}
}

// The check itself must notice what it is for.
func TestTheCheckNoticesStaleReadsAndLostWrites(t *testing.T) {
	for what, c := range map[string]struct {
		history []porcupine.Operation
		legal   bool
	}{
		"one after the other":   {[]porcupine.Operation{get(0, "", 1, 2), set(0, "a", 3, 4), get(1, "a", 5, 6)}, true},
		"at the same time":      {[]porcupine.Operation{set(0, "a", 1, 9), get(1, "", 2, 3), get(2, "a", 4, 5), get(1, "a", 6, 7)}, true},
		"of unknown outcome":    {[]porcupine.Operation{set(0, "a", 1, 99), set(1, "b", 2, 3), get(1, "b", 4, 5), get(1, "a", 6, 7)}, true},
		"a stale read":          {[]porcupine.Operation{set(0, "a", 1, 2), get(1, "", 3, 4)}, false},
		"a lost write":          {[]porcupine.Operation{set(0, "a", 1, 2), set(0, "b", 3, 4), get(1, "a", 5, 6)}, false},
		"back and forth":        {[]porcupine.Operation{set(0, "a", 1, 99), get(1, "a", 2, 3), get(2, "", 4, 5)}, false},
		"a value from nowhere":  {[]porcupine.Operation{get(0, "z", 1, 2)}, false},
		"before it was written": {[]porcupine.Operation{get(0, "a", 1, 2), set(1, "a", 3, 4)}, false},
	} {
		verdict, _ := porcupine.CheckOperationsVerbose(registers, c.history, time.Minute)
		if ok := verdict == porcupine.Ok; ok != c.legal {
			t.Errorf("%s: %s", what, verdict)
		}
	}
}

func TestWritesOfUnknownOutcomeMayHaveHappenedOrNot(t *testing.T) {
	for what, c := range map[string]struct {
		history []porcupine.Operation
		legal   bool
	}{
		"never seen":            {[]porcupine.Operation{get(1, "", 10, 11)}, true},
		"seen at once":          {[]porcupine.Operation{get(1, "u", 6, 7), get(1, "u", 8, 9)}, true},
		"seen late":             {[]porcupine.Operation{get(1, "", 8, 9), get(1, "u", 50, 51)}, true},
		"overwritten":           {[]porcupine.Operation{set(1, "b", 6, 9), get(1, "u", 7, 8), get(1, "b", 10, 11)}, true},
		"seen and gone":         {[]porcupine.Operation{get(1, "u", 6, 7), get(1, "", 8, 9)}, false},
		"seen, gone, and back":  {[]porcupine.Operation{get(1, "u", 6, 7), set(2, "b", 8, 9), get(1, "b", 10, 11), get(1, "u", 12, 13)}, false},
		"before it was written": {[]porcupine.Operation{get(1, "u", 1, 2)}, false},
	} {
		all := complete(c.history, []porcupine.Operation{set(0, "u", 5, 0)})
		verdict, _ := porcupine.CheckOperationsVerbose(registers, all, time.Minute)
		if ok := verdict == porcupine.Ok; ok != c.legal {
			t.Errorf("%s: %s", what, verdict)
		}
	}
}

//go:build e2e

package storm

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/storm"
)

// A relay dies, and its racks are switched on at that moment: the rack's other relay, or another one, boots all of it. Then
// the cable of another is pulled, which nobody is told by the network: packets to it are lost. Machines that are switched on
// ten seconds later must notice nothing of it.
func TestTheNodesOfADeadRelayAreTakenOver(t *testing.T) {
	large(t)
	y := newYard(t, 5*time.Minute)
	y.addRelays(6)
	y.image("storm", 1<<20)
	set := y.addNodes(120)
	all(y.relays, (*place).start)
	y.awaitRelays(len(y.relays))
	y.allUp(y.end("before", y.begin("before", set, "--spread", "5s", "--fail-after", "2m")))

	y.relays[0].process.Kill()
	killed := time.Now()
	p := y.begin("after", set, "--spread", "5s", "--fail-after", "2m")
	r := y.end("after", p)
	y.allUp(r)
	t.Logf("machines switched on within 5 s of the death of %s: half were up after %s, the last after %s", y.relays[0].Name(), r.ToUp.P50, r.ToUp.Max)
	if r.ToUp.Max > 10*time.Second {
		t.Errorf("a machine took %s, want less than 10 s", r.ToUp.Max)
	}
	y.await("the death to be known", func() (string, bool) {
		var list api.List[api.RelayView]
		y.read(&list, "relay", "list")
		for _, v := range list.Items {
			if string(v.Name) == y.relays[0].Name() {
				return fmt.Sprintf("alive %v", v.Alive), !v.Alive
			}
		}
		return "not listed", false
	})
	t.Logf("controllers counted it as dead %s after it", time.Since(killed).Round(100*time.Millisecond))
	if len(y.relays) < 4 {
		return
	}
	y.ip(y.router, "link", "set", "p-"+y.relays[3].Name(), "down")
	select {
	case <-time.After(10 * time.Second):
	case <-y.ctx.Done():
	}
	r = y.end("cable", y.begin("cable", set, "--spread", "5s", "--fail-after", "2m"))
	y.allUp(r)
	t.Logf("machines switched on 10 to 15 s after the cable of %s was pulled: half were up after %s, the last after %s", y.relays[3].Name(), r.ToUp.P50, r.ToUp.Max)
	if r.ToUp.Max > 10*time.Second {
		t.Errorf("a machine took %s, want less than 10 s", r.ToUp.Max)
	}
}

// A change that all nodes follow, again and again: from the answer to the client, which comes after the commit, until the
// last relay has told a controller that it serves the revision. It is made once in a profile, as people do it, and once in
// every node, which is the most work that one change can be: each relay does it for itself, and here they share processors.
func TestAChangeOfAllNodesReachesAllRelays(t *testing.T) {
	large(t)
	nodes, relays := 2*size("WULF_STORM_NODES", 500), size("WULF_STORM_RELAYS", 6)
	y := newYard(t, 10*time.Minute)
	y.addRelays(relays)
	y.image("storm", 1<<20)
	y.must("profile", "add", "fleet")
	y.addNodes(nodes, "-P", "fleet")
	all(y.relays, (*place).start)
	y.awaitRelays(relays)
	for _, c := range []struct {
		name   string
		change func(run int) []string
		target time.Duration
	}{
		{"in their profile", func(run int) []string {
			return []string{"profile", "set", "fleet", "--kernelargs", fmt.Sprintf("run=%d", run)}
		}, time.Second},
		{"in every node", func(run int) []string { return []string{"node", "set", "@*", "--comment", fmt.Sprintf("run %d", run)} }, 0},
	} {
		took, cpu := y.changes(relays, c.change)
		t.Logf("a change of %d nodes %s, from the client's answer until the last of %d relays told that it serves it: half within %s, the slowest %s; "+
			"of processor time each relay used %s for each change", nodes, c.name, relays, took[len(took)/2], took[len(took)-1], cpu)
		if c.target > 0 && took[len(took)/2] > c.target {
			t.Errorf("half of the changes took %s or longer, want less than %s", took[len(took)/2], c.target)
		}
	}
}

// changes makes a change a few times. It returns how long each took, sorted, and what a relay used for one of them.
func (y *yard) changes(relays int, change func(run int) []string) (took []time.Duration, cpu time.Duration) {
	y.t.Helper()
	const runs = 7
	leader := y.leader()
	client := api.NewClient(api.ClientConfig{Endpoints: func() []string { return []string{api.UnixScheme + leader.socket()} }})
	defer client.Close()
	for run := range runs {
		// Not in step with the relays' reports, which come every few seconds.
		select {
		case <-time.After(1500*time.Millisecond + time.Duration(run)*330*time.Millisecond):
		case <-y.ctx.Done():
		}
		for _, r := range y.relays {
			cpu -= r.cpu()
		}
		if out, err := y.at(leader, append(change(run), "--yes")...); err != nil {
			y.t.Fatalf("%v %s", err, out)
		}
		committed := time.Now()
		var status api.ControllerStatus
		if err := client.Get(y.ctx, api.PathStatus, &status); err != nil {
			y.t.Fatal(err)
		}
		last, err := y.reached(client, status.Revision, relays)
		if err != nil {
			y.t.Fatal(err)
		}
		took = append(took, last.Sub(committed).Round(time.Millisecond))
		for _, r := range y.relays {
			cpu += r.cpu()
		}
	}
	slices.Sort(took)
	return took, (cpu / time.Duration(runs*relays)).Round(time.Millisecond)
}

// reached waits until so many relays serve a revision, and returns when that was seen.
func (y *yard) reached(client *api.Client, revision catalog.Revision, relays int) (time.Time, error) {
	ctx, cancel := context.WithTimeout(y.ctx, time.Minute)
	defer cancel()
	for {
		var list api.List[api.RelayView]
		if err := client.Get(ctx, api.PathRelays, &list); err != nil {
			return time.Time{}, err
		}
		n := 0
		for _, v := range list.Items {
			if v.Status != nil && v.Status.Revision >= revision {
				n++
			}
		}
		if n >= relays {
			return time.Now(), nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("%d of %d relays serve revision %d after a minute", n, relays, revision)
		}
	}
}

// Ten times as many machines at once as one relay has slots for transfers: all are served, about as many a second as when
// they come one after the other, and the relay's memory is what it is.
func TestOneRelayWithTenTimesWhatItAdmits(t *testing.T) {
	large(t)
	y := newYard(t, 15*time.Minute)
	y.addRelays(1)
	y.image("storm", size("WULF_STORM_IMAGE_KB", 2048)<<10)
	many := size("WULF_STORM_OVERLOAD", 1000)
	y.addNodes(many)
	y.relays[0].start()
	y.awaitRelays(1)
	// The pace at which a relay is not contended: as many as it admits at once, a tenth, in a time that it needs.
	few := many / 10
	calm := y.end("calm", y.begin("calm", fmt.Sprintf("s[00001-%05d]", few), "--spread", "1s", "--fail-after", "5m"))
	y.allUp(calm)
	calmMemory := y.relays[0].memory()
	crowd := y.end("crowd", y.begin("crowd", fmt.Sprintf("s[00001-%05d]", many), "--spread", "1s", "--fail-after", "10m"))
	y.allUp(crowd)
	one, ten := goodput(calm), goodput(crowd)
	t.Logf("%d machines: %.0f MB/s; %d machines: %.0f MB/s, %.0f %% of it; the relay had %d MB, then %d MB, and used %s of processor time",
		few, one/1e6, many, ten/1e6, 100*ten/one, calmMemory>>20, y.relays[0].memory()>>20, y.relays[0].cpu())
	if ten < 0.9*one {
		t.Errorf("goodput is %.0f %% of the uncontended rate, want 90", 100*ten/one)
	}
	y.keep("overload.json", map[string]any{"few": few, "many": many, "calm": one, "crowd": ten, "memory": y.relays[0].memory()})
}

// goodput is how many bytes a second machines received, from a tenth of them to nine tenths.
func goodput(r *storm.Report) float64 {
	var from, to storm.Sample
	for _, s := range r.Timeline {
		if s.Bytes < r.Bytes/10 {
			from = s
		}
		if to.At == 0 && s.Bytes >= r.Bytes*9/10 {
			to = s
		}
	}
	if to.At <= from.At {
		return 0
	}
	return float64(to.Bytes-from.Bytes) / (to.At - from.At).Seconds()
}

// keep writes figures beside the reports.
func (y *yard) keep(name string, figures any) {
	y.t.Helper()
	b, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		y.t.Fatal(err)
	}
	y.check(func() error { return os.WriteFile(filepath.Join(y.out, name), append(b, '\n'), 0o644) })
}

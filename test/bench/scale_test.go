//go:build bench

package bench

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The size of the cluster. WULF_BENCH_RACKS makes it smaller, to try the bench itself.
const (
	usualRacks = 500
	rackNodes  = 80
	profiles   = 60
	changes    = 20 // in which the nodes are added
)

// What is promised, on two cores, of 40 000 nodes.
const (
	targetRack     = 100 * time.Millisecond
	targetTable    = time.Second
	targetNodeset  = 300 * time.Millisecond
	targetSet      = time.Second
	targetRelays   = 2 * time.Second
	targetPeak     = 600 // MB
	targetSnapshot = 2 * time.Second
	targetRestart  = 5 * time.Second
)

func TestScale(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	racks := usualRacks
	if n, err := strconv.Atoi(os.Getenv("WULF_BENCH_RACKS")); err == nil {
		racks = n
	}
	r := newReport(t, fmt.Sprintf("%d nodes, %d racks, %d profiles on 3 controllers with 2 relays", racks*rackNodes, racks, profiles))
	defer r.print()
	c := newCluster(t, ctx, 3, 2)
	s := &scale{cluster: c, report: r, racks: racks}
	s.load()
	s.lists()
	s.sets()
	s.peaks("peak memory of controller %s", targetPeak)
	s.snapshots()
	s.restarts()
	s.peaks("peak memory of controller %s, started again with all nodes", 0)
	s.failover()
}

// scale is the bench's story. Commands go to the controllers in turn, so that some are answered by the leader and some
// by others; each figure is the time from the start of a process to its end. Every answer is looked at: a fast wrong one
// is no figure.
type scale struct {
	*cluster
	report *report
	racks  int
}

func (s *scale) nodes() int { return s.racks * rackNodes }

// at is the controller whose turn it is.
func (s *scale) at(run int) *program { return s.controllers[run%len(s.controllers)] }

// load declares profiles and nodes.
func (s *scale) load() {
	s.t.Helper()
	for i := range profiles {
		s.must("profile", "add", profile(i), "--kernelargs", fmt.Sprintf("part%02d=on", i), "--yes")
	}
	per := (s.racks + changes - 1) / changes
	s.report.duration(fmt.Sprintf("node add of %d nodes", per*rackNodes), 0, (s.racks+per-1)/per, func(run int) (time.Duration, error) {
		first, last := run*per+1, min((run+1)*per, s.racks)
		_, took, err := s.at(run).run("node", "add", fmt.Sprintf("r[%03d-%03d]n[01-%02d]", first, last, rackNodes),
			"-P", strings.Join([]string{profile(run), profile(run + changes), profile(run + 2*changes)}, ","), "--rack", "r{n1:03d}",
			"--ipaddr", "10.{n1/256}.{n1%256}.{n2}", "--hwaddr", "52:54:00:{n1/256:02x}:{n1%256:02x}:{n2:02x}", "--yes", "--timeout", "5m")
		return took, err
	})
	if s.t.Failed() {
		s.t.FailNow() // there is nothing to measure
	}
	s.awaitRelays()
}

func profile(i int) string { return fmt.Sprintf("p%02d", i%profiles+1) }

// list measures a command that prints something, which must be right.
func (s *scale) list(name string, target time.Duration, right func(out string) bool, argv ...string) {
	s.t.Helper()
	s.report.duration(name, target, runs, func(run int) (time.Duration, error) {
		out, took, err := s.at(run).run(argv...)
		if err == nil && !right(out) {
			err = fmt.Errorf("wulf %s printed something else: %.200s", strings.Join(argv, " "), out)
		}
		return took, err
	})
}

// rows is right when there are so many lines, one of them a heading.
func rows(n int) func(string) bool {
	return func(out string) bool { return strings.Count(out, "\n") == n+1 }
}

func (s *scale) lists() {
	s.t.Helper()
	all := fmt.Sprintf("r[%03d-%03d]n[01-%02d]", 1, s.racks, rackNodes)
	s.list("node list of a rack", targetRack, rows(rackNodes), "node", "list", "@rack:r007")
	s.list("node list of all, a table", targetTable, rows(s.nodes()), "node", "list")
	s.list("node list of all, a folded node set", targetNodeset, func(out string) bool { return strings.TrimSpace(out) == all }, "node", "list", "-o", "nodeset")
	s.list("node list of all, JSON", 0, func(out string) bool { return strings.Count(out, "\"r") >= s.nodes() }, "node", "list", "-o", "json")
	s.list("node show of one", 0, func(out string) bool { return strings.Contains(out, "10.0.7.40") }, "node", "show", "r007n40")
}

func (s *scale) sets() {
	s.t.Helper()
	set := func(name string, target time.Duration, nodeset string, more ...string) {
		s.report.duration(name, target, runs, func(run int) (time.Duration, error) {
			comment := fmt.Sprintf("%s, run %d", name, run)
			_, took, err := s.at(run).run(append([]string{"node", "set", nodeset, "--comment", comment, "--yes", "--timeout", "2m"}, more...)...)
			if err != nil {
				return 0, err
			}
			out, _, err := s.at(run+1).run("node", "show", "r007n40")
			if err == nil && !strings.Contains(out, comment) {
				err = fmt.Errorf("the next controller does not show the comment %q", comment)
			}
			return took, err
		})
	}
	set("node set of a rack", 0, "@rack:r007")
	set("node set of all", targetSet, "@*")
	s.awaitRelays()
	set("node set of all, until every relay has it", targetRelays, "@*", "--wait")
	s.awaitRelays()
}

// peaks reads the most memory that each controller has used since it was started.
func (s *scale) peaks(name string, target float64) {
	for _, p := range s.controllers {
		f := figure{Name: fmt.Sprintf(name, p.name), Unit: "MB", Target: target}
		mb, err := p.peak()
		if err != nil {
			f.Failed = err.Error()
			s.t.Errorf("%s: %v", f.Name, err)
		} else {
			f.Values = []float64{mb}
		}
		s.report.add(f)
	}
}

// serving waits until a controller answers a linearizable read, and returns how long it took since.
func (s *scale) serving(p *program, since time.Time) (time.Duration, error) {
	for {
		out, _, err := p.run("node", "show", "r007n40", "--timeout", "1s")
		switch {
		case err == nil && strings.Contains(out, "10.0.7.40"):
			return time.Since(since), nil
		case time.Since(since) > time.Minute:
			return 0, fmt.Errorf("%s does not serve after a minute: %w", p.name, err)
		}
	}
}

// restarts kills controllers that do not lead, and starts them again.
func (s *scale) restarts() {
	s.t.Helper()
	s.report.duration("restart of a controller until it serves", targetRestart, runs, func(run int) (time.Duration, error) {
		leader := s.leader()
		p := s.at(run)
		if p == leader {
			p = s.at(run + 1)
		}
		p.kill()
		start := time.Now()
		p.start()
		return s.serving(p, start)
	})
}

// failover kills the leader and waits for another controller to make a change; nobody has promised anything about it.
func (s *scale) failover() {
	s.t.Helper()
	s.report.duration("leader killed until the next change", 0, 3, func(run int) (time.Duration, error) {
		leader := s.leader()
		other := s.controllers[0]
		if other == leader {
			other = s.controllers[1]
		}
		leader.kill()
		start := time.Now()
		_, _, err := other.run("node", "set", "r007n40", "--comment", fmt.Sprintf("after leader %d", run), "--yes")
		for err != nil && time.Since(start) < time.Minute { // the command gives up when nobody leads
			_, _, err = other.run("node", "set", "r007n40", "--comment", fmt.Sprintf("after leader %d", run), "--yes")
		}
		took := time.Since(start)
		leader.start()
		if err == nil {
			_, err = s.serving(leader, time.Now())
		}
		return took, err
	})
}

//go:build bench

package bench

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// What is promised of ten times as many nodes as a relay admits.
const (
	overloadSlots  = 8
	overloadTimes  = 10
	overloadPart   = 64 << 20 // of the image, that each node fetches
	targetGoodput  = 90       // per cent of the rate of as many nodes as it admits
	targetFairness = 0.9
	targetResident = 256 // MB of memory, at most
)

// TestOverload has ten times as many nodes ask a relay for an image as it has slots, all at once: each from an address of its
// own, chunk by chunk, four at a time, as agents do, and coming back when it is told to. Every one of them is served; how
// fast, and how evenly, is beside what as many nodes get as the relay admits.
func TestOverload(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	r := newReport(t, fmt.Sprintf("%d nodes at a relay with %d slots", overloadSlots*overloadTimes, overloadSlots))
	defer r.print()
	c := newCluster(t, ctx, 1, 1)
	m, _ := httpImported(t, c)
	c.must("relay", "set", "r1", "--slots", strconv.Itoa(overloadSlots), "--wait")
	o := &overload{t: t, addr: plainAddress(t, c.relays[0]), m: m}

	goodput := figure{Name: "rate of all, of that of as many as are admitted", Unit: "%", Target: targetGoodput}
	fairness := figure{Name: "Jain's index of the rates of turns at the same time", Target: targetFairness}
	for range httpRounds {
		calm := o.run(overloadSlots, 4) // in turn as many as there are slots, again and again: nobody waits
		storm := o.run(overloadSlots*overloadTimes, 1)
		t.Logf("calm %s; storm %s", calm, storm)
		goodput.Values = append(goodput.Values, 100*storm.rate/calm.rate)
		fairness.Values = append(fairness.Values, storm.fairness)
	}
	r.add(goodput)
	r.add(fairness)
	peak, err := c.relays[0].peak()
	if err != nil {
		t.Fatal(err)
	}
	r.add(figure{Name: "memory of the relay, at most", Unit: "MB", Target: targetResident, Values: []float64{peak}})
	var v api.RelayView
	if err := json.Unmarshal([]byte(c.must("relay", "show", "r1", "-o", "json")), &v); err != nil {
		t.Fatal(err)
	}
	t.Logf("the relay's status: %+v", v.Status.Load)
}

type overload struct {
	t    *testing.T
	addr string
	m    *chunk.Manifest
}

// crowding is what came of one storm.
type crowding struct {
	rate     float64 // bytes a second, of all
	fairness float64
	answers  int // that said to come back
	longest  time.Duration
}

func (o crowding) String() string {
	return fmt.Sprintf("%.2f GB/s, fairness %.3f, %d answers to come back, the longest turn came after %.1f s", o.rate/1e9, o.fairness, o.answers, o.longest.Seconds())
}

// run has nodes fetch their part, each several times.
func (o *overload) run(nodes, times int) crowding {
	o.t.Helper()
	began := time.Now()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var out crowding
	var turns []turn
	var bytes int64
	for i := range nodes {
		wg.Go(func() {
			for range times {
				got, answers, waited, took, err := o.node(i)
				mu.Lock()
				if err != nil {
					o.t.Errorf("node %d: %v", i, err)
				}
				turns = append(turns, turn{time.Since(began) - took, float64(got) / took.Seconds()})
				bytes += got
				out.answers += answers
				out.longest = max(out.longest, waited)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if o.t.Failed() {
		o.t.FailNow()
	}
	out.rate, out.fairness = float64(bytes)/time.Since(began).Seconds(), evenly(turns)
	return out
}

// turn is when a node's turn began, and how fast it was.
type turn struct {
	began time.Duration
	speed float64
}

// evenly is Jain's index of the speeds of turns that began one after the other, as many as there are slots: so that it says
// how evenly machines are treated, and not how evenly this one runs. It is the mean of all such groups.
func evenly(turns []turn) float64 {
	slices.SortFunc(turns, func(a, b turn) int { return cmp.Compare(a.began, b.began) })
	var total float64
	groups := 0
	for group := range slices.Chunk(turns, overloadSlots) {
		var sum, squares float64
		for _, t := range group {
			sum, squares = sum+t.speed, squares+t.speed*t.speed
		}
		total += sum * sum / (float64(len(group)) * squares)
		groups++
	}
	return total / float64(groups)
}

// node is one node: its first chunk, for which it waits, and the others, four at a time.
func (o *overload) node(i int) (got int64, answers int, waited, took time.Duration, err error) {
	began := time.Now()
	var all []chunk.Ref
	for k := i * 7; got < overloadPart; k++ {
		s := o.m.Segments[k%len(o.m.Segments)]
		all = append(all, s.Ref)
		got += s.Size
	}
	first, answers, err := o.fetch(i, all[:1])
	defer hangUp(first) // agents keep their connections until they have all
	waited = time.Since(began)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	more := make([]int, 4)
	rest := all[1:]
	for w := range errs {
		wg.Go(func() {
			var mine []chunk.Ref
			for k := w; k < len(rest); k += len(errs) {
				mine = append(mine, rest[k])
			}
			var conn net.Conn
			conn, more[w], errs[w] = o.fetch(i, mine)
			hangUp(conn)
		})
	}
	wg.Wait()
	for w, e := range errs {
		answers += more[w]
		if err == nil {
			err = e
		}
	}
	return got, answers, waited, time.Since(began) - waited, err
}

// fetch fetches chunks on one connection, comes back whenever it is told to, and connects anew when it breaks, as agents do.
func (o *overload) fetch(i int, refs []chunk.Ref) (conn net.Conn, answers int, err error) {
	var in *bufio.Reader
	broken := 0
	for k := 0; k < len(refs); {
		if conn == nil {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 3, byte(1+i))}}
			if conn, err = d.Dial("tcp", o.addr); err != nil {
				return nil, answers, err
			}
			in = bufio.NewReaderSize(conn, 256<<10)
		}
		wait, err := ask(conn, in, refs[k])
		switch {
		case err != nil && broken < 5:
			conn.Close()
			conn = nil
			broken++
		case err != nil:
			return conn, answers, err
		case wait > 0:
			answers++
			time.Sleep(wait + rand.N(250*time.Millisecond))
		default:
			k++
		}
	}
	return conn, answers, nil
}

func hangUp(conn net.Conn) {
	if conn != nil {
		conn.Close()
	}
}

// ask asks for a chunk, and returns how long to wait if it is to come back.
func ask(conn net.Conn, in *bufio.Reader, ref chunk.Ref) (time.Duration, error) {
	if _, err := fmt.Fprintf(conn, "GET /chunk/%s HTTP/1.1\r\nHost: x\r\nWulf-Verifies: yes\r\n\r\n", ref.ID); err != nil {
		return 0, err
	}
	a, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, a.Body)
	a.Body.Close()
	switch {
	case err != nil:
		return 0, err
	case a.StatusCode == http.StatusServiceUnavailable:
		seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
		return time.Duration(max(seconds, 1)) * time.Second, err
	case a.StatusCode != http.StatusOK || n != ref.Size:
		return 0, fmt.Errorf("%s, %d bytes", a.Status, n)
	}
	return 0, nil
}

package apiserver

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/journal"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// getBootSessions lists the boot sessions that this controller remembers. They are its own, and need no leader.
func (s *Server) getBootSessions(w http.ResponseWriter, _ *http.Request, _ caller) error {
	now, c := time.Now(), s.cfg.State.Current()
	return writeList(w, c.Revision, func(yield func(api.BootSession) bool) {
		for _, v := range s.cfg.Journal.Sessions(now) {
			s.dress(&v, c, now)
			if !yield(v) {
				return
			}
		}
	})
}

// getBootSession tells all of a session, or with ?watch=true sends summaries of it.
func (s *Server) getBootSession(w http.ResponseWriter, r *http.Request, by caller) error {
	c := s.cfg.State.Current()
	q := r.URL.Query()
	nodes, err := s.nodesOf(c, q.Get("nodes"))
	if err != nil {
		return err
	}
	ref, now := r.PathValue("name"), time.Now()
	v, err := s.cfg.Journal.Session(ref, nodes, now)
	switch watch := q.Get("watch"); watch {
	case "true", "1":
		if err != nil && (ref != journal.LastSession || fault.KindOf(err) != fault.NotFound) { // the next boot will be the last one
			return err
		}
		return s.watchSession(w, r, ref, nodes)
	case "", "false", "0":
	default:
		return fault.New(fault.Invalid, "watch is true or false, not %.40q", watch)
	}
	if err != nil {
		return err
	}
	s.dress(&v, c, now)
	if by.role != controller {
		v.Egress = append(v.Egress, s.egressElsewhere(r.Context(), c, v.Number)...)
		slices.SortFunc(v.Egress, func(a, b api.ControllerEgress) int { return cmp.Compare(a.Controller, b.Controller) })
	}
	api.WriteJSON(w, v)
	return nil
}

// nodesOf are the nodes of a set, as this controller knows it; nil where no set is given.
func (s *Server) nodesOf(c *catalog.Catalog, set string) ([]string, error) {
	if set == "" {
		return nil, nil
	}
	x := s.selection(c)
	chosen, err := x.choose(&api.NodeQuery{Nodes: set})
	if err != nil {
		return nil, err
	}
	names := make([]string, len(chosen))
	for i, n := range chosen {
		names[i] = string(n.Name)
	}
	return names, nil
}

// listedSessions is how many sessions are among the groups of nodes; older ones are groups, too, for who knows their numbers.
const listedSessions = 8

// sessionsOf tells in which of the last boot sessions a node was, and what became of it there.
func (x *selection) sessionsOf(n *catalog.Node) []string {
	if x.booted == nil {
		x.booted = map[catalog.NodeName][]string{}
		sessions := x.journal.Sessions(x.now)
		for i, s := range sessions[:min(len(sessions), listedSessions)] {
			number := strconv.FormatUint(s.Number, 10)
			nodes, err := x.journal.SessionNodes(number, x.now)
			if err != nil {
				continue // it has just been forgotten
			}
			for _, b := range nodes {
				x.booted[b.Node] = append(x.booted[b.Node], number, number+"-"+b.State)
				if i == 0 {
					x.booted[b.Node] = append(x.booted[b.Node], journal.LastSession, journal.LastSession+"-"+b.State)
				}
			}
		}
	}
	return x.booted[n.Name]
}

// session is the nodes of a boot session, those that are still declared.
func (x *selection) session(name string) ([]string, error) {
	nodes, err := x.journal.InSession(name, x.now)
	return slices.DeleteFunc(nodes, func(n string) bool {
		_, ok := x.c.Node(catalog.NodeName(n))
		return !ok
	}), err
}

// watchSession sends summaries of a session, one a line, until the client leaves or the server stops.
func (s *Server) watchSession(w http.ResponseWriter, r *http.Request, ref string, nodes []string) error {
	ctx, stop := s.untilDrained(r.Context())
	defer stop()
	out := newLines(w)
	if err := out.begin(); err != nil {
		return err
	}
	for v := range s.cfg.Journal.WatchSession(ctx, ref, nodes) {
		s.dress(&v, s.cfg.State.Current(), time.Now())
		if err := out.write(v); err != nil {
			return err
		}
	}
	return nil
}

// getSessionNodes tells how each machine of a session fared.
func (s *Server) getSessionNodes(w http.ResponseWriter, r *http.Request, _ caller) error {
	all, err := s.cfg.Journal.SessionNodes(r.PathValue("name"), time.Now())
	if err != nil {
		return err
	}
	return writeList(w, s.cfg.State.Current().Revision, slices.Values(all))
}

// dress adds what is no matter of boots: how relays are, while the session goes on, and what this controller has sent.
func (s *Server) dress(v *api.BootSession, c *catalog.Catalog, now time.Time) {
	v.Relays = slices.Clone(v.Relays) // others are told of the same session
	if v.State == api.SessionRunning {
		s.dressRelays(v, c, now)
	}
	v.Egress = []api.ControllerEgress{{Controller: s.cfg.Name, Bytes: s.egress.between(v.Started, v.Last)}}
}

// dressRelays adds the queues at the relays, and those of them that do not report any more.
func (s *Server) dressRelays(v *api.BootSession, c *catalog.Catalog, now time.Time) {
	alive := api.RelayAlive(c.RelayCount())
	told := map[catalog.RelayName]int{}
	for i, r := range v.Relays {
		told[r.Relay] = i
	}
	for rel := range c.Relays() {
		seen, ok := s.relays.get(rel.Name)
		dead, queue := ok && now.Sub(seen.at) > alive, 0
		if ok && !dead {
			queue = seen.status.Load.Queued
		}
		v.Queued += queue
		if !dead && queue == 0 {
			continue
		}
		i, ok := told[rel.Name]
		if !ok {
			i = len(v.Relays)
			v.Relays = append(v.Relays, api.SessionRelay{Relay: rel.Name})
		}
		v.Relays[i].Dead, v.Relays[i].Queue = dead, queue
	}
	v.Queued = min(v.Queued, v.Booting)
	slices.SortStableFunc(v.Relays, func(a, b api.SessionRelay) int {
		dead := func(r api.SessionRelay) int {
			if r.Dead {
				return 1
			}
			return 0
		}
		return cmp.Or(dead(b)-dead(a), cmp.Compare(b.Failed+b.Silent, a.Failed+a.Silent), cmp.Compare(b.Queue, a.Queue))
	})
	v.Relays = v.Relays[:min(len(v.Relays), maxSessionRelays)]
}

// maxSessionRelays bounds the relays that are told of, with those that are dead or have a queue.
const maxSessionRelays = 100

// egressElsewhere is what the other controllers sent during a session, as far as they answer.
func (s *Server) egressElsewhere(ctx context.Context, c *catalog.Catalog, number uint64) []api.ControllerEgress {
	ctx, cancel := context.WithTimeout(ctx, peerPatience)
	defer cancel()
	var mu sync.Mutex
	var all []api.ControllerEgress
	var g sync.WaitGroup
	for peer := range c.Controllers() {
		if peer.Name == s.cfg.Name {
			continue
		}
		g.Go(func() {
			path := strings.Replace(api.PathBootSession, "{name}", url.PathEscape(strconv.FormatUint(number, 10)), 1)
			a, err := s.cfg.Peers.DoAt(ctx, peer.API, api.Request{Method: http.MethodGet, Path: path})
			if err != nil {
				return
			}
			defer a.Body.Close()
			var v api.BootSession
			if json.NewDecoder(io.LimitReader(a.Body, api.MaxRequest)).Decode(&v) == nil {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, v.Egress...)
			}
		})
	}
	g.Wait()
	return all
}

// peerPatience is how long the others have to say what they sent.
const peerPatience = 2 * time.Second

// egress remembers how much had been sent at the end of each minute in which something was.
type egress struct {
	mu    sync.Mutex
	marks []egressMark
}

type egressMark struct {
	minute, bytes int64 // bytes since the start, by the end of the minute
}

// maxMarks bounds an egress: a week in which something is sent in every minute.
const maxMarks = 7 * 24 * 60

// sent notes the bytes sent so far.
func (e *egress) sent(bytes int64, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	minute := now.Unix() / 60
	if n := len(e.marks); n > 0 && e.marks[n-1].minute >= minute {
		e.marks[n-1].bytes = bytes
		return
	}
	if len(e.marks) >= maxMarks {
		e.marks = slices.Delete(e.marks, 0, maxMarks/10)
	}
	e.marks = append(e.marks, egressMark{minute, bytes})
}

// between is how much was sent in the minutes from one time to another, as far as it is remembered.
func (e *egress) between(from, to time.Time) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	at := func(minute int64) int64 { // by the end of the minute
		i, ok := slices.BinarySearchFunc(e.marks, minute, func(m egressMark, n int64) int { return cmp.Compare(m.minute, n) })
		if ok {
			return e.marks[i].bytes
		}
		if i == 0 {
			return 0
		}
		return e.marks[i-1].bytes
	}
	return at(to.Unix()/60) - at(from.Unix()/60-1)
}

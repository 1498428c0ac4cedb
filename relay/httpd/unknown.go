package httpd

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Bounds of what machines take here that no node claims.
const (
	maxUnknown  = 1024             // questions that are held; the machines beyond sleep between theirs
	tellUnknown = 10 * time.Second // how often the same machine is told of, at most
	maxTold     = 8192             // machines of which that is remembered
	tellRate    = 200              // machines that are told of in a second, all together; the rest is told when it asks again
)

// strangers are the machines whose questions are held until a node claims them.
type strangers struct {
	mu   sync.Mutex
	of   map[catalog.HardwareAddr]chan struct{} // closes when another question of the machine takes its place
	told map[catalog.HardwareAddr]lastTold

	second time.Time // in which so many were told of
	tells  int
}

type lastTold struct {
	at    time.Time
	facts bool
}

func newStrangers() *strangers {
	return &strangers{of: map[catalog.HardwareAddr]chan struct{}{}, told: map[catalog.HardwareAddr]lastTold{}}
}

// enter begins to hold a question, in the place of an earlier one of the same machine: that one's connection is gone. It is
// not ok when too many are held.
func (x *strangers) enter(hw catalog.HardwareAddr) (displaced <-chan struct{}, leave func(), ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	old := x.of[hw]
	if old == nil && len(x.of) >= maxUnknown {
		return nil, nil, false
	}
	if old != nil {
		close(old)
	}
	mine := make(chan struct{})
	x.of[hw] = mine
	return mine, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.of[hw] == mine {
			delete(x.of, hw)
		}
	}, true
}

// tell reports whether a machine may be told of again. Its first word of what it is need not wait.
func (x *strangers) tell(hw catalog.HardwareAddr, facts bool) bool {
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	if last, ok := x.told[hw]; ok && now.Sub(last.at) < tellUnknown && (last.facts || !facts) {
		return false
	}
	if now.Sub(x.second) >= time.Second {
		x.second, x.tells = now, 0
	}
	if x.tells++; x.tells > tellRate {
		return false
	}
	if len(x.told) >= maxTold {
		clear(x.told)
	}
	x.told[hw] = lastTold{now, facts}
	return true
}

// unknown answers a machine that no node claims. Its first question gets the screen at once; those that the screen asks are
// held until a node claims it, and then are the first of a boot.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request, p *boot.Plan) error {
	hw := p.BootHardware
	// iPXE leaves ; as it is in what it encodes, and net/url would drop a parameter that has one. What else cannot be read is
	// left out.
	q, _ := url.ParseQuery(strings.ReplaceAll(r.URL.RawQuery, ";", "%3B"))
	tries, err := strconv.Atoi(q.Get(boot.ParamTries))
	if err != nil || tries < 0 {
		tries = 0
	}
	screen := boot.Session{Tries: min(tries, boot.MaxTries)}
	s.seen(r, p, q)
	if screen.Tries > 0 {
		screen.Held = s.hold(w, r, hw)
		now, err := s.planFor(r, hw)
		if err != nil {
			return err
		}
		if now.Known() {
			return s.begin(w, r, &now, now.WriteScript)
		}
		*p = now
	}
	var b bytes.Buffer
	if err := p.WriteScript(&b, screen); err != nil {
		return err
	}
	return writeScript(w, b.Bytes())
}

// seen records that the machine asked, and what its boot loader says of it. What somebody says who was given the address of
// another machine is not believed.
func (s *Server) seen(r *http.Request, p *boot.Plan, q url.Values) {
	if _, is := s.cfg.Feed.Catalog().NodeByAddress(remote(r)); is {
		return
	}
	if s.cfg.Machine != nil {
		if _, other, ok := s.cfg.Machine(remote(r)); ok && other != "" && other != p.BootHardware {
			return
		}
	}
	facts := catalog.Facts{
		Serial: q.Get(boot.ParamSerial), UUID: q.Get(boot.ParamUUID), Maker: q.Get(boot.ParamMaker), Product: q.Get(boot.ParamProduct), Asset: q.Get(boot.ParamAsset),
	}
	if p.Network != nil {
		facts.Network = p.Network.Name
	}
	facts = facts.Clean()
	if !s.strangers.tell(p.BootHardware, facts != catalog.Facts{Network: facts.Network}) {
		return
	}
	s.cfg.Record(boot.Event{
		Stage: boot.StageScript, Hardware: p.BootHardware, Revision: p.Revision, Firmware: boot.FirmwareIPXE, Address: remote(r).String(),
		Error: p.Problem.Error(), Machine: &facts,
	})
}

// hold waits until a node claims the machine, and tells whether it waited as long as it may.
func (s *Server) hold(w http.ResponseWriter, r *http.Request, hw catalog.HardwareAddr) bool {
	displaced, leave, ok := s.strangers.enter(hw)
	if !ok {
		return false
	}
	defer leave()
	// The time for a request is over before the answer is. A connection that cannot have a deadline is a test's.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(boot.HoldUnknown + headerTime))
	over := time.NewTimer(boot.HoldUnknown)
	defer over.Stop()
	for {
		changed := s.cfg.Feed.Changed()
		if _, known := s.cfg.Feed.Catalog().NodeByHardware(hw); known {
			return true
		}
		select {
		case <-changed:
		case <-over.C:
			return true
		case <-displaced:
			return false
		case <-s.waits.ending:
			return false
		case <-r.Context().Done():
			return false
		}
	}
}

package httpd

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

// Bounds of what is told of machines that do not get on.
const (
	troubleEvery = time.Minute // of one address
	maxTroubles  = 10_000
)

// troubles remembers which addresses were told of lately.
type troubles struct {
	mu   sync.Mutex
	told map[netip.Addr]time.Time
}

func newTroubles() *troubles { return &troubles{told: map[netip.Addr]time.Time{}} }

// due tells whether it is time to tell of an address again. Where there are too many, those of the last minute are told
// of once more.
func (t *troubles) due(addr netip.Addr) bool {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.told[addr]; ok && now.Sub(last) < troubleEvery {
		return false
	}
	if len(t.told) >= maxTroubles {
		clear(t.told)
	}
	t.told[addr] = now
	return true
}

// trouble records what keeps the node of an address from going on beyond a stage. The machine itself cannot tell: it has
// no session yet.
func (s *Server) trouble(addr netip.Addr, stage boot.Stage, what string) {
	if !s.troubles.due(addr) {
		return
	}
	e := boot.Event{Stage: stage, Boot: s.booting.name(addr), Address: addr.String(), Error: what}
	if s.cfg.Machine != nil {
		e.Node, e.Hardware, _ = s.cfg.Machine(addr)
	}
	if e.Hardware == "" { // nobody would find it
		return
	}
	s.cfg.Record(e)
}

// lacking passes an error on, and tells of it where it keeps a machine from its kernel.
func (s *Server) lacking(r *http.Request, firmware bool, err error) error {
	if addr := remote(r); firmware && r.Context().Err() == nil && s.booting.knows(addr) {
		s.trouble(addr, boot.StageScript, fmt.Sprintf("relay %s cannot give it what it boots from: %v", s.cfg.Name, err))
	}
	return err
}

// complaints is what net/http logs, a line each. Of a TLS handshake that fails there is no other word: the agent that
// breaks it off has nobody else to tell.
type complaints struct{ s *Server }

// Write takes one line.
func (c *complaints) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	c.s.cfg.Log.Debug(text)
	if rest, ok := strings.CutPrefix(text, "http: TLS handshake error from "); ok {
		c.s.handshake(rest)
	}
	return len(line), nil
}

// handshake takes "ADDRESS:PORT: why".
func (s *Server) handshake(text string) {
	at, why, _ := strings.Cut(text, ": ")
	peer, err := netip.ParseAddrPort(at)
	if err != nil || !strings.HasPrefix(why, "remote error: ") { // what only broke off may have been anything
		return
	}
	s.trouble(peer.Addr().Unmap(), boot.StageKernel, fmt.Sprintf("its agent does not accept the certificate of relay %s (%s): "+
		"the node's clock is wrong by years, or its stage one is of another cluster", s.cfg.Name, why))
}

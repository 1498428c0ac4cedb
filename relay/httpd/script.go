package httpd

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

var errNoCertificate = fault.New(fault.Denied, "only relays of this cluster may ask for this")

func revision(r catalog.Revision) string { return strconv.FormatUint(uint64(r), 10) }

// planFor answers for the machine with a hardware address, by where the request came from and to.
func (s *Server) planFor(r *http.Request, hw catalog.HardwareAddr) (boot.Plan, error) {
	p, err := s.planAt(hw, remote(r))
	if a := local(r); err == nil && a.Is6() {
		p.Over6(s.cfg.Name, a)
	}
	return p, err
}

// planAt answers for the machine with a hardware address, at the network that its address lies in.
func (s *Server) planAt(hw catalog.HardwareAddr, at netip.Addr) (boot.Plan, error) {
	req := boot.Request{Hardware: hw, Firmware: boot.FirmwareIPXE, Relay: s.cfg.Name, Live: s.cfg.Live()}
	c := s.cfg.Feed.Catalog()
	if n, ok := c.NetworkOf(at); ok {
		if self, known := c.Relay(s.cfg.Name); known && serves(self, n.Name) {
			req.Network = n.Name
		}
	}
	return s.cfg.Feed.Plan(req)
}

func serves(r *catalog.Relay, n catalog.NetworkName) bool {
	for _, name := range r.Networks {
		if name == n {
			return true
		}
	}
	return false
}

// script hands out a machine's script.
func (s *Server) script(w http.ResponseWriter, r *http.Request) error {
	hw, err := catalog.ParseHardwareAddr(r.PathValue("hw"))
	if err != nil {
		return err
	}
	p, err := s.planFor(r, hw)
	if err != nil {
		return err
	}
	if !p.Known() {
		return s.unknown(w, r, &p)
	}
	return s.begin(w, r, &p, p.WriteScript)
}

// begin answers with a plan as text for a boot loader. For a node that can boot this begins a boot: it gets a name and a
// ticket.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, p *boot.Plan, write func(io.Writer, boot.Session) error) error {
	e := boot.Event{Stage: boot.StageScript, Node: p.Node, Hardware: p.BootHardware, Revision: p.Revision, Firmware: boot.FirmwareIPXE, Address: remote(r).String()}
	var begun boot.Session
	own := p.Problem != nil || atHome(p, remote(r))
	if p.Problem == nil && own {
		begun.Boot = strings.ToLower(rand.Text())[:16]
		begun.Ticket, p.Problem = s.ticket(p, begun.Boot) // without one there is no boot: its screen says so
	}
	switch {
	case p.Problem != nil:
		e.Error, e.Fix = p.Problem.Error(), fault.Fix(p.Problem)
	case own:
		e.Boot, e.Image, e.Manifest = begun.Boot, p.Image, p.Manifest.ID
		s.booting.begin(remote(r), p, begun.Boot)
		s.ww.begin(p, begun.Boot)
	}
	var b bytes.Buffer
	if err := write(&b, begun); err != nil {
		return err
	}
	if err := writeScript(w, b.Bytes()); err == nil && own {
		s.cfg.Record(e)
	}
	return nil
}

// writeScript sends what a boot loader is to do.
func writeScript(w http.ResponseWriter, script []byte) error {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Cache-Control", "no-store") // the ticket in it is for one boot
	w.Header().Set("Content-Length", strconv.Itoa(len(script)))
	_, err := w.Write(script)
	return err
}

// atHome tells whether who asks for a node's script is where DHCP put the node. Anybody may look at a script, but this
// is no boot then, and there is no ticket to the node's secrets in it. A machine that was just claimed still has an
// address of the pool. Beside another site's DHCP nobody here knows where a node is.
func atHome(p *boot.Plan, asker netip.Addr) bool {
	n := p.Network
	if asker.Is6() {
		hw, made := catalog.Hardware6(asker)
		return n == nil || n.DHCP != catalog.DHCPAuthoritative || asker == p.Address6 || made && hw == p.BootHardware && (asker.IsLinkLocalUnicast() || n.Prefix6.Contains(asker))
	}
	return n == nil || n.DHCP != catalog.DHCPAuthoritative || !p.Address.IsValid() || asker == p.Address.Addr() || n.Pool.Contains(asker)
}

// ticket seals a ticket with the key of the node's network.
func (s *Server) ticket(p *boot.Plan, id string) (string, error) {
	if p.Network == nil {
		return "", fault.New(fault.Invalid, "node %s is in no network", p.Node)
	}
	key, ok := s.cfg.Feed.Secrets().Tickets[p.Network.Name]
	if !ok {
		return "", fault.New(fault.Unavailable, "relay %s has no keys of network %s yet", s.cfg.Name, p.Network.Name).WithFix("they come with the first contact to a controller")
	}
	hw, err := net.ParseMAC(string(p.BootHardware))
	if err != nil {
		return "", fault.Wrap(fault.Internal, err, "hardware address")
	}
	return key.SealTicket(pki.Ticket{
		Node: string(p.Node), Hardware: hw, Boot: id, Revision: uint64(p.Revision), Relay: string(s.cfg.Name),
		Expires: s.cfg.Now().Add(pki.TicketLife), Nonce: pki.NewNonce(),
	})
}

// loader serves a boot program to UEFI firmware that speaks HTTP itself.
func (s *Server) loader(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if s.cfg.Loader == nil {
		return fault.New(fault.NotFound, "this relay has no boot programs")
	}
	body, ok := s.cfg.Loader(name)
	if !ok {
		return fault.New(fault.NotFound, "no boot program is called %.80q", name)
	}
	// The firmware of EDK2 goes by this type, and by the name's ending where it is missing.
	w.Header().Set("Content-Type", "application/efi")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	e := boot.Event{Stage: boot.StageLoader, Bytes: int64(len(body)), Address: remote(r).String(), Message: name}
	if s.cfg.Machine != nil {
		e.Node, e.Hardware, _ = s.cfg.Machine(remote(r))
	}
	if e.Hardware != "" && r.Method == http.MethodGet { // an event of nobody is no use to anybody
		s.cfg.Record(e)
	}
	return nil
}

package httpd

import (
	"crypto/subtle"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// The routes of Warewulf's server, for images that bring their own wwinit, wwclient or module of dracut. They answer
// nodes of catalog.MethodWarewulf in networks that allow it, and nobody else: who asks is known by a hardware address
// and by where it asks from, and by nothing better. See docs/from-warewulf.md for what follows from that.

// The stages of a boot as Warewulf has them.
const (
	wwIPXE      = "ipxe"
	wwKernel    = "kernel"
	wwImage     = "image"
	wwInitramfs = "initramfs"
	wwSystem    = "system"
	wwRuntime   = "runtime"
	wwGrub      = "grub"
)

// wwStages are the stages by the names that paths and ?stage= have for them, some of them of older versions.
var wwStages = map[string]string{
	"ipxe": wwIPXE, "kernel": wwKernel, "image": wwImage, "container": wwImage, "initramfs": wwInitramfs, "system": wwSystem,
	"overlay-system": wwSystem, "runtime": wwRuntime, "overlay-runtime": wwRuntime, "grub": wwGrub,
}

// unprivileged is the first port that any user of a machine may send from.
const unprivileged = 1024

// warewulfRoutes adds the routes.
func (s *Server) warewulfRoutes(m *http.ServeMux) {
	for name, stage := range wwStages {
		s.route(m, "GET", "/"+name+"/{wwid...}", s.bare(func(w http.ResponseWriter, r *http.Request) error { return s.warewulf(w, r, stage) }))
	}
	s.route(m, "GET", "/provision/{wwid...}", s.bare(func(w http.ResponseWriter, r *http.Request) error { return s.warewulf(w, r, "") }))
	s.route(m, "GET", "/efiboot/{file...}", s.bare(s.efiboot))
	s.route(m, "GET", "/files/{path...}", s.bare(s.wwFile))
	s.route(m, "GET", "/status", s.bare(s.wwStatus))
}

// errNoWarewulf answers whoever asks where there are no boots of Warewulf.
var errNoWarewulf = fault.New(fault.NotFound, "in this network are no boots of Warewulf").WithFix("wulf network set NETWORK --warewulf")

// single takes doubled slashes for one: shim asks for //grubx64.efi, and follows no redirection.
func single(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "//") {
			u := *r.URL
			for strings.Contains(u.Path, "//") {
				u.Path = strings.ReplaceAll(u.Path, "//", "/")
			}
			u.RawPath = ""
			r = r.WithContext(r.Context())
			r.URL = &u
		}
		h.ServeHTTP(w, r)
	})
}

// bare answers an error by its status alone: programs of Warewulf unpack whatever they are sent.
func (s *Server) bare(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		err := h(w, r)
		if err == nil {
			return nil
		}
		status := api.Status(fault.KindOf(err))
		switch fault.KindOf(err) {
		case fault.Denied:
			status = http.StatusUnauthorized
		case fault.Unavailable:
			later(w)
		}
		s.cfg.Log.Debug("request is refused", "path", r.URL.Path, "peer", r.RemoteAddr, "err", err)
		w.Header().Set("Content-Length", "0")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		return nil
	}
}

// asked is what a machine says of itself and wants.
type asked struct {
	hw     catalog.HardwareAddr // "": it does not say
	stage  string               // of wwStages; "": it does not say
	asset  string
	gzip   bool
	ticket string
}

// maxAsset bounds an asset key: longer ones than SMBIOS tells, and the catalog keeps.
const maxAsset = 256

// parseAsked reads the end of a path and a query. A stage or a compression that there is not is an error, which comes with
// what was read.
func parseAsked(wwid, query string) (asked, error) {
	var a asked
	// A module of dracut puts ?assetkey= behind whatever address it was told, which has a query of its own here.
	q, err := url.ParseQuery(strings.ReplaceAll(query, "?", "&"))
	if err != nil {
		return a, fault.Wrap(fault.Invalid, err, "query")
	}
	if wwid == "" {
		wwid = q.Get("wwid")
	}
	if wwid != "" {
		if a.hw, err = catalog.ParseHardwareAddr(wwid); err != nil {
			return a, err
		}
	}
	a.ticket = q.Get("ticket")
	if len(a.ticket) > pki.MaxTicket {
		return a, fault.New(fault.Invalid, "a ticket has at most %d bytes", pki.MaxTicket)
	}
	a.asset = q.Get("assetkey")
	if len(a.asset) > maxAsset {
		return a, fault.New(fault.Invalid, "an asset key has at most %d bytes", maxAsset)
	}
	if name := q.Get("stage"); name != "" {
		if a.stage = wwStages[name]; a.stage == "" {
			return a, fault.New(fault.Invalid, "no stage is called %.80q", name)
		}
	}
	switch c := q.Get("compress"); c {
	case "":
	case "gz":
		a.gzip = true
	default:
		return a, fault.New(fault.NotFound, "nothing is kept compressed by %.80q", c)
	}
	return a, nil
}

// caller is a node that asks in Warewulf's way.
type caller struct {
	asked
	addr netip.Addr
	plan boot.Plan
	boot string // which boot it is, if it showed its ticket; else it only says that it is the node
	used pki.Ticket
}

// warewulf answers a stage; "" is the one that the query names.
func (s *Server) warewulf(w http.ResponseWriter, r *http.Request, stage string) error {
	a, err := parseAsked(r.PathValue("wwid"), r.URL.RawQuery)
	if err != nil {
		return err
	}
	if stage == "" {
		if stage = a.stage; stage == "" {
			stage = wwIPXE
		}
	}
	a.stage = stage
	c, err := s.caller(r, a)
	if err != nil {
		return err
	}
	if stage == wwIPXE {
		return s.begin(w, r, &c.plan, c.plan.WriteScript)
	}
	if err := c.boots(); err != nil {
		return err
	}
	if err := s.admit(r, c, stage); err != nil {
		s.refused(c, stage, err)
		return err
	}
	switch stage {
	case wwGrub:
		return s.grub(w, r, c)
	case wwKernel:
		return s.wwKernel(w, r, c)
	case wwImage:
		return s.wwImage(w, r, c)
	case wwInitramfs:
		return s.wwInitramfs(w, r, c)
	}
	return s.wwOverlay(w, r, c, stage)
}

// caller finds out who asks: by what it says, else by its address. Networks that do not allow Warewulf's boots have none
// of these paths.
func (s *Server) caller(r *http.Request, a asked) (*caller, error) {
	c := &caller{asked: a, addr: remote(r)}
	if c.hw == "" && s.cfg.Machine != nil {
		_, c.hw, _ = s.cfg.Machine(c.addr)
	}
	if c.hw == "" {
		return nil, fault.New(fault.NotFound, "%s does not say who it is", c.addr)
	}
	var err error
	if c.plan, err = s.planAt(c.hw, c.addr); err != nil {
		return nil, err
	}
	if c.plan.Network == nil || !c.plan.Network.Warewulf {
		return nil, errNoWarewulf
	}
	if c.plan.Known() && c.plan.Warewulf.Asset && !s.assetOf(c) {
		err := fault.New(fault.Denied, "%s does not have the asset key of node %s", c.addr, c.plan.Node)
		s.refused(c, a.stage, err)
		return nil, err
	}
	return c, nil
}

// assetOf compares the asset key of the machine with the node's. wwclient writes blanks as _.
func (s *Server) assetOf(c *caller) bool {
	n, ok := s.cfg.Feed.Catalog().Node(c.plan.Node)
	if !ok || n.Settings.Asset == nil {
		return false
	}
	plain := func(s string) []byte { return []byte(strings.ReplaceAll(strings.TrimSpace(s), " ", "_")) }
	return subtle.ConstantTimeCompare(plain(*n.Settings.Asset), plain(c.asset)) == 1
}

// boots tells why the node has nothing to fetch here, if so.
func (c *caller) boots() error {
	switch {
	case c.plan.Problem != nil:
		return fault.Wrap(fault.NotFound, c.plan.Problem, "node %s", c.plan.Node)
	case c.plan.Method != catalog.MethodWarewulf:
		return fault.New(fault.NotFound, "node %s boots by method %s", c.plan.Node, c.plan.Method)
	}
	return nil
}

// admit holds up who may not have a stage. A ticket, which the boot's script brought, is the best that a machine can show.
// Without one it must at least ask from an address of the node, and for the runtime overlays from a port that only its
// root may use.
func (s *Server) admit(r *http.Request, c *caller, stage string) error {
	if stage != wwSystem && stage != wwRuntime {
		return nil // anybody may have kernels and images
	}
	if c.ticket != "" {
		t, _, err := s.openTicket(c.ticket)
		if err != nil {
			return fault.Wrap(fault.Denied, err, "node %s", c.plan.Node)
		}
		if t.Node != string(c.plan.Node) {
			return fault.New(fault.Denied, "the ticket is another machine's")
		}
		if !s.claims.take(t, stage, c.addr.String()) {
			return fault.New(fault.Denied, "the %s overlays of boot %s were fetched already", stage, t.Boot)
		}
		c.boot, c.used = t.Boot, t
		return nil
	}
	if !s.isAt(c) {
		return fault.New(fault.Denied, "%s is no address of node %s", c.addr, c.plan.Node)
	}
	if port, _ := netip.ParseAddrPort(r.RemoteAddr); stage == wwRuntime && port.Port() >= unprivileged {
		server, err := s.overlays.renderer.Server(r.Context(), s.cfg.Feed.Catalog())
		if err != nil || !server.Warewulf.Secure {
			return err
		}
		return fault.New(fault.Denied, "node %s asks from port %d, which any user may", c.plan.Node, port.Port()).
			WithFix("let its client ask from a port below %d, or say secure: false in the site file warewulf.conf", unprivileged)
	}
	return nil
}

// isAt tells whether the caller asks from an address of its node: one that it declares, or one of the pool, or any where
// another DHCP server gives them.
func (s *Server) isAt(c *caller) bool {
	if n, ok := s.cfg.Feed.Catalog().NodeByAddress(c.addr); ok {
		return n.Name == c.plan.Node
	}
	return atHome(&c.plan, c.addr)
}

// refused tells the controllers of a node that was refused what it asked for, so that people find out what is wrong with
// it; as often as a node may tell of anything. What somebody does who is not at its address says nothing about it.
func (s *Server) refused(c *caller, stage string, err error) {
	if !s.meters.take(c.plan.Node, 1) {
		return
	}
	id, step := s.ww.now(c.plan.Node)
	if !s.isAt(c) || id == "" && stage == wwRuntime { // or of a boot before this relay began
		s.cfg.Log.Warn("somebody is refused what is a node's", "node", c.plan.Node, "peer", c.addr, "err", err)
		return
	}
	s.cfg.Record(boot.Event{
		Stage: step, Node: c.plan.Node, Hardware: c.plan.BootHardware, Boot: id, Address: c.addr.String(), Revision: c.plan.Revision,
		Error: err.Error(), Fix: fault.Fix(err),
	})
}

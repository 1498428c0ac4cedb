package httpd

import (
	"net/http"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// maxSeen bounds the nodes that are remembered; beyond it the memory begins anew.
const maxSeen = 50_000

// seen is what nodes with images of Warewulf fetched last from this relay: all that is known of them once they are up,
// for nothing of ours runs there.
type seen struct {
	mu sync.Mutex
	by map[catalog.NodeName]*sight
}

type sight struct {
	boot  string // the last one that was begun here
	up    bool   // and whether it has ended well
	stage string // the last one
	sent  string
	addr  string
	at    time.Time
}

func newSeen() *seen { return &seen{by: map[catalog.NodeName]*sight{}} }

// begin notes that a node was given its script.
func (x *seen) begin(p *boot.Plan, id string) {
	if p.Method == catalog.MethodWarewulf {
		x.mu.Lock()
		defer x.mu.Unlock()
		v := x.of(p.Node)
		v.boot, v.up = id, false
	}
}

// of is called with mu held.
func (x *seen) of(node catalog.NodeName) *sight {
	v := x.by[node]
	if v == nil {
		if len(x.by) >= maxSeen {
			clear(x.by)
		}
		v = new(sight)
		x.by[node] = v
	}
	return v
}

// note remembers a stage that was sent, and tells what step of a boot it is, if it is one. What asks for runtime overlays
// without a ticket, and not right after the system overlays, is the client that runs on the node: the first time it says
// that the node is up.
func (x *seen) note(c *caller, stage, sent string) (boot.Event, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	v := x.of(c.plan.Node)
	if c.boot != "" && c.boot != v.boot { // another relay wrote the script
		v.boot, v.up = c.boot, false
	}
	before := v.stage
	v.stage, v.sent, v.addr, v.at = stage, sent, c.addr.String(), time.Now()
	e := boot.Event{
		Node: c.plan.Node, Hardware: c.plan.BootHardware, Boot: v.boot, Revision: c.plan.Revision, Image: c.plan.Image,
		Manifest: c.plan.Manifest.ID, Address: v.addr,
	}
	switch {
	case stage == wwSystem:
		e.Stage = boot.StageOverlay
	case stage != wwRuntime || c.boot != "" || before == wwSystem:
		return e, false
	case v.boot != "" && !v.up:
		e.Stage, e.Message = boot.StageUp, "its client asked for the runtime overlays"
		v.up = true
	default:
		e.Stage = boot.StageAlive
	}
	return e, true
}

// now is the boot of a node that this relay knows of, and its step.
func (x *seen) now(node catalog.NodeName) (id string, stage boot.Stage) {
	x.mu.Lock()
	defer x.mu.Unlock()
	v := x.by[node]
	switch {
	case v == nil || v.boot == "":
		return "", boot.StageKernel
	case v.up:
		return v.boot, boot.StageAlive
	}
	return v.boot, boot.StageKernel
}

// sentTo notes what was sent to a caller, and tells the controllers.
func (s *Server) sentTo(c *caller, stage, sent string, bytes int64) {
	if e, step := s.ww.note(c, stage, sent); step {
		e.Bytes = bytes
		s.cfg.Record(e)
	}
}

// wwStatusNames are the stages as /status has them.
var wwStatusNames = map[string]string{
	wwIPXE: "IPXE", wwGrub: "GRUB", wwKernel: "KERNEL", wwImage: "IMAGE", wwSystem: "SYSTEM_OVERLAY", wwRuntime: "RUNTIME_OVERLAY",
	wwInitramfs: "INITRAMFS",
}

type wwStatus struct {
	Nodes map[catalog.NodeName]wwNode `json:"nodes"`
}

type wwNode struct {
	Name     catalog.NodeName `json:"node name"`
	Stage    string           `json:"stage"`
	Sent     string           `json:"sent"`
	Address  string           `json:"ipaddr"`
	LastSeen int64            `json:"last seen"` // seconds since 1970
}

// wwStatus lists the nodes with images of Warewulf that fetched something here, to who asks from a network that has such:
// their names and addresses are in the hosts files of all of them.
func (s *Server) wwStatus(w http.ResponseWriter, r *http.Request) error {
	if n, ok := s.cfg.Feed.Catalog().NetworkOf(remote(r)); !ok || !n.Warewulf {
		return errNoWarewulf
	}
	out := wwStatus{Nodes: map[catalog.NodeName]wwNode{}}
	s.ww.mu.Lock()
	for name, v := range s.ww.by {
		if v.stage != "" {
			out.Nodes[name] = wwNode{name, wwStatusNames[v.stage], v.sent, v.addr, v.at.Unix()}
		}
	}
	s.ww.mu.Unlock()
	w.Header().Set("Cache-Control", "no-store")
	api.WriteJSON(w, out)
	return nil
}

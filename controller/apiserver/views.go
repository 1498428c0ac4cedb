package apiserver

import (
	"iter"
	"net/http"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/journal"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (s *Server) nodeView(c *catalog.Catalog, name catalog.NodeName, full bool) (api.NodeView, error) {
	res, err := c.Resolve(name)
	if err != nil {
		return api.NodeView{}, err
	}
	v := api.NodeView{Node: *res.Node, Effective: &res.Settings}
	if full {
		if _, v.Blame, err = c.Explain(name); err != nil {
			return api.NodeView{}, err
		}
		v.HostKey = s.hostKey(res)
	}
	return v, nil
}

// getNode shows all that is known of a node.
func (s *Server) getNode(w http.ResponseWriter, r *http.Request, _ caller) error {
	c, err := s.read(w, r)
	if err != nil {
		return err
	}
	v, err := s.nodeView(c, catalog.NodeName(r.PathValue("name")), true)
	if err != nil {
		return err
	}
	if boots := s.cfg.Journal.Boot(string(v.Name)); len(boots) > 0 {
		v.Boot, v.Runtime = &boots[0], s.selection(c).runtime(&v.Node)
	}
	if unchanged(w, r, tagWith(c, v.Boot)) {
		return nil
	}
	api.WriteJSON(w, v)
	return nil
}

// getWhy explains a node's state.
func (s *Server) getWhy(w http.ResponseWriter, r *http.Request, _ caller) error {
	c, err := s.read(w, r)
	if err != nil {
		return err
	}
	why, err := s.cfg.Journal.Why(c, catalog.NodeName(r.PathValue("name")), s.relayViews(c), time.Now())
	if err != nil {
		return err
	}
	switch render := r.URL.Query().Get("render"); render {
	case "":
	case "ipxe":
		if why.Script, err = journal.Script(c, catalog.NodeName(r.PathValue("name"))); err != nil {
			return err
		}
	default:
		return fault.New(fault.Invalid, "a script is rendered as ipxe, not %.40q", render)
	}
	api.WriteJSON(w, why)
	return nil
}

// postWhys explains the state of each node of a query.
func (s *Server) postWhys(w http.ResponseWriter, r *http.Request, _ caller) error {
	var q api.NodeQuery
	if err := api.ReadJSON(w, r, &q); err != nil {
		return err
	}
	x, nodes, _, err := s.chosen(w, r, &q)
	if err != nil {
		return err
	}
	if len(nodes) > api.MaxWhys {
		return fault.New(fault.Invalid, "%d nodes are more than are explained at once, %d", len(nodes), api.MaxWhys).WithFix("ask for some after the other, with limit and after")
	}
	names := make([]catalog.NodeName, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name
	}
	all, err := s.cfg.Journal.Whys(x.c, names, s.relayViews(x.c), time.Now())
	if err != nil {
		return err
	}
	return writeList(w, x.c.Revision, slices.Values(all))
}

// getList answers with a list of the catalog's.
func getList[T any](s *Server, w http.ResponseWriter, r *http.Request, list func(*catalog.Catalog) iter.Seq[*T]) error {
	c, err := s.read(w, r)
	if err != nil {
		return err
	}
	if unchanged(w, r, tagOf(c)) {
		return nil
	}
	return writeList(w, c.Revision, values(list(c)))
}

func (s *Server) getProfiles(w http.ResponseWriter, r *http.Request, _ caller) error {
	return getList(s, w, r, (*catalog.Catalog).Profiles)
}

func (s *Server) getNetworks(w http.ResponseWriter, r *http.Request, _ caller) error {
	return getList(s, w, r, (*catalog.Catalog).Networks)
}

func (s *Server) getAuthorities(w http.ResponseWriter, r *http.Request, _ caller) error {
	return getList(s, w, r, (*catalog.Catalog).SSHAuthorities)
}

func (s *Server) getImages(w http.ResponseWriter, r *http.Request, _ caller) error {
	return getList(s, w, r, (*catalog.Catalog).Images)
}

func (s *Server) getOverlays(w http.ResponseWriter, r *http.Request, _ caller) error {
	return getList(s, w, r, (*catalog.Catalog).Overlays)
}

// getBoots lists the last boot of every machine, or with ?node= all boots kept of one with their events, or with
// ?watch=true sends events as they come.
func (s *Server) getBoots(w http.ResponseWriter, r *http.Request, _ caller) error {
	node := r.URL.Query().Get("node")
	switch watch := r.URL.Query().Get("watch"); watch {
	case "true", "1":
		return s.watchBoots(w, r, node)
	case "", "false", "0":
	default:
		return fault.New(fault.Invalid, "watch is true or false, not %.40q", watch)
	}
	boots := s.cfg.Journal.Boots()
	if node != "" {
		boots = s.cfg.Journal.Boot(node)
	}
	if boots == nil {
		boots = []api.Boot{}
	}
	api.WriteJSON(w, api.List[api.Boot]{Revision: s.cfg.State.Current().Revision, Items: boots})
	return nil
}

// watchBoots sends boot events, one a line, until the client leaves or the server stops.
func (s *Server) watchBoots(w http.ResponseWriter, r *http.Request, node string) error {
	ctx, stop := s.untilDrained(r.Context())
	defer stop()
	events := s.cfg.Journal.Watch(ctx) // before the client learns that it is heard: what happens from then on, it is told
	out := newLines(w)
	if err := out.begin(); err != nil {
		return err
	}
	for e := range events {
		if node != "" && e.Stage != "" && string(e.Node) != node && string(e.Hardware) != node {
			continue
		}
		if err := out.write(e); err != nil {
			return err
		}
	}
	return nil
}

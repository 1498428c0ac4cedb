package apiserver

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// usualHistory is how many records are told where nobody says how many.
const usualHistory = 50

// getHistory tells what happened, the newest first; with ?node= only what changed that node, with ?overlay= that
// overlay.
func (s *Server) getHistory(w http.ResponseWriter, r *http.Request, _ caller) error {
	c, err := s.read(w, r)
	if err != nil {
		return err
	}
	limit := usualHistory
	if text := r.URL.Query().Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			return fault.New(fault.Invalid, "limit is a number of records, not %.40q", text)
		}
	}
	if unchanged(w, r, tagOf(c)) {
		return nil
	}
	node, overlay := catalog.NodeName(r.URL.Query().Get("node")), catalog.OverlayName(r.URL.Query().Get("overlay"))
	return writeList(w, c.Revision, func(yield func(api.Record) bool) {
		for rec := range c.History() {
			if node != "" && !slices.Contains(rec.Nodes, node) || overlay != "" && !slices.Contains(rec.Overlays, overlay) {
				continue
			}
			v := api.Record{Record: *rec, About: rec.About(), Undoable: rec.Undo != nil && rec.Revision > c.HistoryFloor()}
			v.Undo = nil // the way back is long, and nobody's to read
			if limit--; !yield(v) || limit == 0 {
				return
			}
		}
	})
}

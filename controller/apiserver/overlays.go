package apiserver

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// getOverlay sends the content of an overlay.
func (s *Server) getOverlay(w http.ResponseWriter, r *http.Request, _ caller) error {
	c, err := s.read(w, r)
	if err != nil {
		return err
	}
	name := catalog.OverlayName(r.PathValue("name"))
	o, ok := c.Overlay(name)
	if !ok {
		return fault.New(fault.NotFound, "there is no overlay %.80q", name).WithFix("see which there are: wulf overlay list")
	}
	store := s.cfg.Chunks.Store()
	f, err := store.Open(r.Context(), o.Content.ID)
	if errors.Is(err, fault.NotFound) {
		if err = s.cfg.Chunks.Obtain(r.Context(), o.Content); err == nil {
			f, err = store.Open(r.Context(), o.Content.ID)
		}
	}
	if err != nil {
		return err
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+o.Content.ID.String()+`"`)
	http.ServeContent(w, r, "", time.Time{}, f.Content())
	return nil
}

// putOverlay makes an overlay, or gives one new content. The content is checked, so that no relay ever meets one
// that cannot be rendered for want of form.
func (s *Server) putOverlay(w http.ResponseWriter, r *http.Request, by caller) error {
	name, err := catalog.ParseName[catalog.OverlayName]("overlay", r.PathValue("name"))
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, readStream(w, r), overlay.MaxBundle))
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "the overlay was not received whole, or has more than %d bytes", overlay.MaxBundle)
	}
	bundle, err := overlay.Decode(raw)
	if err != nil {
		return err
	}
	body, err := bundle.Encode()
	if err != nil {
		return err
	}
	ref, err := s.cfg.Chunks.Publish(r.Context(), body)
	if err != nil {
		return err
	}
	rev, err := s.propose(r.Context(), catalog.PutOverlay{Overlay: catalog.Overlay{Name: name, Content: ref, Files: len(bundle.Files)}}, by.by, "")
	if err != nil {
		return err
	}
	setRevision(w, s.cfg.State.Current())
	api.WriteJSON(w, api.ChangeResult{Revision: rev})
	return nil
}

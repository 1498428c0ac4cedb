package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// Bounds of an edit.
const (
	maxEdit   = 2 * overlay.MaxBundle // bytes of JSON
	editTries = 20                    // how often an edit is made anew because others were faster
)

// putOverlay makes an overlay, or gives one new files of the site's. The content is checked, so that no relay ever meets
// one that cannot be rendered for want of form.
func (s *Server) putOverlay(w http.ResponseWriter, r *http.Request, by caller) error {
	name, err := catalog.ParseName[catalog.OverlayName]("overlay", r.PathValue("name"))
	if err != nil {
		return err
	}
	x, err := newOverlayWrite(r, name, by)
	if err != nil {
		return err
	}
	if x.laid, err = truth(r, "laid"); err != nil {
		return err
	}
	if x.has, err = contentMatch(r); err != nil {
		return err
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, readStream(w, r), overlay.MaxBundle))
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "the overlay was not received whole, or has more than %d bytes", overlay.MaxBundle)
	}
	if x.own, err = overlay.Decode(raw); err != nil {
		return err
	}
	c, err := s.cfg.State.Fresh(r.Context())
	if err != nil {
		return err
	}
	x.now = overlayNow(c, name)
	if _, exists := c.Overlay(name); exists && r.Header.Get("If-None-Match") == "*" {
		return fault.New(fault.Conflict, "there is an overlay %s already", name).WithFix("see what is in it: wulf overlay show %s", name)
	}
	out, err := s.writeOverlay(w, r, c, x)
	if x.has != nil && errors.Is(err, fault.Conflict) {
		return unmatched{err}
	}
	if err == nil {
		api.WriteJSON(w, out)
	}
	return err
}

// patchOverlay changes some files of an overlay. It is made of what is there now, and made anew if somebody else was
// faster: so two people who edit different files lose nothing.
func (s *Server) patchOverlay(w http.ResponseWriter, r *http.Request, by caller) error {
	var edit overlay.Edit
	d := json.NewDecoder(http.MaxBytesReader(w, readStream(w, r), maxEdit))
	d.DisallowUnknownFields()
	if err := d.Decode(&edit); err != nil {
		return fault.Wrap(fault.Invalid, err, "the edit was not received whole, has more than %d bytes, or is no edit", maxEdit)
	}
	for try := 0; ; try++ {
		c, err := s.cfg.State.Fresh(r.Context())
		if err != nil {
			return err
		}
		now, err := overlayOf(c, r)
		if err != nil {
			return err
		}
		x, err := newOverlayWrite(r, now.Name, by)
		if err != nil {
			return err
		}
		if err := s.edited(r.Context(), x, now, &edit); err != nil {
			return err
		}
		out, err := s.writeOverlay(w, r, c, x)
		if errors.Is(err, fault.Conflict) && try < editTries {
			continue
		}
		if err == nil {
			api.WriteJSON(w, out)
		}
		return err
	}
}

// edited makes of a write what an edit wants of what is there.
func (s *Server) edited(ctx context.Context, x *overlayWrite, now *catalog.Overlay, edit *overlay.Edit) error {
	own, err := s.bundle(ctx, now.Content)
	if err != nil {
		return err
	}
	shipped, err := s.bundle(ctx, now.Base)
	if err != nil {
		return err
	}
	x.now, x.has, x.laid = now, &now.Content.ID, now.Laid || now.Content.ID.IsZero()
	base := shipped
	if !x.laid {
		base = nil
	}
	x.own, err = edit.Apply(base, own, shipped)
	return err
}

// overlayWrite is new content for the site's part of an overlay.
type overlayWrite struct {
	name    catalog.OverlayName
	now     *catalog.Overlay // empty if there is none
	own     *overlay.Bundle
	laid    bool      // see catalog.Overlay
	has     *chunk.ID // see catalog.PutOverlay
	force   bool
	message string
	by      caller
}

func newOverlayWrite(r *http.Request, name catalog.OverlayName, by caller) (*overlayWrite, error) {
	force, err := truth(r, "force")
	return &overlayWrite{name: name, force: force, message: r.URL.Query().Get("message"), by: by}, err
}

func overlayNow(c *catalog.Catalog, name catalog.OverlayName) *catalog.Overlay {
	if o, ok := c.Overlay(name); ok {
		return o
	}
	return &catalog.Overlay{Name: name}
}

// writeOverlay tries what is new on nodes, publishes it and lets the catalog name it.
func (s *Server) writeOverlay(w http.ResponseWriter, r *http.Request, c *catalog.Catalog, x *overlayWrite) (api.ChangeResult, error) {
	if x.has != nil && *x.has != x.now.Content.ID {
		return api.ChangeResult{}, catalog.OverlayChanged(x.now)
	}
	warning := ""
	if err := s.tryOut(r.Context(), c, x); err != nil {
		if !errors.Is(err, fault.Invalid) {
			return api.ChangeResult{}, err
		}
		if warning = err.Error(); !x.force {
			return api.ChangeResult{}, fault.New(fault.Invalid, "%s; nothing was written", warning).WithFix("mend it, or write it all the same with --force")
		}
	}
	next := catalog.Overlay{Name: x.name, Files: len(x.own.Files), Laid: x.laid}
	if next.Files+len(x.own.Hooks) > 0 || !x.laid || x.now.Base.ID.IsZero() { // else nothing is the site's any more
		body, err := x.own.Encode()
		if err != nil {
			return api.ChangeResult{}, err
		}
		if next.Content, err = s.cfg.Chunks.Publish(r.Context(), body); err != nil {
			return api.ChangeResult{}, err
		}
	}
	if _, exists := c.Overlay(x.name); exists && next.Content == x.now.Content && (next.Laid == x.now.Laid || next.Content.ID.IsZero()) {
		setRevision(w, c)
		return api.ChangeResult{Revision: c.Revision, By: x.by.by, Same: true, Warning: warning}, nil
	}
	rev, err := s.propose(r.Context(), catalog.PutOverlay{Overlay: next, Has: x.has}, x.by.by, x.message)
	if err != nil {
		return api.ChangeResult{}, err
	}
	now := s.cfg.State.Current()
	setRevision(w, now)
	out := resultOf(now, rev, x.by.by)
	out.Warning = warning
	return out, nil
}

// contentMatch is the content that a request's If-Match names: nil if none, zero where there shall be none.
func contentMatch(r *http.Request) (*chunk.ID, error) {
	switch r.Header.Get("If-Match") {
	case "":
		return nil, nil
	case strconv.Quote(api.NoContent):
		return new(chunk.ID), nil
	}
	id, err := ifContent(r)
	return &id, err
}

// truth is a parameter that is true or false, and false where nothing is said.
func truth(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		return false, fault.New(fault.Invalid, "%s is true or false, not %.40q", name, text)
	}
	return v, nil
}

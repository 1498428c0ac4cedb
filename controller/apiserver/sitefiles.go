package apiserver

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf/view"
)

func (s *Server) getSiteFiles(w http.ResponseWriter, r *http.Request, _ caller) error {
	return getList(s, w, r, (*catalog.Catalog).SiteFiles)
}

// getSiteFile sends the content of a site file; of a link, that of the file that it leads to, as templates see it.
func (s *Server) getSiteFile(w http.ResponseWriter, r *http.Request, _ caller) error {
	c, err := s.read(w, r)
	if err != nil {
		return err
	}
	path := r.PathValue("path")
	f, ok := c.FollowSiteFile(path)
	if !ok {
		if link, is := c.SiteFile(path); is {
			return fault.New(fault.NotFound, "the site file %s is a link to %s, where there is no site file", path, link.Target).
				WithFix("put one there, or delete the link: wulf file delete %s", path)
		}
		return fault.New(fault.NotFound, "there is no site file %.80q", path).WithFix("see which there are: wulf file list")
	}
	if unchanged(w, r, `"`+f.Content.ID.String()+`"`) {
		return nil
	}
	raw, err := s.content(r.Context(), f.Content, catalog.MaxSiteFile)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(raw) // a client that is gone asks again
	return nil
}

// putSiteFile makes a site file of a request's body, or gives one new content.
func (s *Server) putSiteFile(w http.ResponseWriter, r *http.Request, by caller) error {
	put := catalog.PutSiteFile{File: catalog.SiteFile{Path: r.PathValue("path")}}
	if err := catalog.CheckSitePath(put.File.Path); err != nil { // before bytes are stored for it
		return err
	}
	mode, err := strconv.ParseUint(cmp.Or(r.URL.Query().Get("mode"), "644"), 8, 9)
	if err != nil {
		return fault.New(fault.Invalid, "%.40q is not a mode", r.URL.Query().Get("mode")).WithFix("use permission bits, such as 644")
	}
	put.File.Mode = uint32(mode)
	if put.Base, err = ifContent(r); err != nil {
		return err
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, readStream(w, r), catalog.MaxSiteFile))
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "the file was not received whole, or has more than %d bytes", catalog.MaxSiteFile).
			WithFix("put large files into an image")
	}
	if put.File.Path == catalog.SiteServerFile {
		if _, err := view.ReadServer(raw); err != nil {
			return fault.Wrap(fault.KindOf(err), err, "site file %s", put.File.Path)
		}
	}
	if put.File.Content, err = s.cfg.Chunks.Publish(r.Context(), raw); err != nil {
		return err
	}
	err = s.changeSiteFile(w, r, put, by)
	if !put.Base.IsZero() && errors.Is(err, fault.Conflict) {
		return unmatched{err}
	}
	return err
}

func (s *Server) deleteSiteFile(w http.ResponseWriter, r *http.Request, by caller) error {
	return s.changeSiteFile(w, r, catalog.DeleteSiteFile{Path: r.PathValue("path")}, by)
}

func (s *Server) changeSiteFile(w http.ResponseWriter, r *http.Request, change catalog.Change, by caller) error {
	rev, err := s.propose(r.Context(), change, by.by, r.URL.Query().Get("message"))
	if err != nil {
		return err
	}
	c := s.cfg.State.Current()
	setRevision(w, c)
	api.WriteJSON(w, resultOf(c, rev, by.by))
	return nil
}

// ifContent is the content that a request's If-Match names: what the client has seen, and made a new one of.
func ifContent(r *http.Request) (chunk.ID, error) {
	text := r.Header.Get("If-Match")
	if text == "" {
		return chunk.ID{}, nil
	}
	inner, err := strconv.Unquote(text)
	if err == nil {
		var id chunk.ID
		if id, err = chunk.ParseID(inner); err == nil {
			return id, nil
		}
	}
	return chunk.ID{}, fault.New(fault.Invalid, "If-Match names no content: %.80q", text).WithFix("send the ETag that came with the file")
}

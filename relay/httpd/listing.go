package httpd

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"strconv"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// nodeOverlay serves a node the listing of its own overlays of a kind.
func (s *Server) nodeOverlay(w http.ResponseWriter, r *http.Request) error {
	node, kind, err := ownOverlay(r)
	if err != nil {
		return err
	}
	has, h := r.Header.Get("If-None-Match"), held(r)
	var made *rendered
	if has != "" { // it runs, and tells itself what it could not get
		if made, err = s.whenNew(w, r, node, kind, has); err != nil {
			return err
		}
	} else if made, err = s.overlays.patient(r.Context(), node, kind); err != nil {
		s.cfg.Record(boot.Event{Stage: boot.StageImage, Node: node, Boot: h.Boot, Error: err.Error(), Fix: fault.Fix(err)})
		return err
	}
	w.Header().Set("Cache-Control", "private, no-cache")
	w.Header().Set(api.HeaderRevision, strconv.FormatUint(uint64(made.catalog.Revision), 10))
	if made.pending && has != "" { // what the node has is better than a rendering that lacks a file
		w.Header().Set("ETag", has)
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("ETag", made.tag())
	compressed(w, r, "application/json", made.body)
	if made.withheld && has == "" {
		s.cfg.Record(boot.Event{Stage: boot.StageImage, Node: node, Boot: h.Boot, Message: "its secrets are not held by relay " + string(s.cfg.Name) + ": it boots without"})
	}
	return nil
}

// ownOverlay says which overlays a node asks for; they must be its own.
func ownOverlay(r *http.Request) (catalog.NodeName, string, error) {
	node, kind := catalog.NodeName(r.PathValue("node")), r.PathValue("kind")
	if h := held(r); node != catalog.NodeName(h.Node) {
		return "", "", fault.New(fault.Denied, "node %s may not have the overlays of %.80q", h.Node, node)
	}
	if kind != overlay.KindSystem && kind != overlay.KindRuntime {
		return "", "", fault.New(fault.NotFound, "overlays are of the kind system or runtime, not %.80q", kind)
	}
	return node, kind, nil
}

// nodeContent serves a node a large file of its own overlays, by the digest of its content.
func (s *Server) nodeContent(w http.ResponseWriter, r *http.Request) error {
	node, kind, err := ownOverlay(r)
	if err != nil {
		return err
	}
	id, err := chunk.ParseID(r.PathValue("digest"))
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "reading a digest")
	}
	b, err := s.overlays.content(r.Context(), node, kind, id)
	if err != nil {
		return err
	}
	if b == nil {
		return fault.New(fault.NotFound, "the %s overlays of node %s have no file of that content", kind, node).WithFix("ask for the listing again")
	}
	w.Header().Set("Cache-Control", "private, max-age=86400")
	w.Header().Set("ETag", `"`+id.String()+`"`)
	compressed(w, r, "application/octet-stream", b)
	return nil
}

// compressed serves what is held compressed: agents take it so.
func compressed(w http.ResponseWriter, r *http.Request, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Encoding", "zstd") // RFC 8878
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// bootOverlay serves the overlays of both kinds to the boot loader of a one-stage boot, which puts them after the
// image. Plain HTTP is all that it speaks; the ticket is good for this once.
func (s *Server) bootOverlay(w http.ResponseWriter, r *http.Request) error {
	t, _, err := s.openTicket(r.URL.Query().Get("ticket"))
	if err != nil {
		return err
	}
	if hw, err := catalog.ParseHardwareAddr(r.PathValue("hw")); err != nil || hw != hardware(t) {
		return fault.New(fault.Denied, "the ticket is another machine's")
	}
	if err := s.byAgent(catalog.NodeName(t.Node)); err != nil {
		return err
	}
	// iPXE asks for a size first (HEAD), and again when a relay breaks off: within one boot, by one address, that is the
	// same use.
	if !s.claims.take(t, "overlay", remote(r).String()) {
		return fault.New(fault.Denied, "the overlays of boot %s were fetched already", t.Boot)
	}
	var b bytes.Buffer
	if err := s.overlays.archive(r.Context(), &b, catalog.NodeName(t.Node)); err != nil {
		s.cfg.Record(boot.Event{Stage: boot.StageScript, Node: catalog.NodeName(t.Node), Boot: t.Boot, Error: err.Error(), Fix: fault.Fix(err)})
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.Write(b.Bytes()) // a reader that is gone asks again
	return nil
}

// archive writes a node's overlays as a cpio archive that the kernel unpacks. The files in it are listings with all
// contents, which the agent applies before it starts the node's init: a kernel that unpacks makes no missing directories,
// and would replace a symbolic link to a directory, as /lib is one, by a directory.
func (o *overlays) archive(ctx context.Context, out io.Writer, node catalog.NodeName) error {
	w := segment.NewWriter(out)
	if err := w.WriteEntry(&segment.Entry{Path: path.Dir(api.OneStageOverlay), Type: segment.Dir, Mode: 0o755}, nil); err != nil {
		return err
	}
	for _, kind := range []string{overlay.KindSystem, overlay.KindRuntime} {
		made, err := o.patient(ctx, node, kind)
		if err != nil {
			return err
		}
		body, err := json.Marshal(overlay.List(kind, made.result.Files, made.result.Hooks, overlay.MaxBundle))
		if err != nil {
			return err
		}
		e := segment.Entry{Path: api.OneStageOverlay + kind + ".json", Type: segment.File, Mode: 0o600, Size: int64(len(body))}
		if err := w.WriteEntry(&e, bytes.NewReader(body)); err != nil {
			return err
		}
	}
	if declared := storage(o.cfg.Feed.Catalog(), node); declared != nil {
		body, err := json.Marshal(declared)
		if err != nil {
			return fault.Wrap(fault.Internal, err, "encoding what the disks are to hold")
		}
		e := segment.Entry{Path: api.OneStageStorage, Type: segment.File, Mode: 0o600, Size: int64(len(body))}
		if err := w.WriteEntry(&e, bytes.NewReader(body)); err != nil {
			return err
		}
	}
	return w.Close()
}

func contextWith(r *http.Request, h holder) context.Context {
	return context.WithValue(r.Context(), holderKey{}, h)
}

package apiserver

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/publish"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Importer makes versions of images. *publish.Publisher is one.
type Importer interface {
	// Import makes one of a root file system; its chunks are on this controller then, and nothing refers to them yet.
	Import(ctx context.Context, src publish.Source, parent *chunk.Ref, progress func(api.ImportProgress)) (publish.Version, error)
	// Finish makes one of segments that are here.
	Finish(ctx context.Context, name catalog.ImageName, d api.ImageDraft, parent *chunk.Ref, progress func(api.ImportProgress)) (publish.Version, error)
}

// maxImports bounds the imports that run at once: each keeps all cores busy.
const maxImports = 2

// imports counts those under way on this controller.
type imports struct{ running atomic.Int32 }

// begin reserves a place, or says why not. Two imports of one image may run at once: each becomes a version.
func (i *imports) begin() error {
	if i.running.Add(1) > maxImports {
		i.end()
		return fault.New(fault.Unavailable, "this controller is busy with %d imports", maxImports).WithFix("wait, or use another controller")
	}
	return nil
}

func (i *imports) end() { i.running.Add(-1) }

// importImage makes a version of an image out of the tar in the body. ?source= says where it came from, for people;
// each ?tag= is moved to it beside the tag latest. It appears in the catalog when a majority of the controllers holds
// all of it; if anything fails before, nothing has happened.
//
// The answer is a stream of api.ImportProgress. What is wrong at once is an ordinary error; what goes wrong later is
// in the last line.
func (s *Server) importImage(w http.ResponseWriter, r *http.Request, by caller) error {
	q := r.URL.Query()
	d := api.ImageDraft{Source: q.Get("source"), Message: q.Get("message"), Tags: q["tag"]}
	return s.version(w, r, by, d, func(ctx context.Context, x version) (publish.Version, error) {
		return s.cfg.Importer.Import(ctx, publish.Source{Name: x.name, Tar: readStream(w, r), Draft: x.draft}, x.parent, x.report)
	})
}

// postVersion makes a version of segments that were made and sent before, as importImage does of a tar.
func (s *Server) postVersion(w http.ResponseWriter, r *http.Request, by caller) error {
	var d api.ImageDraft
	if err := api.ReadJSON(w, r, &d); err != nil {
		return err
	}
	return s.version(w, r, by, d, func(ctx context.Context, x version) (publish.Version, error) {
		// The client may have gone from one controller to another in the middle.
		if err := s.obtain(ctx, (&chunk.Manifest{Segments: d.Segments, Aside: d.Aside, Index: d.Index, Extras: d.Extras}).Refs()); err != nil {
			return publish.Version{}, err
		}
		return s.cfg.Importer.Finish(ctx, x.name, x.draft, x.parent, x.report)
	})
}

// obtain fetches the chunks that are not here from the other controllers.
func (s *Server) obtain(ctx context.Context, refs []chunk.Ref) error {
	for _, ref := range refs {
		err := s.cfg.Chunks.Obtain(ctx, ref)
		if errors.Is(err, fault.NotFound) {
			return fault.New(fault.Conflict, "chunk %s of the draft is not here", ref.ID.Short()).WithFix("send again what is missing, and then the draft")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// version is what a version is made with.
type version struct {
	name   catalog.ImageName
	draft  api.ImageDraft
	parent *chunk.Ref // manifest of the version that it was made from
	report func(api.ImportProgress)
}

// version checks what is asked for, lets the version be made, and publishes it.
func (s *Server) version(w http.ResponseWriter, r *http.Request, by caller, d api.ImageDraft, do func(context.Context, version) (publish.Version, error)) error {
	name, err := catalog.ParseName[catalog.ImageName]("image", r.PathValue("name"))
	if err != nil {
		return err
	}
	for _, tag := range d.Tags {
		if _, err := catalog.ParseName[string]("tag", tag); err != nil {
			return err
		}
	}
	if len(d.Message) > catalog.MaxMessage {
		return fault.New(fault.Invalid, "the message has %d bytes, more than %d", len(d.Message), catalog.MaxMessage)
	}
	c, err := s.cfg.State.Fresh(r.Context()) // without a leader the work would be for nothing
	if err != nil {
		return err
	}
	x := version{name: name, draft: d}
	if x.parent, err = parent(c, name, &x.draft); err != nil {
		return err
	}
	if err := s.imports.begin(); err != nil {
		return err
	}
	defer s.imports.end()
	return s.stream(w, r, by, func(ctx context.Context, report func(api.ImportProgress)) (api.ImportProgress, error) {
		began := time.Now()
		x.report = report
		defer s.cfg.Chunks.Hold()() // no collection takes what nothing refers to yet
		v, err := do(ctx, x)
		if err != nil {
			return api.ImportProgress{}, err
		}
		out, err := s.publish(ctx, name, v, x.draft, by, report)
		if err == nil {
			s.cfg.Logger.Info("image published", "image", name, "version", v.Manifest.ID.Short(), "bytes", v.Size, "chunks", len(v.Chunks),
				"took", time.Since(began), "revision", out.Result.Revision, "by", by.by)
		}
		return out, err
	})
}

// parent finds the version that a draft was made from: the one that it names, wherever in the catalog that is, or the
// image's latest.
func parent(c *catalog.Catalog, name catalog.ImageName, d *api.ImageDraft) (*chunk.Ref, error) {
	if d.Parent.IsZero() {
		if i, ok := c.Image(name); ok {
			d.Parent = i.Tags[catalog.TagLatest]
		}
	}
	if d.Parent.IsZero() {
		return nil, nil
	}
	for i := range c.Images() {
		if v, ok := i.Version(d.Parent.String()); ok {
			return &v.Manifest, nil
		}
	}
	return nil, fault.New(fault.NotFound, "the version %s, of which this one was made, is no longer there", d.Parent.Short()).WithFix("import it as an image of its own")
}

// moves tells whether publishing a version changes anything: it may be the latest already.
func moves(i *catalog.Image, id chunk.ID, tags []string) bool {
	return i.Tags[catalog.TagLatest] != id || slices.ContainsFunc(tags, func(t string) bool { return i.Tags[t] != id })
}

// publish does the last two steps: the chunks on a majority of the controllers, and only then the change that names them.
func (s *Server) publish(ctx context.Context, name catalog.ImageName, v publish.Version, d api.ImageDraft, by caller, report func(api.ImportProgress)) (api.ImportProgress, error) {
	c := s.cfg.State.Current()
	if i, ok := c.Image(name); ok && !moves(i, v.Manifest.ID, d.Tags) {
		return api.ImportProgress{Version: &v.ImageVersion, Result: &api.ChangeResult{Revision: c.Revision}, Latest: v.Manifest.ID}, nil
	}
	err := s.cfg.Chunks.Push(ctx, v.Chunks, func(done, total int64) {
		report(api.ImportProgress{Step: "copying to the other controllers", Done: done, Total: total})
	})
	if err != nil {
		return api.ImportProgress{}, err
	}
	rev, err := s.propose(ctx, catalog.PutImage{Name: name, Version: v.ImageVersion, Tags: d.Tags, Base: d.Base}, by.by, d.Message)
	if err != nil {
		return api.ImportProgress{}, err
	}
	out := api.ImportProgress{Version: &v.ImageVersion, Result: &api.ChangeResult{Revision: rev}}
	if i, ok := s.cfg.State.Current().Image(name); ok { // which may be newer still: then it is so all the same
		out.Latest = i.Tags[catalog.TagLatest]
	}
	return out, nil
}

// stream runs an import and sends what it reports, then its result. An error before anything was sent is returned.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, by caller, do func(context.Context, func(api.ImportProgress)) (api.ImportProgress, error)) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	p := &progress{ctx: ctx, news: make(chan api.ImportProgress, 16)}
	type end struct {
		result api.ImportProgress
		err    error
	}
	done := make(chan end, 1)
	go s.inFlight.run(func() {
		result, err := do(ctx, p.report)
		done <- end{result, err}
	})
	var out *lines
	send := func(q api.ImportProgress) error {
		if out == nil {
			out = newLines(w)
		}
		return out.write(q)
	}
	for {
		select {
		case q := <-p.news:
			if err := send(q); err != nil {
				cancel()
				<-done
				return err
			}
		case e := <-done:
			for len(p.news) > 0 { // nobody sends any more
				if err := send(<-p.news); err != nil {
					return err
				}
			}
			if e.err != nil && out == nil {
				return e.err
			}
			if e.err != nil {
				s.cfg.Logger.Warn("import failed", "path", r.URL.Path, "by", by.by, "err", e.err)
				e.result = api.ImportProgress{Error: new(api.ProblemOf(e.err))}
			}
			return send(e.result)
		}
	}
}

// progress passes reports on, but not more than anybody can read.
type progress struct {
	ctx  context.Context
	news chan api.ImportProgress

	mu   sync.Mutex
	step string
	at   time.Time
}

const reportEvery = 200 * time.Millisecond

// report may be called by any number of goroutines. Warnings all arrive; of the rest, what is too much is dropped.
func (p *progress) report(q api.ImportProgress) {
	if q.Warning != "" {
		select {
		case p.news <- q:
		case <-p.ctx.Done():
		}
		return
	}
	p.mu.Lock()
	soon := q.Step == p.step && time.Since(p.at) < reportEvery
	if !soon {
		p.step, p.at = q.Step, time.Now()
	}
	p.mu.Unlock()
	if soon {
		return
	}
	select {
	case p.news <- q:
	default:
	}
}

package apiserver

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/publish"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Importer makes chunks of a root file system. *publish.Publisher is one.
type Importer interface {
	// Import stores the chunks of an image on this controller and returns the version with all chunks that it
	// needs, the manifest's among them. Nothing refers to them yet.
	Import(ctx context.Context, src publish.Source, progress func(api.ImportProgress)) (catalog.ImageVersion, []chunk.Ref, error)
}

// maxImports bounds the imports that run at once: each keeps all cores busy.
const maxImports = 2

// imports are those under way on this controller.
type imports struct {
	mu      sync.Mutex
	running map[catalog.ImageName]bool
}

// begin reserves an image's name, or says why not.
func (i *imports) begin(name catalog.ImageName) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.running[name]:
		return fault.New(fault.Conflict, "image %s is being imported by somebody else at this moment", name).WithFix("wait until that is done, and look at the result before you import it again")
	case len(i.running) >= maxImports:
		return fault.New(fault.Unavailable, "this controller is busy with %d imports", len(i.running)).WithFix("wait, or use another controller")
	}
	i.running[name] = true
	return nil
}

func (i *imports) end(name catalog.ImageName) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.running, name)
}

// importImage makes a version of an image out of the tar in the body. ?source= says where it came from, for people;
// each ?tag= is moved to it beside the tag latest. It appears in the catalog when a majority of the controllers holds
// all of it; if anything fails before, nothing has happened.
//
// The answer is a stream of api.ImportProgress. What is wrong at once is an ordinary error; what goes wrong later is
// in the last line.
func (s *Server) importImage(w http.ResponseWriter, r *http.Request, by caller) error {
	name, err := catalog.ParseName[catalog.ImageName]("image", r.PathValue("name"))
	if err != nil {
		return err
	}
	tags := r.URL.Query()["tag"]
	for _, tag := range tags {
		if _, err := catalog.ParseName[string]("tag", tag); err != nil {
			return err
		}
	}
	c, err := s.cfg.State.Fresh(r.Context()) // without a leader the work would be for nothing
	if err != nil {
		return err
	}
	if err := s.imports.begin(name); err != nil {
		return err
	}
	defer s.imports.end(name)
	src := publish.Source{Name: name, Tar: readStream(w, r), Label: r.URL.Query().Get("source")}
	if old, ok := c.Image(name); ok {
		src.Parent = old.Tags[catalog.TagLatest]
	}
	return s.stream(w, r, by, func(ctx context.Context, report func(api.ImportProgress)) (api.ImportProgress, error) {
		return s.importFrom(ctx, src, tags, by, report)
	})
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

// importFrom does the three steps: chunks here, chunks on a majority, and only then the change that names them.
func (s *Server) importFrom(ctx context.Context, src publish.Source, tags []string, by caller, report func(api.ImportProgress)) (api.ImportProgress, error) {
	began := time.Now()
	version, refs, err := s.cfg.Importer.Import(ctx, src, report)
	if err != nil {
		return api.ImportProgress{}, err
	}
	err = s.cfg.Chunks.Push(ctx, refs, func(done, total int64) {
		report(api.ImportProgress{Step: "copying to the other controllers", Done: done, Total: total})
	})
	if err != nil {
		return api.ImportProgress{}, err
	}
	rev, err := s.propose(ctx, catalog.PutImage{Name: src.Name, Version: version, Tags: tags}, by.by)
	if err != nil {
		return api.ImportProgress{}, err
	}
	s.cfg.Logger.Info("image imported", "image", src.Name, "version", version.Manifest.ID.Short(), "bytes", version.Size, "chunks", len(refs), "took", time.Since(began), "revision", rev, "by", by.by)
	return api.ImportProgress{Version: &version, Result: &api.ChangeResult{Revision: rev}}, nil
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

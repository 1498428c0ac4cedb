package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// making is a version of an image that this process makes: it cuts and compresses here, where the files are, sends the
// chunks that the controllers lack, and then says what it is made of.
type making struct {
	cl    *client
	bar   *progress
	name  catalog.ImageName
	draft api.ImageDraft
	known *segment.Known
	sent  atomic.Int64 // bytes of chunks that the controllers lacked
	fresh atomic.Int64 // segments that were made, and not known
	other bool         // it is made of a version that was not the latest to begin with
}

// makingOf begins a version that is made of another one.
func makingOf(cl *client, v *published, bar *progress, what, message string) *making {
	id := v.version.Manifest.ID
	return &making{
		cl: cl, bar: bar, name: v.image.Name, known: segment.NewKnown(), other: id != newest(v.image).Manifest.ID,
		draft: api.ImageDraft{Source: what, Message: message, Level: v.manifest.Level, Parent: id, Base: id},
	}
}

// make does it, and returns what the controller says at the end. A connection that breaks is made anew and what is sent
// already is not sent again; after an interruption, making the same again goes on where it was.
func (m *making) make(ctx context.Context, src segment.Source) (api.ImportProgress, error) {
	exclude, err := segment.ReadExcludes(src)
	if err != nil {
		return api.ImportProgress{}, fmt.Errorf("image %s: %w", m.name, err)
	}
	m.draft.Level = cmp.Or(m.draft.Level, segment.DefaultLevel) // the version says it, for whoever builds on it
	out := newSender(ctx, m.cl, &m.sent)
	built, err := segment.Build(ctx, src, segment.Options{
		Level: m.draft.Level, Exclude: exclude, Known: m.known, Has: m.has, Sink: out.send,
		Progress: func(p segment.Progress) {
			m.bar.report("building", int64(p.Segments), int64(p.Total), false)
			m.fresh.Store(max(m.fresh.Load(), int64(p.Segments-p.Reused)))
		},
	})
	if sent := out.wait(); err == nil {
		err = sent
	}
	if err != nil {
		return api.ImportProgress{}, fmt.Errorf("image %s: %w", m.name, unreached(err))
	}
	d := &m.draft
	d.Segments, d.Aside, d.Index, d.Extras, d.Files, d.Unpacked = built.Segments, built.Aside, built.Index, built.Extras, built.Files, built.Unpacked
	return m.finish(ctx)
}

// has tells which of the chunks the controllers have.
func (m *making) has(ctx context.Context, refs []chunk.Ref) (map[chunk.ID]bool, error) {
	missing, err := m.cl.Missing(ctx, refs)
	if err != nil {
		return nil, err
	}
	have := make(map[chunk.ID]bool, len(refs))
	for _, ref := range refs {
		have[ref.ID] = !missing[ref.ID]
	}
	return have, nil
}

// finish lets the controller make a version of the segments.
func (m *making) finish(ctx context.Context) (api.ImportProgress, error) {
	body, err := json.Marshal(m.draft)
	if err != nil {
		return api.ImportProgress{}, err
	}
	answer, err := m.cl.Do(ctx, api.Request{ // as long as it takes, not the time of a usual question
		Method: http.MethodPost, Path: pathOf(api.PathVersions, string(m.name)), Size: int64(len(body)), Once: true,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	})
	if err != nil {
		return api.ImportProgress{}, unreached(err)
	}
	defer answer.Body.Close()
	return follow(answer.Body, m.bar)
}

// follow reads what a controller says about a version in the making until its result.
func follow(r io.Reader, bar *progress) (api.ImportProgress, error) {
	in := json.NewDecoder(r)
	for {
		var line api.ImportProgress
		if err := in.Decode(&line); err != nil {
			return line, fault.Wrap(fault.Unknown, err, "the controller's answer broke off; the version may have been published").
				WithFix("see wulf image list")
		}
		switch {
		case line.Error != nil:
			return line, &fault.Error{Kind: line.Error.Kind, Message: line.Error.Detail, Fix: line.Error.Fix}
		case line.Result != nil && line.Version != nil:
			return line, nil
		case line.Warning != "":
			bar.line("warning: %s", line.Warning)
		default:
			bar.report(line.Step, line.Done, line.Total, false)
		}
	}
}

// made says what became of it.
func (p *program) made(c *cli.Context, cl *client, m *making, end api.ImportProgress) error {
	v := end.Version
	fmt.Fprintf(p.out, "%s@%s\n", m.name, v.Manifest.ID)
	if v.Manifest.ID == m.draft.Parent {
		p.say("image %s: nothing is different, this is the version that is there", m.name)
	} else {
		p.say("image %s: %s in %d segments, %s unpacked; %d made anew, %s sent", m.name, size(v.Size), v.Segments, size(v.Unpacked), m.fresh.Load(), size(m.sent.Load()))
	}
	cl.again(c)
	if err := p.changed(c, cl, *end.Result); err != nil {
		return err
	}
	if m.draft.Base.IsZero() || end.Latest.IsZero() || end.Latest == v.Manifest.ID {
		return nil
	}
	take := fmt.Sprintf("wulf image tag %s latest %s", m.name, v.Manifest.ID.Short())
	if m.other {
		p.say("it was made of a version that is not the latest, so that no tag moved; to take it: %s", take)
		return nil
	}
	return fault.New(fault.Conflict, "image %s has another latest version, %s, since this work began: yours is kept as %s, and no tag moved", m.name, end.Latest.Short(), v.Manifest.ID.Short()).
		WithFix("compare them: wulf image diff %s@%s %s@%s; then, to take yours: %s",
			m.name, end.Latest.Short(), m.name, v.Manifest.ID.Short(), take)
}

const (
	sendStreams = 8         // chunks on their way at once
	sendMemory  = 128 << 20 // bytes of them in memory, about; a larger one goes alone
	sendTries   = 8         // of one chunk, in about two minutes
)

// sender sends chunks while others are being made.
type sender struct {
	ctx    context.Context
	sent   *atomic.Int64
	cl     *client
	memory *semaphore.Weighted
	g      *errgroup.Group
}

func newSender(ctx context.Context, cl *client, sent *atomic.Int64) *sender {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sendStreams)
	return &sender{ctx: ctx, sent: sent, cl: cl, memory: semaphore.NewWeighted(sendMemory), g: g}
}

// send takes a chunk and returns; what became of it is wait's answer, and ends the making of others.
func (s *sender) send(ref chunk.Ref, b []byte) error {
	need := min(ref.Size, sendMemory)
	if err := s.memory.Acquire(s.ctx, need); err != nil {
		return context.Cause(s.ctx)
	}
	b = slices.Clone(b)
	s.g.Go(func() error {
		defer s.memory.Release(need)
		return s.one(ref, b)
	})
	return nil
}

func (s *sender) wait() error { return s.g.Wait() }

// one makes sure that a chunk is at a controller.
func (s *sender) one(ref chunk.Ref, b []byte) error {
	pause := 500 * time.Millisecond
	for try := 1; ; try++ {
		err := s.once(ref, b)
		if fault.KindOf(err) != fault.Unavailable || try == sendTries {
			return err
		}
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
		pause = min(2*pause, 30*time.Second)
	}
}

func (s *sender) once(ref chunk.Ref, b []byte) error {
	a, err := s.cl.Do(s.ctx, api.Request{Method: http.MethodHead, Path: api.ChunkPath(ref.ID), Reads: true})
	if err == nil {
		return a.Body.Close()
	}
	if fault.KindOf(err) != fault.NotFound {
		return err
	}
	if err := s.cl.PutChunk(s.ctx, ref, b); err != nil {
		return err
	}
	s.sent.Add(ref.Size)
	return nil
}

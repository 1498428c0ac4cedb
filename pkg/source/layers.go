package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// image is a container image, wherever it is.
type image struct {
	label  string
	layers []blob // from the bottom up
}

// blob is a layer as it is kept there.
type blob struct {
	digest string // sha256:… of it as it is kept; "" where nobody says
	size   int64  // as it is kept; 0 where nobody says
	diffID string // sha256:… of the plain tar
	open   func(ctx context.Context) (io.ReadCloser, error)

	tries     int                                              // 0: what failed once fails again
	elsewhere func(ctx context.Context) (io.ReadCloser, error) // nil: the same bytes are nowhere else
}

const (
	maxLayers  = 500     // docker takes 127
	fetchers   = 3       // layers fetched at once
	fetchTries = 4       // of one layer
	maxConfig  = 8 << 20 // bytes of manifests and configurations
)

// layers fetches all layers and lays them over one another.
func (t *Tree) layers(ctx context.Context, i *image, o Options) error {
	if len(i.layers) == 0 || len(i.layers) > maxLayers {
		return fault.New(fault.Invalid, "the image has %d layers, not between 1 and %d", len(i.layers), maxLayers)
	}
	spools := make([]*os.File, len(i.layers))
	p := &sum{progress: o.Progress}
	for _, l := range i.layers {
		p.total += l.size
	}
	room := budget(o.Limits)
	g, fetching := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	for n, l := range i.layers {
		f, err := nameless(o.Work, "layer-*")
		if err != nil {
			return err
		}
		t.close = append(t.close, f.Close)
		spools[n] = f
		g.Go(func() error {
			if err := l.fetch(fetching, f, room, o.Limits, p); err != nil {
				return fmt.Errorf("layer %s: %w", l.name(), err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	list := make([]segment.Layer, len(spools))
	for n, f := range spools {
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		list[n] = segment.Layer{Name: i.layers[n].name(), At: f, Size: size}
	}
	tree, err := segment.OpenLayers(list, o.Limits)
	if err != nil {
		return err
	}
	t.Source = tree
	return nil
}

// name is how messages call a layer.
func (b *blob) name() string {
	id := b.digest
	if id == "" {
		id = b.diffID
	}
	if len(id) > len("sha256:")+12 {
		return id[:len("sha256:")+12]
	}
	return id
}

// sum adds the progress of several layers.
type sum struct {
	progress    func(string, int64, int64)
	mu          sync.Mutex
	done, total int64
}

func (s *sum) add(n int64) {
	s.mu.Lock()
	s.done += n
	done := s.done
	s.mu.Unlock()
	s.progress("fetching", min(done, max(s.total, done)), s.total)
}

// fetch writes the plain tar of a layer, verified in both its forms. What breaks off is tried again, and what a mirror
// cannot give is asked of the registry that it mirrors.
func (b *blob) fetch(ctx context.Context, f *os.File, room *room, l segment.Limits, p *sum) error {
	pause := 250 * time.Millisecond
	for try := 1; ; try++ {
		err := b.once(ctx, f, room, l, p)
		if err == nil || ctx.Err() != nil || fault.KindOf(err) == fault.Full {
			return err
		}
		switch {
		case b.elsewhere != nil:
			b.open, b.elsewhere, try = b.elsewhere, nil, 0
		case try >= b.tries || fault.KindOf(err) != fault.Unavailable:
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause = min(2*pause, 4*time.Second)
	}
}

func (b *blob) once(ctx context.Context, f *os.File, room *room, l segment.Limits, p *sum) error {
	r, err := b.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	kept, plain := sha256.New(), sha256.New()
	in := &arriving{ctx: ctx, r: io.TeeReader(r, kept), limit: b.size, p: p}
	var size int64
	defer func() {
		if err != nil {
			p.add(-in.n)
			_ = room.take(-size)
		}
	}()
	z, compressed, err := segment.Decompress(in)
	if err != nil {
		err = in.explain(fault.Wrap(fault.Invalid, err, "it is no archive"))
		return err
	}
	defer z.Close()
	buf := make([]byte, 256<<10)
	for {
		n, e := z.Read(buf)
		size += int64(n)
		if err = room.take(int64(n)); err != nil {
			return err
		}
		if compressed && size > bombFrom && size/ratio(l) > in.n {
			err = fault.New(fault.Invalid, "it unpacks to more than %d times its size and is taken for a bomb", ratio(l))
			return err
		}
		plain.Write(buf[:n])
		if _, err = f.Write(buf[:n]); err != nil {
			err = fault.Wrap(spoolKind(err), err, "writing it to a temporary file")
			return err
		}
		if errors.Is(e, io.EOF) {
			break
		}
		if e != nil {
			err = in.explain(fault.Wrap(fault.Invalid, e, "unpacking it after %d bytes", size))
			return err
		}
	}
	// What follows the compressed stream belongs to the digest, too.
	if _, err = io.Copy(io.Discard, in); err != nil {
		err = in.explain(fault.Wrap(fault.Invalid, err, "reading it"))
		return err
	}
	err = b.check(in.n, kept.Sum(nil), plain.Sum(nil))
	return err
}

// check holds what came against what was announced.
func (b *blob) check(n int64, kept, plain []byte) error {
	switch got, have := "sha256:"+hex.EncodeToString(kept), "sha256:"+hex.EncodeToString(plain); {
	case b.size > 0 && n != b.size:
		return fault.New(fault.Unavailable, "it has %d bytes and not the %d announced", n, b.size)
	case b.digest != "" && got != b.digest:
		return fault.New(fault.Corrupt, "its bytes have the digest %.19s and not the one announced", got)
	case b.diffID != "" && have != b.diffID:
		return fault.New(fault.Corrupt, "its content has the digest %.19s and not %.19s, which the image's configuration names", have, b.diffID)
	}
	return nil
}

const bombFrom = 64 << 20 // bytes out from which on the ratio is looked at

func ratio(l segment.Limits) int64 {
	if l.Ratio == 0 {
		return 200
	}
	return l.Ratio
}

// room bounds what all layers unpack to.
type room struct {
	mu   sync.Mutex
	left int64
}

func budget(l segment.Limits) *room {
	if l.Bytes == 0 {
		return &room{left: 256 << 30}
	}
	return &room{left: 2*l.Bytes + 64<<20}
}

func (r *room) take(n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left -= n; r.left < 0 {
		return fault.New(fault.Invalid, "all layers together unpack to more than can be an image")
	}
	return nil
}

// arriving reads a layer and keeps apart what the network did and what is wrong with the bytes.
type arriving struct {
	ctx    context.Context
	r      io.Reader
	n      int64
	limit  int64 // bytes announced; 0: unknown
	p      *sum
	failed error
}

func (a *arriving) Read(p []byte) (int, error) {
	if a.ctx.Err() != nil {
		return 0, context.Cause(a.ctx)
	}
	n, err := a.r.Read(p)
	a.n += int64(n)
	a.p.add(int64(n))
	if a.limit > 0 && a.n > a.limit {
		a.failed = fault.New(fault.Corrupt, "it has more than the %d bytes announced", a.limit)
		return 0, a.failed
	}
	if err != nil && !errors.Is(err, io.EOF) {
		a.failed = fault.Wrap(fault.Unavailable, err, "it broke off after %d bytes", a.n)
		return n, a.failed
	}
	if errors.Is(err, io.EOF) && a.limit > 0 && a.n < a.limit {
		a.failed = fault.New(fault.Unavailable, "it broke off after %d of %d bytes", a.n, a.limit)
		return n, a.failed
	}
	return n, err
}

// explain is the cause of an error: what was unpacking saw only that bytes were missing.
func (a *arriving) explain(err error) error {
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	if a.failed != nil {
		return a.failed
	}
	return err
}

func spoolKind(err error) fault.Kind {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fault.Full
	}
	return kindOf(err)
}

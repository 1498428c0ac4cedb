package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// stalled is how long an answer may bring nothing before the connection is taken for dead.
const stalled = 2 * time.Minute

// resuming goes on with an answer that breaks off, or stalls, where it broke off: layers have gigabytes.
type resuming struct {
	http.RoundTripper
	stall time.Duration
}

// RoundTrip sends a request.
func (t resuming) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		return t.RoundTripper.RoundTrip(r)
	}
	b := &resumed{t: t, r: r}
	a, err := b.ask(r)
	if err != nil {
		return nil, err
	}
	if a.StatusCode == http.StatusOK {
		b.size = a.ContentLength
	}
	b.body, a.Body = a.Body, b
	return a, nil
}

// resumed is the body of such an answer.
type resumed struct {
	t       resuming
	r       *http.Request
	body    io.ReadCloser
	ctx     context.Context // of the connection that body comes by
	end     context.CancelCauseFunc
	n, size int64 // without a size nothing goes on
	tries   int
}

// ask sends a request, and has a way to end it by itself.
func (b *resumed) ask(r *http.Request) (*http.Response, error) {
	ctx, end := context.WithCancelCause(r.Context())
	watch := time.AfterFunc(b.t.stall, func() { end(errStalled) })
	a, err := b.t.RoundTripper.RoundTrip(r.WithContext(ctx))
	watch.Stop()
	if err != nil {
		end(err)
		return nil, why(ctx, err)
	}
	b.ctx, b.end = ctx, end
	return a, nil
}

var errStalled = fault.New(fault.Unavailable, "nothing came for a long time")

// why is the cause of an error: that nothing came looks like a request that was called off.
func why(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// Read reads on, after a broken connection by another one.
func (b *resumed) Read(p []byte) (int, error) {
	end := b.end
	watch := time.AfterFunc(b.t.stall, func() { end(errStalled) })
	n, err := b.body.Read(p)
	watch.Stop()
	b.n += int64(n)
	if err == nil || b.n >= b.size || b.r.Context().Err() != nil || b.tries >= fetchTries {
		return n, err
	}
	b.tries++
	err = why(b.ctx, err)
	again := b.r.Clone(b.r.Context())
	again.Header.Set("Range", fmt.Sprintf("bytes=%d-", b.n))
	end(err)
	a, e := b.ask(again)
	if e != nil {
		return n, err
	}
	if a.StatusCode != http.StatusPartialContent || !strings.HasPrefix(a.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", b.n)) {
		a.Body.Close()
		b.tries = fetchTries // this server cannot go on
		return n, err
	}
	b.body.Close()
	b.body = a.Body
	return n, nil
}

// Close closes the connection.
func (b *resumed) Close() error {
	err := b.body.Close()
	b.end(context.Canceled)
	return err
}

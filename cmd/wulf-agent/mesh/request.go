package mesh

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// try runs do against one relay after the other, round after round with growing pauses, until it succeeds, ctx
// ends, or do fails in a way that no other relay can mend (fault.Invalid). A relay that is busy is left alone for as
// long as it said, and the next one asked only if that is long. Denied counts as a relay's own view: another may hold a
// newer catalog; but when all of them deny, that is the answer.
func (m *Mesh) try(ctx context.Context, what string, do func(ctx context.Context, relay string) error) error {
	return m.trying(ctx, what, do, func(string) time.Duration { return 0 })
}

// tryLarge is try for what relays have lines for.
func (m *Mesh) tryLarge(ctx context.Context, what string, do func(ctx context.Context, relay string) error) error {
	return m.trying(ctx, what, do, m.free)
}

func (m *Mesh) trying(ctx context.Context, what string, do func(ctx context.Context, relay string) error, turn func(relay string) time.Duration) error {
	var last error
	began, told := time.Now(), time.Time{}
	again := map[string]time.Time{} // when a relay that was busy may be asked again
	left := func(relay string) time.Duration { return max(time.Until(again[relay]), turn(relay)) }
	near := 0
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		m.mu.Lock()
		relays, start := m.relays, m.current
		m.mu.Unlock()
		if len(relays) == 0 {
			return fault.New(fault.Unavailable, "%s: no relay is known", what)
		}
		denied, turned := 0, 0
		var wait time.Duration // for the turn that is near; 0: none is
		for i := range relays {
			at := (start + i) % len(relays)
			relay := relays[at]
			if busy := left(relay); busy > 0 {
				turned++
				if busy <= nearTurn && near < maxNear && i == 0 {
					near++
					wait = busy + rand.N(firstPause)
					break
				}
				continue
			}
			err := do(ctx, relay)
			if err == nil {
				m.mu.Lock()
				if at < len(m.relays) {
					m.current = at
				}
				m.mu.Unlock()
				return nil
			}
			if ctx.Err() != nil {
				return fault.Wrap(fault.Timeout, cmp.Or(last, err), "%s: given up", what)
			}
			switch fault.KindOf(err) {
			case fault.Invalid:
				return err
			case fault.Denied:
				denied++
			}
			last = fmt.Errorf("relay %s: %w", relay, err)
			b, ok := errors.AsType[busy](err)
			if !ok {
				m.log.Info(what+" failed", "relay", relay, "err", err)
				continue
			}
			again[relay] = time.Now().Add(b.after)
			turned++
			if m.comeBack(relay, b); !b.line {
				m.log.Info(what+" failed", "relay", relay, "err", err)
			}
			if b.line && b.after <= nearTurn && near < maxNear {
				near++
				wait = b.after + rand.N(firstPause)
				break
			}
		}
		if denied == len(relays) {
			return last
		}
		if m.trouble != nil && time.Since(began) > troubleAfter && time.Since(told) > troubleEvery {
			told = time.Now()
			m.trouble(what, last, wait > 0 || turned == len(relays))
		}
		// Between half and all of the pause: nodes that failed together must not come back together. If all relays are
		// busy, nothing is to be had before the first of them is not.
		if wait == 0 {
			wait = pause/2 + rand.N(pause/2+1)
			if r, busy := rest(relays, left); busy {
				wait, near = r, 0
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fault.Wrap(fault.Timeout, last, "%s: given up", what)
		}
	}
}

// url is where a relay serves a path. Chunks are public, and verified here whoever sends them: they come by plain HTTP,
// which costs neither side the encryption, and which relays send straight from their files. What else comes in plain
// is nobody's word: see notPlain.
func (m *Mesh) url(relay, path string) string {
	m.mu.Lock()
	plain := m.plain[relay]
	m.mu.Unlock()
	if plain != "" && strings.HasPrefix(path, chunkPath) {
		return "http://" + plain + path
	}
	return "https://" + relay + path
}

// notPlain has a relay asked by HTTPS from now on, because what answers at its plain port is not the relay, or does
// not bring what it sends. The error counts for no more than that: nobody has signed it.
func (m *Mesh) notPlain(relay string, err error) error {
	m.mu.Lock()
	delete(m.plain, relay)
	m.mu.Unlock()
	return fault.Wrap(fault.Unavailable, err, "over plain HTTP")
}

// request sends one request and hands the answer, if it is 2xx or 304, to use. It is given up when nothing comes
// for the stall time.
func (m *Mesh) request(ctx context.Context, method, relay, path string, header http.Header, body []byte, use func(*http.Response) error) error {
	return m.requestFor(ctx, stall, method, relay, path, header, body, use)
}

// requestFor is request of which the answer may take so long to begin.
func (m *Mesh) requestFor(ctx context.Context, begin time.Duration, method, relay, path string, header http.Header, body []byte, use func(*http.Response) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(begin, func() { cancel(fault.New(fault.Timeout, "nothing came for %s", begin)) })
	defer watchdog.Stop()
	r, err := http.NewRequestWithContext(ctx, method, m.url(relay, path), bytes.NewReader(body))
	if err != nil {
		return fault.Wrap(fault.Internal, err, "relay %s", relay)
	}
	for k, v := range header {
		r.Header[k] = v
	}
	m.mu.Lock()
	if r.URL.Scheme == "http" {
		r.Header.Set(api.HeaderVerifies, "yes")
	} else if m.token != "" {
		r.Header.Set("Authorization", "Bearer "+m.token)
	}
	m.mu.Unlock()
	a, err := m.http.Do(r)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the caller says which relay, and what was asked
		}
		return fault.Wrap(fault.Unavailable, cmp.Or(context.Cause(ctx), err), "no answer")
	}
	defer a.Body.Close()
	if a.StatusCode == http.StatusServiceUnavailable {
		return busyAnswer(a)
	}
	if a.StatusCode >= 300 && a.StatusCode != http.StatusNotModified {
		text, _ := io.ReadAll(io.LimitReader(a.Body, 64<<10))
		err := api.ReadError(a.StatusCode, a.Header.Get("Content-Type"), text)
		if r.URL.Scheme == "http" && fault.KindOf(err) != fault.NotFound {
			err = m.notPlain(relay, err)
		}
		return err
	}
	a.Body = &watched{a.Body, watchdog}
	err = use(a)
	if r.URL.Scheme == "http" && errors.Is(err, fault.Corrupt) {
		return m.notPlain(relay, err)
	}
	if err != nil && context.Cause(ctx) != nil {
		return fault.Wrap(fault.Unavailable, context.Cause(ctx), "%s %s", method, path)
	}
	return err
}

// watched puts the watchdog off each time that bytes come.
type watched struct {
	io.ReadCloser
	watchdog *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if n > 0 {
		w.watchdog.Reset(stall)
	}
	return n, err
}

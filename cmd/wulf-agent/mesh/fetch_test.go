package mesh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// bytesOf makes content that no other seed makes.
func bytesOf(seed byte, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// shelf is the chunks that relays serve, and how many bytes of them each has sent.
type shelf struct {
	chunks map[string][]byte // by path

	mu   sync.Mutex
	sent map[string]int
}

func newShelf(contents ...[]byte) *shelf {
	s := &shelf{chunks: map[string][]byte{}, sent: map[string]int{}}
	for _, b := range contents {
		s.chunks["/chunk/"+chunk.Of(b).String()] = b
	}
	return s
}

func (s *shelf) by(relay string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent[relay]
}

// of is the shelf at a relay. With before, a piece at a time is sent, and before is told how much this relay has sent.
func (s *shelf) of(name string, before func(sent int)) http.HandlerFunc {
	const piece = 4 << 10
	return func(w http.ResponseWriter, r *http.Request) {
		b, ok := s.chunks[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		for len(b) > 0 {
			n := min(piece, len(b))
			if before != nil {
				before(s.by(name))
			}
			if _, err := w.Write(b[:n]); err != nil || r.Context().Err() != nil {
				return
			}
			s.mu.Lock()
			s.sent[name] += n
			s.mu.Unlock()
			b = b[n:]
		}
	}
}

func TestARelayThatDiesCostsAtMostTheChunksUnderWay(t *testing.T) {
	const chunks, size = 24, 64 << 10
	for _, workers := range []int{1, 4} {
		bubble(t, func(l *lab) {
			var contents [][]byte
			for i := range chunks {
				contents = append(contents, bytesOf(byte(i), size))
			}
			s := newShelf(contents...)
			var once sync.Once
			l.serve("r1", s.of("r1", func(sent int) {
				if sent > 5*size+size/2 { // in the middle of a chunk
					once.Do(func() { l.net.Kill("r1") })
				}
			}))
			l.serve("r2", s.of("r2", nil))
			l.host["n1"].SetBandwidth(1 << 20) // so that workers share the line, and all are under way
			todo := make(chan []byte, chunks)
			for _, b := range contents {
				todo <- b
			}
			close(todo)
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for want := range todo {
						if got, err := l.mesh.Fetch(l.t.Context(), chunk.RefOf(want)); err != nil || !bytes.Equal(got, want) {
							l.t.Errorf("fetched %d bytes, %v", len(got), err)
						}
					}
				})
			}
			wg.Wait()
			one, two := s.by("r1"), s.by("r2")
			if most := (chunks + workers) * size; one+two > most || one == 0 || two == 0 {
				l.t.Errorf("%d workers: r1 sent %d bytes and r2 %d: %d of %d were for nothing", workers, one, two, one+two-chunks*size, workers*size)
			}
			if from, n := l.mesh.From(); from != "r2" || n != chunks*size {
				l.t.Errorf("most came from %s, and %d bytes in all", from, n)
			}
		})
	}
}

func TestWrongBytesAreFetchedFromTheNextRelay(t *testing.T) {
	want := bytesOf(1, 100<<10)
	ref := chunk.RefOf(want)
	flipped := bytes.Clone(want)
	flipped[99<<10] ^= 1
	for name, first := range map[string]http.HandlerFunc{
		"two bytes flipped":  sends(flipped),
		"another chunk":      sends(bytesOf(2, len(want))),
		"cut off":            sends(want[:len(want)-1]),
		"something behind":   sends(append(bytes.Clone(want), 0)),
		"nothing":            sends(nil),
		"no end":             func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, rand.NewChaCha8([32]byte{})) },
		"breaks off":         breaksOff(want, 50<<10, func() { panic(http.ErrAbortHandler) }),
		"does not have it":   fails(fault.New(fault.NotFound, "no such chunk")),
		"may not give it":    denies,
		"found it damaged":   fails(fault.New(fault.Corrupt, "damaged on disk")),
		"says nothing clear": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
	} {
		for how, fetch := range map[string]func(l *lab) ([]byte, error){
			"Fetch":   func(l *lab) ([]byte, error) { return l.mesh.Fetch(l.t.Context(), ref) },
			"FetchID": func(l *lab) ([]byte, error) { return l.mesh.FetchID(l.t.Context(), ref.ID, 1<<20) },
			"Stream": func(l *lab) (b []byte, err error) {
				err = l.mesh.Stream(l.t.Context(), ref, func(r io.Reader) (err error) { b, err = io.ReadAll(r); return err })
				return b, err
			},
		} {
			bubble(t, func(l *lab) {
				l.serve("r1", first)
				l.serve("r2", sends(want))
				start := time.Now()
				got, err := fetch(l)
				if err != nil || !bytes.Equal(got, want) || time.Since(start) > time.Second {
					l.t.Errorf("%s, %s: %d bytes, %v, after %s", name, how, len(got), err, time.Since(start))
				}
				l.wantReached(name+", "+how, "r1", "r2")
				if from, n := l.mesh.From(); from != "r2" || n != ref.Size {
					l.t.Errorf("%s, %s: %d bytes count, most from %s", name, how, n, from)
				}
			})
		}
	}
}

func TestASilentRelayIsLeftWithinTheStallTime(t *testing.T) {
	want := bytesOf(1, 300<<10)
	for name, first := range map[string]func(l *lab){
		"no power":            func(l *lab) { l.net.Stall("r1") },
		"silent from the end": func(l *lab) { l.serve("r1", breaksOff(want, 0, func() {})) },
		"cable pulled":        func(l *lab) { l.serve("r1", breaksOff(want, 100<<10, func() { l.net.Stall("r1") })) },
		"stuck at the end":    func(l *lab) { l.serve("r1", breaksOff(want, len(want)-1, func() {})) },
		"no handshake": func(l *lab) {
			listener, err := l.host["r1"].Listen(":4481")
			if err != nil {
				l.t.Fatal(err)
			}
			l.t.Cleanup(func() { listener.Close() })
		},
	} {
		bubble(t, func(l *lab) {
			first(l)
			l.serve("r2", sends(want))
			start := time.Now()
			got, err := l.mesh.Fetch(l.t.Context(), chunk.RefOf(want))
			if took := time.Since(start); err != nil || !bytes.Equal(got, want) || took > 21*time.Second {
				l.t.Errorf("%s: %d bytes, %v, after %s", name, len(got), err, took)
			}
			l.net.Heal()
		})
	}
}

// Slow is not silent: a relay that is still fetching for others, or a full line, must not be left for another.
func TestASlowRelayIsNotLeft(t *testing.T) {
	bubble(t, func(l *lab) {
		want := bytesOf(1, 10)
		l.serve("r1", func(w http.ResponseWriter, _ *http.Request) {
			for _, b := range want {
				time.Sleep(15 * time.Second)
				_, _ = w.Write([]byte{b})
				_ = http.NewResponseController(w).Flush()
			}
		})
		l.serve("r2", sends(want))
		if got, err := l.mesh.Fetch(l.t.Context(), chunk.RefOf(want)); err != nil || !bytes.Equal(got, want) {
			l.t.Errorf("%d bytes, %v", len(got), err)
		}
		l.wantReached("slow", "r1")
	})
}

// What a stream led to is not what is wrong with it, and the other way round.
func TestStreamTellsBadBytesFromBadUse(t *testing.T) {
	want := bytesOf(1, 100<<10)
	flipped := bytes.Clone(want)
	flipped[10] ^= 1
	broken := errors.New("disk is full")
	bubble(t, func(l *lab) {
		l.serve("r1", sends(flipped))
		l.serve("r2", sends(want))
		uses := 0
		err := l.mesh.Stream(l.t.Context(), chunk.RefOf(want), func(r io.Reader) error {
			uses++
			b := make([]byte, 100)
			if _, err := io.ReadFull(r, b); err != nil {
				return err
			}
			if !bytes.Equal(b, want[:100]) {
				return errors.New("this is no archive") // for which the relay is to blame
			}
			return nil // without reading the rest, which is verified all the same
		})
		if err != nil || uses != 2 {
			l.t.Errorf("used %d times, %v", uses, err)
		}
		l.reached()
		err = l.mesh.Stream(l.t.Context(), chunk.RefOf(want), func(io.Reader) error { return broken })
		if !errors.Is(err, fault.Invalid) || !errors.Is(err, broken) {
			l.t.Errorf("got %v", err)
		}
		l.wantReached("a full disk", "r2")
	})
}

func TestABusyRelayIsLeftAloneAsLongAsItSays(t *testing.T) {
	want := bytesOf(1, 10)
	ref := chunk.RefOf(want)
	for name, tc := range map[string]struct {
		retryAfter string
		from, to   time.Duration // after which it is asked again
	}{
		"seven seconds":   {"7", 7 * time.Second, 11 * time.Second},
		"nothing said":    {"", time.Second, 2 * time.Second},
		"rubbish":         {"soon", time.Second, 2 * time.Second},
		"less than none":  {"-5", time.Second, 2 * time.Second},
		"half of forever": {"99999999", time.Minute, 76 * time.Second},
	} {
		bubble(t, func(l *lab) {
			start := time.Now()
			for _, r := range []string{"r1", "r2", "r3"} {
				first := true
				l.serve(r, func(w http.ResponseWriter, q *http.Request) {
					if first {
						first = false
						busyFor(tc.retryAfter)(w, q)
						return
					}
					sends(want)(w, q)
				})
			}
			_, err := l.mesh.Fetch(l.t.Context(), ref)
			if took := time.Since(start); err != nil || took < tc.from || took > tc.to {
				l.t.Errorf("%s: %v after %s, want between %s and %s", name, err, took, tc.from, tc.to)
			}
			l.wantReached(name, "r1", "r2", "r3", "r1")
		})
	}
	bubble(t, func(l *lab) { // one is busy for long: the others are not made to wait for it
		l.serve("r1", busyFor("30"))
		down := time.Now().Add(3 * time.Second)
		l.serve("r2", func(w http.ResponseWriter, q *http.Request) {
			if time.Now().Before(down) {
				http.NotFound(w, q)
				return
			}
			sends(want)(w, q)
		})
		if _, err := l.mesh.Fetch(l.t.Context(), ref); err != nil || time.Since(down) > 5*time.Second {
			l.t.Errorf("%v, %s after r2 had it", err, time.Since(down))
		}
		if got := strings.Join(l.reached(), " "); strings.Count(got, "r1") != 1 {
			l.t.Errorf("the busy relay was asked again: %s", got)
		}
	})
}

func TestWhenAllRelaysDenyThatIsTheAnswer(t *testing.T) {
	ref := chunk.RefOf(bytesOf(1, 10))
	bubble(t, func(l *lab) {
		for _, r := range []string{"r1", "r2", "r3"} {
			l.serve(r, denies)
		}
		start := time.Now()
		if _, err := l.mesh.Fetch(l.t.Context(), ref); !errors.Is(err, fault.Denied) || time.Since(start) > time.Second {
			l.t.Errorf("got %v after %s", err, time.Since(start))
		}
		l.wantReached("all deny", "r1", "r2", "r3")
	})
	bubble(t, func(l *lab) { // but one that is away may know better
		for _, r := range []string{"r1", "r2"} {
			l.serve(r, denies)
		}
		time.AfterFunc(time.Minute, func() { l.serve("r3", sends(bytesOf(1, 10))) })
		if _, err := l.mesh.Fetch(l.t.Context(), ref); err != nil {
			l.t.Errorf("got %v", err)
		}
	})
}

func TestWhatIsInvalidEndsAtOnce(t *testing.T) {
	bubble(t, func(l *lab) {
		l.serve("r1", fails(fault.New(fault.Invalid, "no chunk has such a name")))
		l.serve("r2", sends(nil))
		if _, err := l.mesh.Fetch(l.t.Context(), chunk.RefOf(nil)); !errors.Is(err, fault.Invalid) {
			l.t.Errorf("got %v", err)
		}
		l.wantReached("invalid", "r1")
	})
}

func TestANodeWaitsForItsRelaysWithoutDrumming(t *testing.T) {
	bubble(t, func(l *lab) {
		want := bytesOf(1, 10)
		missing := fails(fault.New(fault.NotFound, "not here yet"))
		l.serve("r1", missing)
		l.serve("r2", missing)
		start := time.Now()
		time.AfterFunc(10*time.Minute, func() { l.serve("r3", sends(want)) })
		if got, err := l.mesh.Fetch(l.t.Context(), chunk.RefOf(want)); err != nil || !bytes.Equal(got, want) || time.Since(start) > 10*time.Minute+15*time.Second {
			l.t.Errorf("%d bytes, %v after %s", len(got), err, time.Since(start))
		}
		// Ten seconds at most between rounds, five at least.
		if n := len(l.reached()); n < 100 || n > 260 {
			l.t.Errorf("two relays were asked %d times in ten minutes", n)
		}
	})
}

func TestTheEndOfTheContextIsATimeout(t *testing.T) {
	bubble(t, func(l *lab) {
		for name, first := range map[string]func(){"nobody there": func() {}, "relay hangs": func() { l.serve("r1", breaksOff([]byte("x"), 0, func() {})) }} {
			first()
			ctx, cancel := context.WithTimeout(l.t.Context(), 5*time.Second)
			start := time.Now()
			if _, err := l.mesh.Fetch(ctx, chunk.RefOf([]byte("x"))); !errors.Is(err, fault.Timeout) || time.Since(start) > 6*time.Second {
				l.t.Errorf("%s: %v after %s", name, err, time.Since(start))
			}
			cancel()
		}
		if _, err := l.newMesh().Fetch(l.t.Context(), chunk.RefOf([]byte("x"))); !errors.Is(err, fault.Unavailable) {
			l.t.Errorf("with no relay at all: %v", err)
		}
	})
}

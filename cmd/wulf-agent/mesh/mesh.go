// Package mesh is the agent's side of the relays: it fetches, claims and reports, and goes to another relay when
// one fails, in the middle of whatever it does.
package mesh

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// Times and bounds. A relay that sends nothing for the stall time is taken for dead: it verifies before it sends,
// so its first byte may take as long as its own fetch does.
const (
	stall      = 20 * time.Second
	firstPause = 500 * time.Millisecond
	maxPause   = 10 * time.Second
	maxSession = 16 << 20 // what the catalog lets be declared of one node, and what JSON makes of it
)

// What fails is told after a while, and then now and then.
const (
	troubleAfter = 45 * time.Second
	troubleEvery = 2 * time.Minute
)

const chunkPath = "/chunk/"

// Config says which relays to use, and why to believe them.
type Config struct {
	Trust  *pki.Trust
	Relays []string // host:port, best first
	Dial   api.DialFunc
	Log    *slog.Logger
	// Progress is called when something has come, or a relay has said how long it will take; nil: nobody wants to know.
	Progress func()
	// Trouble is told what has not succeeded for a while and is tried again; waiting says that all relays are merely busy.
	// It must not block. It may be nil.
	Trouble func(what string, err error, waiting bool)
}

// Mesh talks to a node's relays. Any number of goroutines may use it at once.
type Mesh struct {
	http     *http.Client
	log      *slog.Logger
	progress func()

	trouble func(what string, err error, waiting bool)

	mu      sync.Mutex
	relays  []string
	current int                         // index of the relay that answered last
	plain   map[string]string           // where the same relay serves chunks by plain HTTP
	token   string                      // of the session
	bytes   map[catalog.RelayName]int64 // fetched, by the relay that sent them
	turn    map[string]time.Time        // when relays said to come back for what is large
}

// New makes a Mesh; it opens no connection yet.
func New(cfg Config) *Mesh {
	if cfg.Progress == nil {
		cfg.Progress = func() {}
	}
	return &Mesh{
		log: cfg.Log, progress: cfg.Progress, trouble: cfg.Trouble, relays: cfg.Relays, bytes: map[catalog.RelayName]int64{}, turn: map[string]time.Time{},
		http: &http.Client{CheckRedirect: noRedirect, Transport: &http.Transport{
			DialContext:     cfg.Dial,
			TLSClientConfig: cfg.Trust.ClientTLS([]string{api.ALPNHTTP}, pki.Relay),
			// One connection a worker: TCP shares the card among them, and a lost packet stops only one.
			MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: 10 * time.Second, DisableCompression: true,
		}},
	}
}

// noRedirect takes a redirection for the failure that it is: relays send none, but somebody on a plain wire may.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Close closes idle connections.
func (m *Mesh) Close() { m.http.CloseIdleConnections() }

// SetSession makes later requests those of the session, and takes the relays that it names.
func (m *Mesh) SetSession(s api.Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.token = s.Token
	if len(s.Relays) > 0 {
		m.relays, m.current = s.Relays, 0
	}
	m.plain = map[string]string{}
	for i := range min(len(s.Relays), len(s.Plain)) {
		m.plain[s.Relays[i]] = s.Plain[i]
	}
}

// From is the relay that has sent the most bytes so far, and how many all have sent.
func (m *Mesh) From() (catalog.RelayName, int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var best catalog.RelayName
	var total int64
	for name, n := range m.bytes {
		total += n
		if n > m.bytes[best] {
			best = name
		}
	}
	return best, total
}

// Claim claims the boot that the ticket is for and makes later requests those of its session.
func (m *Mesh) Claim(ctx context.Context, ticket string) (api.Session, error) {
	// The same claim at each try: a relay whose answer was lost knows it again.
	return m.session(ctx, "claiming the boot", api.SessionRequest{Ticket: ticket, Claim: crand.Text()})
}

// Renew prolongs the session.
func (m *Mesh) Renew(ctx context.Context) (api.Session, error) {
	return m.session(ctx, "renewing the session", api.SessionRequest{})
}

func (m *Mesh) session(ctx context.Context, what string, q api.SessionRequest) (api.Session, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return api.Session{}, fault.Wrap(fault.Internal, err, "encoding the request")
	}
	var s api.Session
	err = m.try(ctx, what, func(ctx context.Context, relay string) error {
		return m.request(ctx, http.MethodPost, relay, api.PathSessions, jsonHeader(), body, func(a *http.Response) error {
			s = api.Session{}
			return json.NewDecoder(io.LimitReader(a.Body, maxSession)).Decode(&s)
		})
	})
	if err == nil {
		m.SetSession(s)
	}
	return s, err
}

func jsonHeader() http.Header { return http.Header{"Content-Type": {"application/json"}} }

// Fetch returns a chunk's bytes, verified. A chunk that is damaged at one relay is fetched from the next.
func (m *Mesh) Fetch(ctx context.Context, ref chunk.Ref) ([]byte, error) {
	var b []byte
	err := m.stream(ctx, ref, func(r io.Reader) (err error) {
		b = make([]byte, ref.Size)
		_, err = io.ReadFull(r, b)
		return err
	})
	return b, err
}

// FetchID is Fetch for a chunk of unknown size, of at most limit bytes.
func (m *Mesh) FetchID(ctx context.Context, id chunk.ID, limit int64) ([]byte, error) {
	var b []byte
	err := m.tryLarge(ctx, "fetching "+id.Short(), func(ctx context.Context, relay string) error {
		return m.request(ctx, http.MethodGet, relay, chunkPath+id.String(), nil, nil, func(a *http.Response) (err error) {
			if b, err = io.ReadAll(io.LimitReader(a.Body, limit+1)); err != nil {
				return fault.Wrap(fault.Unavailable, err, "chunk %s broke off", id.Short())
			}
			if chunk.Of(b) != id {
				return fault.New(fault.Corrupt, "chunk %s is damaged", id.Short())
			}
			m.count(a, int64(len(b)))
			return nil
		})
	})
	return b, err
}

// Stream hands a chunk's bytes to use as they come and verifies them on the way. When use has read all and the
// bytes turn out wrong, or they break off, another relay is asked and use is called again from the beginning: what
// it makes of the bytes must not count until Stream returns nil.
func (m *Mesh) Stream(ctx context.Context, ref chunk.Ref, use func(io.Reader) error) error {
	return m.stream(ctx, ref, use)
}

func (m *Mesh) stream(ctx context.Context, ref chunk.Ref, use func(io.Reader) error) error {
	return m.tryLarge(ctx, "fetching "+ref.ID.Short(), func(ctx context.Context, relay string) error {
		header := http.Header{api.HeaderSize: {strconv.FormatInt(ref.Size, 10)}}
		return m.request(ctx, http.MethodGet, relay, chunkPath+ref.ID.String(), header, nil, func(a *http.Response) error {
			v := chunk.NewVerifier(ref)
			source := &tee{r: a.Body, v: v}
			used := use(source)
			if source.err != nil { // the relay's fault comes before what its bytes led to
				return fault.Wrap(fault.Unavailable, source.err, "chunk %s broke off", ref.ID.Short())
			}
			if _, err := io.Copy(io.Discard, source); err != nil {
				return fault.Wrap(fault.Unavailable, err, "chunk %s broke off", ref.ID.Short())
			}
			if err := v.Verify(); err != nil {
				return err
			}
			if used != nil { // the bytes are right, so no other relay's can do better
				return fault.Wrap(fault.Invalid, used, "chunk %s cannot be used", ref.ID.Short())
			}
			m.count(a, ref.Size)
			return nil
		})
	})
}

// tee passes a stream on and verifies it; err is what went wrong with the stream itself.
type tee struct {
	r   io.Reader
	v   *chunk.Verifier
	err error
}

func (t *tee) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if _, bad := t.v.Write(p[:n]); bad != nil {
		err = bad
	}
	if err != nil && err != io.EOF {
		t.err = err
	}
	return n, err
}

func (m *Mesh) count(a *http.Response, n int64) {
	m.progress()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes[catalog.RelayName(a.Header.Get(api.HeaderRelay))] += n
}

// reporting is what Report is about.
const reporting = "reporting"

// Report sends events. Each try says when it was made: the relay learns from that how far off the clock is that the events'
// times are of.
func (m *Mesh) Report(ctx context.Context, events []boot.Event) error {
	body, err := json.Marshal(api.EventBatch{Events: events})
	if err != nil {
		return fault.Wrap(fault.Internal, err, "encoding events")
	}
	return m.try(ctx, reporting, func(ctx context.Context, relay string) error {
		header := jsonHeader()
		header.Set(api.HeaderSent, time.Now().UTC().Format(time.RFC3339Nano))
		return m.request(ctx, http.MethodPost, relay, api.PathNodeEvents, header, body, func(*http.Response) error { return nil })
	})
}

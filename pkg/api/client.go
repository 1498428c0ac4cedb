package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// DialFunc opens connections; it is the one network seam, so that tests can put a network of their own under it.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// UnixScheme begins the endpoint of a controller on the same machine: unix:/path/to/socket.
const UnixScheme = "unix:"

// Client talks to a group of servers that are as good as one another: it stays with the one that answered last
// and goes to the next when that one does not answer. Any number of goroutines may use it at once.
type Client struct {
	http      *http.Client
	endpoints func() []string
	heard     func(endpoint string, said time.Time)

	mu      sync.Mutex
	current string
}

// ClientConfig says whom a Client talks to, and how.
type ClientConfig struct {
	Endpoints func() []string                       // host:port of HTTPS, or unix:PATH; asked anew for each request
	TLS       *tls.Config                           // nil is right for unix endpoints only
	Dial      DialFunc                              // nil: the system's network
	Heard     func(endpoint string, said time.Time) // told what time a server says it is, with each answer; nil: nobody is
	Header    time.Duration                         // how long an answer may take to begin; 0: 15 s, and PathCatalog's wait is added; less: for ever
}

// NewClient makes a client. It opens no connection before the first request.
func NewClient(cfg ClientConfig) *Client {
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	}
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if host, _, err := net.SplitHostPort(addr); err == nil && strings.HasSuffix(host, unixSuffix) {
				path, err := url.PathUnescape(strings.ReplaceAll(strings.TrimSuffix(host, unixSuffix), "_", "%"))
				if err != nil {
					return nil, err
				}
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			}
			return dial(ctx, network, addr)
		},
		TLSClientConfig:       cfg.TLS,
		ForceAttemptHTTP2:     false, // chunks go faster over several connections than over one shared window
		MaxIdleConnsPerHost:   16,
		MaxConnsPerHost:       64,
		IdleConnTimeout:       60 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: cmp.Or(cfg.Header, 15*time.Second) + MaxWait,
		DisableCompression:    true,
	}
	if cfg.Header < 0 {
		t.ResponseHeaderTimeout = 0
	}
	return &Client{http: &http.Client{Transport: t}, endpoints: cfg.Endpoints, heard: cfg.Heard}
}

// MaxWait bounds how long PathCatalog and PathBoots hold a request open for news.
const MaxWait = 30 * time.Second

const unixSuffix = ".unix.invalid"

// base is the URL of an endpoint. A socket's path travels in the host name, which is what connections are pooled by.
func base(endpoint string) string {
	path, ok := strings.CutPrefix(endpoint, UnixScheme)
	if !ok {
		return "https://" + endpoint
	}
	var b strings.Builder
	for _, c := range []byte(path) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return "http://" + b.String() + unixSuffix
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// order is the endpoints to try: the one that answered last comes first.
func (c *Client) order() []string {
	c.mu.Lock()
	current := c.current
	c.mu.Unlock()
	all := c.endpoints()
	order := make([]string, 0, len(all)+1)
	for _, e := range all {
		if e == current {
			order = append(order, e)
		}
	}
	for _, e := range all {
		if e != current {
			order = append(order, e)
		}
	}
	return order
}

// Request is one HTTP request, to whichever endpoint answers.
type Request struct {
	Method string
	Path   string // with its query
	Header http.Header
	Body   func() (io.ReadCloser, error) // made anew for each endpoint; nil for none
	Size   int64                         // of the body; -1 if it is not known
	Once   bool                          // never send it to a second endpoint after a byte of it may have been acted upon
	Reads  bool                          // it changes nothing, though its method is not GET
}

// Do sends the request to the endpoints in turn until one answers with less than a server's own failure. The
// caller closes the body of the answer, whose status is 2xx or 304: any other is returned as the fault it carries.
// If nobody answers, the error is fault.Unavailable; with Once, where the request may have arrived, fault.Unknown.
func (c *Client) Do(ctx context.Context, q Request) (*http.Response, error) {
	var last, unknown error
	for _, e := range c.order() {
		r, err := c.DoAt(ctx, e, q)
		if err == nil {
			c.mu.Lock()
			c.current = e
			c.mu.Unlock()
			return r, nil
		}
		switch kind := fault.KindOf(err); {
		case kind == fault.Unknown:
			unknown = err // stays so, whatever the others say
		case ctx.Err() != nil:
			err = contextFault(ctx, err)
		case kind != fault.Unavailable && kind != fault.NotLeader:
			return nil, err
		}
		last = err
		if ctx.Err() != nil || unknown != nil && q.Once {
			break
		}
	}
	switch {
	case unknown != nil:
		return nil, unknown
	case last == nil:
		return nil, noEndpoint()
	}
	return nil, last
}

func noEndpoint() error {
	return fault.New(fault.Unavailable, "no controller is known").WithFix("name one with --endpoint HOST:PORT")
}

// DoAt sends the request to one endpoint. Where no connection came about, nothing can have happened, and the error
// is fault.Unavailable; later it is fault.Unknown, except for a GET, which never changes anything.
func (c *Client) DoAt(ctx context.Context, endpoint string, q Request) (*http.Response, error) {
	connected := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	r, err := http.NewRequestWithContext(ctx, q.Method, base(endpoint)+q.Path, nil)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "endpoint %s", endpoint)
	}
	for k, v := range q.Header {
		r.Header[k] = v
	}
	if q.Body != nil {
		if r.Body, err = q.Body(); err != nil {
			return nil, err
		}
		r.GetBody, r.ContentLength = q.Body, q.Size
	}
	a, err := c.http.Do(r)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		if errors.Is(err, fault.Denied) { // by the TLS configuration, before anything was sent
			return nil, fault.Wrap(fault.Denied, err, "%s", endpoint)
		}
		// In TLS 1.3 a client learns only by the first answer that its certificate was refused, by an alert.
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
			return nil, fault.Wrap(fault.Denied, err, "%s refuses the connection", endpoint).WithFix("the certificate shown is missing there, over or revoked")
		}
		if !connected || q.Method == http.MethodGet || q.Reads {
			return nil, fault.Wrap(fault.Unavailable, err, "%s does not answer", endpoint)
		}
		return nil, fault.Wrap(fault.Unknown, err, "%s did not answer; the request may have been carried out", endpoint)
	}
	if c.heard != nil {
		if said, err := http.ParseTime(a.Header.Get("Date")); err == nil {
			c.heard(endpoint, said)
		}
	}
	if a.StatusCode < 300 || a.StatusCode == http.StatusNotModified {
		return a, nil
	}
	body, _ := io.ReadAll(io.LimitReader(a.Body, 64<<10))
	a.Body.Close()
	return nil, ReadError(a.StatusCode, a.Header.Get("Content-Type"), body)
}

func contextFault(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fault.Wrap(fault.Timeout, err, "no answer in time")
	}
	return fault.Wrap(fault.Unavailable, ctx.Err(), "given up")
}

// Get fetches JSON into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	a, err := c.Do(ctx, Request{Method: http.MethodGet, Path: path})
	if err != nil {
		return err
	}
	defer a.Body.Close()
	return decode(a.Body, fault.Unavailable, out)
}

// Query asks a question that does not fit into a URL: in goes as JSON, the answer comes into out. It changes nothing, so
// any endpoint may be asked again.
func (c *Client) Query(ctx context.Context, path string, in, out any) error {
	q, err := jsonRequest(http.MethodPost, path, in)
	if err != nil {
		return err
	}
	q.Reads = true
	a, err := c.Do(ctx, q)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	return decode(a.Body, fault.Unavailable, out)
}

// Post sends in as JSON and reads the answer into out, which may be nil. It is sent once at most: see Request.Once.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	return c.send(ctx, http.MethodPost, path, in, out, true)
}

// PostAt is Post, to one endpoint.
func (c *Client) PostAt(ctx context.Context, endpoint, path string, in, out any) error {
	q, err := jsonRequest(http.MethodPost, path, in)
	if err != nil {
		return err
	}
	a, err := c.DoAt(ctx, endpoint, q)
	if err != nil {
		return err
	}
	return answer(a, out)
}

// Delete asks for something to be removed; it is sent once at most.
func (c *Client) Delete(ctx context.Context, path string, out any) error {
	return c.send(ctx, http.MethodDelete, path, nil, out, true)
}

func (c *Client) send(ctx context.Context, method, path string, in, out any, once bool) error {
	q, err := jsonRequest(method, path, in)
	if err != nil {
		return err
	}
	q.Once = once
	a, err := c.Do(ctx, q)
	if err != nil {
		return err
	}
	return answer(a, out)
}

func jsonRequest(method, path string, in any) (Request, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return Request{}, fault.Wrap(fault.Internal, err, "encoding the request")
	}
	return Request{
		Method: method, Path: path, Size: int64(len(b)),
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
	}, nil
}

// answer reads and closes an answer; out may be nil.
func answer(a *http.Response, out any) error {
	defer a.Body.Close()
	if out == nil {
		_, _ = io.CopyN(io.Discard, a.Body, 64<<10) // a body that was read leaves a connection that can be used again
		return nil
	}
	return decode(a.Body, fault.Unknown, out) // what was asked for has happened, but not what came of it
}

// decode reads JSON; an answer without its end is the kind of fault said.
func decode(r io.Reader, broken fault.Kind, out any) error {
	if err := json.NewDecoder(io.LimitReader(r, MaxAnswer)).Decode(out); err != nil {
		return fault.Wrap(broken, err, "the answer broke off")
	}
	return nil
}

// ChangeOptions say under which condition a change is made.
type ChangeOptions struct {
	If      catalog.Revision // 0: whatever the state
	Message string           // why, for the history
	DryRun  bool
}

// Change makes a change and returns its revision. While the outcome is unknown, or no leader is there, it asks
// again under the same request ID, at any endpoint, until ctx ends: so the change happens once at most, and an
// error that is not fault.Unknown or fault.Timeout means that it did not happen.
func (c *Client) Change(ctx context.Context, change catalog.Change, opt ChangeOptions) (catalog.Revision, error) {
	out, err := c.change(ctx, change, opt)
	return out.Revision, err
}

// Make is Change, with all that is said of what happened.
func (c *Client) Make(ctx context.Context, change catalog.Change, opt ChangeOptions) (ChangeResult, error) {
	return c.change(ctx, change, opt)
}

// Preview says what a change would do now, and the revision that this holds for. It asks again as Change does.
func (c *Client) Preview(ctx context.Context, change catalog.Change, opt ChangeOptions) (*catalog.Preview, catalog.Revision, error) {
	opt.DryRun = true
	out, err := c.change(ctx, change, opt)
	if err == nil && out.Preview == nil {
		err = fault.New(fault.Internal, "the controller tried the change and does not say what it would do").WithFix("upgrade the controllers")
	}
	return out.Preview, out.Revision, err
}

func (c *Client) change(ctx context.Context, change catalog.Change, opt ChangeOptions) (ChangeResult, error) {
	body, err := json.Marshal(change)
	if err != nil {
		return ChangeResult{}, fault.Wrap(fault.Internal, err, "encoding the change")
	}
	q := ChangeRequest{Request: rand.Text(), If: opt.If, Message: opt.Message, Kind: catalog.KindOf(change), Change: body, DryRun: opt.DryRun}
	unknown := false
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		var out ChangeResult
		err := c.send(ctx, http.MethodPost, PathChanges, q, &out, false)
		switch fault.KindOf(err) {
		case "":
			return out, nil
		case fault.Unknown:
			unknown = true
		case fault.Timeout:
			unknown = unknown || ctx.Err() == nil // a controller's own; ours comes before anything was sent
		case fault.Unavailable, fault.NotLeader:
		default:
			return ChangeResult{}, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			if unknown {
				return ChangeResult{}, fault.Wrap(fault.Unknown, err, "it is not known whether the change happened").WithFix("look before you repeat it")
			}
			return ChangeResult{}, err
		}
	}
}

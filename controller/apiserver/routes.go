package apiserver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// route is a path of the API, who may use it, and within which bounds.
type route struct {
	method string
	path   string
	allow  roles
	body   int64         // bytes of a request's body; 0: none, unbounded: a stream that the handler bounds itself
	within time.Duration // for body and answer; 0: a stream, each piece of which has streamTime
	serve  func(*Server, http.ResponseWriter, *http.Request, caller) error
}

const (
	unbounded  = -1
	small      = 64 << 10
	quick      = 30 * time.Second
	slow       = 5 * time.Minute // for answers of many megabytes
	streamTime = time.Minute     // for the next piece of a stream
)

// table is every route with its rights. A route without any is a mistake that New refuses.
var table = []route{
	{"POST", api.PathChanges, admins | controller, api.MaxRequest, quick, (*Server).postChangeIf},
	{"GET", api.PathReadPoint, controller, 0, quick, (*Server).getReadPoint},
	{"GET", api.PathCatalog, members, 0, slow, (*Server).getCatalog},

	{"GET", api.PathChunk, members, 0, 0, (*Server).getChunk}, // and HEAD
	{"PUT", api.PathChunk, admins | controller, unbounded, 0, (*Server).putChunk},
	{"POST", api.PathCollect, admins | controller, small, slow, (*Server).postCollect},
	{"POST", api.PathVerify, admins | controller, small, slow, (*Server).postVerify},
	{"POST", api.PathMissing, admins, api.MaxRequest, quick, (*Server).postMissing},

	{"POST", api.PathEvents, relay, api.MaxRequest, quick, (*Server).postEvents},
	{"POST", api.PathRelayStatus, relay, api.MaxRequest, quick, (*Server).postRelayStatus},
	{"GET", api.PathSecrets, relay, 0, quick, (*Server).getSecrets},

	{"POST", api.PathJoinRelay, anonymous, small, quick, (*Server).joinRelay},
	{"POST", api.PathJoinControl, anonymous, small, quick, (*Server).joinController},
	{"POST", api.PathRenew, relay | controller, small, quick, (*Server).renew},
	{"GET", api.PathTokens, admins, 0, quick, (*Server).getTokens},
	{"POST", api.PathTokens, admins, small, quick, (*Server).postToken},

	{"GET", api.PathOpenAPI, admins, 0, quick, (*Server).getOpenAPI},
	{"GET", api.PathMetrics, admins, 0, quick, (*Server).getMetrics},
	{"GET", api.PathStatus, members, 0, quick, (*Server).getStatus},
	{"GET", api.PathNodes, admins, 0, slow, (*Server).getNodes},
	{"POST", api.PathQuery, admins, api.MaxRequest, slow, (*Server).postQuery},
	{"GET", api.PathNode, admins, 0, quick, (*Server).getNode},
	{"GET", api.PathWhy, admins, 0, quick, (*Server).getWhy},
	{"POST", api.PathWhys, admins, api.MaxRequest, slow, (*Server).postWhys},
	{"GET", api.PathProfiles, admins, 0, slow, (*Server).getProfiles},
	{"GET", api.PathNetworks, admins, 0, slow, (*Server).getNetworks},
	{"GET", api.PathAuthorities, admins, 0, slow, (*Server).getAuthorities},
	{"GET", api.PathGroups, admins, 0, slow, (*Server).getGroups},
	{"GET", api.PathHistory, admins, 0, quick, (*Server).getHistory},
	{"GET", api.PathBoots, admins, 0, 0, (*Server).getBoots},
	{"GET", api.PathDiscover, admins, 0, slow, (*Server).getDiscover},
	{"GET", api.PathRules, admins, 0, slow, (*Server).getDiscoverRules},
	{"POST", api.PathTryRule, admins, api.MaxRequest, slow, (*Server).postDiscoverTry},
	{"GET", api.PathBootSessions, admins, 0, quick, (*Server).getBootSessions},
	{"GET", api.PathBootSession, admins | controller, 0, 0, (*Server).getBootSession},
	{"GET", api.PathSessionNodes, admins, 0, slow, (*Server).getSessionNodes},

	{"GET", api.PathImages, admins, 0, slow, (*Server).getImages},
	{"GET", api.PathResidency, admins, 0, slow, (*Server).getResidency},
	{"POST", api.PathImage, admins, unbounded, 0, (*Server).importImage},
	{"POST", api.PathVersions, admins, api.MaxRequest, 0, (*Server).postVersion},
	{"GET", api.PathOverlays, admins, 0, slow, (*Server).getOverlays},
	{"GET", api.PathOverlay, admins, 0, slow, (*Server).getOverlay},
	{"PUT", api.PathOverlay, admins, unbounded, slow, (*Server).putOverlay},
	{"PATCH", api.PathOverlay, admins, unbounded, slow, (*Server).patchOverlay},
	{"GET", api.PathSiteFiles, admins, 0, slow, (*Server).getSiteFiles},
	{"GET", api.PathSiteFile, admins, 0, quick, (*Server).getSiteFile},
	{"PUT", api.PathSiteFile, admins, unbounded, slow, (*Server).putSiteFile},
	{"DELETE", api.PathSiteFile, admins, 0, quick, (*Server).deleteSiteFile},

	{"GET", api.PathRelays, admins, 0, quick, (*Server).getRelays},
	{"GET", api.PathControllers, admins | controller, 0, quick, (*Server).getControllers},
	{"DELETE", api.PathController, admins | controller, 0, quick, (*Server).deleteController},
	{"POST", api.PathLeader, admins | controller, small, quick, (*Server).postLeader},
}

// routes makes the handler out of the table.
func (s *Server) routes(table []route) http.Handler {
	mux := http.NewServeMux()
	for _, rt := range table {
		if rt.allow == 0 || rt.serve == nil {
			panic(fmt.Sprintf("nobody may use %s %s: give the route a right", rt.method, rt.path))
		}
		mux.HandleFunc(rt.method+" "+rt.path, s.guard(rt))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, done := bound(route{within: quick}, w, r)
		defer done()
		api.WriteError(w, fault.New(fault.NotFound, "there is no %s %s here", r.Method, r.URL.Path))
	})
	return mux
}

// guard lets only those through to a route who may use it, and bounds what they may send and how long it takes.
func (s *Server) guard(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.inFlight.run(func() { s.handle(rt, w, r) })
	}
}

func (s *Server) handle(rt route, w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w}
	defer s.recovered(a, r)
	ctx, done := bound(rt, w, r)
	defer done()
	r = r.WithContext(ctx)
	if rt.body == unbounded {
		_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/1.1 would read all of the body before an answer
	} else {
		r.Body = http.MaxBytesReader(a, r.Body, rt.body)
	}
	by, err := s.identify(r)
	if err == nil && by.role&rt.allow == 0 {
		err = deny(by, r)
	}
	if err == nil {
		err = s.admit(ctx, by)
	}
	if err == nil {
		s.messages.count(rt.path, time.Now())
		err = rt.serve(s, a, r, by)
	}
	if err == nil {
		return
	}
	s.fail(a, r, by, err)
	if rt.body != unbounded {
		return
	}
	// The client may still be sending, and would lose the answer if the connection just ended (RFC 9112 §9.6).
	_ = http.NewResponseController(w).Flush()
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, lingerBytes))
}

// How long, and for how much, a client is listened to after its request was refused.
const (
	lingerTime  = 3 * time.Second
	lingerBytes = 256 << 20
)

// bound sets the time in which a request must be sent and answered. Deadlines belong to the connection and outlast a
// request, so each one sets them anew.
func bound(rt route, w http.ResponseWriter, r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := r.Context(), context.CancelFunc(func() {})
	within := streamTime // for the first piece of a stream; then the handler sees to it
	if rt.within > 0 {
		within = rt.within
		ctx, cancel = context.WithTimeout(ctx, within)
	}
	at := time.Now().Add(within)
	c := http.NewResponseController(w)
	_ = c.SetWriteDeadline(at.Add(headerTime)) // some more, to say that the time is over
	if rt.body == 0 {
		at = time.Time{} // nothing is read but the end of the connection
	}
	_ = c.SetReadDeadline(at)
	return ctx, cancel
}

// fail answers with an error, or breaks an answer off that has begun: a shortened one must not pass for whole.
func (s *Server) fail(a *answer, r *http.Request, by caller, err error) {
	level := s.cfg.Logger.Debug
	if k := fault.KindOf(err); k == fault.Internal || k == fault.Corrupt || k == fault.Full {
		level = s.cfg.Logger.Warn
	}
	level("request failed", "method", r.Method, "path", r.URL.Path, "by", by.by, "err", err)
	if a.begun {
		panic(http.ErrAbortHandler)
	}
	_ = http.NewResponseController(a).SetWriteDeadline(time.Now().Add(headerTime)) // however long the failure took
	h := a.Header()
	for _, name := range []string{"Content-Length", "Etag", "Cache-Control", "Last-Modified"} {
		h.Del(name)
	}
	api.WriteProblem(a, asProblem(err))
}

// recovered makes an answer of a panic, which is a bug of ours and no reason to stop.
func (s *Server) recovered(a *answer, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	s.cfg.Logger.Error("a request panicked", "method", r.Method, "path", r.URL.Path, "err", p, "stack", string(debug.Stack()))
	if a.begun {
		panic(http.ErrAbortHandler)
	}
	api.WriteError(a, fault.New(fault.Internal, "answering %s failed inside", r.URL.Path).WithFix("see the controller's log, and please report it"))
}

// answer notes whether anything of an answer is on its way.
type answer struct {
	http.ResponseWriter
	begun bool
}

// WriteHeader begins the answer.
func (a *answer) WriteHeader(status int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(status)
}

// Write sends bytes of the body.
func (a *answer) Write(p []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(p)
}

// Unwrap gives http.ResponseController the writer underneath.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Problem is how an error travels: RFC 9457, with the fault's kind and fix.
type Problem struct {
	Title  string     `json:"title"`
	Status int        `json:"status"`
	Kind   fault.Kind `json:"kind"`
	Detail string     `json:"detail"`
	Fix    string     `json:"fix,omitempty"`
	Leader string     `json:"leader,omitempty"` // API address, with fault.NotLeader
}

// TypeProblem is the media type of a Problem.
const TypeProblem = "application/problem+json"

var statusOf = map[fault.Kind]int{
	fault.Internal:    http.StatusInternalServerError,
	fault.Invalid:     http.StatusBadRequest,
	fault.NotFound:    http.StatusNotFound,
	fault.Conflict:    http.StatusConflict,
	fault.Denied:      http.StatusForbidden,
	fault.NotLeader:   http.StatusMisdirectedRequest,
	fault.Unavailable: http.StatusServiceUnavailable,
	fault.Corrupt:     http.StatusUnprocessableEntity,
	fault.Unknown:     http.StatusBadGateway,
	fault.Timeout:     http.StatusGatewayTimeout,
	fault.Full:        http.StatusInsufficientStorage,
}

// Status is the HTTP status of a kind of fault: the one place that decides it.
func Status(kind fault.Kind) int {
	if s, ok := statusOf[kind]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// ProblemOf is an error as it travels.
func ProblemOf(err error) Problem {
	kind := fault.KindOf(err)
	return Problem{Title: http.StatusText(Status(kind)), Status: Status(kind), Kind: kind, Detail: err.Error(), Fix: fault.Fix(err)}
}

// Err is the error that the problem tells of.
func (p *Problem) Err() error { return &fault.Error{Kind: p.Kind, Message: p.Detail, Fix: p.Fix} }

// WriteError answers a request with an error.
func WriteError(w http.ResponseWriter, err error) { WriteProblem(w, ProblemOf(err)) }

// WriteProblem answers a request with a problem.
func WriteProblem(w http.ResponseWriter, p Problem) {
	w.Header().Set("Content-Type", TypeProblem)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p) // the client that is gone by now needs no answer
}

// ReadError makes the error again that WriteError sent. Other answers become a fault by their status.
func ReadError(status int, contentType string, body []byte) error {
	var p Problem
	if contentType == TypeProblem && json.Unmarshal(body, &p) == nil && p.Kind != "" {
		return p.Err()
	}
	kind := fault.Internal
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = fault.Denied
	case http.StatusNotFound:
		kind = fault.NotFound
	case http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusGatewayTimeout:
		kind = fault.Unavailable
	case http.StatusBadRequest, http.StatusMethodNotAllowed:
		kind = fault.Invalid
	}
	return fault.New(kind, "the server answered %d %s", status, http.StatusText(status))
}

// WriteJSON answers with v. A value that cannot be encoded is a bug, reported as one.
func WriteJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		WriteError(w, fault.Wrap(fault.Internal, err, "encoding the answer"))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(b, '\n'))
}

// ReadJSON decodes a request's body, at most MaxRequest bytes. Unknown fields, and anything behind the value, are
// fault.Invalid.
func ReadJSON(w http.ResponseWriter, r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, MaxRequest))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return nil
		}
		err = cmp.Or(err, errors.New("something follows the value"))
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fault.New(fault.Invalid, "the request has more than %d bytes", MaxRequest)
	}
	return fault.Wrap(fault.Invalid, err, "the request is not what %s takes", r.URL.Path)
}

package apiserver

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// tagOf is the ETag of what a catalog alone decides: the same revision makes the same answer on every controller.
func tagOf(c *catalog.Catalog) string { return fmt.Sprintf(`"%d"`, c.Revision) }

// tagWith is the ETag of an answer that also holds what was observed, which changes without a revision.
func tagWith(c *catalog.Catalog, observed *api.Boot) string {
	if observed == nil {
		return tagOf(c)
	}
	b, err := json.Marshal(observed)
	if err != nil {
		return tagOf(c) // cannot be, and the answer would fail the same
	}
	sum := sha256.Sum256(b)
	return fmt.Sprintf(`"%d-%x"`, c.Revision, sum[:8])
}

// unchanged puts an ETag on the answer. Where the client has the answer of that ETag already, it says so, and there is
// nothing left to do.
func unchanged(w http.ResponseWriter, r *http.Request, tag string) bool {
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "no-cache") // a cache may keep it, and must ask
	for has := range strings.SplitSeq(strings.Join(r.Header.Values("If-None-Match"), ","), ",") {
		has = strings.TrimSpace(has)
		if has == "*" || strings.TrimPrefix(has, "W/") == tag {
			w.WriteHeader(http.StatusNotModified)
			return true
		}
	}
	return false
}

// ifMatch is the revision that a request's If-Match names, by the ETag of an answer or by itself in quotes; 0 if none.
func ifMatch(r *http.Request) (catalog.Revision, error) {
	text := strings.Join(r.Header.Values("If-Match"), ", ")
	if text == "" || text == "*" { // there always is a catalog
		return 0, nil
	}
	inner, begins := strings.CutPrefix(text, `"`)
	inner, ends := strings.CutSuffix(inner, `"`)
	digits, _, _ := strings.Cut(inner, "-")
	n, err := strconv.ParseUint(digits, 10, 64)
	if !begins || !ends || err != nil || n == 0 {
		return 0, fault.New(fault.Invalid, "If-Match names no revision: %.80q", text).WithFix(`send the ETag of an answer, or a revision in quotes, as in If-Match: "41"`)
	}
	return catalog.Revision(n), nil
}

// demand makes what If-Match says a part of the request for a change.
func demand(r *http.Request, q *api.ChangeRequest) error {
	rev, err := ifMatch(r)
	if err != nil || rev == 0 {
		return err
	}
	if q.If != 0 && q.If != rev {
		return fault.New(fault.Invalid, "the change is to be made if the revision is %d, and If-Match says %d", q.If, rev).WithFix("say one of them")
	}
	q.If = rev
	return nil
}

// postChangeIf is postChange, with the status that HTTP has for an If-Match that does not hold.
func (s *Server) postChangeIf(w http.ResponseWriter, r *http.Request, by caller) error {
	err := s.postChange(w, r, by)
	if !errors.Is(err, fault.Conflict) {
		return err
	}
	rev, bad := ifMatch(r)
	if bad != nil || rev == 0 {
		return err
	}
	c, unknown := s.cfg.State.Fresh(r.Context())
	if unknown != nil || rev >= c.Changed() && rev <= c.Revision {
		return err // it conflicts with something else
	}
	return unmatched{err}
}

// unmatched is an error because If-Match does not hold.
type unmatched struct{ error }

// Unwrap gives the error itself.
func (u unmatched) Unwrap() error { return u.error }

// asProblem is an error as it travels.
func asProblem(err error) api.Problem {
	p := api.ProblemOf(err)
	if _, ok := errors.AsType[unmatched](err); ok {
		p.Status, p.Title = http.StatusPreconditionFailed, http.StatusText(http.StatusPreconditionFailed)
	}
	return p
}

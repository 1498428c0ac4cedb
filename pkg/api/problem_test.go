package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestEveryKindOfFaultTravels(t *testing.T) {
	statuses := map[int]fault.Kind{}
	for _, kind := range fault.Kinds() {
		sent := fmt.Errorf("adding n1: %w", fault.New(kind, "what and <why>").WithFix("wulf node %s", "list"))
		w := httptest.NewRecorder()
		api.WriteError(w, sent)
		a := w.Result()
		body, _ := io.ReadAll(a.Body)
		got := api.ReadError(a.StatusCode, a.Header.Get("Content-Type"), body)
		if !errors.Is(got, kind) || got.Error() != sent.Error() || fault.Fix(got) != "wulf node list" {
			t.Errorf("%s arrived as %s: %q, fix %q", kind, fault.KindOf(got), got, fault.Fix(got))
		}
		if other, ok := statuses[a.StatusCode]; ok {
			t.Errorf("%s and %s have the status %d", kind, other, a.StatusCode)
		}
		statuses[a.StatusCode] = kind
		if a.StatusCode < 400 || a.StatusCode != api.Status(kind) || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s was sent as %d %v", kind, a.StatusCode, a.Header)
		}
		var p api.Problem
		if err := json.Unmarshal(body, &p); err != nil || p.Status != a.StatusCode || p.Title == "" {
			t.Errorf("%s was sent as %s", kind, body)
		}
	}
}

func TestAnErrorWithoutAKindIsInternal(t *testing.T) {
	w := httptest.NewRecorder()
	api.WriteError(w, errors.New("surprise"))
	if got := api.ReadError(w.Code, w.Header().Get("Content-Type"), w.Body.Bytes()); w.Code != 500 || !errors.Is(got, fault.Internal) || got.Error() != "surprise" {
		t.Errorf("%d, %v", w.Code, got)
	}
	if api.Status("of a later version") != 500 {
		t.Error("a kind that is not known has another status than 500")
	}
}

// What a proxy, another program or a later version answers is a fault all the same, by its status.
func TestAnswersOfOthersAreFaultsByTheirStatus(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		media  string
		body   string
		want   fault.Kind
	}{
		"unauthorized":       {401, "text/html", "<html>", fault.Denied},
		"forbidden":          {403, "", "", fault.Denied},
		"not there":          {404, "text/plain", "404 page not found", fault.NotFound},
		"wrong method":       {405, "", "", fault.Invalid},
		"bad request":        {400, "", "", fault.Invalid},
		"too many":           {429, "", "", fault.Unavailable},
		"bad gateway":        {502, "text/html", "", fault.Unavailable},
		"no service":         {503, "", "", fault.Unavailable},
		"gateway timeout":    {504, "", "", fault.Unavailable},
		"broken server":      {500, "", "", fault.Internal},
		"teapot":             {418, "", "", fault.Internal},
		"broken problem":     {404, api.TypeProblem, `{"kind":`, fault.NotFound},
		"problem of nothing": {409, api.TypeProblem, `{"detail":"x"}`, fault.Internal},
		"problem as text":    {404, "text/plain", `{"kind":"conflict"}`, fault.NotFound},
	} {
		if got := api.ReadError(tc.status, tc.media, []byte(tc.body)); !errors.Is(got, tc.want) || got.Error() == "" {
			t.Errorf("%s: got %s: %v, want %s", name, fault.KindOf(got), got, tc.want)
		}
	}
}

func TestReadJSONTakesOneValueThatItKnows(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		want string // in the error; "": none
	}{
		"right":            {` {"claim":"x"} ` + "\n", ""},
		"nothing":          {``, "/v1/sessions"},
		"cut off":          {`{"claim":"x"`, "EOF"},
		"unknown field":    {`{"claims":"x"}`, "claims"},
		"wrong type":       {`{"claim":1}`, "claim"},
		"two values":       {`{"claim":"x"}{"claim":"y"}`, "something follows"},
		"rubbish behind":   {`{"claim":"x"}]`, "/v1/sessions"},
		"more than enough": {`{"claim":"` + strings.Repeat("x", api.MaxRequest) + `"}`, "more than 16777216 bytes"},
	} {
		var q api.SessionRequest
		err := api.ReadJSON(httptest.NewRecorder(), httptest.NewRequest("POST", api.PathSessions, strings.NewReader(tc.body)), &q)
		if tc.want == "" && (err != nil || q.Claim != "x") || tc.want != "" && (!errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: got %+v, %v; want %q", name, q.Claim[:min(9, len(q.Claim))], err, tc.want)
		}
	}
}

func TestWriteJSONSaysWhatItCannotSay(t *testing.T) {
	w := httptest.NewRecorder()
	api.WriteJSON(w, map[string]int{"a": 1})
	if w.Code != http.StatusOK || w.Body.String() != "{\"a\":1}\n" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %q", w.Code, w.Header(), w.Body)
	}
	w = httptest.NewRecorder()
	api.WriteJSON(w, func() {})
	if got := api.ReadError(w.Code, w.Header().Get("Content-Type"), w.Body.Bytes()); !errors.Is(got, fault.Internal) {
		t.Errorf("a function became %v", got)
	}
}

func FuzzReadError(f *testing.F) {
	f.Add(404, api.TypeProblem, []byte(`{"kind":"not-found","detail":"x","fix":"y"}`))
	f.Add(0, "", []byte{})
	f.Fuzz(func(t *testing.T, status int, media string, body []byte) {
		if err := api.ReadError(status, media, body); err == nil || fault.KindOf(err) == "" {
			t.Errorf("no fault: %v", err)
		}
	})
}

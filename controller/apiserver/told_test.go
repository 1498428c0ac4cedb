package apiserver

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
)

// told is the description of the API as a client reads it. Nothing of it comes from our own types, and a keyword that
// is not known here fails.
type told struct {
	doc      map[string]any
	whatever bool // requests are not those of a client that has read it: only answers count

	mu   sync.Mutex
	seen map[string]map[int]bool // by route, the statuses that were met
}

func readDescription(t testing.TB) *told {
	t.Helper()
	d := &told{seen: map[string]map[int]bool{}}
	if err := json.Unmarshal(OpenAPI(), &d.doc); err != nil {
		t.Fatal(err)
	}
	return d
}

// at walks down the document, by references too.
func (d *told) at(v any, path ...string) any {
	for {
		m, _ := v.(map[string]any)
		ref, is := m["$ref"].(string)
		switch {
		case is:
			v = d.at(d.doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		case len(path) == 0:
			return v
		case m == nil:
			return nil
		default:
			v, path = m[path[0]], path[1:]
		}
	}
}

// check holds a request that was answered, and its answer, to the description of its route.
func (d *told) check(t testing.TB, r *http.Request, body []byte, w *httptest.ResponseRecorder) {
	t.Helper()
	_, path, ok := strings.Cut(r.Pattern, " ")
	if !ok || r.Method == http.MethodHead {
		return // no route of ours
	}
	route := r.Method + " " + path
	op := d.at(d.doc, "paths", path, strings.ToLower(r.Method))
	if op == nil {
		t.Errorf("%s is not described", route)
		return
	}
	d.met(route, w.Code)
	if err := d.answer(op, w); err != nil {
		t.Errorf("%s is answered with %d, and %v: %.300s", route, w.Code, err, w.Body)
	}
	if w.Code >= 300 || d.whatever {
		return
	}
	if err := d.request(op, r, body); err != nil {
		t.Errorf("%s takes a request that is not described, for %v: %s %.300s", route, err, r.URL.RawQuery, body)
	}
}

func (d *told) met(route string, status int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen[route] == nil {
		d.seen[route] = map[int]bool{}
	}
	d.seen[route][status] = true
}

func (d *told) answer(op any, w *httptest.ResponseRecorder) error {
	described := d.at(op, "responses", strconv.Itoa(w.Code))
	if described == nil && w.Code >= 300 {
		described = d.at(op, "responses", "default")
	}
	if described == nil {
		return fmt.Errorf("this status is not described")
	}
	if has := w.Header().Get("ETag") != ""; has != (d.at(described, "headers", "ETag") != nil) {
		return fmt.Errorf("whether it has an ETag (%v) is not what is described", has)
	}
	if w.Code >= 400 {
		var p api.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Kind == "" || p.Detail == "" || strings.Contains(p.Detail, "\n") {
			return fmt.Errorf("the problem %+v does not say all: %v", p, err)
		}
	}
	media, _ := d.at(described, "content").(map[string]any)
	if len(media) == 0 {
		if w.Body.Len() > 0 {
			return fmt.Errorf("it has a body, which is not described")
		}
		return nil
	}
	typ := w.Header().Get("Content-Type")
	if media[typ] == nil {
		return fmt.Errorf("its media type %s is not described", typ)
	}
	schema := d.at(media, typ, "schema")
	if schema == nil {
		return nil // bytes
	}
	return d.values(schema, w.Body.Bytes(), typ == typeLines)
}

// values checks the JSON values in a body, which are one, or one a line.
func (d *told) values(schema any, body []byte, several bool) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	for n := 0; ; n++ {
		var v any
		switch err := dec.Decode(&v); {
		case err == io.EOF && (n == 1 || several):
			return nil
		case err != nil:
			return err
		}
		if err := d.valid(schema, v, ""); err != nil {
			return err
		}
	}
}

func (d *told) request(op any, r *http.Request, body []byte) error {
	known := map[string]bool{}
	params, _ := d.at(op, "parameters").([]any)
	for _, p := range params {
		if d.at(p, "in") == "query" {
			known[d.at(p, "name").(string)] = true
		}
	}
	for name := range r.URL.Query() {
		if !known[name] {
			return fmt.Errorf("the parameter %s", name)
		}
	}
	if schema := d.at(op, "requestBody", "content", "application/json", "schema"); schema != nil {
		return d.values(schema, body, false)
	}
	return nil
}

// valid holds a value to a schema, more strictly than JSON Schema does: an object has no property beside those described.
func (d *told) valid(schema, v any, at string) error {
	schema = d.at(schema)
	m, ok := schema.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: there is no schema", at)
	}
	for keyword, is := range m {
		if err := d.keyword(m, keyword, is, v, at); err != nil {
			return err
		}
	}
	return nil
}

func (d *told) keyword(schema map[string]any, keyword string, is, v any, at string) error {
	text, isText := v.(string)
	object, isObject := v.(map[string]any)
	wrong := func() error { return fmt.Errorf("%s is %.80v, where %s is %.80v", at, v, keyword, is) }
	switch keyword {
	case "description", "discriminator", "properties": // with additionalProperties or type
	case "type":
		types, many := is.([]any)
		if !many {
			types = []any{is}
		}
		if !slices.ContainsFunc(types, func(t any) bool { return hasType(v, t.(string)) }) {
			return wrong()
		}
		if isObject {
			return d.object(schema, object, at)
		}
	case "const":
		if v != is {
			return wrong()
		}
	case "enum":
		if !slices.Contains(is.([]any), v) {
			return wrong()
		}
	case "pattern":
		if isText && !regexp.MustCompile(is.(string)).MatchString(text) {
			return wrong()
		}
	case "contentEncoding":
		if _, err := base64.StdEncoding.DecodeString(text); err != nil {
			return wrong()
		}
	case "format":
		if _, err := time.Parse(time.RFC3339Nano, text); is == "date-time" && isText && err != nil {
			return wrong()
		}
	case "minimum":
		if n, ok := v.(float64); ok && n < is.(float64) {
			return wrong()
		}
	case "items":
		list, _ := v.([]any)
		for i, item := range list {
			if err := d.valid(is, item, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case "required":
		for _, name := range is.([]any) {
			if _, ok := object[name.(string)]; isObject && !ok {
				return fmt.Errorf("%s has no %s", at, name)
			}
		}
	case "additionalProperties":
	case "oneOf":
		return d.oneOf(is.([]any), v, at)
	default:
		return fmt.Errorf("%s: nobody knows the keyword %s", at, keyword)
	}
	return nil
}

func (d *told) object(schema, object map[string]any, at string) error {
	for name, v := range object {
		of := d.at(schema, "properties", name)
		if of == nil {
			of = schema["additionalProperties"]
		}
		if of == nil {
			return fmt.Errorf("%s.%s is not described", at, name)
		}
		if err := d.valid(of, v, at+"."+name); err != nil {
			return err
		}
	}
	return nil
}

func (d *told) oneOf(all []any, v any, at string) error {
	var errs []string
	for _, s := range all {
		if err := d.valid(s, v, at); err != nil {
			errs = append(errs, err.Error())
		}
	}
	if fits := len(all) - len(errs); fits != 1 {
		return fmt.Errorf("%s fits %d of %d: %s", at, fits, len(all), strings.Join(errs, "; "))
	}
	return nil
}

func hasType(v any, t string) bool {
	switch v := v.(type) {
	case nil:
		return t == "null"
	case float64:
		return t == "number" || t == "integer" && v == math.Trunc(v)
	}
	return t == map[reflect.Kind]string{reflect.String: "string", reflect.Bool: "boolean", reflect.Map: "object", reflect.Slice: "array"}[reflect.ValueOf(v).Kind()]
}

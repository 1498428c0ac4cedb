package apiserver

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/openapi"
)

// about is what the description of the API says of a route, beside what the table of routes says.
type about struct {
	id      string // operationId
	tag     string
	summary string
	params  []openapi.Parameter
	body    carried
	answer  carried // none: 204
	fresh   bool    // it reads the catalog, and answers ?consistency=
	tagged  bool    // its answer has an ETag that If-None-Match may name
	guarded bool    // it is answered with 412 where If-Match does not hold
}

// carried is what a body holds.
type carried []carriage

type carriage struct {
	media string
	is    reflect.Type // nil: bytes
}

const typeJSON = "application/json"

func jsonOf[T any]() carried { return carried{{typeJSON, reflect.TypeFor[T]()}} }

func linesOf[T any]() carried { return carried{{typeLines, reflect.TypeFor[T]()}} }

func bytesOf(media string) carried { return carried{{media, nil}} }

// getOpenAPI sends the description of the API.
func (s *Server) getOpenAPI(w http.ResponseWriter, _ *http.Request, _ caller) error {
	w.Header().Set("Content-Type", typeJSON)
	_, err := w.Write(s.description())
	return err
}

// OpenAPI is the description of the API, as OpenAPI 3.1: made of the table of routes and of the Go types that they read
// and write. A type that cannot be described is a mistake in the program, and it panics.
func OpenAPI() []byte {
	schemas := newSchemas()
	doc := openapi.Document{
		OpenAPI: openapi.Version,
		Info: openapi.Info{
			Title: "wulfmesh", Version: "1", Description: introduction,
			License: openapi.License{Name: "Apache License 2.0", Identifier: "Apache-2.0"},
		},
		Servers: []openapi.Server{{URL: "https://{controller}:4400", Variables: map[string]openapi.Variable{
			"controller": {Default: "localhost", Description: "any controller of the cluster"},
		}}},
		Security: []map[string][]string{{"certificate": {}}},
		Tags:     tags,
		Paths:    map[string]openapi.PathItem{},
	}
	for _, rt := range table {
		if doc.Paths[rt.path] == nil {
			doc.Paths[rt.path] = openapi.PathItem{}
		}
		doc.Paths[rt.path][strings.ToLower(rt.method)] = operation(rt, schemas)
	}
	doc.Components = openapi.Components{
		Parameters: sharedParameters,
		Headers:    sharedHeaders,
		Responses: map[string]openapi.Response{"Problem": {
			Description: "It was not done, and why (RFC 9457). Programs act on kind; people read detail and fix.",
			Content:     content(schemas, carried{{api.TypeProblem, reflect.TypeFor[api.Problem]()}}),
		}},
		SecuritySchemes: map[string]openapi.SecurityScheme{"certificate": {
			Type: "mutualTLS", Description: "A client certificate of the cluster, as wulf controller operator makes.",
		}},
		Schemas: schemas.Components,
	}
	if err := schemas.Err(); err != nil {
		panic("the API cannot be described: " + err.Error())
	}
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		panic("the API cannot be described: " + err.Error())
	}
	return append(b, '\n')
}

var pathValue = regexp.MustCompile(`\{(\w+)\}`)

func operation(rt route, schemas *openapi.Schemas) *openapi.Operation {
	is, ok := descriptions[rt.method+" "+rt.path]
	if !ok {
		panic("nothing describes " + rt.method + " " + rt.path + ": say what it is for in descriptions")
	}
	op := &openapi.Operation{
		ID: is.id, Summary: is.summary, Tags: []string{is.tag}, Roles: rt.allow.names(), Responses: map[string]openapi.Response{
			"default": {Ref: "#/components/responses/Problem"},
		},
	}
	if rt.allow == anonymous {
		op.Security = &[]map[string][]string{}
	}
	for _, m := range pathValue.FindAllStringSubmatch(rt.path, -1) {
		op.Parameters = append(op.Parameters, openapi.Parameter{Name: m[1], In: openapi.InPath, Required: true, Schema: text()})
	}
	op.Parameters = append(op.Parameters, is.params...)
	if len(is.body) > 0 {
		op.Body = &openapi.Body{Required: true, Content: content(schemas, is.body)}
	}
	answer := openapi.Response{Description: "done", Content: content(schemas, is.answer), Headers: map[string]openapi.Header{}}
	if is.fresh {
		op.Parameters = append(op.Parameters, shared("consistency"))
		answer.Headers[api.HeaderRevision] = openapi.Header{Ref: "#/components/headers/" + api.HeaderRevision}
	}
	if is.tagged {
		op.Parameters = append(op.Parameters, shared("If-None-Match"))
		answer.Headers["ETag"] = openapi.Header{Ref: "#/components/headers/ETag"}
		op.Responses["304"] = openapi.Response{Description: "nothing has changed since the ETag named", Headers: answer.Headers}
	}
	if is.guarded {
		op.Responses["412"] = openapi.Response{Ref: "#/components/responses/Problem"}
	}
	status := "200"
	if len(is.answer) == 0 {
		status = "204"
	}
	op.Responses[status] = answer
	return op
}

// content describes what a body holds; where one media type may hold several things, either of them.
func content(schemas *openapi.Schemas, all carried) map[string]openapi.Media {
	if len(all) == 0 {
		return nil
	}
	out := map[string]openapi.Media{}
	for _, c := range all {
		m := out[c.media]
		switch {
		case c.is != nil && m.Schema != nil:
			m.Schema = openapi.OneOf(m.Schema, schemas.Of(c.is))
		case c.is != nil:
			m.Schema = schemas.Of(c.is)
		}
		out[c.media] = m
	}
	return out
}

// names of the roles in a set, as certificates have them.
func (r roles) names() []string {
	var all []string
	for role, name := range roleNames {
		if r&role != 0 && role != anonymous {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

func shared(name string) openapi.Parameter {
	return openapi.Parameter{Ref: "#/components/parameters/" + name}
}

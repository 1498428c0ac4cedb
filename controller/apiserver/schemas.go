package apiserver

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/openapi"
)

func text() *openapi.Schema    { return &openapi.Schema{Type: openapi.Types{"string"}} }
func boolean() *openapi.Schema { return &openapi.Schema{Type: openapi.Types{"boolean"}} }
func number() *openapi.Schema {
	return &openapi.Schema{Type: openapi.Types{"integer"}, Minimum: new(int)}
}
func list() *openapi.Schema { return &openapi.Schema{Type: openapi.Types{"array"}, Items: text()} }

func query(name, what string, of *openapi.Schema) openapi.Parameter {
	return openapi.Parameter{Name: name, In: openapi.InQuery, Description: what, Schema: of}
}

func header(name, what string) openapi.Parameter {
	return openapi.Parameter{Name: name, In: openapi.InHeader, Description: what, Schema: text()}
}

func columnNames() string { return strings.Join(api.NodeColumns(), ", ") }

// sharedParameters are those of many routes.
var sharedParameters = map[string]openapi.Parameter{
	"consistency": query("consistency", "linearizable (default): all that was acknowledged before; stale: what this controller has, and the header Age says since when it may be behind",
		&openapi.Schema{Type: openapi.Types{"string"}, Enum: []string{"linearizable", "stale"}}),
	"If-None-Match": {Name: "If-None-Match", In: openapi.InHeader, Description: "ETags that the client has the answers of", Schema: text()},
	"If-Match": {Name: "If-Match", In: openapi.InHeader, Schema: text(),
		Description: "change only if nothing has changed since the answer with this ETag; or a revision, in quotes. What does not hold is answered with 412."},
}

// sharedHeaders are those of the answers of many routes.
var sharedHeaders = map[string]openapi.Header{
	api.HeaderRevision: {Description: "the revision of the catalog that the answer shows", Schema: number()},
	"ETag":             {Description: "the version of the answer; those of the catalog begin with its revision", Schema: text()},
}

// newSchemas makes the schemas of the API, without those of changes.
func newSchemas() *openapi.Schemas {
	word := func(what, format string) *openapi.Schema {
		return &openapi.Schema{Type: openapi.Types{"string"}, Description: what, Format: format}
	}
	hex := func(what, pattern string) *openapi.Schema {
		return &openapi.Schema{Type: openapi.Types{"string"}, Description: what, Pattern: pattern}
	}
	oneOf := func(what string, words []string) *openapi.Schema {
		return &openapi.Schema{Type: openapi.Types{"string"}, Description: what, Enum: words}
	}
	stages := append(texts(boot.Stages()), string(boot.StageFailed), string(boot.StageAlive))
	schemas := openapi.NewSchemas(map[reflect.Type]*openapi.Schema{
		reflect.TypeFor[netip.Addr]():           word("an IPv4 or IPv6 address", "ip"),
		reflect.TypeFor[netip.Prefix]():         word("a network, such as 10.1.0.0/16", "cidr"),
		reflect.TypeFor[chunk.ID]():             hex("SHA-256; empty for none", "^([0-9a-f]{64})?$"),
		reflect.TypeFor[catalog.Hash]():         hex("the rolling hash of the catalog", "^[0-9a-f]{64}$"),
		reflect.TypeFor[catalog.HardwareAddr](): word("a hardware address, such as 52:54:00:00:00:01", ""),
		reflect.TypeFor[catalog.Secret]():       word("in clear in a request, sealed in an answer", ""),
		reflect.TypeFor[catalog.Resource]():     {Description: "any value"},
		reflect.TypeFor[catalog.NodeSet](): openapi.OneOf(
			word("a folded set of names, such as r[01-40]n[1-48]; answers always have this form", ""),
			&openapi.Schema{Type: openapi.Types{"array"}, Items: text()},
		),
		reflect.TypeFor[boot.Stage]():        oneOf("how far a boot came", stages),
		reflect.TypeFor[fault.Kind]():        oneOf("the class of the failure", texts(fault.Kinds())),
		reflect.TypeFor[api.ChangeRequest](): openapi.RefTo("ChangeRequest"),
		reflect.TypeFor[catalog.Step]():      openapi.RefTo("Step"),
	})
	defineByKind(schemas, "ChangeRequest", changeProperties(), func(kind string) bool { return notDirect[kind] == "" })
	defineByKind(schemas, "Step", nil, func(kind string) bool { return notDirect[kind] == "" && catalog.Steps(kind) })
	return schemas
}

func texts[T ~string](all []T) []string {
	out := make([]string, len(all))
	for i, t := range all {
		out[i] = string(t)
	}
	return out
}

// changeProperties are what a request for a change says beside the change.
func changeProperties() map[string]*openapi.Schema {
	type request api.ChangeRequest // described as any struct is
	var all map[string]*openapi.Schema
	own := openapi.NewSchemas(nil)
	own.Of(reflect.TypeFor[request]())
	for _, s := range own.Components {
		all = s.Properties
	}
	all["request"].Description = "names the request: sent again, it is answered and not done again; a new one where nothing is said"
	all["if"].Description = "change only if nothing has changed since this revision"
	all["message"].Description = "why, for the history"
	all["dry_run"].Description = "only say what would come of it"
	return all
}

// defineByKind makes a component of something that holds a change, the form of which is decided by its kind.
func defineByKind(schemas *openapi.Schemas, name string, beside map[string]*openapi.Schema, may func(kind string) bool) {
	union := &openapi.Schema{Discriminator: &openapi.Discriminator{Property: "kind", Mapping: map[string]string{}}}
	schemas.Define(name, union)
	for _, kind := range catalog.Kinds() {
		if !may(kind) {
			continue
		}
		properties := map[string]*openapi.Schema{}
		for p, s := range beside {
			properties[p] = s
		}
		properties["kind"] = &openapi.Schema{Type: openapi.Types{"string"}, Const: kind}
		properties["change"] = schemas.Of(catalog.TypeOf(kind))
		ref := schemas.Define(fmt.Sprintf("%s.%s", name, kind), &openapi.Schema{
			Type: openapi.Types{"object"}, Properties: properties, Required: []string{"change", "kind"},
		})
		union.OneOf = append(union.OneOf, ref)
		union.Discriminator.Mapping[kind] = ref.Ref
	}
}

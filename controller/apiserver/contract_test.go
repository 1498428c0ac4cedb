package apiserver

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

var update = flag.Bool("update", false, "write the description of the API anew")

const descriptionFile = "../../docs/openapi.json"

func TestTheDescriptionOfTheAPIIsUpToDate(t *testing.T) {
	if *update {
		if err := os.WriteFile(descriptionFile, OpenAPI(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(descriptionFile)
	if err != nil || !bytes.Equal(have, OpenAPI()) {
		t.Errorf("docs/openapi.json is not what the program says (%v): go test ./controller/apiserver -run UpToDate -update", err)
	}
}

// call is a request to a route, by whoever may.
type call struct {
	cert   *x509.Certificate // nil: root, through the socket
	nobody bool
	path   string // of the route, where "" is said
	body   any    // bytes go as they are
	status int
}

// Every answer of a bench is held to the description of its route (see told). Here each route gives a good one and a bad
// one at least.
func TestEveryRouteDoesWhatTheDescriptionSays(t *testing.T) {
	b := newBench(t)
	b.upload("tiny", rootFS())
	if err := problemOf(t, b.local(0, "PUT", "/v1/overlays/motd", motd(t))); err != nil {
		t.Fatal(err)
	}
	b.must(catalog.AddNodes{Nodes: []catalog.Node{{Name: "n1", Settings: fullSettings(t)}}})
	b.cfg.Journal.Record([]boot.Event{
		{Time: time.Now(), Node: "n1", Hardware: "52:54:00:00:00:01", Boot: "b1", Stage: boot.StageScript, Relay: "r1", Firmware: boot.FirmwareIPXE, Address: "10.1.0.10", Revision: 3},
		{Time: time.Now(), Node: "n1", Hardware: "52:54:00:00:00:01", Boot: "b1", Stage: boot.StageFailed, Relay: "r1", Error: "no disk", Console: "panic"},
	})
	b.cfg.Journal.Record([]boot.Event{{Time: time.Now(), Hardware: "52:54:00:00:00:99", Stage: boot.StageScript, Relay: "r1", Firmware: boot.FirmwareIPXE, Address: "10.1.250.1",
		Machine: &catalog.Facts{Serial: "S", UUID: "4c4c4544-0042-3510-8054-b4c04f564433", Network: "rack", Switch: "sw1", Port: "7"}}})
	b.must(catalog.AddNodes{Nodes: []catalog.Node{{Name: "n2"}}})
	b.must(catalog.PutDiscoverRule{Rule: catalog.DiscoverRule{Name: "a", Match: "first", Nodes: catalog.NodeSetOf("n2"), Limit: 1, Expires: time.Now().Add(time.Hour)}})
	r1 := b.admitRelay("r1", "10.1.0.1", "rack")
	csr := b.csr()
	joined, err := b.join(b.token(api.TokenRequest{Role: catalog.TokenRelay, Networks: []catalog.NetworkName{"rack"}}), csr, newRelay("r2", "10.1.0.2", nil))
	if err != nil {
		t.Fatal(err)
	}
	r2 := parse(t, []byte(joined.Certificate))
	body := []byte("a chunk")
	chunkPath := api.ChunkPath(chunk.Of(body))

	calls := []struct {
		route string
		calls []call
	}{
		{"POST " + api.PathChanges, []call{
			{body: api.ChangeRequest{Kind: "node.set", Change: encode(t, catalog.SetNodes{Nodes: catalog.NodeSetOf("n1"), Unset: []string{"comment"}}), Message: "why not"}, status: 200},
			{body: json.RawMessage(`{"kind":"network.set","change":{"network":{"name":"rack","prefix":"10.1.0.0/16"}},"dry_run":true}`), status: 200},
			{body: json.RawMessage(`{"kind":"batch","change":{"changes":[{"kind":"profile.add","change":{"profile":{"name":"p"}}}]}}`), status: 200},
			{body: json.RawMessage(`{"kind":"node.explode","change":{}}`), status: 400},
			{body: json.RawMessage(`{"kind":"node.delete","change":{"nodes":"nope"}}`), status: 404},
		}},
		{"GET " + api.PathReadPoint, []call{{cert: b.c1, status: 200}, {status: 403}}},
		{"GET " + api.PathCatalog, []call{
			{cert: r1, path: "/v1/catalog?since=0", status: 200}, {cert: r1, path: "/v1/catalog?since=1&wait=0s", status: 200},
			{cert: r1, path: "/v1/catalog?since=x", status: 400},
		}},
		{"PUT " + api.PathChunk, []call{{cert: b.c1, path: chunkPath, body: body, status: 204}, {cert: b.c1, path: api.ChunkPath(chunk.Of([]byte("another"))), body: []byte("not it"), status: 422}}},
		{"GET " + api.PathChunk, []call{{cert: r1, path: chunkPath, status: 200}, {cert: r1, path: "/v1/chunks/xyz", status: 400}}},
		{"POST " + api.PathEvents, []call{
			{cert: r1, body: api.EventBatch{Events: []boot.Event{{Time: time.Now(), Stage: boot.StageDHCP}}}, status: 204},
			{cert: r1, body: []byte("{"), status: 400},
		}},
		{"POST " + api.PathRelayStatus, []call{
			{cert: r1, path: "/v1/relays/r1/status", body: api.RelayStatus{Name: "r1", Members: []string{"r2"}, Problems: []string{"none"}}, status: 204},
			{cert: r1, path: "/v1/relays/r2/status", body: api.RelayStatus{}, status: 403},
		}},
		{"GET " + api.PathSecrets, []call{{cert: r1, status: 200}, {status: 403}}},
		{"POST " + api.PathJoinRelay, []call{
			{nobody: true, body: api.JoinRelay{Token: b.token(api.TokenRequest{Role: catalog.TokenRelay, Networks: []catalog.NetworkName{"rack"}}), CSR: b.csr(), Relay: newRelay("r3", "10.1.0.3", nil)}, status: 200},
			{nobody: true, body: api.JoinRelay{Token: "no"}, status: 400},
		}},
		{"POST " + api.PathJoinControl, []call{
			{nobody: true, body: api.JoinController{Token: b.token(api.TokenRequest{Role: catalog.TokenController}), CSR: b.csr(), Name: "c5", API: "10.0.0.5:4400"}, status: 200},
			{nobody: true, body: api.JoinController{Token: "no"}, status: 400},
		}},
		{"POST " + api.PathRenew, []call{{cert: r2, body: api.CertificateRequest{CSR: csr}, status: 200}, {cert: r2, body: api.CertificateRequest{CSR: b.csr()}, status: 403}}},
		{"POST " + api.PathTokens, []call{{body: api.TokenRequest{Role: catalog.TokenRelay, Networks: []catalog.NetworkName{"rack"}, Uses: 2, TTL: time.Hour}, status: 200}, {body: api.TokenRequest{Role: "king"}, status: 400}}},
		{"GET " + api.PathTokens, []call{{status: 200}, {nobody: true, status: 403}}},
		{"GET " + api.PathStatus, []call{{status: 200}, {nobody: true, status: 403}}},
		{"GET " + api.PathOpenAPI, []call{{status: 200}, {nobody: true, status: 403}}},

		{"POST " + api.PathImage, []call{{path: "/v1/images/tiny?source=here&tag=one", body: rootFS(), status: 200}, {path: "/v1/images/-", body: []byte{}, status: 400}}},
		{"POST " + api.PathVersions, []call{
			{path: "/v1/images/drafted/versions", body: b.draft(rootFS()), status: 200},
			{path: "/v1/images/drafted/versions", body: json.RawMessage(`{"segments":[],"parent":"` + chunk.Of(body).String() + `"}`), status: 404},
		}},
		{"POST " + api.PathMissing, []call{{body: api.MissingRequest{Chunks: []chunk.Ref{chunk.RefOf(body), chunk.RefOf([]byte("nowhere"))}}, status: 200}, {body: []byte("["), status: 400}}},
		{"POST " + api.PathCollect, []call{{body: api.CollectRequest{DryRun: true}, status: 200}, {body: api.CollectRequest{Grace: -1}, status: 400}}},
		{"POST " + api.PathVerify, []call{{cert: b.c1, body: api.VerifyRequest{Manifest: chunk.Of(body)}, status: 200}, {body: []byte("["), status: 400}}},
		{"GET " + api.PathResidency, []call{{path: "/v1/images/tiny/residency", status: 200}, {path: "/v1/images/tiny/residency?version=none", status: 404}}},
		{"GET " + api.PathImages, []call{{status: 200}, {path: "/v1/images?consistency=perfect", status: 400}}},
		{"PUT " + api.PathOverlay, []call{{path: "/v1/overlays/motd", body: motd(t), status: 200}, {path: "/v1/overlays/motd", body: []byte("no"), status: 400}}},
		{"PATCH " + api.PathOverlay, []call{
			{path: "/v1/overlays/motd", body: overlay.Edit{Put: []overlay.File{{Path: "etc/issue", Type: overlay.TypeFile, Mode: 0o644}}}, status: 200},
			{path: "/v1/overlays/motd", body: overlay.Edit{Remove: []string{"etc/none"}}, status: 404},
			{path: "/v1/overlays/motd?force=perhaps", body: overlay.Edit{}, status: 400},
		}},
		{"GET " + api.PathOverlay, []call{{path: "/v1/overlays/motd", status: 200}, {path: "/v1/overlays/nope", status: 404}}},
		{"GET " + api.PathOverlays, []call{{status: 200}, {path: "/v1/overlays?consistency=perfect", status: 400}}},

		{"PUT " + api.PathSiteFile, []call{
			{path: "/v1/files/%2Fetc%2Fmotd?mode=600&message=new", body: []byte("hi"), status: 200}, {path: "/v1/files/%2Fetc%2Fempty", body: []byte{}, status: 200},
			{path: "/v1/files/motd", body: []byte("hi"), status: 400}, {path: "/v1/files/%2Fetc%2Fmotd?mode=rw", body: []byte("hi"), status: 400},
			{path: "/v1/files/%2Fetc%2Flarge", body: make([]byte, catalog.MaxSiteFile+1), status: 400},
		}},
		{"GET " + api.PathSiteFile, []call{{path: "/v1/files/%2Fetc%2Fmotd", status: 200}, {path: "/v1/files/%2Fetc%2Fempty", status: 200}, {path: "/v1/files/%2Fetc%2Fnope", status: 404}}},
		{"GET " + api.PathSiteFiles, []call{{status: 200}, {path: "/v1/files?consistency=perfect", status: 400}}},
		{"DELETE " + api.PathSiteFile, []call{{path: "/v1/files/%2Fetc%2Fmotd?message=old", status: 200}, {path: "/v1/files/%2Fetc%2Fmotd", status: 404}}},

		{"GET " + api.PathNodes, []call{
			{status: 200}, {path: "/v1/nodes?full=true&limit=1&consistency=stale", status: 200},
			{path: "/v1/nodes?columns=name,state,image&where=rack=k1&sort=-name", status: 200},
			{path: "/v1/nodes?nodes=n%5B1-9%5D", status: 404},
		}},
		{"POST " + api.PathQuery, []call{
			{body: api.NodeQuery{Nodes: "^-", Files: map[string]string{"-": "n1"}}, status: 200},
			{body: api.NodeQuery{Columns: []string{"colour"}}, status: 400},
		}},
		{"GET " + api.PathNode, []call{{path: "/v1/nodes/n1", status: 200}, {path: "/v1/nodes/n9", status: 404}}},
		{"GET " + api.PathWhy, []call{{path: "/v1/nodes/n1/why", status: 200}, {path: "/v1/nodes/n9/why", status: 404}}},
		{"POST " + api.PathWhys, []call{{body: api.NodeQuery{Nodes: "n1"}, status: 200}, {body: api.NodeQuery{Nodes: "n9"}, status: 404}}},
		{"GET " + api.PathProfiles, []call{{status: 200}, {path: "/v1/profiles?consistency=perfect", status: 400}}},
		{"GET " + api.PathNetworks, []call{{status: 200}, {path: "/v1/networks?consistency=perfect", status: 400}}},
		{"GET " + api.PathAuthorities, []call{{status: 200}, {path: "/v1/ssh/authorities?consistency=perfect", status: 400}}},
		{"GET " + api.PathGroups, []call{{path: "/v1/groups/rack?prefix=k&limit=1", status: 200}, {path: "/v1/groups/colour", status: 404}}},
		{"GET " + api.PathHistory, []call{{path: "/v1/history?limit=100", status: 200}, {path: "/v1/history?limit=none", status: 400}}},
		{"GET " + api.PathBoots, []call{{status: 200}, {path: "/v1/boots?node=n1", status: 200}, {path: "/v1/boots?watch=perhaps", status: 400}}},
		{"GET " + api.PathDiscover, []call{{status: 200}, {path: "/v1/discover?consistency=perfect", status: 400}}},
		{"GET " + api.PathRules, []call{{status: 200}, {path: "/v1/discover/rules?consistency=perfect", status: 400}}},
		{"POST " + api.PathTryRule, []call{
			{body: api.TryRule{Rule: catalog.DiscoverRule{Name: "b", Match: "first", Nodes: catalog.NodeSetOf("n1"), Limit: 1, Expires: time.Now().Add(time.Hour)}}, status: 200},
			{body: api.TryRule{}, status: 400},
		}},
		{"GET " + api.PathBootSessions, []call{{status: 200}, {nobody: true, status: 403}}},
		{"GET " + api.PathBootSession, []call{
			{path: "/v1/boots/sessions/last", status: 200}, {path: "/v1/boots/sessions/last?nodes=n1", status: 200}, {cert: b.c1, path: "/v1/boots/sessions/last", status: 200},
			{path: "/v1/boots/sessions/last?nodes=n%5B1-9%5D", status: 404}, {path: "/v1/boots/sessions/last?watch=perhaps", status: 400},
			{path: "/v1/boots/sessions/1", status: 404}, {path: "/v1/boots/sessions/storm?watch=true", status: 400}, {path: "/v1/boots/sessions/1?watch=true", status: 404},
		}},
		{"GET " + api.PathSessionNodes, []call{{path: "/v1/boots/sessions/last/nodes", status: 200}, {path: "/v1/boots/sessions/x/nodes", status: 400}}},
		{"GET " + api.PathMetrics, []call{{status: 200}, {nobody: true, status: 403}}},

		{"GET " + api.PathRelays, []call{{status: 200}, {path: "/v1/relays?consistency=perfect", status: 400}}},
		{"GET " + api.PathControllers, []call{{status: 200}, {path: "/v1/controllers?consistency=perfect", status: 400}}},
		{"DELETE " + api.PathController, []call{{path: "/v1/controllers/c5", status: 204}, {path: "/v1/controllers/c5", status: 404}}},
		{"POST " + api.PathLeader, []call{{path: "/v1/leader?to=c1", status: 204}, {nobody: true, status: 403}}},
	}
	for _, of := range calls {
		method, path, _ := strings.Cut(of.route, " ")
		for _, c := range of.calls {
			if c.path == "" {
				c.path = path
			}
			raw, ok := c.body.([]byte)
			if !ok && c.body != nil {
				raw = encode(t, c.body)
			}
			var cs *tls.ConnectionState
			if c.cert != nil {
				cs = withPeer(c.cert)
			} else if c.nobody {
				cs = &tls.ConnectionState{}
			}
			if w := b.askRaw(cs, method, c.path, raw); w.Code != c.status {
				t.Errorf("%s %s: %d, want %d: %.300s", method, c.path, w.Code, c.status, w.Body)
			}
		}
	}
	for _, rt := range table {
		route := rt.method + " " + rt.path
		met := slices.Collect(maps.Keys(b.told.seen[route]))
		if !slices.ContainsFunc(met, func(s int) bool { return s < 300 }) || !slices.ContainsFunc(met, func(s int) bool { return s >= 400 }) {
			t.Errorf("%s was answered with %v: call it here, for a good answer and a bad one", route, met)
		}
	}
}

// fullSettings decide something of every sort.
func fullSettings(t *testing.T) catalog.Settings {
	t.Helper()
	var s catalog.Settings
	err := json.Unmarshal([]byte(`{"image":"tiny","kernel":{"args":["quiet"]},"overlays":{"system":["motd"]},"rack":"k1","comment":"x",
		"nets":{"default":{"hardware":"52:54:00:00:00:01","address":"10.1.0.10","mtu":1500,"onboot":true,"tags":{"a":"b"}}},
		"bmc":{"address":"10.2.0.10","port":623},"disks":{"/dev/vda":{"wipe_table":true,"partitions":{"scratch":{"number":1,"size_mib":100}}}},
		"filesystems":{"/dev/vda1":{"format":"xfs","options":["-f"]}},"tags":{"a":"b"},"resources":{"list":[1,{"a":null}],"word":"x"},"groups":["g"]}`), &s)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func motd(t *testing.T) []byte {
	t.Helper()
	bundle, err := overlay.NewBundle([]overlay.File{{Path: "etc/motd", Type: overlay.TypeFile, Mode: 0o644, Content: []byte("hi")}})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := bundle.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestTheDescriptionIsWhatOpenAPICallsOne(t *testing.T) {
	d := readDescription(t)
	if v, _ := d.doc["openapi"].(string); !strings.HasPrefix(v, "3.1.") {
		t.Errorf("version %q", v)
	}
	ids, routes, tagged := map[string]bool{}, 0, map[string]bool{}
	for _, tag := range d.doc["tags"].([]any) {
		tagged[d.at(tag, "name").(string)] = true
	}
	for path, item := range d.doc["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			routes++
			route := method + " " + path
			id, _ := d.at(op, "operationId").(string)
			if id == "" || ids[id] {
				t.Errorf("%s: operationId %q is empty or there twice", route, id)
			}
			ids[id] = true
			if sum, _ := d.at(op, "summary").(string); sum == "" {
				t.Errorf("%s has no summary", route)
			}
			for _, tag := range d.at(op, "tags").([]any) {
				if !tagged[tag.(string)] {
					t.Errorf("%s has the tag %s, which is not described", route, tag)
				}
			}
			d.parameters(t, route, path, op)
			for status, r := range d.at(op, "responses").(map[string]any) {
				if what, _ := d.at(r, "description").(string); what == "" {
					t.Errorf("%s: its answer %s has no description", route, status)
				}
			}
		}
	}
	if routes != len(table) || len(descriptions) != len(table) {
		t.Errorf("%d operations and %d descriptions of %d routes", routes, len(descriptions), len(table))
	}
	d.references(t, d.doc)
	name := regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)
	for _, of := range d.at(d.doc, "components").(map[string]any) {
		for n := range of.(map[string]any) {
			if !name.MatchString(n) {
				t.Errorf("component %q", n)
			}
		}
	}
}

// parameters checks that an operation declares what is in its path, and nothing twice.
func (d *told) parameters(t *testing.T, route, path string, op any) {
	declared := map[string]bool{}
	params, _ := d.at(op, "parameters").([]any)
	for _, p := range params {
		in, _ := d.at(p, "in").(string)
		key := in + " " + d.at(p, "name").(string)
		if declared[key] || d.at(p, "schema") == nil || !slices.Contains([]string{"path", "query", "header"}, in) {
			t.Errorf("%s: parameter %s is there twice or incomplete", route, key)
		}
		declared[key] = true
		if in == "path" && (d.at(p, "required") != true || !strings.Contains(path, "{"+d.at(p, "name").(string)+"}")) {
			t.Errorf("%s: parameter %s is not in the path, or not required", route, key)
		}
	}
	for _, m := range pathValue.FindAllStringSubmatch(path, -1) {
		if !declared["path "+m[1]] {
			t.Errorf("%s: %s is not declared", route, m[1])
		}
	}
}

// references checks that each leads somewhere, and that each component is referred to.
func (d *told) references(t *testing.T, doc map[string]any) {
	used := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				used[ref] = true
				if d.at(v) == nil {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			if mapping, ok := d.at(v, "discriminator", "mapping").(map[string]any); ok {
				for _, ref := range mapping {
					walk(map[string]any{"$ref": ref})
				}
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(doc)
	for kind, of := range d.at(doc, "components").(map[string]any) {
		for name := range of.(map[string]any) {
			if ref := "#/components/" + kind + "/" + name; kind != "securitySchemes" && !used[ref] {
				t.Errorf("nothing refers to %s", ref)
			}
		}
	}
}

// A name that a handler reads and that no route describes was forgotten.
func TestEveryParameterThatIsReadIsDescribed(t *testing.T) {
	described := map[string]bool{"consistency": true}
	for _, is := range descriptions {
		for _, p := range is.params {
			described[p.Name] = true
		}
	}
	read := regexp.MustCompile(`(?:\bQuery\(\)|\bq|\bv)(?:\.Get\(|\[)"([a-z_-]+)"`)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range files {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range read.FindAllSubmatch(source, -1) {
			if found++; !strings.HasSuffix(name, "_test.go") && !described[string(m[1])] {
				t.Errorf("%s reads the parameter %s, which no route describes", name, m[1])
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d parameters were found in the sources: they are read in another way", found)
	}
}

func TestTheParametersOfNodesAreThoseOfAQuery(t *testing.T) {
	var params, fields []string
	for _, p := range nodeParameters {
		params = append(params, p.Name)
	}
	for i, q := 0, reflect.TypeFor[api.NodeQuery](); i < q.NumField(); i++ {
		if name, _, _ := strings.Cut(q.Field(i).Tag.Get("json"), ","); name != "files" { // these have no place in a URL
			fields = append(fields, name)
		}
	}
	slices.Sort(params)
	slices.Sort(fields)
	if !slices.Equal(params, fields) {
		t.Errorf("%v are described, and a query has %v", params, fields)
	}
}

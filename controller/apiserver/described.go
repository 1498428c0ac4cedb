package apiserver

import (
	"reflect"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/discover"
	"github.com/wulfmesh/wulfmesh/pkg/openapi"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

const introduction = `The API of wulfmesh's controllers. Any controller answers; one that does not lead passes writes on.

Who asks is known by a client certificate, or on a controller by the user of the process that asks through the socket. ` +
	`x-roles says who may use an operation; a role is in the certificate.

A request with a property that is not described is refused. Answers may get more properties in later versions, and ` +
	`clients pass over those that they do not know.`

// The chapters of the description.
const (
	tagNodes   = "nodes"
	tagChanges = "changes"
	tagContent = "images, overlays and site files"
	tagMesh    = "mesh"
	tagInside  = "inside"
)

var tags = []openapi.Tag{
	{Name: tagNodes, Description: "what is declared, and how machines boot"},
	{Name: tagChanges, Description: "every change of what is declared, and what happened before"},
	{Name: tagContent, Description: "what nodes are made of"},
	{Name: tagMesh, Description: "controllers, relays, and how they join"},
	{Name: tagInside, Description: "what controllers and relays say to each other"},
}

// descriptions say what each route is for.
var descriptions = map[string]about{
	"POST " + api.PathChanges: {id: "change", tag: tagChanges, summary: "Make a change, or say what it would do",
		params: []openapi.Parameter{shared("If-Match")}, body: jsonOf[api.ChangeRequest](), answer: jsonOf[api.ChangeResult](), guarded: true},
	"GET " + api.PathHistory: {id: "listHistory", tag: tagChanges, summary: "Tell what happened, the newest first",
		params: []openapi.Parameter{
			query("limit", "records in the answer; 50 where nothing is said", number()),
			query("node", "only what changed this node", text()),
			query("overlay", "only what changed this overlay", text()),
		}, answer: jsonOf[api.List[api.Record]](), fresh: true, tagged: true},

	"GET " + api.PathNodes: {id: "listNodes", tag: tagNodes, summary: "List nodes, all or those of a query",
		params: nodeParameters, answer: nodeAnswers, fresh: true},
	"POST " + api.PathQuery: {id: "queryNodes", tag: tagNodes, summary: "List the nodes of a query that is too long for a URL; it changes nothing",
		body: jsonOf[api.NodeQuery](), answer: nodeAnswers, fresh: true},
	"GET " + api.PathNode: {id: "getNode", tag: tagNodes, summary: "Show a node, what holds for it and which profile says so",
		answer: jsonOf[api.NodeView](), fresh: true, tagged: true},
	"GET " + api.PathWhy: {id: "explainNode", tag: tagNodes, summary: "Explain why a node, or the machine of a hardware address, is in its state",
		params: []openapi.Parameter{query("render", "ipxe: with the script that its boot loader would be given now", text())},
		answer: jsonOf[api.Why](), fresh: true},
	"POST " + api.PathWhys: {id: "explainNodes", tag: tagNodes, summary: "Explain why each node of a query is in its state, of at most 256; it changes nothing",
		body: jsonOf[api.NodeQuery](), answer: jsonOf[api.List[api.Why]](), fresh: true},
	"GET " + api.PathProfiles: {id: "listProfiles", tag: tagNodes, summary: "List profiles",
		answer: jsonOf[api.List[catalog.Profile]](), fresh: true, tagged: true},
	"GET " + api.PathNetworks: {id: "listNetworks", tag: tagNodes, summary: "List networks",
		answer: jsonOf[api.List[catalog.Network]](), fresh: true, tagged: true},
	"GET " + api.PathAuthorities: {id: "listSSHAuthorities", tag: tagNodes, summary: "List the keys by which nodes' SSH host keys are certified, with the hosts of each",
		answer: jsonOf[api.List[catalog.SSHAuthority]](), fresh: true, tagged: true},
	"GET " + api.PathGroups: {id: "listGroups", tag: tagNodes, summary: "List the groups of a source, such as rack, with their nodes",
		params: []openapi.Parameter{
			query("prefix", "only groups whose names begin so", text()),
			query("limit", "groups in the answer; all where nothing is said", number()),
		}, answer: jsonOf[api.List[api.GroupView]](), fresh: true},
	"GET " + api.PathBoots: {id: "listBoots", tag: tagNodes, summary: "List the last boot of every machine, all boots of one, or watch them",
		params: []openapi.Parameter{
			query("node", "all boots kept of this node or hardware address, with their events", text()),
			query("watch", "events as they come, one a line, until the client leaves", boolean()),
		}, answer: append(jsonOf[api.List[api.Boot]](), linesOf[boot.Event]()...)},
	"GET " + api.PathDiscover: {id: "listDiscovered", tag: tagNodes, summary: "List the machines that no node claimed when they asked, and what becomes of them; what the controller asked has heard",
		answer: jsonOf[api.List[discover.Found]](), fresh: true},
	"GET " + api.PathRules: {id: "listDiscoverRules", tag: tagNodes, summary: "List the rules by which unknown machines become nodes, in the order in which they are asked",
		answer: jsonOf[api.List[catalog.DiscoverRule]](), fresh: true, tagged: true},
	"POST " + api.PathTryRule: {id: "tryDiscoverRule", tag: tagNodes, summary: "Say what a rule would make of the machines that are there; it changes nothing",
		body: jsonOf[api.TryRule](), answer: jsonOf[api.List[discover.Found]](), fresh: true},

	"GET " + api.PathBootSessions: {id: "listBootSessions", tag: tagNodes, summary: "List boot sessions, in short, the newest first: machines that booted together",
		answer: jsonOf[api.List[api.BootSession]]()},
	"GET " + api.PathBootSession: {id: "getBootSession", tag: tagNodes, summary: "Tell all of a boot session, or watch its summary",
		params: []openapi.Parameter{
			query("nodes", "only what became of the machines of this node set; of last, the newest session that has one of them", text()),
			query("watch", "summaries as it goes on, one a line and at most two a second, until the client leaves; last goes on with the next session", boolean()),
		}, answer: append(jsonOf[api.BootSession](), linesOf[api.BootSession]()...)},
	"GET " + api.PathSessionNodes: {id: "listSessionNodes", tag: tagNodes, summary: "Tell how each machine of a boot session fared",
		answer: jsonOf[api.List[api.SessionNode]]()},

	"GET " + api.PathImages: {id: "listImages", tag: tagContent, summary: "List images and their versions",
		answer: jsonOf[api.List[catalog.Image]](), fresh: true, tagged: true},
	"GET " + api.PathResidency: {id: "listResidency", tag: tagContent, summary: "List how much of a version of an image each relay has on its disk",
		params: []openapi.Parameter{query("version", "a tag or a version's ID; else latest", text())},
		answer: jsonOf[api.List[api.Residency]](), fresh: true},
	"POST " + api.PathImage: {id: "importImage", tag: tagContent, summary: "Make a version of an image of a tar; the answer is its progress, one report a line",
		params: []openapi.Parameter{
			query("source", "where it came from, for people", text()),
			query("message", "why it was made", text()),
			query("tag", "moved to the version, beside latest; may be repeated", list()),
		}, body: bytesOf("application/x-tar"), answer: linesOf[api.ImportProgress]()},
	"POST " + api.PathVersions: {id: "addImageVersion", tag: tagContent, summary: "Make a version of an image of segments that were sent before; the answer is its progress, one report a line",
		body: jsonOf[api.ImageDraft](), answer: linesOf[api.ImportProgress]()},
	"POST " + api.PathCollect: {id: "collectChunks", tag: tagContent, summary: "Delete what nothing needs any more, on every controller",
		body: jsonOf[api.CollectRequest](), answer: jsonOf[api.CollectResult]()},
	"POST " + api.PathVerify: {id: "verifyImage", tag: tagContent, summary: "Hold what every controller has of a version against its manifest, and repair it",
		body: jsonOf[api.VerifyRequest](), answer: jsonOf[api.VerifyResult]()},
	"POST " + api.PathMissing: {id: "listMissingChunks", tag: tagContent, summary: "Tell which of some chunks have to be sent; the others are kept for a while",
		body: jsonOf[api.MissingRequest](), answer: jsonOf[api.MissingResult]()},
	"GET " + api.PathOverlays: {id: "listOverlays", tag: tagContent, summary: "List overlays",
		answer: jsonOf[api.List[catalog.Overlay]](), fresh: true, tagged: true},
	"GET " + api.PathOverlay: {id: "getOverlay", tag: tagContent, summary: "Fetch the content of an overlay: what nodes get, or one layer of it",
		params: []openapi.Parameter{
			query("layer", "base: what comes with wulfmesh; own: what is the site's", text()),
			query("at", "the site's part as it was at this revision, as far as that is remembered", number()),
		},
		answer: bytesOf("application/octet-stream"), fresh: true, tagged: true},
	"PUT " + api.PathOverlay: {id: "putOverlay", tag: tagContent, summary: "Make an overlay, or give one new files of the site's",
		params: append([]openapi.Parameter{
			query("laid", "the files lie over those that come with wulfmesh, and do not hide them", boolean()),
			header("If-Match", "the ETag of the site's part that this was made of; if it is another one by now, nothing is changed"),
			header("If-None-Match", "*: only if there is no such overlay"),
		}, overlayParameters...), body: bytesOf("application/octet-stream"), answer: jsonOf[api.ChangeResult](), guarded: true},
	"PATCH " + api.PathOverlay: {id: "editOverlay", tag: tagContent, summary: "Change some files of the site's part of an overlay",
		params: overlayParameters, body: jsonOf[overlay.Edit](), answer: jsonOf[api.ChangeResult]()},
	"GET " + api.PathSiteFiles: {id: "listSiteFiles", tag: tagContent, summary: "List site files, which templates of overlays include",
		answer: jsonOf[api.List[catalog.SiteFile]](), fresh: true, tagged: true},
	"GET " + api.PathSiteFile: {id: "getSiteFile", tag: tagContent, summary: "Fetch the content of a site file, or of the one that a link leads to",
		answer: bytesOf("application/octet-stream"), fresh: true, tagged: true},
	"PUT " + api.PathSiteFile: {id: "putSiteFile", tag: tagContent, summary: "Make a site file, or give one new content",
		params: []openapi.Parameter{
			query("mode", "permission bits in octal; 644 where nothing is said", text()),
			query("message", "why, for the history", text()),
			header("If-Match", "the ETag of the content that the new one was made from: if another is there by now, nothing happens"),
		}, body: bytesOf("application/octet-stream"), answer: jsonOf[api.ChangeResult](), guarded: true},
	"DELETE " + api.PathSiteFile: {id: "deleteSiteFile", tag: tagContent, summary: "Delete a site file",
		params: []openapi.Parameter{query("message", "why, for the history", text())}, answer: jsonOf[api.ChangeResult]()},

	"GET " + api.PathStatus:      {id: "getStatus", tag: tagMesh, summary: "Tell how the controller that answers is", answer: jsonOf[api.ControllerStatus]()},
	"GET " + api.PathMetrics:     {id: "getMetrics", tag: tagMesh, summary: "Fetch what a controller has counted, for Prometheus", answer: bytesOf(typeMetrics)},
	"GET " + api.PathOpenAPI:     {id: "getOpenAPI", tag: tagMesh, summary: "Fetch this description", answer: jsonOf[map[string]any]()},
	"GET " + api.PathRelays:      {id: "listRelays", tag: tagMesh, summary: "List relays, and what they report", answer: jsonOf[api.List[api.RelayView]](), fresh: true},
	"GET " + api.PathControllers: {id: "listControllers", tag: tagMesh, summary: "List controllers, as the leader sees them", answer: jsonOf[api.List[api.ControllerView]](), fresh: true},
	"DELETE " + api.PathController: {id: "deleteController", tag: tagMesh,
		summary: "Take a controller out of the cluster"},
	"POST " + api.PathLeader: {id: "transferLeadership", tag: tagMesh, summary: "Let another controller lead",
		params: []openapi.Parameter{query("to", "its name; where nothing is said, whichever is best", text())}},
	"GET " + api.PathTokens:       {id: "listTokens", tag: tagMesh, summary: "List join tokens, without their secrets", answer: jsonOf[[]catalog.Token](), fresh: true},
	"POST " + api.PathTokens:      {id: "createToken", tag: tagMesh, summary: "Make a join token", body: jsonOf[api.TokenRequest](), answer: jsonOf[api.TokenResult]()},
	"POST " + api.PathJoinRelay:   {id: "joinRelay", tag: tagMesh, summary: "Join as a relay, by token", body: jsonOf[api.JoinRelay](), answer: jsonOf[api.JoinedRelay]()},
	"POST " + api.PathJoinControl: {id: "joinController", tag: tagMesh, summary: "Join as a controller, by token", body: jsonOf[api.JoinController](), answer: jsonOf[api.JoinedController]()},
	"POST " + api.PathRenew: {id: "renewCertificate", tag: tagMesh, summary: "Get the next certificate of one's own",
		body: jsonOf[api.CertificateRequest](), answer: jsonOf[api.Certificate]()},

	"GET " + api.PathReadPoint: {id: "getReadPoint", tag: tagInside, summary: "Ask the leader which revision a linearizable read must see", answer: jsonOf[api.ReadPoint]()},
	"GET " + api.PathCatalog: {id: "followCatalog", tag: tagInside, summary: "Fetch what happened since a revision, or the whole catalog",
		params: []openapi.Parameter{
			query("since", "the revision that the caller holds; 0 asks for everything", number()),
			query("wait", "how long to wait for something to happen, such as 30s", text()),
			query("consistency", "stale: answer although no leader was heard of", text()),
		}, answer: carried{{api.TypeDelta, reflect.TypeFor[api.Delta]()}, {api.TypeSnapshot, nil}}},
	"GET " + api.PathChunk: {id: "getChunk", tag: tagInside, summary: "Fetch a chunk by its ID; HEAD and Range are answered, too",
		answer: bytesOf("application/octet-stream"), tagged: true},
	"PUT " + api.PathChunk: {id: "putChunk", tag: tagInside, summary: "Store a chunk", body: bytesOf("application/octet-stream")},
	"POST " + api.PathEvents: {id: "reportEvents", tag: tagInside, summary: "Report boot events, as a relay",
		body: jsonOf[api.EventBatch]()},
	"POST " + api.PathRelayStatus: {id: "reportRelay", tag: tagInside, summary: "Report how a relay is, as that relay", body: jsonOf[api.RelayStatus]()},
	"GET " + api.PathSecrets:      {id: "getSecrets", tag: tagInside, summary: "Fetch what a relay may hold in confidence", answer: jsonOf[api.RelaySecrets]()},
}

// overlayParameters are those of every write of an overlay.
var overlayParameters = []openapi.Parameter{
	query("force", "although a template fails for nodes, of which the answer warns", boolean()),
	query("message", "why, for the history", text()),
}

// nodeAnswers are the two forms of a list of nodes.
var nodeAnswers = append(jsonOf[api.List[api.NodeView]](), jsonOf[api.NodeTable]()...)

// nodeParameters are the fields of api.NodeQuery that a URL has room for.
var nodeParameters = []openapi.Parameter{
	query("nodes", "a node set, such as n[1-48] or @rack:r1; all nodes where nothing is said", text()),
	query("exclude", "a node set that is left out", text()),
	query("where", "a condition: COLUMN=VALUE, COLUMN!=VALUE, COLUMN or !COLUMN; may be repeated, and all must hold", list()),
	query("columns", "the answer is a table of these, which may be joined by commas: "+columnNames()+", and paths of settings", list()),
	query("sort", "a column, with - before it the other way round", text()),
	query("limit", "nodes in the answer; 0: all", number()),
	query("after", "the name of the last node of the page before", text()),
	query("full", "with the origin of each setting, and host keys", boolean()),
	query("any", "pass over names that no node has", boolean()),
}

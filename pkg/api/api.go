// Package api is what wulfmesh's programs say to each other over HTTP: paths, wire types, errors, and the client.
//
// It speaks HTTP and JSON only, because iPXE, an initramfs and curl speak them too. Controllers serve the /v1
// paths below to operators, relays and each other; relays serve nodes.
package api

import "strings"

// ALPN protocols of a controller's one listener: what a connection is for is settled in the TLS handshake.
const (
	ALPNRaft = "wulf-raft/1"
	ALPNHTTP = "http/1.1"
	ALPNH2   = "h2"
)

// Default ports.
const (
	PortController = 4400 // API and replicated log
	PortBoot       = 4480 // relay: plain HTTP for firmware and boot loaders
	PortMesh       = 4481 // relay: HTTPS for agents and other relays
	PortGossip     = 4482 // relay: membership, TCP and UDP
)

// Paths that controllers serve. Names in braces are path values of http.ServeMux.
const (
	PathChanges      = "/v1/changes"                     // POST ChangeRequest → ChangeResult
	PathCatalog      = "/v1/catalog"                     // GET ?since=&wait= → Delta, or a snapshot (see feed.go)
	PathChunk        = "/v1/chunks/{id}"                 // GET, HEAD, PUT
	PathMissing      = "/v1/chunks/missing"              // POST MissingRequest → MissingResult
	PathCollect      = "/v1/chunks/collect"              // POST CollectRequest → CollectResult: of all controllers
	PathVerify       = "/v1/chunks/verify"               // POST VerifyRequest → VerifyResult: of all controllers
	PathEvents       = "/v1/events"                      // POST EventBatch
	PathRelayStatus  = "/v1/relays/{name}/status"        // POST RelayStatus, by that relay
	PathStatus       = "/v1/status"                      // GET ControllerStatus
	PathOpenAPI      = "/v1/openapi.json"                // GET → the description of these paths, OpenAPI 3.1
	PathSecrets      = "/v1/secrets"                     // GET RelaySecrets, by a relay
	PathJoinRelay    = "/v1/join/relay"                  // POST JoinRelay → JoinedRelay, by token
	PathJoinControl  = "/v1/join/controller"             // POST JoinController → JoinedController, by token
	PathRenew        = "/v1/certificate"                 // POST CertificateRequest → Certificate: a new one for the caller
	PathTokens       = "/v1/tokens"                      // GET → []catalog.Token; POST TokenRequest → TokenResult
	PathNodes        = "/v1/nodes"                       // GET, see NodeQuery → List[NodeView] or NodeTable
	PathQuery        = "/v1/nodes/query"                 // POST NodeQuery → the same
	PathGroups       = "/v1/groups/{name}"               // GET ?prefix=&limit= → List[GroupView], the groups of a source such as rack
	PathHistory      = "/v1/history"                     // GET ?limit=&node= → List[Record], the newest first
	PathNode         = "/v1/nodes/{name}"                // GET → NodeView, resolved with blame
	PathWhy          = "/v1/nodes/{name}/why"            // GET → Why
	PathWhys         = "/v1/nodes/why"                   // POST NodeQuery → List[Why]: of at most MaxWhys nodes
	PathProfiles     = "/v1/profiles"                    // GET → List[catalog.Profile]
	PathNetworks     = "/v1/networks"                    // GET → List[catalog.Network]
	PathAuthorities  = "/v1/ssh/authorities"             // GET → List[catalog.SSHAuthority]
	PathImages       = "/v1/images"                      // GET → List[catalog.Image]
	PathImage        = "/v1/images/{name}"               // POST a tar → NDJSON of ImportProgress
	PathVersions     = "/v1/images/{name}/versions"      // POST ImageDraft → NDJSON of ImportProgress
	PathOverlays     = "/v1/overlays"                    // GET → List[catalog.Overlay]
	PathOverlay      = "/v1/overlays/{name}"             // GET ?layer= → the overlay's content; PUT the site's part; PATCH overlay.Edit → ChangeResult
	PathSiteFiles    = "/v1/files"                       // GET → List[catalog.SiteFile]
	PathSiteFile     = "/v1/files/{path}"                // GET → the file's content; PUT it, DELETE it → ChangeResult; slashes are written %2F
	PathRelays       = "/v1/relays"                      // GET → List[RelayView]
	PathControllers  = "/v1/controllers"                 // GET → List[ControllerView]
	PathController   = "/v1/controllers/{name}"          // DELETE: out of the replicated log and the catalog
	PathLeader       = "/v1/leader"                      // POST ?to=NAME: hand leadership over
	PathBoots        = "/v1/boots"                       // GET ?node=&watch= → List[Boot], or NDJSON of boot.Event
	PathDiscover     = "/v1/discover"                    // GET → List[discover.Found]: the inbox of unknown machines
	PathRules        = "/v1/discover/rules"              // GET → List[catalog.DiscoverRule], in their order
	PathTryRule      = "/v1/discover/try"                // POST TryRule → List[discover.Found]
	PathReadPoint    = "/v1/read-point"                  // GET ReadPoint, of the leader by controllers: what a linearizable read must see
	PathBootSessions = "/v1/boots/sessions"              // GET → List[BootSession], the newest first
	PathBootSession  = "/v1/boots/sessions/{name}"       // GET ?nodes=&watch= → BootSession, or NDJSON of its summaries; the name is a number, or last
	PathSessionNodes = "/v1/boots/sessions/{name}/nodes" // GET → List[SessionNode]
	PathMetrics      = "/metrics"                        // GET → what a controller has counted, for Prometheus
	PathResidency    = "/v1/images/{name}/residency"     // GET ?version= → List[Residency]
)

// Paths that relays serve.
const (
	PathScript      = "/boot/{hw}/script"               // plain: the machine's iPXE script
	PathBootOverlay = "/boot/{hw}/overlay"              // plain, ?ticket=: the overlays as a cpio archive, for a one-stage boot
	PathNodeChunk   = "/chunk/{id}"                     // plain and HTTPS
	PathFile        = "/file/{id}"                      // plain and HTTPS: all segments of a manifest, one after the other
	PathLoader      = "/loader/{name}"                  // plain: boot programs, for UEFI HTTP boot
	PathSessions    = "/v1/sessions"                    // HTTPS: POST SessionRequest → Session
	PathNodeOverlay = "/overlay/{node}/{kind}"          // HTTPS, session: overlay.Listing; kind is system or runtime
	PathNodeContent = "/overlay/{node}/{kind}/{digest}" // HTTPS, session: a large file of that listing
	PathNodeEvents  = "/v1/node/events"                 // HTTPS, session: POST EventBatch
	PathMeshChunk   = "/v1/mesh/chunks/{id}"            // HTTPS, relay certificate: fetch through this relay
)

// Headers.
const (
	HeaderRevision = "Wulf-Revision" // of the catalog that an answer comes from
	HeaderRelay    = "Wulf-Relay"    // name of the relay that answers
	HeaderVerifies = "Wulf-Verifies" // from a reader that verifies chunks itself, as an agent does and firmware does not
	HeaderHops     = "Wulf-Hops"     // how many relays a chunk request has passed
	HeaderAhead    = "Wulf-Ahead"    // on chunk requests of relays for which no node waits
	HeaderProgress = "Wulf-Progress" // in interim answers to chunk requests: bytes that came to the relay, or to the one that it asks
	HeaderSize     = "Wulf-Size"     // bytes of the chunk asked for, so that a relay need not know it
	HeaderPlace    = "Wulf-Place"    // how many machines are before the one that is told to come back
	HeaderSent     = "Wulf-Sent"     // when a node sent what its request holds, by its own clock, as in JSON
	HeaderBy       = "Wulf-By"       // who asks, when a controller passes a request on to the leader; believed from controllers only
)

// OneStageOverlay begins the paths, in the initial file system of a one-stage boot, of the node's overlays: their
// listings with all contents, named after their kind. The agent applies them.
const OneStageOverlay = ".wulf/overlay-"

// OneStageStorage is the path there of what the node's disks are to hold, a Storage; it is missing if nothing is declared.
const OneStageStorage = ".wulf/storage.json"

// ScriptPath is PathScript of a machine, and LoaderPath PathLoader of a boot program.
func ScriptPath(hw string) string   { return strings.Replace(PathScript, "{hw}", hw, 1) }
func LoaderPath(name string) string { return strings.Replace(PathLoader, "{name}", name, 1) }

// MaxHops bounds the way of a chunk request through the tree of relays: one that has passed so many gets what the
// relay has on its disk, and nothing else.
const MaxHops = 24

// Bounds of request and answer bodies that are read into memory.
const (
	MaxRequest = 16 << 20
	MaxAnswer  = 256 << 20
)

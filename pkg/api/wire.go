package api

import (
	"encoding/json"
	"net/netip"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// ChangeRequest asks for a change. The same Request ID may be sent again, to any controller, after an unknown
// outcome: it is applied once.
type ChangeRequest struct {
	Request string           `json:"request,omitempty"` // "" is a new one
	If      catalog.Revision `json:"if,omitempty"`
	Kind    string           `json:"kind"` // as catalog.KindOf says it
	Change  json.RawMessage  `json:"change"`
	Message string           `json:"message,omitempty"` // why, for the history
	DryRun  bool             `json:"dry_run,omitempty"` // only say what would come of it
}

// ChangeResult says that a change happened, or with DryRun what it would do.
type ChangeResult struct {
	Revision catalog.Revision `json:"revision"`          // at which it happened; with DryRun, that it was tried on
	By       string           `json:"by,omitempty"`      // whose change it is
	Undo     catalog.Revision `json:"undo,omitempty"`    // to which catalog.Revert takes it back; 0: it cannot
	Preview  *catalog.Preview `json:"preview,omitempty"` // with DryRun
	Same     bool             `json:"same,omitempty"`    // it was so before, and there is no revision of it
	Warning  string           `json:"warning,omitempty"` // of a change that was made all the same
}

// ReadPoint is a revision at or after every change acknowledged before it was asked for.
type ReadPoint struct {
	Revision catalog.Revision `json:"revision"`
}

// Delta is what happened since a revision: an answer of PathCatalog with TypeDelta.
type Delta struct {
	Entries  []LogEntry       `json:"entries"` // in order; empty if nothing happened while waiting
	Revision catalog.Revision `json:"revision"`
	Hash     catalog.Hash     `json:"hash"` // after the last of Entries
}

// LogEntry is an entry of the log as it stands there: the bytes matter, for the state hash rolls over them.
type LogEntry struct {
	Revision catalog.Revision `json:"revision"`
	Entry    []byte           `json:"entry"`
}

// Media types of PathCatalog's answers.
const (
	TypeDelta    = "application/vnd.wulfmesh.delta+json"
	TypeSnapshot = "application/vnd.wulfmesh.catalog" // catalog.ReadSnapshot reads it
)

// List is a list with the revision that it shows.
type List[T any] struct {
	Revision catalog.Revision `json:"revision"`
	Items    []T              `json:"items" openapi:"notnull"`
}

// NodeView is a node with what was decided about it, and how its last boot went.
type NodeView struct {
	catalog.Node
	Effective *catalog.Settings `json:"effective,omitempty"`
	Blame     catalog.Blame     `json:"blame,omitempty"`
	HostKey   string            `json:"host_key,omitempty"` // public SSH host key that the node will show
	Boot      *Boot             `json:"boot,omitempty"`
	Runtime   string            `json:"runtime,omitempty"` // how its runtime overlays are, as RuntimeOf says it
}

// Boot is one boot of a node, put together from its events.
type Boot struct {
	Node     catalog.NodeName     `json:"node,omitempty"`
	Hardware catalog.HardwareAddr `json:"hardware,omitempty"`
	Boot     string               `json:"boot,omitempty"`
	Stage    boot.Stage           `json:"stage"` // the furthest reached, or failed
	FailedAt boot.Stage           `json:"failed_at,omitempty"`
	Error    string               `json:"error,omitempty"`
	Fix      string               `json:"fix,omitempty"`     // of Error
	Without  string               `json:"without,omitempty"` // what is declared and not there, where the boot went on all the same
	Relay    catalog.RelayName    `json:"relay,omitempty"`   // that handed out the script
	Relays   []catalog.RelayName  `json:"relays,omitempty"`  // all that took part
	Firmware boot.Firmware        `json:"firmware,omitempty"`
	Address  string               `json:"address,omitempty"`
	Revision catalog.Revision     `json:"revision,omitempty"`
	Image    string               `json:"image,omitempty"`
	Manifest chunk.ID             `json:"manifest,omitzero"`
	Started  time.Time            `json:"started"`
	Last     time.Time            `json:"last"`
	Seen     time.Time            `json:"seen,omitzero"` // last heart-beat
	Runtime  *Runtime             `json:"runtime,omitempty"`
	Events   []boot.Event         `json:"events,omitempty"`
}

// Runtime is what a running node told last of its runtime overlays.
type Runtime struct {
	Revision catalog.Revision `json:"revision"`         // that its files follow, but for what Error says
	Seen     time.Time        `json:"seen"`             // when it told that
	Changed  time.Time        `json:"changed,omitzero"` // when it last did something about them
	Error    string           `json:"error,omitempty"`  // why not all is as it should be
}

// Why explains a node's state in words.
type Why struct {
	Node     catalog.NodeName     `json:"node,omitempty"`
	Hardware catalog.HardwareAddr `json:"hardware,omitempty"`
	State    string               `json:"state"`           // one line
	Stage    boot.Stage           `json:"stage,omitempty"` // that did not come about, or that was lost; "" if there is none
	Verdict  string               `json:"verdict"`         // the cause as far as known
	Fix      string               `json:"fix,omitempty"`   // a command, or one thing to do
	Notes    []string             `json:"notes,omitempty"` // what else is known that helps, one line each
	Tries    int                  `json:"tries,omitempty"` // how often it has started lately and come no further
	Boot     *Boot                `json:"boot,omitempty"`  // the last one, with its events

	Script string `json:"script,omitempty"` // what its boot loader would be given now, without a ticket; only with ?render=ipxe

	// Typical is how long each stage takes the nodes of its rack, or of its network if it has none, in nanoseconds: the
	// median of their last boots.
	Typical map[boot.Stage]time.Duration `json:"typical,omitempty"`
}

// EventBatch carries boot events: from a node to its relay, and from a relay to every controller.
type EventBatch struct {
	Events []boot.Event `json:"events"`
}

// MaxEventBatch bounds the events of a batch.
const MaxEventBatch = 500

// RelayStatus is what a relay tells each controller every few seconds.
type RelayStatus struct {
	Name     catalog.RelayName `json:"name"`
	Version  string            `json:"version"`
	Revision catalog.Revision  `json:"revision"` // of the catalog that it serves
	Hash     catalog.Hash      `json:"hash"`
	Started  time.Time         `json:"started"`
	Time     time.Time         `json:"time"`              // its clock
	Members  []string          `json:"members,omitempty"` // relays it holds for alive
	Cache    CacheStatus       `json:"cache"`
	Load     RelayLoad         `json:"load,omitzero"`
	Unwell   bool              `json:"unwell,omitempty"`   // it steps back behind other relays; Problems begins with why
	Problems []string          `json:"problems,omitempty"` // what a person should know, one line each
}

// RelayLoad is how much a relay has to send: see package admission.
type RelayLoad struct {
	Slots   int           `json:"slots"`             // machines that it sends to at once, without the reserve
	Auto    bool          `json:"auto,omitempty"`    // it found that number itself
	Reserve int           `json:"reserve"`           // slots besides these, for urgent machines
	Busy    int           `json:"busy"`              // slots that are lent
	Slow    int           `json:"slow,omitempty"`    // machines that take so little that they have none
	Queued  int           `json:"queued"`            // machines that wait for their turn
	Refused int64         `json:"refused"`           // answers that said to come back, since it started
	Rate    int64         `json:"rate"`              // bytes a second, lately
	Longest time.Duration `json:"longest,omitempty"` // nanoseconds that one of those has waited so far
	Turn    time.Duration `json:"turn,omitempty"`    // nanoseconds that a machine keeps a slot, lately
}

// CacheStatus counts what a relay's chunk cache did since it started.
type CacheStatus struct {
	Chunks         int   `json:"chunks"`
	Bytes          int64 `json:"bytes"`
	FromController int64 `json:"from_controller"` // chunks fetched there
	FromRelays     int64 `json:"from_relays"`
	Served         int64 `json:"served"`         // to nodes and relays
	Corrupt        int64 `json:"corrupt"`        // found damaged, on disk or on arrival, and fetched again
	Missing        int   `json:"missing"`        // chunks of wanted images not here yet
	Held           int64 `json:"held,omitempty"` // bytes that are locked in memory since they were verified, for firmware

	Images []CachedImage `json:"images,omitempty"` // the versions that should be here, those that nodes boot first; at most MaxCachedImages
}

// MaxCachedImages bounds the versions of which a relay reports how much it has.
const MaxCachedImages = 64

// CachedImage is how much of a version of an image a relay has on its disk.
type CachedImage struct {
	Manifest chunk.ID  `json:"manifest"`
	Have     int       `json:"have"`
	Need     int       `json:"need"` // chunks of it, the manifest among them; 0 until that was read there
	Bytes    int64     `json:"bytes"`
	Size     int64     `json:"size"`              // bytes of those that it needs
	Verified time.Time `json:"verified,omitzero"` // every byte of them was read and was right since; zero if not since the relay's start
}

// Residency is how much of a version of an image one relay has.
type Residency struct {
	Relay    catalog.RelayName `json:"relay"`
	Rack     string            `json:"rack,omitempty"`
	Zone     string            `json:"zone,omitempty"`
	Alive    bool              `json:"alive"`
	Seen     time.Time         `json:"seen,omitzero"` // when it reported that
	Nodes    int               `json:"nodes"`         // of its networks that boot the version
	Resident bool              `json:"resident"`      // it has every chunk
	CachedImage
}

// RelayView is an admitted relay and what is known of it now.
type RelayView struct {
	catalog.Relay
	Status *RelayStatus `json:"status,omitempty"` // nil if it never reported to this controller
	Seen   time.Time    `json:"seen,omitzero"`    // when it last did
	Alive  bool         `json:"alive"`

	ZoneRate int64 `json:"zone_rate,omitempty"` // bytes a second that the relays of its zone fetch from outside; 0: any
}

// ControllerStatus is what a controller says of itself.
type ControllerStatus struct {
	Name      catalog.ControllerName `json:"name"`
	Cluster   string                 `json:"cluster"`
	Version   string                 `json:"version"`
	State     string                 `json:"state"` // leader, follower, candidate, non-voter
	Leader    string                 `json:"leader,omitempty"`
	Term      uint64                 `json:"term"`
	Revision  catalog.Revision       `json:"revision"`
	Hash      catalog.Hash           `json:"hash"`
	Nodes     int                    `json:"nodes"`
	DiskFree  int64                  `json:"disk_free"`
	ChunksOut int64                  `json:"chunks_out"` // chunks served to relays since it started
	BytesOut  int64                  `json:"bytes_out"`
	Problems  []string               `json:"problems,omitempty"`
}

// ControllerView is a member of the replicated log, seen from the controller that answers.
type ControllerView struct {
	catalog.Controller
	Voter  bool `json:"voter"`
	Leader bool `json:"leader"`
	Alive  bool `json:"alive"`
}

// TokenRequest asks for a join token.
type TokenRequest struct {
	Role     string                `json:"role"`
	Name     string                `json:"name,omitempty"`
	Rack     string                `json:"rack,omitempty"`
	Zone     string                `json:"zone,omitempty"`
	Networks []catalog.NetworkName `json:"networks,omitempty"`
	Uses     int                   `json:"uses,omitempty"` // 0: one
	TTL      time.Duration         `json:"ttl,omitempty"`  // nanoseconds; 0: one hour
}

// TokenResult holds the token's text, which nobody can ask for again.
type TokenResult struct {
	Token     string    `json:"token"`
	ID        string    `json:"id"`
	Expires   time.Time `json:"expires"`
	Endpoints []string  `json:"endpoints"` // controllers to join at
}

// JoinRelay shows a token and asks to be admitted. The name counts only if the token says none.
type JoinRelay struct {
	Token string        `json:"token"`
	CSR   []byte        `json:"csr"`
	Relay catalog.Relay `json:"relay"`
}

// JoinedRelay is what a new relay needs to start.
type JoinedRelay struct {
	Name        catalog.RelayName `json:"name"`
	Cluster     string            `json:"cluster"`
	Certificate string            `json:"certificate"` // PEM
	CA          string            `json:"ca"`          // PEM
	Endpoints   []string          `json:"endpoints"`
	Revision    catalog.Revision  `json:"revision"`
}

// JoinController shows a token and asks to become a member of the replicated log.
type JoinController struct {
	Token string                 `json:"token"`
	CSR   []byte                 `json:"csr"`
	Name  catalog.ControllerName `json:"name"`
	API   string                 `json:"api"`
}

// JoinedController is what a new controller needs to start, the cluster's keys among it: it goes only to the
// holder of a controller token, over TLS whose server the token pins.
type JoinedController struct {
	Name        catalog.ControllerName `json:"name"`
	Cluster     string                 `json:"cluster"`
	Certificate string                 `json:"certificate"`
	CA          string                 `json:"ca"`
	Keys        map[string][]byte      `json:"keys"` // files of the controllers' secrets directory
	Endpoints   []string               `json:"endpoints"`
}

// CertificateRequest asks for a new certificate under the name of the caller's present one.
type CertificateRequest struct {
	CSR []byte       `json:"csr"`
	IPs []netip.Addr `json:"ips,omitempty"`
}

// Certificate is a certificate, PEM.
type Certificate struct {
	Certificate string `json:"certificate"`
}

// RelaySecrets is what a relay may hold in confidence.
type RelaySecrets struct {
	Gossip   []byte            `json:"gossip"`             // key of the membership protocol
	Networks map[string][]byte `json:"networks"`           // network keys, of the networks it serves whose policy allows it
	Tickets  map[string][]byte `json:"tickets"`            // ticket keys of the networks it serves
	Values   map[string][]byte `json:"values,omitempty"`   // by catalog.Secret.ID, in clear: secrets of nodes of Networks
	LeftOut  int               `json:"left_out,omitempty"` // secrets that should be among Values: they cannot be opened, or it has no room
}

// MaxRelayValues bounds RelaySecrets.Values, in bytes with their IDs: a password for each of 100 000 nodes has room.
const MaxRelayValues = 16 << 20

// ImportProgress is a line of the answer to an image upload; the last one has Version or Error.
type ImportProgress struct {
	Step    string                `json:"step,omitempty"`
	Done    int64                 `json:"done,omitempty"`
	Total   int64                 `json:"total,omitempty"`
	Warning string                `json:"warning,omitempty"`
	Version *catalog.ImageVersion `json:"version,omitempty"`
	Result  *ChangeResult         `json:"result,omitempty"`
	Latest  chunk.ID              `json:"latest,omitzero"` // the image's latest version then: another one if a Base was no longer that
	Error   *Problem              `json:"error,omitempty"`
}

// ImageDraft is a version of an image whose segments were made elsewhere and are at the controller already. The
// controller believes none of it: it holds the segments against the index, makes stage one and signs.
type ImageDraft struct {
	Source   string          `json:"source,omitempty"`  // where it came from, for people
	Message  string          `json:"message,omitempty"` // why it was made
	Tags     []string        `json:"tags,omitempty"`    // to move to it, besides latest
	Parent   chunk.ID        `json:"parent,omitzero"`   // the version that it was made from
	Base     chunk.ID        `json:"base,omitzero"`     // see catalog.PutImage
	Level    int             `json:"level,omitempty"`   // of compression
	Segments []chunk.Segment `json:"segments"`
	Aside    []chunk.Segment `json:"aside,omitempty"`
	Index    chunk.Ref       `json:"index"`
	Extras   chunk.Ref       `json:"extras,omitzero"`
	Files    int             `json:"files"`
	Unpacked int64           `json:"unpacked"`
}

// MissingRequest asks which chunks a controller does not have. It keeps those that it has for a while, for whoever asks
// is about to rely on them.
type MissingRequest struct {
	Chunks []chunk.Ref `json:"chunks"` // at most MaxMissing
}

// MaxMissing bounds the chunks of a MissingRequest.
const MaxMissing = 50_000

// MissingResult lists the chunks that have to be sent, in no special order.
type MissingResult struct {
	Missing []chunk.ID `json:"missing"`
}

// CollectRequest asks every controller to delete the chunks that nothing needs any more.
type CollectRequest struct {
	Grace  int64 `json:"grace"`             // seconds for which a chunk must not have been used
	DryRun bool  `json:"dry_run,omitempty"` // only count them
}

// Collected is what one controller deleted, or would delete.
type Collected struct {
	Controller catalog.ControllerName `json:"controller"`
	Chunks     int                    `json:"chunks"`
	Bytes      int64                  `json:"bytes"`
	Error      *Problem               `json:"error,omitempty"`
}

// CollectResult is what became of a CollectRequest.
type CollectResult struct {
	Controllers []Collected `json:"controllers"`
}

// VerifyRequest asks every controller whether it holds a version of an image. What is missing or damaged is fetched from
// another controller.
type VerifyRequest struct {
	Manifest chunk.ID `json:"manifest"`
	Deep     bool     `json:"deep,omitempty"` // read every byte
}

// Verified is what one controller has of a version.
type Verified struct {
	Controller catalog.ControllerName `json:"controller"`
	Chunks     int                    `json:"chunks"`   // that the version needs
	Bytes      int64                  `json:"bytes"`    // of those
	Missing    int                    `json:"missing"`  // chunks that were not there
	Damaged    int                    `json:"damaged"`  // whose bytes were not theirs
	Repaired   int                    `json:"repaired"` // of both, how many are there now
	Error      *Problem               `json:"error,omitempty"`
}

// VerifyResult is what became of a VerifyRequest.
type VerifyResult struct {
	Controllers []Verified `json:"controllers"`
}

// SessionRequest is how the agent claims its boot. A ticket is good for one claim. The agent chooses the claim at
// random and may send it again with the same ticket, after an answer that was lost; without one it may not.
// With no ticket, but a session as Authorization: Bearer, it asks for that session to be prolonged.
type SessionRequest struct {
	Ticket string `json:"ticket,omitempty"`
	Claim  string `json:"claim,omitempty"` // at most MaxClaim bytes
}

// MaxClaim bounds SessionRequest.Claim.
const MaxClaim = 64

// Session is a node's permission to fetch its own overlays and report its own events.
type Session struct {
	Token    string           `json:"token"` // sent as Authorization: Bearer
	Node     catalog.NodeName `json:"node"`
	Expires  time.Time        `json:"expires"`
	Interval time.Duration    `json:"interval"`          // between heart-beats and refreshes, nanoseconds
	Relays   []string         `json:"relays"`            // host:port of HTTPS, best first, as of now
	Plain    []string         `json:"plain"`             // host:port of plain HTTP of the same relays, in the same order
	Storage  *Storage         `json:"storage,omitempty"` // of a node that claims its boot, and has any declared
}

// Storage is what a node's disks are to hold, as it is declared. It comes with the session, and so from a relay that the
// node believes: what is said on the kernel's command line anybody on the wire could have said.
type Storage struct {
	Root        string                        `json:"root,omitempty"`        // the device that the root is on; "" if it is in memory
	Disks       map[string]catalog.Disk       `json:"disks,omitempty"`       // by device
	Filesystems map[string]catalog.Filesystem `json:"filesystems,omitempty"` // by device
}

// NodeTrust is what stage one carries of the cluster, as the file trust.json: whom a node believes.
type NodeTrust struct {
	Cluster      string   `json:"cluster"`
	CA           string   `json:"ca"`            // PEM; relays show certificates of it
	ManifestKeys [][]byte `json:"manifest_keys"` // Ed25519 public keys that sign image manifests
}

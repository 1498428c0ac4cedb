package boot

import (
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// Stage is a step of a boot.
type Stage string

// The stages in the order in which a boot passes them. The first five are seen by the relay, the others are
// told by the agent on the node.
const (
	StageDHCP     Stage = "dhcp"      // the firmware was given an address
	StageLoader   Stage = "loader"    // it fetched the boot program
	StageScript   Stage = "script"    // the boot program fetched its script
	StageKernel   Stage = "kernel"    // kernel and stage one were fetched
	StageStageOne Stage = "stage-one" // the agent runs and has a network
	StageImage    Stage = "image"     // the image is unpacked
	StageOverlay  Stage = "overlay"   // the overlays are in place
	StageInit     Stage = "init"      // the node's own init started, and the agent's service under it
	StageUp       Stage = "up"        // the node reached the state in which it serves
	StageFailed   Stage = "failed"    // the boot cannot go on; Error says why
	StageAlive    Stage = "alive"     // no step, but a heart-beat of the agent: the node is still there
	StageRefresh  Stage = "refresh"   // no step: the files of the runtime overlays were made what is declared now
)

// Stages lists the stages of a boot that goes well, in order.
func Stages() []Stage { return slices.Clone(stages[:]) }

var stages = [...]Stage{StageDHCP, StageLoader, StageScript, StageKernel, StageStageOne, StageImage, StageOverlay, StageInit, StageUp}

// Index is the place of the stage among Stages, or -1.
func (s Stage) Index() int { return slices.Index(stages[:], s) }

// Bounds of what a node may say in an event: anything longer is cut where it arrives.
const (
	MaxEventText    = 512
	MaxEventConsole = 8 << 10
)

// What relays and agents say in Message of a boot that goes on, so that nobody takes its silence for something else.
const (
	AgentAsks  = "the agent asks for an address" // the kernel runs, and its driver works
	AgentWaits = "waits for its turn"            // begins what an agent says while all of its relays are busy: no failure
)

// AgentClass is the vendor class (option 60) by which the agent asks DHCP.
const AgentClass = "wulf-agent"

// Event is an observation of a boot. Events are not declared state: they never pass through the log.
type Event struct {
	Time     time.Time            `json:"time"`
	Node     catalog.NodeName     `json:"node,omitempty"`     // "" for a machine that no node claims
	Hardware catalog.HardwareAddr `json:"hardware,omitempty"` // of the device it boots from
	Boot     string               `json:"boot,omitempty"`     // names one boot of the node, from its script on
	Stage    Stage                `json:"stage"`
	Relay    catalog.RelayName    `json:"relay"`              // that saw it, or took it from the node
	From     catalog.RelayName    `json:"from,omitempty"`     // the relay that served most of the bytes
	Revision catalog.Revision     `json:"revision,omitempty"` // of the catalog that the boot follows
	Image    string               `json:"image,omitempty"`
	Manifest chunk.ID             `json:"manifest,omitzero"`
	Firmware Firmware             `json:"firmware,omitempty"`
	Address  string               `json:"address,omitempty"`
	Bytes    int64                `json:"bytes,omitempty"`
	Memory   int64                `json:"memory,omitempty"` // bytes that the node had in use at most, when it knows
	Took     time.Duration        `json:"took,omitempty"`   // nanoseconds
	Message  string               `json:"message,omitempty"`
	Error    string               `json:"error,omitempty"`   // what went wrong, even if the boot went on
	Fix      string               `json:"fix,omitempty"`     // what would mend it
	Without  string               `json:"without,omitempty"` // what is declared and not there, where the boot went on all the same
	Console  string               `json:"console,omitempty"` // the last lines, when it failed
	Machine  *catalog.Facts       `json:"machine,omitempty"` // of a machine that no node claims: what it and its switch say of it
}

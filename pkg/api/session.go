package api

import (
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// The states of a boot session.
const (
	SessionRunning = "running" // machines boot, or may still join it
	SessionOver    = "over"    // all its machines are up, failed or silent, and no other began to boot for a while
)

// The states of a machine in a session.
const (
	ResultBooting = "booting"
	ResultUp      = "up"
	ResultFailed  = "failed"
	ResultSilent  = "silent" // it began to boot, and was not heard of for too long
)

// BootSession is machines that booted together: a storm, or a single boot. Every controller makes it of the events that it
// has heard, and so says since when it hears. Its number is made of the time when it began.
type BootSession struct {
	Number  uint64        `json:"number"`
	State   string        `json:"state"`
	Started time.Time     `json:"started"`
	Last    time.Time     `json:"last"` // when something of it was heard last
	Took    time.Duration `json:"took"` // nanoseconds until the last machine was up or failed; while it runs, until now

	Single  string `json:"single,omitempty"` // the machine of a session that has but one
	Nodes   int    `json:"nodes"`            // machines, those that no node claims among them
	Up      int    `json:"up"`
	Failed  int    `json:"failed"`
	Silent  int    `json:"silent"`
	Booting int    `json:"booting"`
	Queued  int    `json:"queued"` // of those that boot: they wait at relays for their turn
	Again   int    `json:"again"`  // boots of machines that then began anew within the session, and count once

	ToUp   Spread         `json:"to_up"` // from the first sign of a machine until it was up
	Phases []SessionPhase `json:"phases"`
	Rate   float64        `json:"rate"`          // machines that come up in a second, lately
	ETA    time.Duration  `json:"eta,omitempty"` // nanoseconds until those that boot are up; 0 while nobody can know

	Errors []SessionError         `json:"errors" openapi:"notnull"` // the most frequent first
	Relays []SessionRelay         `json:"relays" openapi:"notnull"` // the worst first
	Images []SessionImage         `json:"images" openapi:"notnull"` // the most frequent first
	Bytes  int64                  `json:"bytes"`                    // that machines fetched
	Egress []ControllerEgress     `json:"egress,omitempty"`         // what controllers sent meanwhile
	More   *SessionMore           `json:"more,omitempty"`           // what was left out of the lists; nil: nothing
	Events int64                  `json:"events"`                   // that were heard of it
	By     catalog.ControllerName `json:"by"`                       // the controller that tells this
	Since  time.Time              `json:"since"`                    // from when on it listens; what was before, relays tell it as far as they remember
}

// Spread is how long something took for many machines, in nanoseconds. All but Max is good to one in sixty-four.
type Spread struct {
	Count int           `json:"count"`
	P50   time.Duration `json:"p50"`
	P95   time.Duration `json:"p95"`
	P99   time.Duration `json:"p99"`
	Max   time.Duration `json:"max"`
}

// SessionPhase is a stage of a session's boots: how many are there now, and how long it took to come there from the
// stage before that was seen.
type SessionPhase struct {
	Stage  boot.Stage `json:"stage"`
	At     int        `json:"at"`     // machines that boot, and have come this far and not further
	Passed int        `json:"passed"` // machines that have been here
	Spread
}

// SessionError is why machines of a session are not up, or what went wrong on their way, once for all that it happened to.
type SessionError struct {
	State string     `json:"state"` // failed, silent, or booting for those that go on
	Stage boot.Stage `json:"stage"` // after which it happened
	Text  string     `json:"text"`  // with # where messages differ only in numbers, addresses and digests
	Fix   string     `json:"fix,omitempty"`
	Count int        `json:"count"`
	Nodes string     `json:"nodes"` // folded; in summaries cut, with … at the end
}

// SessionRelay is what became of the machines that a relay gave their scripts.
type SessionRelay struct {
	Relay  catalog.RelayName `json:"relay"`
	Nodes  int               `json:"nodes"`
	Up     int               `json:"up"`
	Failed int               `json:"failed"`
	Silent int               `json:"silent"`
	P95    time.Duration     `json:"p95,omitempty"` // nanoseconds to up; not in summaries
	Queue  int               `json:"queue,omitempty"`
	Dead   bool              `json:"dead,omitempty"` // it does not report now
}

// SessionImage is a version of an image that machines of a session booted.
type SessionImage struct {
	Image    string   `json:"image"`
	Manifest chunk.ID `json:"manifest,omitzero"`
	Nodes    int      `json:"nodes"`
}

// ControllerEgress is how many bytes of chunks a controller sent while a session went on.
type ControllerEgress struct {
	Controller catalog.ControllerName `json:"controller"`
	Bytes      int64                  `json:"bytes"`
}

// SessionMore counts what has no place in a session's lists.
type SessionMore struct {
	Errors int `json:"errors,omitempty"`
	Relays int `json:"relays,omitempty"`
	Images int `json:"images,omitempty"`
}

// SessionNode is how one machine of a session fared.
type SessionNode struct {
	Node     catalog.NodeName     `json:"node,omitempty"`
	Hardware catalog.HardwareAddr `json:"hardware,omitempty"`
	State    string               `json:"state"`
	Stage    boot.Stage           `json:"stage"` // the furthest that it reached
	Started  time.Time            `json:"started"`
	Took     time.Duration        `json:"took"` // nanoseconds until it was up; else until it was heard of last
	Relay    catalog.RelayName    `json:"relay,omitempty"`
	Error    string               `json:"error,omitempty"`
}

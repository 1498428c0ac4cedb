package api

import (
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// NodeQuery chooses nodes and says what of them is wanted. It is the body of a POST to PathQuery, and the parameters of
// a GET of PathNodes under the same names.
type NodeQuery struct {
	Nodes   string            `json:"nodes,omitempty"`   // a node set; "" is all nodes
	Exclude string            `json:"exclude,omitempty"` // a node set without which it is meant
	Files   map[string]string `json:"files,omitempty"`   // what is in the files that the sets name with ^, and in - as "-"
	Where   []string          `json:"where,omitempty"`   // conditions that all hold: COLUMN=VALUE, COLUMN!=VALUE, COLUMN, !COLUMN
	Columns []string          `json:"columns,omitempty"` // the answer is a NodeTable of these; none: a List of NodeView
	Sort    string            `json:"sort,omitempty"`    // a column, with - before it the other way round; "" sorts by name
	After   string            `json:"after,omitempty"`   // the name of the last node of the page before
	Limit   int               `json:"limit,omitempty"`   // nodes in the answer; 0: all
	Full    bool              `json:"full,omitempty"`    // views have blame and host keys too
	Any     bool              `json:"any,omitempty"`     // names that no node has are passed over, instead of an error
}

// MaxWhys is how many nodes are explained in one answer.
const MaxWhys = 256

// TryRule asks what a rule would make of the machines of the inbox, if it were the only one.
type TryRule struct {
	Rule catalog.DiscoverRule `json:"rule"`
}

// NodeTable is a List of nodes as rows of text: a fraction of the bytes where a table or a list of names is wanted.
// Columns are those of NodeColumns, and the paths of settings.
type NodeTable struct {
	Revision catalog.Revision `json:"revision"`
	Total    int              `json:"total"` // nodes that were chosen, on all pages
	Columns  []string         `json:"columns" openapi:"notnull"`
	Rows     [][]string       `json:"rows" openapi:"notnull"`
}

// NodeColumns are the columns of a NodeTable besides the settings' own paths.
func NodeColumns() []string {
	return []string{
		"name", "profiles", "image", "address", "hardware", "rack", "position", "zone", "cluster", "roles", "groups", "asset",
		"bmc", "kernel", "overlays", "state", "since", "relay", "boot-revision", "runtime", "runtime-revision", "created", "comment",
	}
}

// Silence is how long a node that is up may say nothing before it is not counted as up.
const Silence = 3 * time.Minute

// The states of a node besides the stages of a boot.
const (
	StateNever  = "never" // seen by nobody yet
	StateSilent = "silent"
)

// StateOf is a node's state in one word, from its last boot: the stage that it reached, or failed, never or silent.
func StateOf(b *Boot, now time.Time) string {
	switch {
	case b == nil:
		return StateNever
	case b.Stage == boot.StageUp && !b.Seen.IsZero() && now.Sub(b.Seen) > Silence:
		return StateSilent
	}
	return string(b.Stage)
}

// Settling is how long after a change a node may tell nothing of it before it counts as behind: it tells at every
// heart-beat which revision its files follow.
const Settling = 2 * time.Minute

// How runtime overlays are on a node.
const (
	RuntimeInStep = "in step"
	RuntimeBehind = "behind"
	RuntimeFailed = "failed" // with a colon and why after it
)

// RuntimeOf tells how a node's runtime overlays are: in step with what is declared, behind the revision that had settled
// by now, or failed and why; "" for a node that is not up, or has told nothing yet.
func RuntimeOf(b *Boot, settled catalog.Revision, now time.Time) string {
	switch {
	case StateOf(b, now) != string(boot.StageUp) || b.Runtime == nil:
		return ""
	case b.Runtime.Error != "":
		return RuntimeFailed + ": " + b.Runtime.Error
	case b.Runtime.Revision < settled:
		return RuntimeBehind
	}
	return RuntimeInStep
}

// IsState tells whether a word is one that StateOf may say.
func IsState(s string) bool {
	return s == StateNever || s == StateSilent || boot.Stage(s) == boot.StageFailed || boot.Stage(s).Index() >= 0
}

// Record is what is remembered of a change, as PathHistory tells it.
type Record struct {
	catalog.Record
	About    string `json:"about"`
	Undoable bool   `json:"undoable"`
}

// GroupView is a group of nodes.
type GroupView struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
	Nodes string `json:"nodes"` // folded
}

// Package session is what stage one hands to the agent's service under the node's own init: a file in /run.
package session

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Where things lie on a running node. /run is a tmpfs that only root may look into here.
const (
	Dir   = "run/wulf"
	File  = "run/wulf/session.json"
	Kept  = "run/wulf/kept" // what runtime overlays have replaced
	Agent = "usr/lib/wulfmesh/wulf-agent"

	lockFile = "run/wulf/lock"
)

// State is what the service must know.
type State struct {
	Node     catalog.NodeName     `json:"node"`
	Hardware catalog.HardwareAddr `json:"hardware,omitempty"`
	Boot     string               `json:"boot"`
	Method   string               `json:"method"`
	Revision catalog.Revision     `json:"revision"`
	Manifest chunk.ID             `json:"manifest"`
	Relays   []string             `json:"relays"`
	Trust    api.NodeTrust        `json:"trust"`
	Ticket   string               `json:"ticket,omitempty"` // to claim still: a one-stage boot has no network before init
	Session  *api.Session         `json:"session,omitempty"`
	Booted   time.Time            `json:"booted"`
	Runtime  Runtime              `json:"runtime,omitzero"`
	Without  string               `json:"without,omitempty"` // what is declared and not there, if nobody was told of it yet
}

// Save writes the state below root, for root alone: it holds the node's permission to ask for its secrets.
func Save(root string, s *State) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "encoding the session")
	}
	if err := os.MkdirAll(filepath.Join(root, Dir), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(root, File), b, 0o600)
}

// Load reads the state below root.
func Load(root string) (*State, error) {
	b, err := os.ReadFile(filepath.Join(root, File))
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "this node was not booted by wulfmesh")
	}
	s := new(State)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fault.Wrap(fault.Corrupt, err, "reading the session")
	}
	return s, nil
}

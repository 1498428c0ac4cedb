package replication

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// hint is what lies beside the store in members.json: who this member was and who the others were. Nothing that is
// true depends on it; it is there for the day when the store is damaged or gone, to tell "this was a log of one,
// do not start over" from "the others still have it, ask them".
type hint struct {
	Self    string       `json:"self"` // server ID
	Members []hintMember `json:"members"`
}

type hintMember struct {
	Server string `json:"server"` // server ID
	Addr   string `json:"addr"`
	Voter  bool   `json:"voter"`
}

const hintFile = "members.json"

func hintOf(self Member, members []Member) hint {
	h := hint{Self: string(self.serverID())}
	for _, m := range members {
		h.Members = append(h.Members, hintMember{Server: string(m.serverID()), Addr: m.Addr, Voter: m.Voter})
	}
	return h
}

// others returns the addresses of the other voters.
func (h *hint) others() []string {
	var out []string
	for _, m := range h.Members {
		if m.Voter && m.Server != h.Self {
			out = append(out, m.Addr)
		}
	}
	return out
}

// loadHint returns nil if there is no hint. One that cannot be read is fault.Corrupt: whoever needs it must not guess.
func loadHint(dir string) (*hint, error) {
	path := filepath.Join(dir, hintFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var h hint
	if err := json.Unmarshal(b, &h); err != nil || h.Self == "" {
		return nil, fault.Wrap(fault.Corrupt, err, "%s cannot be read", path)
	}
	return &h, nil
}

// saveHint replaces the hint in one step, so that a crash leaves the old or the new one.
func saveHint(dir string, h hint) error {
	b, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, hintFile)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	return errors.Join(err, syncDir(dir))
}

// syncDir makes renames in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

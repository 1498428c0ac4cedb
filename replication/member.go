package replication

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Member is one server of the log.
//
// A server is its store, not its name: what a member promised (its votes, the entries it acknowledged) lies in the
// store, and one that came back under an old identity without its memory could elect two leaders in a term or undo
// an acknowledged write. So a member whose store is lost is a new server to the others: same ID, another Store. It
// cannot be taken for the old one, because every connection names the store it is meant for.
type Member struct {
	ID       string // the member's name, for example "c1"; it stays
	Store    string // names its durable store; made with it, lost with it
	Addr     string // host:port where the others reach it
	Voter    bool   // counts for elections and commits
	Observer bool   // never becomes a voter
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$`)

const observerMark = "observer"

// serverID is the member's identity to raft.
func (m Member) serverID() raft.ServerID {
	parts := []string{m.ID, m.Store}
	if m.Observer {
		parts = append(parts, observerMark)
	}
	return raft.ServerID(strings.Join(parts, "~"))
}

// parseServerID is the inverse of serverID; Addr and Voter stay empty.
func parseServerID(id raft.ServerID) (Member, error) {
	parts := strings.Split(string(id), "~")
	if n := len(parts); n < 2 || n > 3 || n == 3 && parts[2] != observerMark ||
		!idForm.MatchString(parts[0]) || !idForm.MatchString(parts[1]) {
		return Member{}, fault.New(fault.Invalid, "%.80q does not name a member and its store", id)
	}
	return Member{ID: parts[0], Store: parts[1], Observer: len(parts) == 3}, nil
}

// membersOf returns the members of a configuration, sorted by ID.
func membersOf(c raft.Configuration) []Member {
	out := make([]Member, 0, len(c.Servers))
	for _, s := range c.Servers {
		m, err := parseServerID(s.ID)
		if err != nil {
			continue // cannot be: only serverID makes them
		}
		m.Addr, m.Voter = string(s.Address), s.Suffrage == raft.Voter
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.serverID(), b.serverID()) })
	return out
}

// NotLeader is the error of an operation that only the leader can do, when another member leads.
// errors.Is(err, fault.NotLeader) holds; where no leader is known, the error is fault.Unavailable instead.
type NotLeader struct {
	Leader Member // who leads as far as is known here
}

// Error says who leads.
func (e *NotLeader) Error() string {
	return "this controller does not lead: " + e.Leader.ID + " at " + e.Leader.Addr + " does"
}

// Unwrap gives the kind.
func (e *NotLeader) Unwrap() error { return fault.NotLeader }

package replication

import (
	"errors"

	"github.com/hashicorp/raft"
)

// A log may begin right after a snapshot: after one was installed, or when much was written while one was taken.
// hashicorp/raft 1.8 then cannot tell that a request which follows the snapshot's last entry fits: it looks at the
// end of its log and at stored entries, never at the snapshot, once the log has gone further. It refuses, and is sent
// the same snapshot again and again, until the leader takes a newer one. It happens when an answer to the first
// entries after a snapshot is lost, for example because the follower was restarted.
//
// forward passes requests from the network to raft, and settles that question where it comes up.
func (t *transport) forward(closed <-chan struct{}, snaps *snapshots, log raft.LogStore) {
	from := t.NetworkTransport.Consumer()
	for {
		select {
		case rpc := <-from:
			if req, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
				settleBoundary(req, snaps.newest.Load(), log)
			}
			select {
			case t.requests <- rpc:
			case <-closed:
				return // who sent it is told by the end of the connection
			}
		case <-closed:
			return
		}
	}
}

// Consumer gives raft the requests of the other members.
func (t *transport) Consumer() <-chan raft.RPC { return t.requests }

// settleBoundary removes the previous entry from a request if it is the last one of the newest snapshot, of the right
// term, and the log begins right after it: then the question is answered, and raft takes 0 for that. An entry after
// the snapshot is in the log only if the state here includes the snapshot.
func settleBoundary(req *raft.AppendEntriesRequest, newest *raft.SnapshotMeta, log raft.LogStore) {
	if newest == nil || req.PrevLogEntry != newest.Index || req.PrevLogTerm != newest.Term {
		return
	}
	if err := log.GetLog(newest.Index, new(raft.Log)); !errors.Is(err, raft.ErrLogNotFound) {
		return
	}
	if first, err := log.FirstIndex(); err == nil && first == newest.Index+1 {
		req.PrevLogEntry, req.PrevLogTerm = 0, 0
	}
}

package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// moveAfter is how long the leader waits before it gives a member another address.
const moveAfter = 200 * time.Millisecond

// joinReply is the answer to a hello of kind join.
type joinReply struct {
	Kind    fault.Kind `json:"kind,omitempty"`    // empty when the caller is a member now
	Message string     `json:"message,omitempty"` // why not
	Leader  string     `json:"leader,omitempty"`  // whom to ask instead
}

// announce tells the leader of a store that no configuration names yet, or of an address that changed, until the
// leader has taken notice. The leader's contact, not its answer, ends it, so it may be called again and again.
func (n *Node) announce(ctx context.Context, in *instance) {
	self := in.self
	asked := make(map[string]bool)
	queue := n.peersToAsk(in)
	if len(queue) == 0 {
		return
	}
	var errs []error
	for len(queue) > 0 && ctx.Err() == nil {
		addr := queue[0]
		queue = queue[1:]
		if asked[addr] || addr == self.Addr {
			continue
		}
		asked[addr] = true
		reply, err := n.askToJoin(ctx, addr, self)
		switch {
		case err != nil:
			errs = append(errs, err)
		case reply.Kind == "":
			n.log.Info("joined the log", "controller", self.ID, "store", self.Store, "through", addr)
			n.lastJoinError.Store(nil)
			return
		case reply.Leader != "":
			queue = slices.Insert(queue, 0, reply.Leader)
		default:
			errs = append(errs, fault.New(reply.Kind, "%s: %s", addr, reply.Message))
		}
	}
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		if old := n.lastJoinError.Swap(&err); old == nil || (*old).Error() != err.Error() {
			n.log.Warn("cannot join the log yet, asking again", "err", err)
		}
	}
}

// peersToAsk returns addresses of members that may lead.
func (n *Node) peersToAsk(in *instance) []string {
	peers := slices.Clone(n.cfg.Peers)
	if n.hint != nil {
		peers = append(peers, n.hint.others()...)
	}
	for _, m := range in.members() {
		if m.Voter {
			peers = append(peers, m.Addr)
		}
	}
	return peers
}

func (n *Node) askToJoin(ctx context.Context, addr string, self Member) (joinReply, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.joinTimeout())
	defer cancel()
	conn, err := n.dial(ctx, addr, hello{Kind: helloJoin, From: string(self.serverID()), Addr: self.Addr})
	if err != nil {
		return joinReply{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	var reply joinReply
	if err := readMessage(conn, &reply); err != nil {
		return joinReply{}, fmt.Errorf("asking %s: %w", addr, err)
	}
	return reply, nil
}

// answerJoin serves a hello of kind join.
func (n *Node) answerJoin(ctx context.Context, h hello) joinReply {
	m, err := parseServerID(raft.ServerID(h.From))
	if err == nil {
		m.Addr = h.Addr
		ctx, cancel := context.WithTimeout(ctx, n.cfg.joinTimeout()*3/4)
		defer cancel()
		err = n.join(ctx, m, true)
	}
	if err == nil {
		return joinReply{}
	}
	reply := joinReply{Kind: fault.KindOf(err), Message: err.Error()}
	if other, ok := errors.AsType[*NotLeader](err); ok {
		reply.Leader = other.Leader.Addr
	}
	return reply
}

// Join makes m a member. It starts without a vote; the leader gives it one when it has followed the log closely for
// Config.StableAfter, unless it is an Observer. A member whose ID is in the log already with another Store replaces
// that one, provided the old store does not answer any more. Joining again, with the same or a new address, is fine.
//
// A member started with Config.Peers asks for this by itself; Join is for those who decide about it elsewhere.
// Errors: NotLeader, fault.Conflict (the ID or the address is in use), fault.Unavailable (no quorum now, or the
// voters left over could not decide), fault.Unknown (the change may still happen; ask again).
func (n *Node) Join(ctx context.Context, m Member) error { return n.join(ctx, m, false) }

func (n *Node) join(ctx context.Context, m Member, admit bool) error {
	if _, err := parseServerID(m.serverID()); err != nil {
		return err
	}
	if m.Addr == "" {
		return fault.New(fault.Invalid, "controller %s gives no address", m.ID)
	}
	return n.changeMembers(ctx, func(in *instance) error {
		var old *Member
		for _, o := range in.members() {
			if o.serverID() == m.serverID() {
				if o.Addr == m.Addr {
					return nil
				}
				n.log.Info("a controller has moved", "controller", m.ID, "from", o.Addr, "to", m.Addr)
				// When its pipeline to the old address breaks, raft reads that address without its lock for a log line.
				// It sends every few milliseconds, so let it find out first.
				select {
				case <-time.After(moveAfter):
				case <-ctx.Done():
				}
				return in.addNonvoter(ctx, m)
			}
			if o.ID == m.ID {
				old = &o
			} else if o.Addr == m.Addr {
				return fault.New(fault.Conflict, "controller %s has the address %s already", o.ID, o.Addr)
			}
		}
		if old == nil && admit {
			if n.cfg.Admit == nil {
				return fault.New(fault.Denied, "controller %s is not expected", m.ID)
			}
			if err := n.cfg.Admit(m); err != nil {
				return err
			}
		}
		if old != nil {
			if err := n.replaceable(in, *old); err != nil {
				return err
			}
			n.log.Warn("a controller comes back with an empty store; its old one is removed", "controller", m.ID, "old", old.Store, "new", m.Store)
			if err := in.remove(ctx, *old); err != nil {
				return err
			}
		}
		n.log.Info("a controller joins the log", "controller", m.ID, "addr", m.Addr)
		return in.addNonvoter(ctx, m)
	})
}

// replaceable tells whether a member's old store is gone as far as the leader can see, and can be spared.
func (n *Node) replaceable(in *instance, old Member) error {
	switch {
	case old.serverID() == in.self.serverID():
		return fault.New(fault.Conflict, "controller %s leads and is alive", old.ID).WithFix("give the new controller another name")
	case in.leadsSince().IsZero() || time.Since(in.leadsSince()) < n.cfg.Heartbeat:
		return fault.New(fault.Unavailable, "the leader is new and does not know yet whether the old store of %s is gone", old.ID)
	case in.healthy(old):
		return fault.New(fault.Conflict, "controller %s is alive with the store %s", old.ID, old.Store).WithFix("stop it first, or give the new controller another name")
	}
	return in.spare(old)
}

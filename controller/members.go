package controller

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/replication"
)

// mayReplicate tells whether a controller may speak the log's protocol here. A name that the catalog does not know
// passes: this controller may be behind, and learns of a new one only through the log, perhaps from that one itself.
// Raft refuses votes of those who are no members; a known name with another key is an impostor.
func (c *Controller) mayReplicate(id pki.Identity, cert *x509.Certificate) error {
	known, ok := c.state.Current().Controller(catalog.ControllerName(id.Name))
	if ok && !bytes.Equal(known.Key, pki.KeyHash(cert)) {
		return fault.New(fault.Denied, "controller %s is known with another key", id.Name)
	}
	return nil
}

// mayJoin tells the leader's log whether a controller that asks to become a member was admitted, with a token, under
// that name and address.
func (c *Controller) mayJoin(m replication.Member) error {
	ctl, ok := c.state.Current().Controller(catalog.ControllerName(m.ID))
	if !ok {
		return fault.New(fault.Denied, "controller %s is not admitted, or no longer", m.ID).WithFix("let it join: wulf controller token, wulf controller join")
	}
	if ctl.API != m.Addr {
		return fault.New(fault.Denied, "controller %s was admitted with the address %s, not %s", m.ID, ctl.API, m.Addr)
	}
	return nil
}

// voters are the controllers that have a vote in the log, as far as this one knows.
func (c *Controller) voters() (all []catalog.ControllerName) {
	for _, m := range c.node.Status().Members {
		if m.Voter {
			all = append(all, catalog.ControllerName(m.ID))
		}
	}
	return all
}

// ordered is the log as the state uses it: a follower asks the leader, over the API, what it must have seen.
type ordered struct {
	node  *replication.Node
	peers *api.Client
}

const (
	leaderPatience = 3 * time.Second // for an election to end
	leaderPause    = 100 * time.Millisecond
)

// Propose orders a command.
func (o ordered) Propose(ctx context.Context, command []byte) (uint64, any, error) {
	return o.node.Propose(ctx, command)
}

// Sync returns when this controller has seen all that was acknowledged before. While nobody leads it waits for an
// election to end, for a short time.
func (o ordered) Sync(ctx context.Context) error {
	giveUp := time.Now().Add(leaderPatience)
	for {
		rev, err := o.readPoint(ctx)
		if err == nil {
			return o.node.Wait(ctx, rev)
		}
		if k := fault.KindOf(err); k != fault.NotLeader && k != fault.Unavailable || time.Now().After(giveUp) {
			return err
		}
		select {
		case <-time.After(leaderPause):
		case <-ctx.Done():
			return err
		}
	}
}

func (o ordered) readPoint(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderPatience)
	defer cancel()
	rev, err := o.node.ReadIndex(ctx)
	if other, ok := errors.AsType[*replication.NotLeader](err); ok {
		rev, err = o.ask(ctx, other.Leader.Addr)
	}
	if errors.Is(err, fault.Timeout) {
		err = fault.Wrap(fault.Unavailable, err, "no majority of the controllers answers").
			WithFix("see which are missing: wulf controller list --stale")
	}
	return rev, err
}

func (o ordered) ask(ctx context.Context, leader string) (uint64, error) {
	a, err := o.peers.DoAt(ctx, leader, api.Request{Method: http.MethodGet, Path: api.PathReadPoint})
	if errors.Is(err, fault.Denied) { // to this controller, not to whom it asks for
		return 0, fault.Wrap(fault.Unavailable, err, "this controller was removed from the cluster").WithFix("use another controller, and stop this one")
	}
	if err != nil {
		return 0, err
	}
	defer a.Body.Close()
	var p api.ReadPoint
	if err := json.NewDecoder(a.Body).Decode(&p); err != nil {
		return 0, fault.Wrap(fault.Unavailable, err, "the leader's answer broke off")
	}
	return uint64(p.Revision), nil
}

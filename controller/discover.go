package controller

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/state"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/discover"
	"github.com/wulfmesh/wulfmesh/replication"
)

// Times and bounds of rules that claim machines.
const (
	claimEvery = time.Second
	maxClaims  = 100              // in one round; the machines beyond wait on their screens for the next
	claimAgain = 30 * time.Second // after a claim that failed: each attempt is an entry of the log
)

// discover lets rules claim machines of the inbox, as long as this controller leads. Which machine becomes which node the
// log decides: two controllers that both believe to lead cannot give one node twice, or one machine two nodes.
func (c *Controller) discover(ctx context.Context) error {
	tick := time.NewTicker(claimEvery)
	defer tick.Stop()
	failed := map[catalog.HardwareAddr]time.Time{}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if c.node.Status().Role == replication.Leader {
			c.claimDue(ctx, failed)
		}
	}
}

// claimDue proposes what rules claim now.
func (c *Controller) claimDue(ctx context.Context, failed map[catalog.HardwareAddr]time.Time) {
	now := time.Now()
	for hw, at := range failed {
		if now.Sub(at) >= claimAgain {
			delete(failed, hw)
		}
	}
	have := c.state.Current()
	rules := have.OrderedRules()
	if len(rules) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, dutyTime)
	defer cancel()
	left := maxClaims
	for _, f := range discover.Look(have, rules, c.journal.Inbox(), now) {
		if !f.Due || !failed[f.Hardware].IsZero() {
			continue
		}
		p := state.Proposal{
			Change: catalog.ClaimNode{Node: f.Node, Hardware: f.Hardware, Rule: f.Rule, Facts: f.Facts},
			By:     system, Request: rand.Text(), At: now, Message: claimMessage(f),
		}
		if _, err := c.state.Propose(ctx, p); err != nil {
			failed[f.Hardware] = now
			c.cfg.Log.Warn("a rule cannot claim a machine", "rule", f.Rule, "hardware", f.Hardware, "node", f.Node, "err", err)
			if ctx.Err() != nil || c.node.Status().Role != replication.Leader {
				return
			}
			continue
		}
		c.cfg.Log.Info("an unknown machine is a node now", "rule", f.Rule, "hardware", f.Hardware, "node", f.Node)
		if left--; left == 0 {
			return
		}
	}
}

// claimMessage says for the history which rule claimed which machine, and where it asked.
func claimMessage(f discover.Found) string {
	text := "discover rule " + string(f.Rule) + ": machine " + string(f.Hardware)
	for _, fact := range []struct{ what, is string }{
		{"serial number ", f.Facts.Serial}, {"port ", f.Facts.Place()}, {"network ", string(f.Facts.Network)}, {"relay ", string(f.Relay)},
	} {
		if fact.is != "" {
			text += ", " + fact.what + fact.is
		}
	}
	return text
}

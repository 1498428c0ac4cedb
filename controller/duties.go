package controller

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"reflect"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/state"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/replication"
)

// system is who changes what wulfmesh itself looks after.
const system = "wulfmesh"

const (
	dutyTime  = time.Minute      // for one attempt at a duty
	dutyPause = 5 * time.Second  // before the next
	certEvery = 10 * time.Minute // how often the own certificate is looked at

	rememberPause = time.Second // between two looks at who the controllers are
)

// lead does what is the leader's duty, each time that this controller becomes it: the cluster is begun if it has
// not been, and has the overlays that this version ships.
func (c *Controller) lead(ctx context.Context) error {
	done := uint64(0) // the term in which it was done
	for {
		changed := c.node.Changed()
		st := c.node.Status()
		var again <-chan time.Time
		if st.Role == replication.Leader && st.Term != done {
			err := c.settle(ctx)
			switch {
			case err == nil:
				done = st.Term
			case ctx.Err() == nil:
				c.cfg.Log.Warn("cannot do a leader's duty yet, trying again", "err", err)
				again = time.After(dutyPause)
			}
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *Controller) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dutyTime)
	defer cancel()
	now, err := c.state.Fresh(ctx)
	if err != nil {
		return err
	}
	if now.Cluster.Name == "" {
		if !c.settings.Found {
			return fault.New(fault.Internal, "this controller joined a cluster that has not begun")
		}
		if err := c.propose(ctx, "found/"+c.settings.Cluster, c.founding()); err != nil {
			return err
		}
		c.cfg.Log.Info("the cluster has begun", "cluster", c.settings.Cluster, "controller", c.settings.Name)
	}
	if err := c.certify(ctx); err != nil {
		return err
	}
	return c.ship(ctx)
}

// certify tells of each network by which key its nodes' SSH host keys are certified. Networks are told so when they are
// declared; those that an older version declared were not.
func (c *Controller) certify(ctx context.Context) error {
	for {
		now := c.state.Current()
		next, found := c.uncertified(now)
		if !found {
			return nil
		}
		// The log replaces the whole network, so nobody may have changed it since.
		p := state.Proposal{Change: catalog.SetNetwork{Network: next}, By: system, Request: rand.Text(), If: now.Revision, At: time.Now()}
		if _, err := c.state.Propose(ctx, p); err != nil {
			return err
		}
	}
}

// uncertified is the first network that does not tell its authority, as it should be.
func (c *Controller) uncertified(now *catalog.Catalog) (catalog.Network, bool) {
	for n := range now.Networks() {
		if is := c.secrets.mesh.SSHAuthority(*n); is != n.SSHAuthority {
			next := *n
			next.SSHAuthority = is
			return next, true
		}
	}
	return catalog.Network{}, false
}

// founding is the first entry of the log.
func (c *Controller) founding() catalog.Change {
	t := c.trust()
	return catalog.InitCluster{
		Cluster:    catalog.Cluster{Name: t.Cluster, CA: t.CA, ManifestKeys: t.ManifestKeys},
		Controller: catalog.Controller{Name: c.settings.Name, API: c.settings.Advertise, Key: c.keeper.Credentials().KeyHash()},
	}
}

// ship publishes the overlays that come with this version, below what the site has of its own in them, and lets
// the default profile of a cluster that is still as it began name them.
func (c *Controller) ship(ctx context.Context) error {
	shipped, err := overlay.Shipped()
	if err != nil {
		return err
	}
	for _, o := range shipped {
		body, err := o.Bundle.Encode()
		if err != nil {
			return err
		}
		name := catalog.OverlayName(o.Name)
		if have, ok := c.state.Current().Overlay(name); ok && have.Base == chunk.RefOf(body) {
			continue
		}
		ref, err := c.chunks.Publish(ctx, body)
		if err != nil {
			return err
		}
		if err := c.propose(ctx, rand.Text(), catalog.ShipOverlay{Name: name, Base: ref, Files: len(o.Bundle.Files)}); err != nil {
			return err
		}
		c.cfg.Log.Info("shipped overlay published", "overlay", name, "chunk", ref.ID.Short())
	}
	if !pristine(c.state.Current()) {
		return nil
	}
	return c.propose(ctx, "default-overlays", catalog.SetProfiles{
		Names: []catalog.ProfileName{catalog.DefaultProfile},
		Set:   catalog.Settings{Overlays: catalog.OverlaySettings{System: overlay.DefaultSystem(), Runtime: overlay.DefaultRuntime()}},
	})
}

// pristine tells whether nobody has declared anything yet.
func pristine(c *catalog.Catalog) bool {
	for p := range c.Profiles() {
		if p.Name != catalog.DefaultProfile || len(p.Settings.Decided()) > 0 {
			return false
		}
	}
	return c.NodeCount() == 0
}

// propose makes a change of the system's own.
func (c *Controller) propose(ctx context.Context, request string, change catalog.Change) error {
	_, err := c.state.Propose(ctx, state.Proposal{Change: change, By: system, Request: request, At: time.Now()})
	return err
}

// remember keeps the settings on disk true: a cluster that has begun must not be begun again, by nobody, should the
// log be lost; and then the others must be known, who have it.
func (c *Controller) remember(ctx context.Context) error {
	kept := c.settings
	for {
		now, over := c.state.Watch()
		next := c.settings
		next.Endpoints = nil
		for ctl := range now.Controllers() {
			if ctl.Name != next.Name {
				next.Endpoints = append(next.Endpoints, ctl.API)
			}
		}
		next.Found = false
		if now.Cluster.Name != "" && !reflect.DeepEqual(next, kept) {
			if err := next.save(c.cfg.Dir); err != nil {
				c.cfg.Log.Warn("cannot write down who the other controllers are", "err", err)
			} else {
				kept = next
			}
		}
		select {
		case <-over:
		case <-ctx.Done():
			return nil
		}
		select { // changes may come by the thousand
		case <-time.After(rememberPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// renew replaces this controller's certificate long before its end. It holds the authority itself and asks nobody.
func (c *Controller) renew(ctx context.Context) error {
	tick := time.NewTicker(certEvery)
	defer tick.Stop()
	for {
		if own := c.keeper.Credentials(); own.RenewDue(time.Now()) {
			if err := c.renewFrom(own); err != nil {
				c.cfg.Log.Warn("cannot renew this controller's certificate, trying again", "expires", own.Expires(), "err", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *Controller) renewFrom(own *pki.Credentials) error {
	csr, err := own.CSR()
	if err != nil {
		return err
	}
	id := own.Identity()
	cert, err := c.secrets.ca.Sign(csr, id, addressesOf(c.settings.Advertise), id.Role.Validity(), time.Now())
	if err != nil {
		return err
	}
	next, err := own.Renew(cert)
	if err != nil {
		return err
	}
	if err := next.Save(filepath.Join(c.cfg.Dir, identityFile)); err != nil {
		return err
	}
	c.keeper.Replace(next)
	c.cfg.Log.Info("certificate renewed", "expires", next.Expires())
	return nil
}

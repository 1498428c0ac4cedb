package relay

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

const (
	renewLook  = time.Minute     // a certificate's age is looked at so often
	renewRetry = 5 * time.Minute // after a controller did not give a new one
)

// renew gets the next certificate in time: after a quarter of its life, so that what is left outlasts the controllers'
// absence for days.
func (r *Relay) renew(ctx context.Context) error {
	for {
		wait := renewLook
		if r.keeper.Credentials().RenewDue(time.Now()) {
			if err := r.renewOnce(ctx); err != nil && ctx.Err() == nil {
				wait = renewRetry
				r.log.Warn("the certificate cannot be renewed", "relay", r.settings.Name, "expires", r.keeper.Credentials().Expires(), "err", err)
			}
		}
		if !pause(ctx, wait) {
			return nil
		}
	}
}

func (r *Relay) renewOnce(ctx context.Context) error {
	now := r.keeper.Credentials()
	csr, err := now.CSR()
	if err != nil {
		return err
	}
	var out api.Certificate
	if err := r.controllers.Post(ctx, api.PathRenew, api.CertificateRequest{CSR: csr}, &out); err != nil {
		return err
	}
	next, err := now.Renew([]byte(out.Certificate))
	if err != nil {
		return err
	}
	if next.Identity() != now.Identity() {
		return fmt.Errorf("the new certificate is for %s, not for %s", next.Identity(), now.Identity())
	}
	if err := next.Save(filepath.Join(r.cfg.Dir, identityFile)); err != nil {
		return err
	}
	r.keeper.Replace(next)
	r.log.Info("the certificate was renewed", "relay", r.settings.Name, "expires", next.Expires())
	return nil
}

// expiry says what a person should know of the certificate.
func expiry(c *pki.Credentials, now time.Time) (problem string) {
	switch left := c.Expires().Sub(now); {
	case left < 0:
		return fmt.Sprintf("the relay's certificate expired at %s: nodes and controllers refuse it; let it join again", c.Expires().UTC().Format(time.RFC3339))
	case left < c.Expires().Sub(c.RenewAt())/3: // a third of the time for renewing is left
		return fmt.Sprintf("the relay's certificate expires at %s and was not renewed", c.Expires().UTC().Format(time.RFC3339))
	}
	return ""
}

// pause waits for d or until ctx ends, and reports whether it goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

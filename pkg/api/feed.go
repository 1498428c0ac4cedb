package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// News is an answer of PathCatalog: either a Delta, or a whole catalog for those who were too far behind.
type News struct {
	Delta    *Delta
	Snapshot *catalog.Catalog
}

// Catalog asks for what happened since a revision and waits up to wait (at most MaxWait) for something to
// happen. Revision 0 asks for the whole catalog.
func (c *Client) Catalog(ctx context.Context, since catalog.Revision, wait time.Duration) (News, error) {
	return c.catalog(ctx, since, wait, c.Do)
}

// CatalogAt is Catalog, asked of one endpoint.
func (c *Client) CatalogAt(ctx context.Context, endpoint string, since catalog.Revision, wait time.Duration) (News, error) {
	return c.catalog(ctx, since, wait, func(ctx context.Context, q Request) (*http.Response, error) {
		return c.DoAt(ctx, endpoint, q)
	})
}

func (c *Client) catalog(ctx context.Context, since catalog.Revision, wait time.Duration, do func(context.Context, Request) (*http.Response, error)) (News, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+time.Minute)
	defer cancel()
	a, err := do(ctx, Request{Method: http.MethodGet, Path: fmt.Sprintf("%s?since=%d&wait=%s", PathCatalog, since, wait)})
	if err != nil {
		return News{}, err
	}
	defer a.Body.Close()
	switch t := a.Header.Get("Content-Type"); t {
	case TypeDelta:
		d := new(Delta)
		if err := decode(a.Body, fault.Unavailable, d); err != nil {
			return News{}, err
		}
		return News{Delta: d}, nil
	case TypeSnapshot:
		s, err := catalog.ReadSnapshot(a.Body)
		if err != nil {
			return News{}, err
		}
		return News{Snapshot: s}, nil
	default:
		return News{}, fault.New(fault.Internal, "the catalog came as %q", t)
	}
}

// Follow applies a delta to a catalog and checks that the state hash comes out as the sender has it; if not, it
// is fault.Corrupt, and the follower must ask for the whole catalog.
func Follow(c *catalog.Catalog, d *Delta) (*catalog.Catalog, error) {
	for _, e := range d.Entries {
		next, _, err := c.Apply(e.Revision, e.Entry)
		if err != nil {
			return nil, err
		}
		c = next
	}
	if c.Revision != d.Revision || c.Hash != d.Hash {
		return nil, fault.New(fault.Corrupt, "the catalog at revision %d is not what the controller has at revision %d", c.Revision, d.Revision)
	}
	return c, nil
}

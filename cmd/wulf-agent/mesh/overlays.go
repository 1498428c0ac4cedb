package mesh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// Overlays are what a node has to have of its overlays of a kind.
type Overlays struct {
	Listing  *overlay.Listing // nil: what the caller has
	Tag      string           // names the listing
	Revision catalog.Revision // of the catalog that it was made from
	Bytes    int64            // that the relay sent
}

// Overlays asks for a node's overlays of a kind. With the tag of an earlier answer it may find that nothing has changed;
// the relay then holds the answer back until something does, but no longer than wait. One that has no room for that
// answers at once.
func (m *Mesh) Overlays(ctx context.Context, node catalog.NodeName, kind, tag string, wait time.Duration) (*Overlays, error) {
	header := http.Header{"Accept-Encoding": {"zstd"}}
	if tag != "" {
		header.Set("If-None-Match", tag)
		if seconds := int(wait / time.Second); seconds > 0 {
			header.Set("Prefer", "wait="+strconv.Itoa(seconds)) // RFC 7240
		}
	}
	var o *Overlays
	err := m.try(ctx, "fetching the "+kind+" overlays", func(ctx context.Context, relay string) error {
		return m.requestFor(ctx, stall+wait, http.MethodGet, relay, overlayPath(node, kind), header, nil, func(a *http.Response) (err error) {
			o = &Overlays{Tag: a.Header.Get("ETag")}
			if n, err := strconv.ParseUint(a.Header.Get(api.HeaderRevision), 10, 64); err == nil {
				o.Revision = catalog.Revision(n)
			}
			if a.StatusCode == http.StatusNotModified {
				return nil
			}
			body := &counter{r: a.Body}
			raw, err := decoded(a, body, overlay.MaxListing)
			if err != nil {
				return err
			}
			o.Bytes = body.n
			o.Listing, err = overlay.DecodeListing(raw)
			return err
		})
	})
	return o, err
}

// Content hands the content of a file of the last listing to use, as Stream does a chunk's. If the relays know nothing of it
// any more, it is fault.Invalid: the listing is another one by now.
func (m *Mesh) Content(ctx context.Context, node catalog.NodeName, kind string, ref chunk.Ref, use func(io.Reader) error) error {
	header := http.Header{"Accept-Encoding": {"zstd"}}
	return m.try(ctx, "fetching a file of the "+kind+" overlays", func(ctx context.Context, relay string) error {
		err := m.request(ctx, http.MethodGet, relay, overlayPath(node, kind)+"/"+ref.ID.String(), header, nil, func(a *http.Response) error {
			raw, err := decoded(a, a.Body, ref.Size)
			if err != nil {
				return err
			}
			if chunk.RefOf(raw) != ref {
				return fault.New(fault.Corrupt, "content %s is damaged", ref.ID.Short())
			}
			if err := use(bytes.NewReader(raw)); err != nil {
				return fault.Wrap(fault.Invalid, err, "content %s cannot be used", ref.ID.Short())
			}
			return nil
		})
		if errors.Is(err, fault.NotFound) {
			return fault.Wrap(fault.Invalid, err, "content %s is not that of a file any more", ref.ID.Short())
		}
		return err
	})
}

func overlayPath(node catalog.NodeName, kind string) string {
	return "/overlay/" + string(node) + "/" + kind
}

// decoded reads an answer's body, of at most limit bytes when it is unpacked.
func decoded(a *http.Response, body io.Reader, limit int64) ([]byte, error) {
	if a.Header.Get("Content-Encoding") == "zstd" {
		plain, _, err := segment.Decompress(body)
		if err != nil {
			return nil, fault.Wrap(fault.Unavailable, err, "the answer broke off")
		}
		defer plain.Close()
		body = plain
	}
	raw, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err == nil && a.ContentLength >= 0 && a.Header.Get("Content-Encoding") == "" && int64(len(raw)) < min(a.ContentLength, limit+1) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the answer broke off")
	}
	if int64(len(raw)) > limit {
		return nil, fault.New(fault.Corrupt, "the answer has more than %d bytes", limit)
	}
	return raw, nil
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

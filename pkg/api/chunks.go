package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// ChunkPath is PathChunk of one chunk.
func ChunkPath(id chunk.ID) string { return "/v1/chunks/" + id.String() }

// Chunk opens a chunk at whichever endpoint has it: a controller may not have it yet that another one has. It is
// fault.NotFound if none of those that answer has it. The bytes are not verified yet.
func (c *Client) Chunk(ctx context.Context, ref chunk.Ref) (io.ReadCloser, error) {
	err := noEndpoint()
	for _, e := range c.order() {
		a, failed := c.DoAt(ctx, e, Request{Method: http.MethodGet, Path: ChunkPath(ref.ID)})
		switch {
		case failed == nil:
			return a.Body, nil
		case ctx.Err() != nil:
			return nil, contextFault(ctx, failed)
		case !errors.Is(err, fault.NotFound):
			err = failed
		}
	}
	return nil, err
}

// PutChunk stores a chunk at whichever endpoint answers; it is durable there when nil is returned. Storing it twice does
// no harm, so an answer that was lost is fault.Unavailable like no answer.
func (c *Client) PutChunk(ctx context.Context, ref chunk.Ref, b []byte) error {
	a, err := c.Do(ctx, Request{
		Method: http.MethodPut, Path: ChunkPath(ref.ID), Size: ref.Size, Reads: true,
		Body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
	})
	if err != nil {
		return err
	}
	return a.Body.Close()
}

// Missing asks which of the chunks the controller lacks.
func (c *Client) Missing(ctx context.Context, refs []chunk.Ref) (map[chunk.ID]bool, error) {
	missing := make(map[chunk.ID]bool)
	for part := range slices.Chunk(refs, MaxMissing) {
		var out MissingResult
		if err := c.Query(ctx, PathMissing, MissingRequest{Chunks: part}, &out); err != nil {
			return nil, err
		}
		for _, id := range out.Missing {
			missing[id] = true
		}
	}
	return missing, nil
}

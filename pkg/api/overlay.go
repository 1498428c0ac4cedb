package api

// The layers of an overlay, for ?layer= of PathOverlay: what comes with wulfmesh, and what is the site's. Where none is
// asked for, the answer is what nodes get of both.
const (
	LayerBase = "base"
	LayerOwn  = "own"
)

// NoContent is the ETag, within its quotes, of a layer that has no content.
const NoContent = "none"

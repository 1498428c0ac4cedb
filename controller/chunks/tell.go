package chunks

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxTold is how many images, overlays and site files one line names.
const maxTold = 4

// tell says for Problems which chunks could not be had, and whose they are.
func (k *Keeper) tell(c *catalog.Catalog, lost map[chunk.ID]error) {
	away, gone := map[chunk.ID]bool{}, map[chunk.ID]bool{}
	var cause error
	for id, err := range lost {
		if errors.Is(err, fault.NotFound) {
			gone[id] = true
			continue
		}
		away[id], cause = true, err
	}
	var lines []string
	if len(gone) > 0 {
		lines = append(lines, fmt.Sprintf("no controller has %s of %s; import the same again, or delete it", counted(len(gone), "chunk"), k.owners(c, gone)))
	}
	if len(away) > 0 {
		lines = append(lines, fmt.Sprintf("%s of %s not here yet: %v", counted(len(away), "chunk"), k.owners(c, away), cause))
	}
	k.missing.Store(int64(len(lost)))
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, line := range lines {
		if !slices.Contains(k.lost, line) {
			k.cfg.Log.Warn("chunks are missing", "problem", line)
		}
	}
	k.lost = lines
}

// owners names the images, with their versions, the overlays and the site files that need one of some chunks.
func (k *Keeper) owners(c *catalog.Catalog, ids map[chunk.ID]bool) string {
	var names []string
	for img := range c.Images() {
		for _, v := range img.Versions {
			if ids[v.Manifest.ID] || slices.ContainsFunc(k.manifests.named(v.Manifest.ID), func(r chunk.Ref) bool { return ids[r.ID] }) {
				names = append(names, fmt.Sprintf("image %s version %s", img.Name, v.Manifest.ID.Short()))
			}
		}
	}
	for o := range c.Overlays() {
		if ids[o.Base.ID] || ids[o.Content.ID] {
			names = append(names, "overlay "+string(o.Name))
		}
	}
	now := len(names)
	for f := range c.SiteFiles() {
		if ids[f.Content.ID] {
			names = append(names, "site file "+f.Path)
		}
	}
	if len(names) == now { // else it is told already
		for f := range formerFiles(c) {
			if ids[f.Content.ID] {
				names = append(names, "site file "+f.Path+" as it was")
			}
		}
	}
	for o := range c.FormerOverlays() {
		if name := "overlay " + string(o.Name) + " as it was"; ids[o.Content.ID] && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if more := len(names) - maxTold; more > 0 {
		names = append(names[:maxTold], fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

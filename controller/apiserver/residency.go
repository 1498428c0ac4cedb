package apiserver

import (
	"cmp"
	"net/http"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// getResidency lists how much of a version of an image each relay has, as it said itself. Who did not say has nothing.
func (s *Server) getResidency(w http.ResponseWriter, r *http.Request, _ caller) error {
	c, err := s.read(w, r)
	if err != nil {
		return err
	}
	name, tag := catalog.ImageName(r.PathValue("name")), cmp.Or(r.URL.Query().Get("version"), catalog.TagLatest)
	image, ok := c.Image(name)
	if !ok {
		return fault.New(fault.NotFound, "there is no image %.80q", name)
	}
	v, ok := image.Version(tag)
	if !ok {
		return fault.New(fault.NotFound, "image %s has no version %.80q", name, tag).WithFix("see its versions with: wulf image history %s", name)
	}
	boots, alive := bootsOf(c, v.Manifest.ID), api.RelayAlive(c.RelayCount())
	return writeList(w, c.Revision, func(yield func(api.Residency) bool) {
		for rel := range c.Relays() {
			of := api.Residency{Relay: rel.Name, Rack: rel.Rack, Zone: rel.Zone, CachedImage: api.CachedImage{Manifest: v.Manifest.ID}}
			for _, n := range rel.Networks {
				of.Nodes += boots[n]
			}
			if seen, ok := s.relays.get(rel.Name); ok {
				of.Seen, of.Alive = seen.at, time.Since(seen.at) < alive
				for _, i := range seen.status.Cache.Images {
					if i.Manifest == v.Manifest.ID {
						of.CachedImage = i
					}
				}
			}
			of.Resident = of.Need > 0 && of.Have == of.Need
			if !yield(of) {
				return
			}
		}
	})
}

// bootsOf counts the nodes of each network that boot a version.
func bootsOf(c *catalog.Catalog, id chunk.ID) map[catalog.NetworkName]int {
	boots := map[catalog.NetworkName]int{}
	for n := range c.Nodes() {
		r, err := c.Resolve(n.Name)
		if err == nil && r.Image != nil && r.Version.Manifest.ID == id && r.Primary != nil && r.Primary.Network != nil {
			boots[r.Primary.Network.Name]++
		}
	}
	return boots
}

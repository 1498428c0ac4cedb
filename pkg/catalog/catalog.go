// Package catalog is the declared state of a cluster: nodes, profiles, images, overlays, site files, networks, relays,
// controllers, join tokens and what is decided about unknown machines, and the changes that can be made to them.
//
// A Catalog is one immutable revision. Apply makes the next one out of a Change, and it is a pure function:
// every controller and every relay that applies the same changes holds the same catalog, which its Hash shows.
// Nothing here reads a clock, opens a file or starts a goroutine; times come in as values.
package catalog

import (
	"iter"
	"strings"
)

// Catalog is one revision of all declared state. It is never changed once published, so any number of
// goroutines may read it without a lock. The zero Catalog is the empty one that a new cluster starts from.
type Catalog struct {
	Revision Revision // of the last entry applied, rejected ones included
	Hash     Hash     // rolls over every entry; equal at equal revision everywhere
	Cluster  Cluster

	nodes       table[*Node]
	profiles    table[*Profile]
	networks    table[*Network]
	images      table[*Image]
	overlays    table[*Overlay]
	files       siteFiles
	relays      table[*Relay]
	zones       table[*Zone]
	controllers table[*Controller]
	tokens      table[*Token]
	rules       table[*DiscoverRule]
	ignored     table[*Ignored]
	requests    requests

	index    table[NodeName]    // nodes by their identities; kept by nodeEdit alone
	prefixes table[NetworkName] // networks by the first address of their prefixes; they do not overlap
	bases    *bases             // of the present profiles; nil: none are remembered
	history  history
	touched  *touched // by the change that is being applied; nil in what is published
}

// Node returns the node of that name.
func (c *Catalog) Node(name NodeName) (*Node, bool) { return c.nodes.get(string(name)) }

// Nodes yields all nodes in the byte order of their names.
func (c *Catalog) Nodes() iter.Seq[*Node] { return c.nodes.values() }

// NodeCount is the number of nodes.
func (c *Catalog) NodeCount() int { return c.nodes.len() }

// Profile returns the profile of that name.
func (c *Catalog) Profile(name ProfileName) (*Profile, bool) { return c.profiles.get(string(name)) }

// Profiles yields all profiles in the order of their names.
func (c *Catalog) Profiles() iter.Seq[*Profile] { return c.profiles.values() }

// Network returns the network of that name.
func (c *Catalog) Network(name NetworkName) (*Network, bool) { return c.networks.get(string(name)) }

// Networks yields all networks in the order of their names.
func (c *Catalog) Networks() iter.Seq[*Network] { return c.networks.values() }

// Image returns the image of that name.
func (c *Catalog) Image(name ImageName) (*Image, bool) { return c.images.get(string(name)) }

// Images yields all images in the order of their names.
func (c *Catalog) Images() iter.Seq[*Image] { return c.images.values() }

// ImageVersion returns what "name", "name:tag" or "name@id" stands for now.
func (c *Catalog) ImageVersion(ref string) (*Image, ImageVersion, bool) {
	name, version := SplitImage(ref)
	img, ok := c.Image(name)
	if !ok {
		return nil, ImageVersion{}, false
	}
	v, ok := img.Version(version)
	return img, v, ok
}

// SplitImage takes "name", "name:tag" or "name@id" apart; without a version it says TagLatest.
func SplitImage(ref string) (ImageName, string) {
	if i := strings.IndexAny(ref, ":@"); i >= 0 {
		return ImageName(ref[:i]), ref[i+1:]
	}
	return ImageName(ref), TagLatest
}

// Overlay returns the overlay of that name.
func (c *Catalog) Overlay(name OverlayName) (*Overlay, bool) { return c.overlays.get(string(name)) }

// Overlays yields all overlays in the order of their names.
func (c *Catalog) Overlays() iter.Seq[*Overlay] { return c.overlays.values() }

// Relay returns the admitted relay of that name.
func (c *Catalog) Relay(name RelayName) (*Relay, bool) { return c.relays.get(string(name)) }

// Relays yields all admitted relays in the order of their names.
func (c *Catalog) Relays() iter.Seq[*Relay] { return c.relays.values() }

// RelayCount is the number of admitted relays.
func (c *Catalog) RelayCount() int { return c.relays.len() }

// Zone returns what is said of a zone.
func (c *Catalog) Zone(name string) (*Zone, bool) { return c.zones.get(name) }

// Zones yields the zones of which something is said, in the order of their names.
func (c *Catalog) Zones() iter.Seq[*Zone] { return c.zones.values() }

// Controller returns the controller of that name.
func (c *Catalog) Controller(name ControllerName) (*Controller, bool) {
	return c.controllers.get(string(name))
}

// Controllers yields all controllers in the order of their names.
func (c *Catalog) Controllers() iter.Seq[*Controller] { return c.controllers.values() }

// Token returns the join token of that ID.
func (c *Catalog) Token(id string) (*Token, bool) { return c.tokens.get(id) }

// Tokens yields all join tokens in the order of their IDs.
func (c *Catalog) Tokens() iter.Seq[*Token] { return c.tokens.values() }

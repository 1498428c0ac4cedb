package catalog

import iradix "github.com/hashicorp/go-immutable-radix/v2"

// Common is what besides a node itself decides how it resolves. Two of them are equal (==) only if they are of catalogs
// in which a node that is the same (the same pointer) resolves to the same.
type Common struct {
	profiles *iradix.Tree[*Profile]
	networks *iradix.Tree[*Network]
	images   *iradix.Tree[*Image]
	name     string // of the cluster
}

// Common returns what all nodes of the catalog have in common. It costs nothing.
func (c *Catalog) Common() Common {
	return Common{c.profiles.tree, c.networks.tree, c.images.tree, c.Cluster.Name}
}

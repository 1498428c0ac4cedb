// Package warewulf reads the configuration of Warewulf v4: warewulf.conf and nodes.conf as any version from 4.1 on
// wrote them.
//
// It knows Warewulf's rules, not ours: Nodes.Merged folds profiles into a node exactly as Warewulf does, so that what
// it prints can be compared with `wwctl node export` before anything moves. Old keys become those of 4.7 while they are
// read, and every such rewrite is reported. What a person should look at is a Hazard: a mistake that Warewulf lives
// with, a setting that will mean something else, a key that nobody knows. Only what cannot be read at all is an error.
//
// The package is pure: it takes bytes and gives bytes. What to make of it in wulfmesh is decided elsewhere.
package warewulf

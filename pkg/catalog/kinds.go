package catalog

import (
	"maps"
	"reflect"
	"slices"
)

// Kinds lists the kinds of changes by name, in order.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// TypeOf is the type of the changes of a kind, for whoever describes them; nil if there is no such kind.
func TypeOf(kind string) reflect.Type { return kinds[kind] }

// Steps tells whether a Batch may hold changes of a kind.
func Steps(kind string) bool { return kind != "batch" && kind != "revert" }

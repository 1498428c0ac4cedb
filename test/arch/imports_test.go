package arch

import (
	"fmt"
	"slices"
	"strings"
)

// checkFloors: every package has a floor, and imports only from floors below. A package may import those below its own
// directory on the same floor. Test files may also look sideways, for a neighbour as a fixture, but not up.
func checkFloors(tr *tree) (bad []string) {
	for _, s := range tr.sources {
		if under(s.pkg, "test") || suites[s.pkg] {
			continue
		}
		floor, ok := floorOf(s.pkg)
		if !ok {
			bad = append(bad, fmt.Sprintf("%s: package %s has no floor; give it one in floors of test/arch", s.name, s.pkg))
			continue
		}
		for _, imp := range s.imports {
			dep, ok := tr.inner(imp)
			if !ok || under(dep, "test") || suites[dep] || dep == s.pkg {
				continue
			}
			below, ok := floorOf(dep)
			switch {
			case !ok:
				bad = append(bad, fmt.Sprintf("%s imports %s, which has no floor", s.name, dep))
			case below < floor, below == floor && (s.test || under(dep, s.pkg)):
			case below == floor:
				bad = append(bad, fmt.Sprintf("%s: %s and %s are both on floor %d; siblings meet through an interface that the consumer declares",
					s.name, s.pkg, dep, floor))
			default:
				bad = append(bad, fmt.Sprintf("%s: %s on floor %d imports %s on floor %d; imports go down only", s.name, s.pkg, floor, dep, below))
			}
		}
	}
	return bad
}

// checkRoles: controller, relay and agent are programs of their own that share pkg/ and talk through pkg/api. Only
// cmd/wulf knows more than one of them.
func checkRoles(tr *tree) (bad []string) {
	for _, s := range tr.sources {
		for _, imp := range s.imports {
			dep, ok := tr.inner(imp)
			if ok && role(s.pkg) != "" && role(dep) != "" && role(s.pkg) != role(dep) {
				bad = append(bad, fmt.Sprintf("%s: %s belongs to the %s and imports %s of the %s; they share pkg/ only",
					s.name, s.pkg, role(s.pkg), dep, role(dep)))
			}
			if ok && role(s.pkg) == "agent" && under(dep, "cmd/wulf") {
				bad = append(bad, fmt.Sprintf("%s: the agent imports %s; it is small because it shares pkg/ only", s.name, dep))
			}
		}
	}
	return bad
}

// checkOwners: a library is imported by its owner alone. Everything below test/ is free to use it.
func checkOwners(tr *tree) (bad []string) {
	for _, s := range tr.sources {
		if under(s.pkg, "test") {
			continue
		}
		for _, imp := range s.imports {
			if !tr.library(imp) {
				continue
			}
			in := func(list []string) bool {
				return slices.ContainsFunc(list, func(lib string) bool { return under(imp, lib) })
			}
			if in(testers) {
				if s.ships() {
					bad = append(bad, fmt.Sprintf("%s imports %s, which is for tests", s.name, imp))
				}
				continue
			}
			if in(everyones) {
				continue
			}
			lib, who := ownersOf(imp)
			switch {
			case who == nil:
				bad = append(bad, fmt.Sprintf("%s imports %s, which has no owner; give it one in owners of test/arch", s.name, imp))
			case !slices.ContainsFunc(who, func(p string) bool { return matches(p, s.pkg) }):
				bad = append(bad, fmt.Sprintf("%s: %s imports %s, which %s owns", s.name, s.pkg, lib, strings.Join(who, " or ")))
			}
		}
	}
	return bad
}

// ownersOf finds the library that an import belongs to; the longest name wins, so that raft-boltdb is not raft.
func ownersOf(imp string) (lib string, who []string) {
	for l, w := range owners {
		if under(imp, l) && len(l) > len(lib) {
			lib, who = l, w
		}
	}
	return lib, who
}

// checkTestOnly: nothing that ships imports what is for tests.
func checkTestOnly(tr *tree) (bad []string) {
	for _, s := range tr.sources {
		for _, imp := range s.imports {
			dep, ok := tr.inner(imp)
			if s.ships() && (ok && (under(dep, "test") || suites[dep]) || imp == "testing" || strings.HasPrefix(imp, "testing/")) {
				bad = append(bad, fmt.Sprintf("%s ships and imports %s, which is for tests", s.name, imp))
			}
		}
	}
	return bad
}

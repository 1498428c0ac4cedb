package arch

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
)

// checkPure: the pure packages open no socket, read no clock, start no goroutine, throw no dice.
func checkPure(tr *tree) (bad []string) {
	for _, s := range tr.sources {
		if s.test || !pure(s.pkg) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				bad = append(bad, fmt.Sprintf("%s: the pure package %s starts a goroutine", s.at(n), s.pkg))
			case *ast.SelectorExpr:
				for _, imp := range s.imports {
					rule, ok := impure[imp]
					if name, used := s.member(n, imp); ok && used && !slices.Contains(rule.but, name) {
						bad = append(bad, fmt.Sprintf("%s: the pure package %s uses %s.%s: %s", s.at(n), s.pkg, imp, name, rule.why))
					}
				}
			case *ast.CallExpr:
				if m, ok := n.Fun.(*ast.SelectorExpr); ok && m.Sel.Name == "Go" && len(n.Args) == 1 {
					bad = append(bad, fmt.Sprintf("%s: the pure package %s starts a goroutine with Go", s.at(n), s.pkg))
				}
			}
			return true
		})
	}
	return bad
}

// checkStart: what ships has no init function, so that the order of imports is not behaviour, and logs to the logger
// it is given.
func checkStart(tr *tree) (bad []string) {
	for _, s := range tr.sources {
		if !s.ships() {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				bad = append(bad, s.at(f)+": a package does nothing when it is imported; move this from init to a constructor")
			}
		}
		if under(s.pkg, "cmd") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			switch name, _ := s.member(sel, "log/slog"); name {
			case "Debug", "Info", "Warn", "Error", "Log", "Default", "SetDefault":
				bad = append(bad, fmt.Sprintf("%s: slog.%s uses the global logger; log to the one that is passed in", s.at(n), name))
			}
			return true
		})
	}
	return bad
}

// checkSleep: a test waits for what it waits for, not for a while. Only in a synctest bubble, where time is virtual,
// may it sleep. A sleep in a helper is taken to be in a bubble if its package has any.
func checkSleep(tr *tree) (bad []string) {
	names, files := tr.packages()
	for _, pkg := range names {
		if isRealTime(pkg) {
			continue
		}
		bubbles := bubbleMakers(files[pkg])
		for _, s := range files[pkg] {
			if !s.test {
				continue
			}
			for _, d := range s.file.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok || f.Body == nil {
					continue
				}
				helper := !strings.HasPrefix(f.Name.Name, "Test") && !strings.HasPrefix(f.Name.Name, "Benchmark") && !strings.HasPrefix(f.Name.Name, "Fuzz")
				for _, call := range s.sleeps(f.Body, helper && len(bubbles) > 0, bubbles) {
					bad = append(bad, s.at(call)+": this test sleeps outside a synctest bubble; wait for the event, or run it in virtual time")
				}
			}
		}
	}
	return bad
}

func isRealTime(pkg string) bool {
	for _, p := range realTime {
		if under(pkg, p) {
			return true
		}
	}
	return false
}

// bubbleMakers are the functions of a package that run a function in a bubble: synctest.Test, and whatever calls one
// of them.
func bubbleMakers(files []source) map[string]bool {
	makers := map[string]bool{}
	for grown := true; grown; {
		grown = false
		for _, s := range files {
			for _, d := range s.file.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok || f.Body == nil || makers[f.Name.Name] {
					continue
				}
				ast.Inspect(f.Body, func(n ast.Node) bool {
					if call, ok := n.(*ast.CallExpr); ok && s.bubbles(call, makers) {
						makers[f.Name.Name] = true
						grown = true
					}
					return !makers[f.Name.Name]
				})
			}
		}
	}
	return makers
}

// bubbles tells whether a call runs its arguments in a bubble.
func (s source) bubbles(call *ast.CallExpr, makers map[string]bool) bool {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return makers[f.Name]
	case *ast.SelectorExpr:
		if name, ok := s.member(f, "testing/synctest"); ok {
			return name == "Test"
		}
		if name, ok := s.member(f, "github.com/wulfmesh/wulfmesh/test/mesh"); ok {
			return name == "Run" // a whole mesh in a bubble
		}
		return makers[f.Sel.Name]
	}
	return false
}

// sleeps finds the calls of time.Sleep below n that are in no bubble.
func (s source) sleeps(n ast.Node, inBubble bool, makers map[string]bool) (found []*ast.CallExpr) {
	ast.Inspect(n, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if s.bubbles(call, makers) {
			return false // all that is below is in virtual time
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && !inBubble {
			if name, _ := s.member(sel, "time"); name == "Sleep" {
				found = append(found, call)
			}
		}
		return true
	})
	return found
}

// member returns the name that a selector takes from a package, which the file may import under another name.
func (s source) member(sel *ast.SelectorExpr, pkg string) (string, bool) {
	id, ok := sel.X.(*ast.Ident)
	if !ok {
		return "", false
	}
	for i, imp := range s.imports {
		if imp != pkg {
			continue
		}
		local := path.Base(pkg)
		if local == "v2" {
			local = path.Base(path.Dir(pkg))
		}
		if alias := s.file.Imports[i].Name; alias != nil {
			local = alias.Name
		}
		if id.Name == local {
			return sel.Sel.Name, true
		}
	}
	return "", false
}

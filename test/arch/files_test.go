package arch

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// checkComments: every package says in one place what it is for. A package of tests only says it in a test.
func checkComments(tr *tree) (bad []string) {
	names, files := tr.packages()
	for _, pkg := range names {
		onlyTests := !slices.ContainsFunc(files[pkg], func(s source) bool { return !s.test })
		var said []string
		for _, s := range files[pkg] {
			if s.file.Doc == nil || s.test && !onlyTests {
				continue
			}
			begins := "Package " + s.file.Name.Name
			if s.file.Name.Name == "main" {
				begins = "Command " + pkg[strings.LastIndexByte(pkg, '/')+1:]
			}
			if strings.HasPrefix(s.file.Doc.Text(), begins+" ") {
				said = append(said, s.name)
			} else {
				bad = append(bad, fmt.Sprintf("%s: the package comment begins with %q", s.name, begins))
			}
		}
		switch {
		case len(said) == 0:
			bad = append(bad, pkg+" has no package comment that says what it is for")
		case len(said) > 1:
			bad = append(bad, fmt.Sprintf("%s has a package comment in each of %s; one is enough", pkg, strings.Join(said, ", ")))
		}
	}
	return bad
}

// checkSize returns the files that are too long, and those that are long.
func checkSize(tr *tree) (bad, long []string) {
	for _, s := range tr.sources {
		switch {
		case s.lines > tooLongFile:
			bad = append(bad, fmt.Sprintf("%s has %d lines, more than %d; a file says one thing", s.name, s.lines, tooLongFile))
		case s.lines > longFile:
			long = append(long, fmt.Sprintf("%s has %d lines; think of a second file", s.name, s.lines))
		}
	}
	return bad, long
}

// checkPaths: no file names a path of a machine on which wulfmesh was made.
func checkPaths(tr *tree) (bad []string) {
	for _, f := range tr.texts {
		for i, line := range bytes.Split(f.content, []byte("\n")) {
			for _, p := range machinePaths {
				if at := bytes.Index(line, []byte(p)); at >= 0 && (at == 0 || !inWord(line[at-1])) {
					bad = append(bad, fmt.Sprintf("%s:%d: %s… is a path of some developer's machine", f.name, i+1, p))
				}
			}
		}
	}
	return bad
}

// inWord tells whether a path that follows b is the middle of a longer one, as in lib + path.
func inWord(b byte) bool {
	return b == '.' || b == '-' || b == '_' || b == '}' || b == ')' || '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}

// checkDependencies: docs/dependencies.md names every module that this one imports from.
func checkDependencies(tr *tree) (bad []string) {
	const doc = "docs/dependencies.md"
	i := slices.IndexFunc(tr.texts, func(f text) bool { return f.name == doc })
	if i < 0 {
		return []string{doc + " is missing; it says of every direct dependency what it is for and why it was chosen"}
	}
	direct := map[string]string{}
	for _, s := range tr.sources {
		for _, imp := range s.imports {
			if !tr.library(imp) {
				continue
			}
			if m := tr.moduleOf(imp); m == "" {
				bad = append(bad, fmt.Sprintf("%s imports %s, which no module of go.mod holds", s.name, imp))
			} else if direct[m] == "" {
				direct[m] = s.name
			}
		}
	}
	for m, where := range direct {
		if !bytes.Contains(tr.texts[i].content, []byte(m)) {
			bad = append(bad, fmt.Sprintf("%s does not name %s, which %s imports", doc, m, where))
		}
	}
	slices.Sort(bad)
	return bad
}

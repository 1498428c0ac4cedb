package arch

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// tree is the repository as its checks see it.
type tree struct {
	module   string   // its path
	requires []string // module paths in go.mod
	sources  []source // sorted by name
	texts    []text
}

// source is a parsed Go file.
type source struct {
	name    string // relative to the root, with slashes
	pkg     string // its directory
	test    bool   // ends in _test.go
	lines   int
	file    *ast.File
	fset    *token.FileSet
	imports []string
}

// ships tells whether the file is part of a product.
func (s source) ships() bool { return !s.test && !under(s.pkg, "test") && !suites[s.pkg] }

// at is where a node of the file stands, for a message.
func (s source) at(n ast.Node) string {
	return s.name + ":" + strconv.Itoa(s.fset.Position(n.Pos()).Line)
}

// text is any file that people read.
type text struct {
	name    string
	content []byte
}

// theRepository is the real tree, whose root is two directories up. It is read once.
var theRepository = sync.OnceValues(func() (*tree, error) { return load(os.DirFS("../..")) })

func repository(t *testing.T) *tree {
	t.Helper()
	tr, err := theRepository()
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.sources) == 0 {
		t.Fatal("found no sources")
	}
	return tr
}

func load(fsys fs.FS) (*tree, error) {
	tr := &tree{}
	mod, err := fs.ReadFile(fsys, "go.mod")
	if err != nil {
		return nil, err
	}
	tr.readModule(mod)
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return tr.enter(fsys, name)
		case !d.Type().IsRegular(), name == ".git": // where the tree is one of several of a repository, that is a file
			return nil
		}
		return tr.add(fsys, name)
	})
	return tr, err
}

// enter decides whether a directory belongs to the module. Those that go ignores, and other modules, hold text only.
func (tr *tree) enter(fsys fs.FS, name string) error {
	if ignored[name] || ignored[path.Base(name)] {
		return fs.SkipDir
	}
	return nil
}

func (tr *tree) add(fsys fs.FS, name string) error {
	if info, err := fs.Stat(fsys, name); err != nil || info.Size() > 2<<20 {
		return err
	}
	content, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	if !bytes.Contains(content, []byte{0}) {
		tr.texts = append(tr.texts, text{name, content})
	}
	if !strings.HasSuffix(name, ".go") || foreign(fsys, path.Dir(name)) {
		return nil
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, content, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	s := source{name: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), lines: bytes.Count(content, []byte("\n")), file: file, fset: fset}
	for _, spec := range file.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		s.imports = append(s.imports, imp)
	}
	tr.sources = append(tr.sources, s)
	return nil
}

// foreign tells whether the go command sees no package of this module in a directory.
func foreign(fsys fs.FS, dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		base := path.Base(dir)
		if base == "testdata" || strings.HasPrefix(base, "_") || strings.HasPrefix(base, ".") {
			return true
		}
		if _, err := fs.Stat(fsys, dir+"/go.mod"); err == nil {
			return true
		}
	}
	return false
}

// readModule takes the module's path and the required modules from go.mod.
func (tr *tree) readModule(mod []byte) {
	block := ""
	for line := range strings.Lines(string(mod)) {
		line, _, _ = strings.Cut(line, "//")
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == ")":
			block = ""
		case len(words) == 2 && words[1] == "(":
			block = words[0]
		case words[0] == "module":
			tr.module = words[1]
		case words[0] == "require":
			tr.requires = append(tr.requires, words[1])
		case block == "require":
			tr.requires = append(tr.requires, words[0])
		}
	}
}

// inner returns the package of this module that an import path names.
func (tr *tree) inner(imp string) (string, bool) {
	if imp == tr.module {
		return ".", true
	}
	return strings.CutPrefix(imp, tr.module+"/")
}

// library tells whether an import is neither of this module nor of the standard library.
func (tr *tree) library(imp string) bool {
	if _, ok := tr.inner(imp); ok {
		return false
	}
	first, _, _ := strings.Cut(imp, "/")
	return strings.Contains(first, ".")
}

// moduleOf returns the required module that holds a library, "" if none does.
func (tr *tree) moduleOf(imp string) string {
	best := ""
	for _, m := range tr.requires {
		if under(imp, m) && len(m) > len(best) {
			best = m
		}
	}
	return best
}

// packages returns the directories that hold Go files, sorted, with their files.
func (tr *tree) packages() ([]string, map[string][]source) {
	files := map[string][]source{}
	var names []string
	for _, s := range tr.sources {
		if files[s.pkg] == nil {
			names = append(names, s.pkg)
		}
		files[s.pkg] = append(files[s.pkg], s)
	}
	slices.Sort(names)
	return names, files
}

// Package modules knows which kernel modules a device asks for and in which order they must be loaded, from the
// files that depmod(8) writes, or from the modules themselves where nobody ran it. Stage one is built with it, and the
// agent loads drivers with it.
package modules

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// The files of a module directory that are read. Only the first must be there.
const (
	FileDep     = "modules.dep"
	FileAlias   = "modules.alias"
	FileSoftdep = "modules.softdep"
)

// Bounds of these files, some fifty times what the largest kernels need.
const (
	maxFile = 64 << 20
	maxLine = 1 << 20
)

// Index is what a kernel's modules say of themselves. It is read-only once loaded.
type Index struct {
	byName  map[string]*module
	aliases map[string][]alias // by bus: see bus
	order   []string           // paths as modules.dep lists them
}

type module struct {
	path string
	deps []string // paths, in the order of loading
	pre  []string // names that a soft dependency wants loaded before
}

type alias struct{ pattern, name string }

func newIndex() *Index {
	return &Index{byName: map[string]*module{}, aliases: map[string][]alias{}}
}

// Load reads the files of a module directory such as /lib/modules/6.1.0-18-amd64. Without modules.dep the error
// is fs.ErrNotExist.
func Load(dir fs.FS) (*Index, error) {
	x := newIndex()
	for _, f := range []struct {
		name string
		line func([]string)
	}{{FileDep, x.dep}, {FileAlias, x.alias}, {FileSoftdep, x.softdep}} {
		err := lines(dir, f.name, f.line)
		if errors.Is(err, fs.ErrNotExist) && f.name != FileDep {
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	return x, nil
}

func lines(dir fs.FS, name string, take func([]string)) error {
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	in := &io.LimitedReader{R: f, N: maxFile + 1}
	s := bufio.NewScanner(in)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		if words := strings.Fields(s.Text()); len(words) > 0 && words[0][0] != '#' {
			take(words)
		}
	}
	if s.Err() != nil {
		return fault.Wrap(fault.Corrupt, s.Err(), "reading %s", name)
	}
	if in.N == 0 {
		return fault.New(fault.Corrupt, "%s has more than %d bytes", name, maxFile)
	}
	return nil
}

// dep takes "kernel/a.ko: kernel/b.ko kernel/c.ko": what a needs, the first to be loaded named last. What
// leads out of the directory, or is not called a module, is none.
func (x *Index) dep(words []string) {
	p, ok := strings.CutSuffix(words[0], ":")
	if !ok || !fs.ValidPath(p) || !strings.Contains(path.Base(p), ".ko") || x.byName[Name(p)] != nil {
		return
	}
	deps := slices.Clone(words[1:])
	slices.Reverse(deps)
	x.byName[Name(p)] = &module{path: p, deps: deps}
	x.order = append(x.order, p)
}

// alias takes "alias PATTERN NAME".
func (x *Index) alias(words []string) {
	if len(words) == 3 && words[0] == "alias" {
		b := bus(words[1])
		x.aliases[b] = append(x.aliases[b], alias{words[1], words[2]})
	}
}

// bus is the two characters that a pattern and all that it matches begin with ("pc", "us", "ac"), so that few
// patterns need to be tried for a device. It is empty for a pattern that has a wildcard there already, and not
// longer because "acpi*:VMBUS:*" has one next.
func bus(alias string) string {
	if len(alias) < 2 || strings.ContainsAny(alias[:2], `*?[\`) {
		return ""
	}
	return alias[:2]
}

// softdep takes "softdep NAME pre: a b post: c".
func (x *Index) softdep(words []string) {
	if len(words) < 2 || words[0] != "softdep" {
		return
	}
	if m := x.byName[canonical(words[1])]; m != nil {
		m.pre = append(m.pre, before(words[2:])...)
	}
}

// Name is the name of the module in a file: kernel/drivers/net/virtio-net.ko.xz is virtio_net.
func Name(file string) string {
	base, _, _ := strings.Cut(path.Base(file), ".ko")
	return canonical(base)
}

// canonical makes the two spellings of a name one: the kernel says '_' where files may say '-'.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

// ForName returns the files of a module and of what it needs, in the order in which they must be loaded; nothing
// for a module that there is not.
func (x *Index) ForName(name string) []string {
	l := loading{x: x, seen: make(map[string]bool)}
	l.need(canonical(name))
	return l.files
}

// ForAlias returns the files of all modules that ask for a device's modalias, in the order of loading.
func (x *Index) ForAlias(modalias string) []string {
	l := loading{x: x, seen: make(map[string]bool)}
	for _, key := range slices.Compact([]string{bus(modalias), ""}) {
		for _, a := range x.aliases[key] {
			if match(a.pattern, modalias) {
				l.need(canonical(a.name))
			}
		}
	}
	return l.files
}

// loading collects files in the order of loading.
type loading struct {
	x     *Index
	seen  map[string]bool // by name: soft dependencies may go in a circle, and then one of them has to be first
	files []string
}

func (l *loading) need(name string) {
	m := l.x.byName[name]
	if m == nil || l.seen[name] {
		return
	}
	l.seen[name] = true
	for _, soft := range m.pre {
		l.need(canonical(soft))
	}
	for _, file := range m.deps {
		l.need(Name(file))
	}
	l.files = append(l.files, m.path)
}

// Files lists all module files, as modules.dep does.
func (x *Index) Files() []string { return x.order }

// Write writes modules.dep, modules.alias and modules.softdep for some of the modules only, each file under the name
// that rename gives it. Lines come in the order in which they were read, so that equal input gives equal bytes.
func (x *Index) Write(keep func(file string) bool, rename func(file string) string, create func(name string) io.Writer) error {
	out := map[string]*strings.Builder{FileDep: {}, FileAlias: {}, FileSoftdep: {}}
	kept := map[string]bool{}
	for _, p := range x.order {
		if !keep(p) {
			continue
		}
		m := x.byName[Name(p)]
		kept[Name(p)] = true
		fmt.Fprintf(out[FileDep], "%s:", rename(p))
		for _, d := range slices.Backward(m.deps) {
			fmt.Fprintf(out[FileDep], " %s", rename(d))
		}
		out[FileDep].WriteByte('\n')
		if len(m.pre) > 0 {
			fmt.Fprintf(out[FileSoftdep], "softdep %s pre: %s\n", Name(p), strings.Join(m.pre, " "))
		}
	}
	for _, b := range slices.Sorted(maps.Keys(x.aliases)) {
		for _, a := range x.aliases[b] {
			if kept[canonical(a.name)] {
				fmt.Fprintf(out[FileAlias], "alias %s %s\n", a.pattern, a.name)
			}
		}
	}
	for _, name := range []string{FileDep, FileAlias, FileSoftdep} {
		if _, err := io.WriteString(create(name), out[name].String()); err != nil {
			return err
		}
	}
	return nil
}

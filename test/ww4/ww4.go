// Package ww4 does with a template what Warewulf 4.7 does with it, as plainly as that can be written: text/template over
// structs, with real files and no bounds. Tests hold the engine of overlays against it. It knows nothing of that engine,
// so that the two cannot be wrong in the same way.
package ww4

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"maps"
	"net"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/Masterminds/sprig/v3"

	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

// World is a Warewulf server.
type World struct {
	Nodes  *warewulf.Nodes
	Server overlay.Server // only values: what is computed of them is computed here
	Root   string         // the directory that stands for the server's /
	Images string         // the directory of the images
	Host   string
	Now    time.Time
}

// File is a file that a template made. The first one has no name: it is what the template wrote before it named one.
type File struct {
	Name   string
	Link   bool
	Target string
	Text   bytes.Buffer
}

// Made is what a template made.
type Made struct {
	Aborted, NoBackup bool
	Files             []*File
}

// Write takes the template's output.
func (m *Made) Write(p []byte) (int, error) { return m.Files[len(m.Files)-1].Text.Write(p) }

var errAbort = errors.New("abort")

// Render renders a template of an overlay for a node.
func (w *World) Render(name, overlayName, source string, text []byte) (*Made, error) {
	data, err := w.data(name)
	if err != nil {
		return nil, err
	}
	data.Overlay, data.BuildSource = overlayName, source
	if data.Kernel.Version == "" {
		data.Kernel.Version = w.kernel(data.ImageName)
	}
	m := &Made{Files: []*File{{}}}
	t, err := template.New(path.Base(source)).Option("missingkey=default").Funcs(w.funcs(m, data.ThisNode)).Parse(string(text))
	if err != nil {
		return nil, err
	}
	switch err := t.Execute(m, data); {
	case errors.Is(err, errAbort):
		m.Aborted = true
	case err != nil:
		return nil, err
	}
	return m, nil
}

// Show prints it as `wwctl overlay show --render` does.
func (m *Made) Show(fileName string) string {
	var b strings.Builder
	line := func(text string) {
		b.WriteString(text)
		if !strings.HasSuffix(text, "\n") {
			b.WriteByte('\n')
		}
	}
	head := func() {
		line("backupFile: " + strconv.FormatBool(!m.NoBackup))
		line("writeFile: " + strconv.FormatBool(!m.Aborted))
	}
	if m.Aborted {
		head()
		line(m.Files[0].Text.String())
		line("Aborted")
		return b.String()
	}
	for i, f := range m.Files {
		if i == 0 && len(m.Files) > 1 && !f.Link {
			continue
		}
		head()
		line("Filename: " + cmp.Or(f.Name, strings.TrimSuffix(fileName, ".ww")))
		if f.Link {
			line("Symlink: " + f.Target)
			continue
		}
		line(f.Text.String())
	}
	return b.String()
}

func (w *World) funcs(m *Made, n *Node) template.FuncMap {
	site := func(name string) string {
		if !strings.HasPrefix(name, "/") {
			name = path.Join(w.Server.Paths.Sysconfdir, "warewulf", name)
		}
		return path.Join(w.Root, name)
	}
	follow := func(name string) (string, error) {
		target, err := filepath.EvalSymlinks(path.Join(w.Root, name))
		return strings.TrimPrefix(target, w.Root), err
	}
	link := func(target string) string {
		f := m.Files[len(m.Files)-1]
		f.Link, f.Target = true, target
		return ""
	}
	all := template.FuncMap{
		"Include": func(name string) string {
			b, _ := os.ReadFile(site(name)) // none is empty
			return strings.TrimSuffix(string(b), "\n")
		},
		"IncludeFrom": func(image, name string) string {
			b, _ := os.ReadFile(path.Join(w.Images, image, "rootfs", name))
			return strings.TrimSuffix(string(b), "\n")
		},
		"IncludeBlock": func(name, mark string) (string, error) {
			f, err := os.Open(site(name))
			if err != nil {
				return mark, nil
			}
			defer f.Close()
			var out strings.Builder
			for s := bufio.NewScanner(f); s.Scan() && !strings.Contains(s.Text(), mark); {
				out.WriteString(s.Text() + "\n")
			}
			return out.String() + mark, nil
		},
		"ImportLink": func(name string) (string, error) {
			target, err := follow(name)
			if err != nil {
				return "", err
			}
			return link(target), nil
		},
		"softlink": link,
		"readlink": follow,
		"file": func(name string) string {
			m.Files = append(m.Files, &File{Name: name})
			return ""
		},
		"abort":        func() (string, error) { return "", errAbort },
		"IgnitionJson": func() string { return ignition(n) },
		"nobackup":     func() string { m.NoBackup = true; return "" },
		"basename":     path.Base,
		"inc":          func(i int) int { return i + 1 },
		"dec":          func(i int) int { return i - 1 },
		"UniqueField": func(sep string, at int, text string) string {
			var out []string
			seen := map[string]bool{"": false}
			for _, line := range strings.Split(text, "\n") {
				key := ""
				if fields := strings.Split(line, sep); at < len(fields) {
					key = fields[at]
				}
				if seen[key] {
					continue
				}
				seen[key] = key != ""
				out = append(out, line)
			}
			return strings.Join(out, "\n")
		},
		"SystemdEscape": func(s string) string { return escaped(s) },
		"SystemdEscapePath": func(s string) string {
			if s = strings.Trim(path.Clean("/"+s), "/"); s == "" {
				return "-"
			}
			return escaped(s)
		},
	}
	maps.Copy(all, sprig.TxtFuncMap())
	return all
}

// escaped is a text as systemd has it in names of units.
func escaped(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '/':
			b.WriteByte('-')
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == ':', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			b.WriteString(`\x` + strconv.FormatUint(uint64(c>>4), 16) + strconv.FormatUint(uint64(c&15), 16))
		}
	}
	return b.String()
}

// kernel is the version of an image's kernel. Here images have one.
func (w *World) kernel(image string) string {
	found, _ := filepath.Glob(path.Join(w.Images, image, "rootfs/boot/vmlinuz-*"))
	if image == "" || len(found) == 0 {
		return ""
	}
	return strings.TrimSuffix(version.FindString(path.Base(found[0])), ".")
}

var version = regexp.MustCompile(`\d+\.\d+\.\d+(-[\d\.]+|)`)

// address is what Go's net package makes of a text.
func address(ip warewulf.IP) net.IP { return net.ParseIP(string(ip)) }

func sorted[V any](m map[string]V) []V {
	var out []V
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

package cli

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxConfig bounds the file of contexts: a thousand of them fit in.
const maxConfig = 1 << 20

// namedContext is a context: a cluster, and how one works with it. What is not there is as if there were no context.
type namedContext struct {
	Name         string   `json:"name"`
	Current      bool     `json:"current"`
	Endpoints    []string `json:"endpoints"`
	Credentials  string   `json:"credentials,omitempty"`   // a file; what is not absolute is beside the file of contexts
	ConfirmAbove *int     `json:"confirm_above,omitempty"` // as --confirm-above
	Output       string   `json:"output,omitempty"`        // as --output, for lists
}

// contexts are the file of contexts.
type contexts struct {
	path, home string
	exists     bool
	current    string
	list       []namedContext // in the order of the file
	doc        *document      // as it was written, comments and all
}

// configDir is where what belongs to a person is: "" where nobody has said who that is, as in a service.
func (p *program) configDir() string {
	// A relative one is to be ignored (XDG Base Directory Specification, basics).
	if dir := p.env.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "wulf")
	}
	if home := p.env.Getenv("HOME"); home != "" {
		return filepath.Join(home, ".config", "wulf")
	}
	return ""
}

// configPath is the file of contexts, and whether somebody named it.
func (p *program) configPath() (path string, named bool) {
	if path := p.env.Getenv("WULF_CONFIG"); path != "" {
		return path, true
	}
	dir := p.configDir()
	if dir == "" {
		return "", false
	}
	return filepath.Join(dir, "config.yaml"), false
}

// contexts reads the file of contexts. That there is none is no error, unless it was named.
func (p *program) contexts() (*contexts, error) {
	path, named := p.configPath()
	if path == "" {
		return &contexts{doc: newDocument()}, nil
	}
	all, err := p.readContexts(path)
	if err == nil && !all.exists && named {
		return nil, fault.New(fault.NotFound, "there is no %s, which WULF_CONFIG names", path).WithFix("make it with: wulf context add NAME --endpoint HOST:%d", api.PortController)
	}
	return all, err
}

func (p *program) readContexts(path string) (*contexts, error) {
	home := p.env.Getenv("HOME")
	raw, err := readConfig(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &contexts{path: path, home: home, doc: newDocument()}, nil
	}
	if err != nil {
		return nil, err
	}
	return parseContexts(path, home, raw)
}

// readConfig reads the bytes of the file of contexts. A pipe would never end, a directory has none, and what everybody
// may write would let anybody say which cluster a command goes to.
func readConfig(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case errors.Is(err, fs.ErrPermission):
		return nil, fault.New(fault.Denied, "%s may not be read", path).WithFix("name another file: WULF_CONFIG")
	case err != nil:
		return nil, fault.Wrap(fault.Invalid, err, "the file of contexts")
	case !info.Mode().IsRegular():
		return nil, fault.New(fault.Invalid, "%s is not a file", path)
	case info.Mode().Perm()&0o002 != 0:
		return nil, fault.New(fault.Denied, "everybody may write %s", path).WithFix("chmod o-w %s", path)
	case info.Size() > maxConfig:
		return nil, tooLong(path)
	}
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil, fault.New(fault.Denied, "%s may not be read", path).WithFix("name another file: WULF_CONFIG")
		}
		return nil, fault.Wrap(fault.Invalid, err, "the file of contexts")
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the file of contexts")
	}
	if len(raw) > maxConfig {
		return nil, tooLong(path)
	}
	return raw, nil
}

func tooLong(path string) error {
	return fault.New(fault.Invalid, "%s has more than %d bytes", path, maxConfig)
}

// save writes the file, whole or not at all, for its owner's eyes. A link to it stays one.
func (all *contexts) save() error {
	if all.path == "" {
		return fault.New(fault.Invalid, "nobody says where contexts are kept: neither HOME nor XDG_CONFIG_HOME is set").WithFix("name a file: WULF_CONFIG")
	}
	raw, err := all.doc.bytes()
	if err != nil {
		return err
	}
	path := all.path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, raw, 0o600)
}

// named finds a context.
func (all *contexts) named(name string) (namedContext, error) {
	i := slices.IndexFunc(all.list, func(s namedContext) bool { return s.Name == name })
	if i >= 0 {
		return all.list[i], nil
	}
	err := fault.New(fault.NotFound, "no context is called %q", name)
	if best := closest(name, all.names()); best != "" {
		return namedContext{}, err.WithFix("did you mean %q?", best)
	}
	return namedContext{}, err.WithFix("see all with: wulf context list")
}

func (all *contexts) names() []string {
	names := make([]string, len(all.list))
	for i, s := range all.list {
		names[i] = s.Name
	}
	return names
}

// file is the credentials' file of a context.
func (all *contexts) file(s namedContext) string {
	path := s.Credentials
	if rest, ok := strings.CutPrefix(path, "~/"); ok && all.home != "" {
		return filepath.Join(all.home, rest)
	}
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(all.path), path)
}

// parseContextName reads the name of a context: as names of other things are.
func parseContextName(name string) (string, error) { return catalog.ParseName[string]("context", name) }

// parseEndpoint checks that a text names somebody who may be asked.
func parseEndpoint(text string) (string, error) {
	e := strings.TrimSpace(text)
	if path, ok := strings.CutPrefix(e, api.UnixScheme); ok && path != "" {
		return e, nil
	}
	if host, port, err := net.SplitHostPort(e); err != nil || host == "" || port == "" {
		return "", fault.New(fault.Invalid, "%q is not an endpoint", e).WithFix("write HOST:%d or unix:%s", api.PortController, defaultSocket)
	}
	return e, nil
}

// parseEndpoints takes a list with commas apart.
func parseEndpoints(list string) ([]string, error) {
	var all []string
	for text := range strings.SplitSeq(list, ",") {
		e, err := parseEndpoint(text)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

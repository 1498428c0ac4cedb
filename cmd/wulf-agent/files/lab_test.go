package files_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/files"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// lab is a node's root in a directory, what is kept of it, and what the next listing has to begin from.
type lab struct {
	t      testing.TB
	dir    string
	tree   files.Tree
	record files.Record
	large  map[chunk.ID][]byte // contents that are not in listings
	saved  []files.Record
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{t: t, dir: filepath.Join(t.TempDir(), "root"), large: map[chunk.ID][]byte{}}
	open := func(dir string) *os.Root {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		r, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r
	}
	l.tree = files.Tree{
		Root: open(l.dir), Kept: open(filepath.Join(t.TempDir(), "kept")), Fetch: l.fetch,
		Save: func(r files.Record) error { l.saved = append(l.saved, r); return nil },
	}
	return l
}

func (l *lab) fetch(_ context.Context, ref chunk.Ref, use func(io.Reader) error) error {
	b, ok := l.large[ref.ID]
	if !ok {
		return fault.New(fault.Unavailable, "no relay has %s", ref.ID.Short())
	}
	return use(bytes.NewReader(b))
}

// write puts a file of the image, or of somebody on the node, there.
func (l *lab) write(path, content string) {
	l.t.Helper()
	at := filepath.Join(l.dir, path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		l.t.Fatal(err)
	}
	os.Remove(at)
	if err := os.WriteFile(at, []byte(content), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// apply applies a listing and tells what became of it in a line.
func (l *lab) apply(listed ...overlay.Listed) string {
	l.t.Helper()
	r, err := l.tree.Apply(l.t.Context(), listing(listed...), l.record)
	l.record = r.Record
	var parts []string
	for _, p := range []struct {
		what string
		all  []string
	}{{"wrote", r.Changed}, {"removed", r.Removed}, {"left", r.Left}} {
		if len(p.all) > 0 {
			parts = append(parts, p.what+" "+strings.Join(p.all, " "))
		}
	}
	for _, err := range r.Failed {
		parts = append(parts, "failed: "+err.Error())
	}
	if err != nil {
		parts = append(parts, "error: "+err.Error())
	}
	return strings.Join(parts, "; ")
}

func (l *lab) want(got, want string) {
	l.t.Helper()
	if got != want {
		l.t.Errorf("got  %q\nwant %q", got, want)
	}
}

// content tells what is at a path, in a word.
func (l *lab) content(path string) string {
	l.t.Helper()
	at := filepath.Join(l.dir, path)
	i, err := os.Lstat(at)
	switch {
	case err != nil:
		return "nothing"
	case i.IsDir():
		return fmt.Sprintf("directory %o", i.Mode().Perm())
	case i.Mode()&os.ModeSymlink != 0:
		t, _ := os.Readlink(at)
		return "→ " + t
	}
	b, err := os.ReadFile(at)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(b)
}

// all lists every path below the root.
func (l *lab) all() []string {
	l.t.Helper()
	var all []string
	err := filepath.WalkDir(l.dir, func(p string, _ os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(l.dir, p); rel != "." {
			all = append(all, rel)
		}
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return all
}

func listing(listed ...overlay.Listed) *overlay.Listing {
	slices.SortFunc(listed, func(a, b overlay.Listed) int { return strings.Compare(a.Path, b.Path) })
	return &overlay.Listing{Kind: overlay.KindRuntime, Files: listed}
}

func file(path, content string) overlay.Listed { return moded(path, content, 0o644) }

func moded(path, content string, mode uint32) overlay.Listed {
	return overlay.Listed{
		Path: path, Type: overlay.TypeFile, Mode: mode, UID: os.Getuid(), GID: os.Getgid(), Size: int64(len(content)),
		Digest: chunk.Of([]byte(content)), Content: []byte(content),
	}
}

// large is a file whose content is fetched.
func (l *lab) fetched(path, content string) overlay.Listed {
	f := file(path, content)
	l.large[f.Digest] = f.Content
	f.Content = nil
	return f
}

func link(path, target string) overlay.Listed {
	return overlay.Listed{Path: path, Type: overlay.TypeLink, Mode: 0o777, Target: target, UID: os.Getuid(), GID: os.Getgid()}
}

func dir(path string, mode uint32) overlay.Listed {
	return overlay.Listed{Path: path, Type: overlay.TypeDir, Mode: mode, UID: os.Getuid(), GID: os.Getgid()}
}

package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// What was built here before is remembered in a directory of the user's, a file for each image: files that have not
// changed since are not read again, and segments that have not are not compressed again. It only saves time: a file
// that is missing or damaged costs a full build, and whatever it says, the controller holds every segment against the
// index.

// maxKnown is how many images are remembered; those built longest ago are forgotten.
const maxKnown = 32

// making begins a version of an image, with what is known of its segments from here and from its latest version.
func (p *program) making(ctx context.Context, c *cli.Context, cl *client, name catalog.ImageName, bar *progress) (*making, error) {
	level, err := levelOf(c)
	if err != nil {
		return nil, err
	}
	m := &making{cl: cl, bar: bar, name: name, known: p.recall(name)}
	m.draft.Level, m.draft.Message = level, c.String("message")
	i, err := findImage(cl, string(name))
	switch {
	case errors.Is(err, fault.NotFound):
		return m, nil // a new one
	case err != nil:
		return nil, err
	}
	m.draft.Parent = newest(i).Manifest.ID
	if !m.known.Empty() {
		return m, nil
	}
	bar.report("reading the latest version", 0, 0, false)
	v, err := openVersion(ctx, cl, i, newest(i))
	if err != nil {
		return nil, err
	}
	m.known.Learn(v.Image)
	return m, nil
}

// recall reads what is known of an image's segments.
func (p *program) recall(name catalog.ImageName) *segment.Known {
	f, err := os.Open(p.knownFile(name))
	if err != nil {
		return segment.NewKnown()
	}
	defer f.Close()
	k, err := segment.LoadKnown(f)
	if err != nil {
		return segment.NewKnown()
	}
	return k
}

// remember keeps what was learnt, if there is a place for it.
func (p *program) remember(m *making) {
	path := p.knownFile(m.name)
	if durable.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return
	}
	f, err := durable.Create(path, 0o600)
	if err != nil {
		return
	}
	if m.known.Save(f) != nil || f.Commit() != nil {
		f.Abort()
		return
	}
	forgetOldest(filepath.Dir(path))
}

// knownFile names the file; image names are file names, too, but for those that differ by case only.
func (p *program) knownFile(name catalog.ImageName) string {
	dir := p.env.Getenv("XDG_CACHE_HOME")
	if dir == "" {
		home := p.env.Getenv("HOME")
		if home == "" {
			home = "/var/cache/wulf"
		}
		dir = filepath.Join(home, ".cache")
	}
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(dir, "wulf", "images", hex.EncodeToString(sum[:16]))
}

func forgetOldest(dir string) {
	list, err := os.ReadDir(dir)
	if err != nil || len(list) <= maxKnown {
		return
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return modified(a).Compare(modified(b)) })
	for _, e := range list[:len(list)-maxKnown] {
		_ = os.Remove(filepath.Join(dir, e.Name())) // somebody else may have
	}
}

func modified(e fs.DirEntry) time.Time {
	if fi, err := e.Info(); err == nil {
		return fi.ModTime()
	}
	return time.Time{}
}

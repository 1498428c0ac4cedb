package session

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/files"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/units"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// Runtime is how the node's runtime overlays are here.
type Runtime struct {
	Tag    string         `json:"tag,omitempty"`    // of the listing that was applied last
	Failed bool           `json:"failed,omitempty"` // not all of it could be
	Files  files.Record   `json:"files,omitempty"`  // that it wrote
	Hooks  []overlay.Hook `json:"hooks,omitempty"`  // that it has
	Owed   units.Owed     `json:"owed,omitempty"`   // what units have not been told yet
	Asked  time.Time      `json:"asked,omitzero"`   // see overlay.Listing
}

// Lay makes the files of a tree a listing's, before the node's init starts. Of the system overlays all must be right, or
// the node does not boot; what of the runtime overlays cannot be done is left to the service, which tells it and tries
// again.
func (s *State) Lay(ctx context.Context, tree files.Tree, l *overlay.Listing, tag string) error {
	result, err := tree.Apply(ctx, l, nil)
	if err != nil {
		return err
	}
	if l.Kind == overlay.KindRuntime {
		s.Runtime = Runtime{Tag: tag, Failed: len(result.Failed) > 0, Files: result.Record, Hooks: l.Hooks, Asked: l.Asked}
		return nil
	}
	return errors.Join(result.Failed...)
}

// OpenKept opens the directory below root where what runtime overlays replace is kept, and makes it if need be.
func OpenKept(root string) (*os.Root, error) {
	dir := filepath.Join(root, Kept)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}

// Lock makes the caller the only one that looks after the node's files, until it closes what it gets. While another does,
// it is fault.Conflict.
func Lock(root string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(root, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fault.Wrap(fault.Conflict, err, "another wulf-agent runs here").WithFix("systemctl status wulf-agent")
	}
	return f, nil
}

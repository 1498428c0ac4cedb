package session_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/files"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/session"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/units"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

func TestTheServiceReadsWhatStageOneWrote(t *testing.T) {
	root := t.TempDir()
	want := &session.State{
		Node: "n1", Hardware: "52:54:00:00:00:01", Boot: "b1", Method: "two-stage", Revision: 7, Manifest: chunk.Of([]byte("m")), Relays: []string{"10.0.0.1:4481"},
		Trust: api.NodeTrust{Cluster: "lab", CA: "PEM", ManifestKeys: [][]byte{{1}}}, Session: &api.Session{Token: "t", Interval: time.Minute},
		Booted: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), Runtime: session.Runtime{Tag: `"1"`, Failed: true, Files: files.Record{"etc/hosts": {Marks: []string{"dir"}, Stamp: "1 2 3"}},
			Hooks: []overlay.Hook{{Path: "etc/hosts", Reload: "a.service"}}, Owed: units.Owed{"a.service": {Tries: 1}}},
	}
	for range 2 { // a second time it replaces the first
		if err := session.Save(root, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := session.Load(root)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
}

// The file holds the permission to ask for the node's secrets: no user of the node may read it.
func TestTheSessionIsForRootAlone(t *testing.T) {
	root := t.TempDir()
	if err := session.Save(root, &session.State{Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{session.Dir: os.ModeDir | 0o700, session.File: 0o600} {
		if i, err := os.Stat(filepath.Join(root, path)); err != nil || i.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", path, i.Mode(), err, want)
		}
	}
}

func TestAMachineThatWasBootedOtherwiseIsToldApart(t *testing.T) {
	root := t.TempDir()
	if _, err := session.Load(root); !errors.Is(err, fault.NotFound) {
		t.Errorf("no file: %v", err)
	}
	if err := session.Save(root, new(session.State)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, session.File), []byte(`{"node":"n1"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := session.Load(root); !errors.Is(err, fault.Corrupt) {
		t.Errorf("half a file: %v", err)
	}
}

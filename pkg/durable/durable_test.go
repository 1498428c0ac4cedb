package durable_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// failAt makes the named step fail with err and lets all others happen.
func failAt(op durable.Op, err error) durable.FS {
	return durable.FS{Hook: func(o durable.Op, _ string) error {
		if o == op {
			return err
		}
		return nil
	}}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestWriteFileReplacesWithExactPermissions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, perm := range []os.FileMode{0o644, 0o600, 0o666} { // 0666: the umask does not count
		if err := durable.WriteFile(path, []byte(perm.String()), perm); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := fi.Mode().Perm(); got != perm {
			t.Errorf("mode %v, want %v", got, perm)
		}
		if got := content(t, path); got != perm.String() {
			t.Errorf("content %q, want %q", got, perm)
		}
	}
}

func TestStepsHappenInTheOrderThatMakesThemDurable(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	var got []string
	s := durable.FS{Hook: func(op durable.Op, p string) error {
		got = append(got, string(op)+" "+filepath.Base(p))
		return nil
	}}
	if err := s.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []string{"create f", "write f", "sync f", "rename f", "syncdir " + filepath.Base(dir)}
	if !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
}

func TestAFailedWriteLeavesTheOldFileAndNoRubbish(t *testing.T) {
	for _, op := range []durable.Op{durable.OpCreate, durable.OpWrite, durable.OpSync, durable.OpRename} {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, errors.Join(io.ErrShortWrite, syscall.ENOSPC)} {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			if err := durable.WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			err := failAt(op, cause).WriteFile(path, []byte("the new content"), 0o600)
			if !errors.Is(err, cause) {
				t.Errorf("%s %v: error %v does not hold the cause", op, cause, err)
			}
			if got, want := errors.Is(err, fault.Full), cause != syscall.EIO; got != want {
				t.Errorf("%s %v: is fault.Full %v, want %v", op, cause, got, want)
			}
			if !strings.Contains(err.Error(), path) {
				t.Errorf("%s: error %q does not name the file", op, err)
			}
			if got := content(t, path); got != "old" {
				t.Errorf("%s %v: content %q", op, cause, got)
			}
			if got := names(t, dir); !slices.Equal(got, []string{"f"}) {
				t.Errorf("%s %v: directory holds %q", op, cause, got)
			}
		}
	}
}

func TestAFailedDirectorySyncIsReportedThoughTheFileIsThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := failAt(durable.OpSyncDir, syscall.EIO).WriteFile(path, []byte("new"), 0o600); !errors.Is(err, syscall.EIO) {
		t.Fatalf("error %v, want EIO", err)
	}
	if got := content(t, path); got != "new" {
		t.Errorf("content %q", got)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"f"}) {
		t.Errorf("directory holds %q", got)
	}
}

func TestALostSyncIsNotNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := failAt(durable.OpSync, durable.ErrLost).WriteFile(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := content(t, path); got != "new" {
		t.Errorf("content %q", got)
	}
	if err := failAt(durable.OpWrite, durable.ErrLost).WriteFile(path, []byte("newer"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := content(t, path); got != "" {
		t.Errorf("lost bytes arrived: %q", got)
	}
	if _, err := failAt(durable.OpCreate, durable.ErrLost).Create(path, 0o600); err == nil {
		t.Error("a file without a create")
	}
}

func TestStreamIsInvisibleUntilCommit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	f, err := durable.Create(path, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Abort()
	big := bytes.Repeat([]byte("0123456789"), 100_000)
	if n, err := io.Copy(f, bytes.NewReader(big)); err != nil || n != int64(len(big)) {
		t.Fatalf("copied %d: %v", n, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("seen before the commit: %v", err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := content(t, path); got != string(big) {
		t.Errorf("%d bytes, want %d", len(got), len(big))
	}
	f.Abort()
	if _, err := f.Write([]byte("more")); err == nil {
		t.Error("a committed file takes more")
	}
	if err := f.Commit(); err == nil {
		t.Error("committed twice")
	}
	if got := names(t, dir); !slices.Equal(got, []string{"f"}) {
		t.Errorf("directory holds %q", got)
	}
}

func TestAWriteErrorSticksUntilCommit(t *testing.T) {
	dir := t.TempDir()
	calls := 0
	s := durable.FS{Hook: func(op durable.Op, _ string) error {
		if op == durable.OpWrite {
			if calls++; calls == 2 {
				return errors.Join(io.ErrShortWrite, syscall.ENOSPC)
			}
		}
		return nil
	}}
	f, err := s.Create(filepath.Join(dir, "f"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.Write([]byte("good")); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := f.Write([]byte("half")); n != 2 || !errors.Is(err, fault.Full) {
		t.Fatalf("short write: %d, %v", n, err)
	}
	if _, err := f.Write([]byte("later")); !errors.Is(err, fault.Full) {
		t.Errorf("write after the failure: %v", err)
	}
	if err := f.Commit(); !errors.Is(err, fault.Full) {
		t.Errorf("commit after the failure: %v", err)
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("directory holds %q", got)
	}
}

func TestSweepRemovesOnlyWhatACrashLeft(t *testing.T) {
	dir := t.TempDir()
	if _, err := durable.Create(filepath.Join(dir, "torn"), 0o600); err != nil { // neither committed nor aborted
		t.Fatal(err)
	}
	if err := durable.WriteFile(filepath.Join(dir, "whole"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, ".wulf-tmp-dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if n, err := durable.Sweep(dir); n != 1 || err != nil {
		t.Errorf("Sweep = %d, %v", n, err)
	}
	if got, want := names(t, dir), []string{".wulf-tmp-dir", "whole"}; !slices.Equal(got, want) {
		t.Errorf("directory holds %q, want %q", got, want)
	}
	if n, err := durable.Sweep(filepath.Join(dir, "none")); n != 0 || err != nil {
		t.Errorf("Sweep of nothing = %d, %v", n, err)
	}
}

func TestMkdirAllSyncsEveryParentItChanged(t *testing.T) {
	root := t.TempDir()
	var synced []string
	s := durable.FS{Hook: func(op durable.Op, path string) error {
		if op == durable.OpSyncDir {
			rel, _ := filepath.Rel(root, path)
			synced = append(synced, rel)
		}
		return nil
	}}
	deep := filepath.Join(root, "a", "b", "c")
	if err := s.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	if want := []string{".", "a", "a/b"}; !slices.Equal(synced, want) {
		t.Errorf("synced %q, want %q", synced, want)
	}
	synced = nil
	if err := s.MkdirAll(deep, 0o700); err != nil || synced != nil {
		t.Errorf("a second time: synced %q, %v", synced, err)
	}
	if err := durable.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.MkdirAll(filepath.Join(root, "file", "d"), 0o700); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
	if err := failAt(durable.OpMkdir, syscall.ENOSPC).MkdirAll(filepath.Join(root, "z"), 0o700); !errors.Is(err, fault.Full) {
		t.Errorf("on a full disk: %v", err)
	}
}

func TestFree(t *testing.T) {
	n, percent, err := durable.Free(t.TempDir())
	if err != nil || n <= 0 || percent <= 0 || percent > 100 {
		t.Errorf("Free = %d bytes, %v %%, %v", n, percent, err)
	}
	if _, _, err := durable.Free(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Free of nothing: %v", err)
	}
	if _, _, err := failAt(durable.OpFree, syscall.EIO).Free("/"); !errors.Is(err, syscall.EIO) {
		t.Errorf("Free of a sick disk: %v", err)
	}
}

func TestCreateWithoutDirectory(t *testing.T) {
	if err := durable.WriteFile(filepath.Join(t.TempDir(), "none", "f"), nil, 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

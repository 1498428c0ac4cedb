package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/wulfmesh/wulfmesh/pkg/disks"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// A program of an image runs where nothing but it and what it needs is.
func TestBorrowedProgramRunsAlone(t *testing.T) {
	needMkfs(t)
	if os.Geteuid() != 0 {
		t.Skip("changing the root needs root")
	}
	p, err := gather(os.DirFS("/"), "mkfs.ext4", "etc/mke2fs.conf")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for at, body := range p.files {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(at)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, at), body, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &Borrowed{Dir: dir, have: map[string]string{"mkfs.ext4": p.path}}
	f, err := disks.FormatOf(disks.Ext4)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Run(t.Context(), f, []string{"mkfs.ext4", "-F", "-q", "/disk"}); err != nil {
		t.Fatal(err)
	}
	h := &Host{}
	if c, err := h.probe(device{path: disk}); err != nil || c.Format != disks.Ext4 {
		t.Errorf("it holds %s, %v", c, err)
	}
	err = b.Run(t.Context(), f, []string{"mkfs.ext4", "-F", "-q", "/none"})
	if err == nil || !strings.Contains(err.Error(), "/none") {
		t.Errorf("its complaint is not told: %v", err)
	}
}

// What is missing is named, with the package that has it.
func TestMissingProgramIsNamed(t *testing.T) {
	f, err := disks.FormatOf(disks.XFS)
	if err != nil {
		t.Fatal(err)
	}
	b := &Borrowed{image: fstest.MapFS{"etc/passwd": {}}, have: map[string]string{}}
	err = b.Run(t.Context(), f, nil)
	if !errors.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "mkfs.xfs") || !strings.Contains(fault.Fix(err), "xfsprogs") {
		t.Errorf("got %v, fix %s", err, fault.Fix(err))
	}
	b = &Borrowed{Open: func() (fs.FS, error) { return nil, fault.New(fault.Unavailable, "no relay") }}
	if err := b.Run(t.Context(), f, nil); !errors.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
}

// A program of an image is hostile like all of it: what it says it needs leads nowhere else and has bounds.
func TestGatherTakesNothingOnTrust(t *testing.T) {
	real, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		body []byte
		want string
	}{
		"a script":        {[]byte("#!/bin/sh\n"), "cannot be run"},
		"a broken header": {real[:64], "reading sbin/mkfs.ext4"},
		"too large":       {make([]byte, maxFile+1), "more than"},
	} {
		_, err := gather(fstest.MapFS{"sbin/mkfs.ext4": {Data: tc.body}}, "mkfs.ext4")
		if err == nil || !strings.Contains(err.Error(), strings.Replace(tc.want, "cannot be run", "not one that can be run alone", 1)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p, err := gather(fstest.MapFS{"sbin/mkfs.ext4": {Data: real}, "etc/ld.so.cache": {Data: []byte("cache")}}, "mkfs.ext4")
	if err != nil {
		if strings.Contains(err.Error(), "is not in the image") || strings.Contains(err.Error(), "the loader of") {
			return // this test is a program with libraries
		}
		t.Fatal(err)
	}
	var files []string
	for at := range p.files {
		files = append(files, at)
	}
	slices.Sort(files)
	if got := strings.Join(files, " "); got != "etc/ld.so.cache sbin/mkfs.ext4" || p.path != "/sbin/mkfs.ext4" {
		t.Errorf("got %s, %s", got, p.path)
	}
}

func FuzzGather(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := gather(fstest.MapFS{"sbin/mkfs.ext4": {Data: body}}, "mkfs.ext4")
		if err == nil && p.path != "/sbin/mkfs.ext4" {
			t.Error(p.path)
		}
	})
}

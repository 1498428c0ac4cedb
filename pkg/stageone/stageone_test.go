package stageone_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
	"github.com/wulfmesh/wulfmesh/pkg/stageone"
)

// bzImage is the least that has the header of an x86 kernel.
func bzImage() string {
	b := make([]byte, 0x300)
	copy(b[0x202:], "HdrS")
	return string(b)
}

func arm64Image() string {
	b := make([]byte, 128)
	copy(b[56:], "ARM\x64")
	return string(b)
}

func efiZboot(machine uint16) string {
	b := make([]byte, 256)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[60:], 128)
	copy(b[128:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[132:], machine)
	return string(b)
}

// image is a source of files; a value that begins with "->" makes a symbolic link.
func image(t *testing.T, files ...string) segment.Source {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(files[i+1]))}
		if target, link := strings.CutPrefix(files[i+1], "->"); link {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, target, 0
		}
		if strings.HasSuffix(h.Name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(w, files[i+1])
		}
	}
	w.Close()
	src, err := segment.OpenTar(bytes.NewReader(b.Bytes()), t.TempDir(), segment.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

func compressed(t *testing.T, s string, wrap func(io.Writer) (io.WriteCloser, error)) string {
	var b bytes.Buffer
	w, err := wrap(&b)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

func xzip(t *testing.T, s string) string {
	return compressed(t, s, func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })
}

func TestKernelsAreFoundNewestFirst(t *testing.T) {
	for name, tc := range map[string]struct {
		files []string
		want  string
	}{
		"Debian, merged /usr": {[]string{"usr/lib/modules/6.1.0-18-amd64/modules.dep", "", "usr/lib/modules/6.1.0-9-amd64/modules.dep", "", "lib", "->usr/lib",
			"boot/vmlinuz-6.1.0-9-amd64", bzImage(), "boot/vmlinuz-6.1.0-18-amd64", bzImage(), "vmlinuz", "->boot/vmlinuz-6.1.0-18-amd64"},
			"6.1.0-18-amd64 boot/vmlinuz-6.1.0-18-amd64 amd64 usr/lib/modules/6.1.0-18-amd64; 6.1.0-9-amd64 boot/vmlinuz-6.1.0-9-amd64 amd64 usr/lib/modules/6.1.0-9-amd64; "},
		"Red Hat": {[]string{"lib/modules/5.14.0-1.el9/vmlinuz", efiZboot(0x8664), "lib/modules/5.14.0-1.el9/modules.dep", "", "boot/vmlinuz-0-rescue-abc", bzImage()},
			"5.14.0-1.el9 lib/modules/5.14.0-1.el9/vmlinuz amd64 lib/modules/5.14.0-1.el9; "},
		"arm64 without modules": {[]string{"boot/Image-6.6", arm64Image(), "boot/vmlinuz-6.5", compressed(t, arm64Image(), func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })},
			"6.6 boot/Image-6.6 arm64 ; 6.5 boot/vmlinuz-6.5 arm64 ; "},
		"arm64 zboot":           {[]string{"boot/vmlinuz-6.7", efiZboot(0xaa64)}, "6.7 boot/vmlinuz-6.7 arm64 ; "},
		"modules but no kernel": {[]string{"lib/modules/1/modules.dep", "", "boot/vmlinuz-2", bzImage()}, "2 boot/vmlinuz-2 amd64 ; "},
	} {
		ks, err := stageone.FindKernels(image(t, tc.files...))
		got := ""
		for _, k := range ks {
			got += k.Version + " " + k.Path + " " + k.Arch + " " + k.Modules + "; "
		}
		if err != nil || got != tc.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tc.want)
		}
	}
}

func TestImagesWithoutAKernelAreRefused(t *testing.T) {
	for name, files := range map[string][]string{
		"nothing":         {"etc/passwd", "x"},
		"empty kernel":    {"boot/vmlinuz-1", ""},
		"dangling link":   {"boot/vmlinuz-1", "->../../../nowhere"},
		"circle of links": {"boot/vmlinuz-1", "->vmlinuz-2", "boot/vmlinuz-2", "->vmlinuz-1"},
		"not a kernel":    {"boot/vmlinuz-1", "#!/bin/sh\n"},
		"sparc kernel":    {"boot/vmlinuz-1", efiZboot(0x1234)},
	} {
		_, err := stageone.FindKernels(image(t, files...))
		if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "kernel") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVersionsAreComparedByTheirNumbers(t *testing.T) {
	sorted := []string{"4.19", "5.4", "5.14.0-9", "5.14.0-70.el9", "5.14.0-427.el9", "6.1", "6.1.0-9", "6.1.0-18", "6.10"}
	for i := range sorted {
		for j := range sorted {
			got := stageone.CompareVersions(sorted[i], sorted[j])
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("CompareVersions(%s, %s) = %d", sorted[i], sorted[j], got)
			}
		}
	}
}

func small(t *testing.T) segment.Source {
	return image(t,
		"lib", "->usr/lib",
		"boot/vmlinuz-6.1", bzImage(),
		"usr/lib/modules/6.1/modules.dep", `kernel/drivers/net/virtio_net.ko.xz: kernel/net/core/failover.ko.zst
kernel/net/core/failover.ko.zst:
kernel/sound/snd.ko:
updates/dkms/own.ko:
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko
kernel/fs/jbd2/jbd2.ko:
`,
		"usr/lib/modules/6.1/modules.alias", "alias virtio:d1v* virtio_net\nalias snd* snd\n",
		"usr/lib/modules/6.1/kernel/drivers/net/virtio_net.ko.xz", xzip(t, "virtio"),
		"usr/lib/modules/6.1/kernel/net/core/failover.ko.zst", compressed(t, "failover", func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
		"usr/lib/modules/6.1/kernel/sound/snd.ko", "sound",
		"usr/lib/modules/6.1/updates/dkms/own.ko", "own",
		"usr/lib/modules/6.1/kernel/fs/jbd2/jbd2.ko", "jbd2",
	)
}

func build(t *testing.T, src segment.Source, o stageone.Options) *stageone.Result {
	t.Helper()
	ks, err := stageone.FindKernels(src)
	if err != nil {
		t.Fatal(err)
	}
	r, err := stageone.Build(context.Background(), src, ks[0], o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestStageOneHoldsAgentTrustAndTheModulesNeeded(t *testing.T) {
	o := stageone.Options{Agent: []byte("agent"), Trust: []byte("trust")}
	r := build(t, small(t), o)
	plain, _, err := segment.Decompress(bytes.NewReader(r.Archive))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for rd := segment.NewReader(plain); ; {
		e, err := rd.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(rd)
		if err != nil {
			t.Fatal(err)
		}
		got[e.Path] = string(b)
	}
	m := ".wulf/modules/6.1/"
	for p, want := range map[string]string{
		"init": "agent", ".wulf/trust.json": "trust", m + "kernel/drivers/net/virtio_net.ko": "virtio", m + "kernel/net/core/failover.ko": "failover",
		m + "updates/dkms/own.ko": "own", m + "kernel/fs/jbd2/jbd2.ko": "jbd2", m + "modules.alias": "alias virtio:d1v* virtio_net\n",
	} {
		if got[p] != want {
			t.Errorf("%s holds %q, want %q", p, got[p], want)
		}
	}
	if _, ok := got[m+"kernel/sound/snd.ko"]; ok {
		t.Error("it plays music")
	}
	for p := range got {
		if p != "init" && p != ".wulf" && !strings.HasPrefix(p, ".wulf/") {
			t.Errorf("%s would come over a file of the image", p)
		}
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "ext4") {
		t.Errorf("warnings %q", r.Warnings)
	}
	if again := build(t, small(t), o); !bytes.Equal(again.Archive, r.Archive) {
		t.Error("built twice, it differs")
	}
}

func TestWithoutAnAgentThereIsNoStageOne(t *testing.T) {
	src := small(t)
	ks, _ := stageone.FindKernels(src)
	if _, err := stageone.Build(context.Background(), src, ks[0], stageone.Options{}); !errors.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
}

// TestRealKernel looks at a distribution's root file system, if one is named: WULF_TEST_ROOT=DIRECTORY.
func TestRealKernel(t *testing.T) {
	dir := os.Getenv("WULF_TEST_ROOT")
	if dir == "" {
		t.Skip("WULF_TEST_ROOT names no directory")
	}
	src, err := segment.OpenDir(dir, segment.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	r := build(t, src, stageone.Options{Agent: make([]byte, 10<<20), Trust: []byte("{}")})
	t.Logf("%d bytes, %d modules, %d firmware files, warnings %q", len(r.Archive), r.Modules, r.Firmware, r.Warnings)
	if r.Modules < 50 {
		t.Errorf("only %d modules", r.Modules)
	}
}

package stageone_test

import (
	"archive/tar"
	"bytes"
	"context"
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
		"usr/lib/modules/6.1/kernel/drivers/net/virtio_net.ko.xz", xzip(t, module("virtio")),
		"usr/lib/modules/6.1/kernel/net/core/failover.ko.zst", compressed(t, module("failover"), func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
		"usr/lib/modules/6.1/kernel/sound/snd.ko", module("sound"),
		"usr/lib/modules/6.1/updates/dkms/own.ko", module("own"),
		"usr/lib/modules/6.1/kernel/fs/jbd2/jbd2.ko", module("jbd2"),
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
		"init": "agent", ".wulf/trust.json": "trust", m + "kernel/drivers/net/virtio_net.ko": module("virtio"), m + "kernel/net/core/failover.ko": module("failover"),
		m + "updates/dkms/own.ko": module("own"), m + "kernel/fs/jbd2/jbd2.ko": module("jbd2"), m + "modules.alias": "alias virtio:d1v* virtio_net\n",
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

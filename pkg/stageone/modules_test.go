package stageone_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/stageone"
)

// tool runs a compressor of this machine.
func tool(t *testing.T, in string, command ...string) string {
	t.Helper()
	if _, err := exec.LookPath(command[0]); err != nil {
		t.Skipf("there is no %s", command[0])
	}
	c := exec.Command(command[0], command[1:]...)
	c.Stdin = strings.NewReader(in)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%q: %v", command, err)
	}
	return string(out)
}

// largeModule is larger than the dictionaries that kernel builds give xz.
func largeModule() string {
	text := make([]byte, 100<<10)
	dice := rand.New(rand.NewPCG(1, 2))
	for i := range text {
		text[i] = byte(dice.Uint32() & 0x0f0f >> 4)
	}
	return module("license=GPL", "firmware=a.bin") + strings.Repeat(string(text), 12)
}

func TestModulesAsDistributionsCompressThem(t *testing.T) {
	for name, tc := range map[string]struct {
		suffix  string
		command []string
	}{
		"not at all":              {"", []string{"cat"}},
		"Linux, gzip":             {".gz", []string{"gzip", "-n"}},
		"Alpine":                  {".gz", []string{"gzip", "-9"}},
		"Linux since 5.14, xz":    {".xz", []string{"xz", "--check=crc32", "--lzma2=dict=1MiB"}},
		"Linux until 5.13, xz":    {".xz", []string{"xz", "--lzma2=dict=2MiB"}},
		"Debian, Red Hat":         {".xz", []string{"xz"}},
		"several blocks":          {".xz", []string{"xz", "-T2", "--block-size=1MiB", "--check=crc32"}},
		"the largest dictionary":  {".xz", []string{"xz", "-9e"}},
		"without a checksum":      {".xz", []string{"xz", "--check=none"}},
		"Linux, zstd":             {".zst", []string{"zstd", "-T0", "-q"}},
		"Ubuntu":                  {".zst", []string{"zstd", "-19", "-q"}},
		"as small as zstd can":    {".zst", []string{"zstd", "--ultra", "-22", "--long=27", "-q"}},
		"zstd without a checksum": {".zst", []string{"zstd", "--no-check", "-q"}},
	} {
		t.Run(name, func(t *testing.T) {
			want := largeModule()
			file := "kernel/drivers/net/ethernet/a.ko" + tc.suffix
			r := build(t, image(t, "boot/vmlinuz-6.1", bzImage(), "lib/modules/6.1/modules.dep", file+":\n", "lib/modules/6.1/"+file, tool(t, want, tc.command...)),
				stageone.Options{Agent: []byte("agent")})
			if got := archive(t, r.Archive)[".wulf/modules/6.1/kernel/drivers/net/ethernet/a.ko"]; got == nil || got.body != want {
				t.Errorf("the module is not what it was")
			}
		})
	}
}

// No distribution packs modules with xz's filters for machine code: the kernel's own reader for modules must have them
// built in, and kmod's need not.
func TestAModuleThatCannotBeUnpackedIsNamed(t *testing.T) {
	file := "kernel/drivers/net/ethernet/a.ko.xz"
	src := image(t, "boot/vmlinuz-6.1", bzImage(), "lib/modules/6.1/modules.dep", file+":\n",
		"lib/modules/6.1/"+file, tool(t, largeModule(), "xz", "--check=crc32", "--x86", "--lzma2=dict=1MiB"))
	ks, err := stageone.FindKernels(src)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stageone.Build(context.Background(), src, ks[0], stageone.Options{Agent: []byte("agent")}); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "a.ko.xz") {
		t.Errorf("got %v", err)
	}
}

// undepped is an image in which nobody ran depmod.
func undepped(t *testing.T, more ...string) []string {
	m := "lib/modules/6.1/"
	return append([]string{"boot/vmlinuz-6.1", bzImage("6.1"),
		m + "kernel/drivers/net/virtio_net.ko.xz", xzip(t, module("depends=net-failover,virtio", "alias=virtio:d00000001v*", "softdep=pre: hash")),
		m + "kernel/drivers/net/net_failover.ko", module("depends=failover"),
		m + "kernel/net/core/failover.ko", module("depends="),
		m + "kernel/crypto/hash.ko.gz", gz(t, module("license=GPL")),
		m + "kernel/sound/snd.ko", module("depends=soundcore", "alias=snd*"),
		m + "kernel/sound/soundcore.ko", module(),
		m + "modules.order", "kernel/sound/snd.ko\n",
		m + "modules.builtin", "kernel/drivers/virtio/virtio.ko\nkernel/fs/ext4/ext4.ko\n",
	}, more...)
}

func TestWithoutDepmodTheDriversAreFoundAllTheSame(t *testing.T) {
	r := build(t, image(t, undepped(t)...), stageone.Options{Agent: []byte("agent"), Modules: []string{"ext4"}})
	got := archive(t, r.Archive)
	m := ".wulf/modules/6.1/"
	if names := slices.Sorted(maps.Keys(got)); slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, "sound") }) || r.Modules != 4 {
		t.Errorf("%d modules in %q", r.Modules, names)
	}
	for _, line := range []string{"kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko\n", "kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko\n"} {
		if !strings.Contains(got[m+"modules.dep"].body, line) {
			t.Errorf("modules.dep is %q, want %q in it", got[m+"modules.dep"].body, line)
		}
	}
	if a, s := got[m+"modules.alias"].body, got[m+"modules.softdep"].body; a != "alias virtio:d00000001v* virtio_net\n" || s != "softdep virtio_net pre: hash\n" {
		t.Errorf("aliases %q, soft dependencies %q", a, s)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "depmod") {
		t.Errorf("warnings %q", r.Warnings)
	}
}

func TestOfTwoDriversTheOneThatTheSiteInstalledIsTaken(t *testing.T) {
	m := "lib/modules/6.1/"
	r := build(t, image(t, undepped(t, m+"updates/dkms/virtio_net.ko.gz", gz(t, module("version=own"))+"", "lib/modules/6.0/extra/k.ko", module("k"),
		m+"weak-updates/k.ko", "->/lib/modules/6.0/extra/k.ko", m+"weak-updates/gone.ko", "->/lib/modules/5.0/extra/gone.ko")...), stageone.Options{Agent: []byte("agent")})
	got := archive(t, r.Archive)
	if got[".wulf/"+m[4:]+"updates/dkms/virtio_net.ko"] == nil || got[".wulf/"+m[4:]+"kernel/drivers/net/virtio_net.ko"] != nil {
		t.Errorf("got %q", slices.Sorted(maps.Keys(got)))
	}
	if e := got[".wulf/"+m[4:]+"weak-updates/k.ko"]; e == nil || e.body != module("k") {
		t.Errorf("the driver behind a link: %v", e)
	}
}

func TestAKernelWithoutModulesIsWarnedOf(t *testing.T) {
	r := build(t, image(t, "boot/vmlinuz-6.1", bzImage("6.1"), "lib/modules/6.1/modules.order", ""), stageone.Options{Agent: []byte("agent")})
	if r.Modules != 0 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "no drivers") {
		t.Errorf("%d modules, warnings %q", r.Modules, r.Warnings)
	}
	r = build(t, image(t, "boot/vmlinuz-6.1", bzImage("6.1")), stageone.Options{Agent: []byte("agent")})
	if len(r.Warnings) != 0 {
		t.Errorf("a kernel that has all built in: warnings %q", r.Warnings)
	}
}

func TestModulesThatThereAreNotAreWarnedOf(t *testing.T) {
	src := image(t, "boot/vmlinuz-6.1", bzImage("6.1"), "lib/modules/6.1/modules.dep", "kernel/fs/ext4/ext4.ko:\n", "lib/modules/6.1/kernel/fs/ext4/ext4.ko", module(),
		"lib/modules/6.1/modules.builtin", "kernel/drivers/net/virtio-net.ko\n")
	r := build(t, src, stageone.Options{Agent: []byte("agent"), Modules: []string{"ext4", "virtio_net", "zfs"}})
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "no module zfs") {
		t.Errorf("warnings %q", r.Warnings)
	}
}

func TestBuiltByManyAtOnceItIsTheSame(t *testing.T) {
	files := undepped(t)
	for i := range 12 {
		name := string(rune('a'+i%26)) + strings.Repeat("x", i)
		files = append(files, "lib/modules/6.1/kernel/drivers/net/ethernet/"+name+".ko.xz", xzip(t, module("firmware="+name)), "lib/firmware/"+name, name)
	}
	first := build(t, image(t, files...), stageone.Options{Agent: []byte("agent")})
	for range 3 {
		if r := build(t, image(t, files...), stageone.Options{Agent: []byte("agent")}); !bytes.Equal(r.Archive, first.Archive) {
			t.Fatal("built again, it differs")
		}
	}
}

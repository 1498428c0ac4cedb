package stageone_test

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/segment"
	"github.com/wulfmesh/wulfmesh/pkg/stageone"
)

// module is the least that has a section .modinfo.
func module(info ...string) string {
	const names = "\x00.modinfo\x00.shstrtab\x00"
	data := strings.Join(info, "\x00") + "\x00"
	head := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2}
	copy(head.Ident[:], "\x7fELF\x02\x01\x01")
	head.Shoff = uint64(64 + len(data) + len(names))
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, head)
	b.WriteString(data + names)
	binary.Write(&b, binary.LittleEndian, []elf.Section64{{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(data))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + len(data)), Size: uint64(len(names))}})
	return b.String()
}

// archive lists what is in a stage one, hard links with the inode that they share.
func archive(t *testing.T, b []byte) map[string]*entry {
	t.Helper()
	plain, _, err := segment.Decompress(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*entry)
	for r := segment.NewReader(plain); ; {
		e, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all[e.Path] = &entry{e, string(body)}
	}
}

type entry struct {
	*segment.Entry
	body string
}

func withFirmware(t *testing.T, more ...string) segment.Source {
	return image(t, append([]string{
		"lib", "->usr/lib",
		"boot/vmlinuz-6.1", bzImage(),
		"usr/lib/modules/6.1/modules.dep", "kernel/drivers/net/ethernet/a/a.ko:\nkernel/drivers/net/ethernet/b.ko.xz: kernel/drivers/net/ethernet/a/a.ko\n",
		"usr/lib/modules/6.1/kernel/drivers/net/ethernet/a/a.ko", module("license=GPL", "firmware=a/one.bin", "firmware=a/two.bin", "firmware=../../../etc/shadow", "firmware=none.bin"),
		"usr/lib/modules/6.1/kernel/drivers/net/ethernet/b.ko.xz", xzip(t, module("firmware=b.bin", "firmware=a/one.bin", "firmware=big.bin")),
		"etc/shadow", "secret",
	}, more...)...)
}

func TestFirmwareThatModulesNameComesAlong(t *testing.T) {
	src := withFirmware(t,
		"usr/lib/firmware/a/one.bin", "->two.bin", "usr/lib/firmware/a/two.bin", "two",
		"usr/lib/firmware/b.bin.xz", "as the distribution packed it",
		"usr/lib/firmware/updates/6.1/b.bin", "newer", "usr/lib/firmware/unwanted.bin", "unwanted")
	r := build(t, src, stageone.Options{Agent: []byte("agent")})
	got := archive(t, r.Archive)
	f := ".wulf/firmware/"
	for p, want := range map[string]string{f + "b.bin": "newer", f + "a/one.bin": "two"} {
		if got[p] == nil || got[p].body != want {
			t.Errorf("%s: got %v, want %q", p, got[p], want)
		}
	}
	if one, two := got[f+"a/one.bin"], got[f+"a/two.bin"]; two == nil || one.Group == 0 || one.Group != two.Group || two.body != "" {
		t.Errorf("two names of one file are %v and %v, want hard links", one, two)
	}
	if len(r.Warnings) > 0 || r.Firmware != 3 {
		t.Errorf("%d firmware files, warnings %q", r.Firmware, r.Warnings)
	}
	for p, e := range got {
		if p != "init" && p != ".wulf" && !strings.HasPrefix(p, ".wulf/") || strings.Contains(e.body, "secret") {
			t.Errorf("%s is in stage one: %q", p, e.body)
		}
	}
	src = withFirmware(t, "usr/lib/firmware/b.bin.xz", "as the distribution packed it")
	if e := archive(t, build(t, src, stageone.Options{Agent: []byte("agent")}).Archive)[f+"b.bin.xz"]; e == nil || e.body != "as the distribution packed it" {
		t.Errorf("packed firmware: got %v", e)
	}
}

func TestFirmwareThatIsTooLargeIsLeftOutWithAWarning(t *testing.T) {
	src := withFirmware(t, "usr/lib/firmware/big.bin", strings.Repeat("x", 49<<20), "usr/lib/firmware/b.bin", "small")
	r := build(t, src, stageone.Options{Agent: []byte("agent")})
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "big.bin") || r.Firmware != 1 {
		t.Errorf("%d firmware files, warnings %q", r.Firmware, r.Warnings)
	}
}

func TestDependenciesNameOnlyWhatIsThere(t *testing.T) {
	src := image(t, "boot/vmlinuz-6.1", bzImage(),
		"lib/modules/6.1/modules.dep", "kernel/drivers/net/ethernet/a.ko.zst:\nkernel/drivers/net/ethernet/gone.ko:\n../../../../etc/passwd.ko:\nmodules.alias:\n",
		"lib/modules/6.1/kernel/drivers/net/ethernet/a.ko.zst", module("license=GPL"), // the name is wrong, the module is not
		"etc/passwd.ko", "root:")
	r := build(t, src, stageone.Options{Agent: []byte("agent")})
	got := archive(t, r.Archive)
	if e := got[".wulf/modules/6.1/modules.dep"]; e == nil || e.body != "kernel/drivers/net/ethernet/a.ko:\n" {
		t.Errorf("modules.dep: %v", e)
	}
	for p := range got {
		if strings.Contains(p, "passwd") {
			t.Errorf("%s is in stage one", p)
		}
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "gone.ko") {
		t.Errorf("warnings %q", r.Warnings)
	}
}

func TestModulesAskedForComeAlong(t *testing.T) {
	src := small(t)
	r := build(t, src, stageone.Options{Agent: []byte("agent"), Modules: []string{"snd"}})
	if archive(t, r.Archive)[".wulf/modules/6.1/kernel/sound/snd.ko"] == nil {
		t.Error("the module is missing")
	}
}

func TestDriversOfTheSiteComeAlongUnlessTheyAreHuge(t *testing.T) {
	src := image(t, "boot/vmlinuz-6.1", bzImage(), "lib/modules/6.1/modules.dep", "updates/dkms/nic.ko:\nextra/nvidia.ko:\n",
		"lib/modules/6.1/updates/dkms/nic.ko", module("nic"), "lib/modules/6.1/extra/nvidia.ko", strings.Repeat("x", 9<<20))
	r := build(t, src, stageone.Options{Agent: []byte("agent")})
	got := archive(t, r.Archive)
	if got[".wulf/modules/6.1/updates/dkms/nic.ko"] == nil || got[".wulf/modules/6.1/extra/nvidia.ko"] != nil || len(r.Warnings) != 1 {
		t.Errorf("%d modules, warnings %q", r.Modules, r.Warnings)
	}
}

func TestAModuleThatIsNoneIsNamed(t *testing.T) {
	src := image(t, "boot/vmlinuz-6.1", bzImage(), "lib/modules/6.1/modules.dep", "kernel/drivers/net/ethernet/a.ko.xz:\n",
		"lib/modules/6.1/kernel/drivers/net/ethernet/a.ko.xz", "no xz at all")
	ks, err := stageone.FindKernels(src)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stageone.Build(context.Background(), src, ks[0], stageone.Options{Agent: []byte("agent")}); err == nil || !strings.Contains(err.Error(), "a.ko.xz") {
		t.Errorf("got %v", err)
	}
}

package stageone_test

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/stageone"
)

// bzImage is the least that has the header of an x86 kernel. Its version is where the header points, if there is one.
func bzImage(version ...string) string {
	b := make([]byte, 0x4000)
	copy(b, "MZ")
	copy(b[0x202:], "HdrS")
	if len(version) > 0 {
		binary.LittleEndian.PutUint16(b[0x20e:], 0x3000)
		copy(b[0x3200:], version[0]+" (builder@host) #1 SMP\x00")
	}
	return string(b)
}

// arm64Image has its version where the kernel keeps what it says first, somewhere behind.
func arm64Image(version ...string) string {
	b := make([]byte, 600<<10)
	copy(b, "MZ")
	copy(b[56:], "ARM\x64")
	if len(version) > 0 {
		copy(b[300<<10:], "Linux version %s\x00")
		copy(b[512<<10:], "Linux version "+version[0]+" (builder@host) (gcc) #1 SMP\n\x00")
	}
	return string(b)
}

func efiProgram(machine uint16) string {
	b := make([]byte, 256)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[60:], 128)
	copy(b[128:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[132:], machine)
	return string(b)
}

// zboot is an EFI program that carries a compressed Image, as Fedora has for arm64.
func zboot(payload string) string {
	b := []byte(efiProgram(0xaa64))
	copy(b[4:], "zimg")
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)))
	binary.LittleEndian.PutUint32(b[12:], uint32(len(payload)))
	return string(b) + payload + "what follows it"
}

func gz(t *testing.T, s string) string {
	return compressed(t, s, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
}

func zst(t *testing.T, s string) string {
	return compressed(t, s, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
}

// modulesOf is the least of a directory of modules.
func modulesOf(version string) []string {
	return []string{"usr/lib/modules/" + version + "/modules.dep", ""}
}

func TestKernelsOfEveryDistribution(t *testing.T) {
	usr := []string{"lib", "->usr/lib"}
	tree := func(parts ...[]string) []string { return slices.Concat(append(parts, usr)...) }
	for name, tc := range map[string]struct {
		files []string
		want  string // VERSION PATH ARCH MODULES, one a line, in order
	}{
		"Debian": {tree(modulesOf("6.1.0-18-amd64"), modulesOf("6.1.0-9-amd64"), []string{
			"boot/vmlinuz-6.1.0-9-amd64", bzImage("6.1.0-9-amd64"), "boot/vmlinuz-6.1.0-18-amd64", bzImage("6.1.0-18-amd64"),
			"boot/config-6.1.0-18-amd64", "x", "boot/System.map-6.1.0-18-amd64", "x", "boot/initrd.img-6.1.0-18-amd64", "x",
			"vmlinuz", "->boot/vmlinuz-6.1.0-18-amd64", "vmlinuz.old", "->boot/vmlinuz-6.1.0-9-amd64"}),
			`6.1.0-18-amd64 boot/vmlinuz-6.1.0-18-amd64 amd64 usr/lib/modules/6.1.0-18-amd64
			 6.1.0-9-amd64 boot/vmlinuz-6.1.0-9-amd64 amd64 usr/lib/modules/6.1.0-9-amd64`},
		"Debian, several flavours": {tree(modulesOf("6.12.48+deb13-amd64"), modulesOf("6.12.48+deb13-cloud-amd64"), modulesOf("6.12.48+deb13-rt-amd64"), []string{
			"boot/vmlinuz-6.12.48+deb13-rt-amd64", bzImage("6.12.48+deb13-rt-amd64"), "boot/vmlinuz-6.12.48+deb13-cloud-amd64", bzImage("6.12.48+deb13-cloud-amd64"),
			"boot/vmlinuz-6.12.48+deb13-amd64", bzImage("6.12.48+deb13-amd64")}),
			`6.12.48+deb13-amd64 boot/vmlinuz-6.12.48+deb13-amd64 amd64 usr/lib/modules/6.12.48+deb13-amd64
			 6.12.48+deb13-cloud-amd64 boot/vmlinuz-6.12.48+deb13-cloud-amd64 amd64 usr/lib/modules/6.12.48+deb13-cloud-amd64
			 6.12.48+deb13-rt-amd64 boot/vmlinuz-6.12.48+deb13-rt-amd64 amd64 usr/lib/modules/6.12.48+deb13-rt-amd64`},
		"Ubuntu": {tree(modulesOf("5.15.0-105-generic"), modulesOf("5.15.0-91-generic"), modulesOf("6.8.0-31-generic"), []string{
			"boot/vmlinuz-5.15.0-105-generic", bzImage("5.15.0-105-generic"), "boot/vmlinuz-5.15.0-91-generic", bzImage("5.15.0-91-generic"),
			"boot/vmlinuz-6.8.0-31-generic", bzImage("6.8.0-31-generic"), "boot/vmlinuz", "->vmlinuz-6.8.0-31-generic", "boot/vmlinuz.old", "->vmlinuz-5.15.0-105-generic"}),
			`6.8.0-31-generic boot/vmlinuz-6.8.0-31-generic amd64 usr/lib/modules/6.8.0-31-generic
			 5.15.0-105-generic boot/vmlinuz-5.15.0-105-generic amd64 usr/lib/modules/5.15.0-105-generic
			 5.15.0-91-generic boot/vmlinuz-5.15.0-91-generic amd64 usr/lib/modules/5.15.0-91-generic`},
		"Ubuntu for arm64": {tree(modulesOf("6.8.0-31-generic"), []string{"boot/vmlinuz-6.8.0-31-generic", gz(t, arm64Image("6.8.0-31-generic"))}),
			`6.8.0-31-generic boot/vmlinuz-6.8.0-31-generic arm64 usr/lib/modules/6.8.0-31-generic`},
		"EL 9": {tree(modulesOf("5.14.0-427.el9.x86_64"), modulesOf("5.14.0-427.13.1.el9_4.x86_64"), modulesOf("5.14.0-427.13.1.el9_4.x86_64+debug"), []string{
			"usr/lib/modules/5.14.0-427.el9.x86_64/vmlinuz", bzImage("5.14.0-427.el9.x86_64"), "boot/vmlinuz-5.14.0-427.el9.x86_64", bzImage("5.14.0-427.el9.x86_64"),
			"usr/lib/modules/5.14.0-427.13.1.el9_4.x86_64/vmlinuz", bzImage("5.14.0-427.13.1.el9_4.x86_64"),
			"usr/lib/modules/5.14.0-427.13.1.el9_4.x86_64+debug/vmlinuz", bzImage("5.14.0-427.13.1.el9_4.x86_64+debug"),
			"boot/vmlinuz-0-rescue-0123456789abcdef", bzImage("5.14.0-427.el9.x86_64"), "boot/.vmlinuz-5.14.0-427.el9.x86_64.hmac", "x",
			"usr/lib/modules/5.14.0-427.el9.x86_64/symvers.gz", "x"}),
			`5.14.0-427.13.1.el9_4.x86_64 usr/lib/modules/5.14.0-427.13.1.el9_4.x86_64/vmlinuz amd64 usr/lib/modules/5.14.0-427.13.1.el9_4.x86_64
			 5.14.0-427.el9.x86_64 boot/vmlinuz-5.14.0-427.el9.x86_64 amd64 usr/lib/modules/5.14.0-427.el9.x86_64
			 5.14.0-427.13.1.el9_4.x86_64+debug usr/lib/modules/5.14.0-427.13.1.el9_4.x86_64+debug/vmlinuz amd64 usr/lib/modules/5.14.0-427.13.1.el9_4.x86_64+debug`},
		"EL 9 for arm64, with pages of 64k": {tree(modulesOf("5.14.0-427.el9.aarch64"), modulesOf("5.14.0-427.el9.aarch64+64k"), modulesOf("5.14.0-427.el9.aarch64+64k-debug"), []string{
			"usr/lib/modules/5.14.0-427.el9.aarch64+64k-debug/vmlinuz", gz(t, arm64Image("5.14.0-427.el9.aarch64+64k-debug")),
			"usr/lib/modules/5.14.0-427.el9.aarch64+64k/vmlinuz", gz(t, arm64Image("5.14.0-427.el9.aarch64+64k")),
			"usr/lib/modules/5.14.0-427.el9.aarch64/vmlinuz", gz(t, arm64Image("5.14.0-427.el9.aarch64"))}),
			`5.14.0-427.el9.aarch64 usr/lib/modules/5.14.0-427.el9.aarch64/vmlinuz arm64 usr/lib/modules/5.14.0-427.el9.aarch64
			 5.14.0-427.el9.aarch64+64k usr/lib/modules/5.14.0-427.el9.aarch64+64k/vmlinuz arm64 usr/lib/modules/5.14.0-427.el9.aarch64+64k
			 5.14.0-427.el9.aarch64+64k-debug usr/lib/modules/5.14.0-427.el9.aarch64+64k-debug/vmlinuz arm64 usr/lib/modules/5.14.0-427.el9.aarch64+64k-debug`},
		"EL 7, lib is no link": {[]string{"lib/modules/3.10.0-1160.el7.x86_64/modules.dep", "", "boot/vmlinuz-3.10.0-1160.el7.x86_64", bzImage("3.10.0-1160.el7.x86_64")},
			`3.10.0-1160.el7.x86_64 boot/vmlinuz-3.10.0-1160.el7.x86_64 amd64 lib/modules/3.10.0-1160.el7.x86_64`},
		"a rescue kernel whose own one is gone": {tree(modulesOf("5.14.0-70.el9.x86_64"), modulesOf("5.14.0-427.el9.x86_64"), []string{
			"boot/vmlinuz-0-rescue-0123456789abcdef", bzImage("5.14.0-427.el9.x86_64"), "boot/vmlinuz-5.14.0-70.el9.x86_64", bzImage("5.14.0-70.el9.x86_64")}),
			`5.14.0-70.el9.x86_64 boot/vmlinuz-5.14.0-70.el9.x86_64 amd64 usr/lib/modules/5.14.0-70.el9.x86_64
			 5.14.0-427.el9.x86_64 boot/vmlinuz-0-rescue-0123456789abcdef amd64 usr/lib/modules/5.14.0-427.el9.x86_64`},
		"Fedora": {tree(modulesOf("6.8.5-301.fc40.x86_64"), []string{"usr/lib/modules/6.8.5-301.fc40.x86_64/vmlinuz", bzImage("6.8.5-301.fc40.x86_64")}),
			`6.8.5-301.fc40.x86_64 usr/lib/modules/6.8.5-301.fc40.x86_64/vmlinuz amd64 usr/lib/modules/6.8.5-301.fc40.x86_64`},
		"Fedora for arm64, zboot": {tree(modulesOf("6.8.5-301.fc40.aarch64"), []string{"usr/lib/modules/6.8.5-301.fc40.aarch64/vmlinuz", zboot(zst(t, arm64Image("6.8.5-301.fc40.aarch64")))}),
			`6.8.5-301.fc40.aarch64 usr/lib/modules/6.8.5-301.fc40.aarch64/vmlinuz arm64 usr/lib/modules/6.8.5-301.fc40.aarch64`},
		"SUSE": {tree(modulesOf("6.4.0-150600.21-default"), modulesOf("6.4.0-150600.23.17-default"), []string{
			"usr/lib/modules/6.4.0-150600.21-default/vmlinuz", bzImage("6.4.0-150600.21-default"), "boot/vmlinuz-6.4.0-150600.21-default", "->../usr/lib/modules/6.4.0-150600.21-default/vmlinuz",
			"usr/lib/modules/6.4.0-150600.23.17-default/vmlinuz", bzImage("6.4.0-150600.23.17-default"), "boot/vmlinuz-6.4.0-150600.23.17-default", "->../usr/lib/modules/6.4.0-150600.23.17-default/vmlinuz",
			"boot/vmlinuz", "->vmlinuz-6.4.0-150600.23.17-default", "boot/.vmlinuz-6.4.0-150600.21-default.hmac", "x", "usr/lib/modules/6.4.0-150600.21-default/vmlinux.xz", "x"}),
			`6.4.0-150600.23.17-default usr/lib/modules/6.4.0-150600.23.17-default/vmlinuz amd64 usr/lib/modules/6.4.0-150600.23.17-default
			 6.4.0-150600.21-default usr/lib/modules/6.4.0-150600.21-default/vmlinuz amd64 usr/lib/modules/6.4.0-150600.21-default`},
		"SUSE with its debugging kernel": {tree(modulesOf("6.4.0-150600.21-default"), modulesOf("6.4.0-150600.23-debug"), []string{
			"boot/vmlinuz-6.4.0-150600.21-default", bzImage("6.4.0-150600.21-default"), "boot/vmlinuz-6.4.0-150600.23-debug", bzImage("6.4.0-150600.23-debug")}),
			`6.4.0-150600.21-default boot/vmlinuz-6.4.0-150600.21-default amd64 usr/lib/modules/6.4.0-150600.21-default
			 6.4.0-150600.23-debug boot/vmlinuz-6.4.0-150600.23-debug amd64 usr/lib/modules/6.4.0-150600.23-debug`},
		"SUSE for arm64": {tree(modulesOf("6.4.0-150600.21-default"), []string{"boot/Image-6.4.0-150600.21-default", "->../usr/lib/modules/6.4.0-150600.21-default/Image",
			"usr/lib/modules/6.4.0-150600.21-default/Image", arm64Image("6.4.0-150600.21-default"), "boot/Image", "->Image-6.4.0-150600.21-default"}),
			`6.4.0-150600.21-default usr/lib/modules/6.4.0-150600.21-default/Image arm64 usr/lib/modules/6.4.0-150600.21-default`},
		"Alpine": {[]string{"lib/modules/6.6.30-0-lts/modules.dep", "", "lib/modules/6.6.30-0-virt/modules.dep", "", "boot/vmlinuz-lts", bzImage("6.6.30-0-lts"), "boot/vmlinuz-virt", bzImage("6.6.30-0-virt")},
			`6.6.30-0-lts boot/vmlinuz-lts amd64 lib/modules/6.6.30-0-lts
			 6.6.30-0-virt boot/vmlinuz-virt amd64 lib/modules/6.6.30-0-virt`},
		"Arch": {tree(modulesOf("6.9.1-arch1-2"), modulesOf("6.6.31-1-lts"), modulesOf("6.9.1-zen1-1-zen"), []string{
			"boot/vmlinuz-linux", bzImage("6.9.1-arch1-2"), "boot/vmlinuz-linux-lts", bzImage("6.6.31-1-lts"), "boot/vmlinuz-linux-zen", bzImage("6.9.1-zen1-1-zen"),
			"usr/lib/modules/6.9.1-arch1-2/vmlinuz", bzImage("6.9.1-arch1-2"), "usr/lib/modules/6.9.1-arch1-2/pkgbase", "linux\n",
			"usr/lib/modules/6.6.31-1-lts/vmlinuz", bzImage("6.6.31-1-lts"), "usr/lib/modules/6.6.31-1-lts/pkgbase", "linux-lts\n"}),
			`6.9.1-arch1-2 boot/vmlinuz-linux amd64 usr/lib/modules/6.9.1-arch1-2
			 6.9.1-zen1-1-zen boot/vmlinuz-linux-zen amd64 usr/lib/modules/6.9.1-zen1-1-zen
			 6.6.31-1-lts boot/vmlinuz-linux-lts amd64 usr/lib/modules/6.6.31-1-lts`},
		"Arch, from a container: nothing was copied to boot": {tree(modulesOf("6.9.1-arch1-2"), []string{"usr/lib/modules/6.9.1-arch1-2/vmlinuz", bzImage("6.9.1-arch1-2")}),
			`6.9.1-arch1-2 usr/lib/modules/6.9.1-arch1-2/vmlinuz amd64 usr/lib/modules/6.9.1-arch1-2`},
		"Arch, a kernel that does not say what it is": {tree(modulesOf("6.9.1-arch1-2"), modulesOf("6.6.31-1-lts"), []string{
			"boot/vmlinuz-linux-lts", bzImage(), "usr/lib/modules/6.9.1-arch1-2/pkgbase", "linux\n", "usr/lib/modules/6.6.31-1-lts/pkgbase", "linux-lts\n"}),
			`6.6.31-1-lts boot/vmlinuz-linux-lts amd64 usr/lib/modules/6.6.31-1-lts`},
		"Raspberry Pi OS": {tree(modulesOf("6.6.31+rpt-rpi-v8"), modulesOf("6.6.31+rpt-rpi-2712"), []string{
			"boot/firmware/kernel8.img", gz(t, arm64Image("6.6.31+rpt-rpi-v8")), "boot/firmware/kernel_2712.img", gz(t, arm64Image("6.6.31+rpt-rpi-2712")),
			"boot/vmlinuz-6.6.31+rpt-rpi-v8", gz(t, arm64Image("6.6.31+rpt-rpi-v8"))}),
			`6.6.31+rpt-rpi-v8 boot/vmlinuz-6.6.31+rpt-rpi-v8 arm64 usr/lib/modules/6.6.31+rpt-rpi-v8
			 6.6.31+rpt-rpi-2712 boot/firmware/kernel_2712.img arm64 usr/lib/modules/6.6.31+rpt-rpi-2712`},
		"older Raspberry Pi OS": {[]string{"lib/modules/5.15.61-v8+/modules.dep", "", "boot/kernel8.img", gz(t, arm64Image("5.15.61-v8+"))},
			`5.15.61-v8+ boot/kernel8.img arm64 lib/modules/5.15.61-v8+`},
		"gz beside its modules":    {tree(modulesOf("6.6.30"), []string{"usr/lib/modules/6.6.30/vmlinuz.gz", gz(t, arm64Image())}), `6.6.30 usr/lib/modules/6.6.30/vmlinuz.gz arm64 usr/lib/modules/6.6.30`},
		"everything built in":      {[]string{"boot/Image-6.6", arm64Image(), "boot/vmlinuz-6.5", gz(t, arm64Image())}, "6.6 boot/Image-6.6 arm64 \n 6.5 boot/vmlinuz-6.5 arm64"},
		"the kernel of make":       {[]string{"lib/modules/6.6.1-own/modules.dep", "", "boot/vmlinuz", bzImage("6.6.1-own")}, `6.6.1-own boot/vmlinuz amd64 lib/modules/6.6.1-own`},
		"zboot that nobody reads":  {[]string{"boot/vmlinuz-6.7", zboot("LZ4?")}, `6.7 boot/vmlinuz-6.7 arm64`},
		"a kernel with its backup": {[]string{"boot/vmlinuz-6.7.old", bzImage("6.7"), "boot/vmlinuz-6.7", bzImage("6.7")}, `6.7 boot/vmlinuz-6.7 amd64`},
	} {
		ks, err := stageone.FindKernels(image(t, tc.files...))
		var got, want []string
		for _, k := range ks {
			got = append(got, strings.TrimSpace(strings.Join([]string{k.Version, k.Path, k.Arch, k.Modules}, " ")))
			if len(k.Warnings) > 0 {
				t.Errorf("%s: warned of %q", name, k.Warnings)
			}
		}
		for line := range strings.Lines(tc.want) {
			want = append(want, strings.TrimSpace(line))
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
}

func TestAVersionInAnotherPartOfThePathIsNotTheKernels(t *testing.T) { // as in Warewulf, issue 2199
	ks, err := stageone.FindKernels(image(t, "lib/modules/5.14.0-427.el9/modules.dep", "", "lib/modules/5.14.0-427.el9/vmlinuz", bzImage(),
		"boot/vmlinuz-el9.4.0-5.14.0-70.el9", bzImage("5.14.0-70.el9")))
	if err != nil || len(ks) != 2 || ks[0].Version != "5.14.0-427.el9" || ks[1].Version != "5.14.0-70.el9" {
		t.Errorf("got %v, %v", ks, err)
	}
}

func TestKernelsThatAreNotWhatTheyAreCalled(t *testing.T) {
	mod := func(v string) []string { return []string{"lib/modules/" + v + "/modules.dep", ""} }
	for name, tc := range map[string]struct {
		files []string
		want  string // VERSION MODULES
		warn  string // "" for nothing
	}{
		"another version in boot": {slices.Concat(mod("6.1.0-9"), mod("6.1.0-18"), []string{"boot/vmlinuz-6.1.0-18", bzImage("6.1.0-9")}), "6.1.0-9 lib/modules/6.1.0-9", "is not what it is called, but version 6.1.0-9"},
		"its modules are gone":    {slices.Concat(mod("6.1.0-18"), []string{"boot/vmlinuz-6.1.0-18", bzImage("6.1.0-9")}), "6.1.0-9 lib/modules/6.1.0-18", "modules beside it are for 6.1.0-18"},
		"beside foreign modules":  {slices.Concat(mod("6.1.0-18"), []string{"lib/modules/6.1.0-18/vmlinuz", bzImage("6.1.0-9")}), "6.1.0-9 lib/modules/6.1.0-18", "modules beside it are for 6.1.0-18"},
		"no modules":              {slices.Concat(mod("6.1.0-18"), []string{"boot/vmlinuz-6.1.0-9", bzImage("6.1.0-9")}), "6.1.0-9 ", "there is no /lib/modules/6.1.0-9"},
		"the right one of two":    {slices.Concat(mod("6.1.0-9"), []string{"boot/vmlinuz-5.9", bzImage("6.1.0-9"), "boot/vmlinuz-6.1.0-9", bzImage("6.1.0-9")}), "6.1.0-9 lib/modules/6.1.0-9", ""},
		"a version that is none":  {slices.Concat(mod("6.1"), []string{"boot/vmlinuz-6.1", bzImage("../../etc/passwd")}), "6.1 lib/modules/6.1", ""},
		"a file that is none":     {slices.Concat(mod("6.1"), []string{"boot/vmlinuz-6.1", bzImage("6.1"), "boot/vmlinuz-6.2", "#!/bin/sh\n"}), "6.1 lib/modules/6.1", "/boot/vmlinuz-6.2 is no kernel"},
		"a signature beside":      {slices.Concat(mod("6.1"), []string{"boot/vmlinuz-6.1", bzImage("6.1"), "boot/vmlinuz-6.1.sig", "sig"}), "6.1 lib/modules/6.1", ""},
	} {
		ks, err := stageone.FindKernels(image(t, tc.files...))
		if err != nil || len(ks) != 1 {
			t.Errorf("%s: %v, %v", name, ks, err)
			continue
		}
		if got := ks[0].Version + " " + ks[0].Modules; got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
		if got := strings.Join(ks[0].Warnings, "; "); !strings.Contains(got, tc.warn) || tc.warn == "" && got != "" {
			t.Errorf("%s: warned of %q, want %q", name, got, tc.warn)
		}
	}
}

func TestImagesWithoutAKernelAreRefused(t *testing.T) {
	for name, files := range map[string][]string{
		"nothing":             {"etc/passwd", "x"},
		"empty kernel":        {"boot/vmlinuz-1", ""},
		"dangling link":       {"boot/vmlinuz-1", "->../../../nowhere"},
		"circle of links":     {"boot/vmlinuz-1", "->vmlinuz-2", "boot/vmlinuz-2", "->vmlinuz-1"},
		"not a kernel":        {"boot/vmlinuz-1", "#!/bin/sh\n"},
		"sparc kernel":        {"boot/vmlinuz-1", efiProgram(0x1234)},
		"half a gzip stream":  {"boot/vmlinuz-1", gz(t, arm64Image("1"))[:100]},
		"a name that is none": {"boot/vmlinuz-a b", bzImage("1")},
		"no version anywhere": {"boot/vmlinuz", bzImage()},
	} {
		_, err := stageone.FindKernels(image(t, files...))
		if !errors.Is(err, fault.Invalid) || !(strings.Contains(err.Error(), "kernel") || strings.Contains(err.Error(), "version")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestImagesWithVeryManyKernelsAreRefused(t *testing.T) {
	var files []string
	for i := range 65 {
		files = append(files, fmt.Sprintf("boot/vmlinuz-6.%d", i), bzImage())
	}
	if _, err := stageone.FindKernels(image(t, files...)); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "65") {
		t.Errorf("got %v", err)
	}
}

func TestVersionsAreComparedByTheirNumbers(t *testing.T) {
	sorted := []string{"4.19", "5.4", "5.14.0-9", "5.14.0-70.el9", "5.14.0-427.el9.aarch64+64k", "5.14.0-427.el9.aarch64", "5.14.0-427.13.1.el9_4.aarch64",
		"6.1", "6.1.0-9", "6.1.0-18-rt-amd64", "6.1.0-18-cloud-amd64", "6.1.0-18-amd64", "6.6.31+rpt-rpi-2712", "6.6.31+rpt-rpi-v8",
		"6.8.5-301.fc39", "6.8.5-301.fc40", "6.9.0-rc6", "6.9.0-rc7", "6.9.0", "6.9.1-zen1-1-zen", "6.9.1-arch1-1", "6.9.1-arch1-2", "6.10-amd64", "6.10.5-amd64", "18446744073709551616.1"}
	for i := range sorted {
		for j := range sorted {
			got := stageone.CompareVersions(sorted[i], sorted[j])
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("CompareVersions(%s, %s) = %d", sorted[i], sorted[j], got)
			}
		}
	}
}

func TestAKernelIsReadAsALoaderTakesIt(t *testing.T) {
	for name, tc := range map[string]struct{ file, want string }{
		"x86":              {bzImage("6.1"), bzImage("6.1")},
		"arm64":            {arm64Image("6.1"), arm64Image("6.1")},
		"arm64 compressed": {gz(t, arm64Image("6.1")), arm64Image("6.1")},
		"arm64 zboot":      {zboot(zst(t, arm64Image("6.1"))), zboot(zst(t, arm64Image("6.1")))},
	} {
		src := image(t, "boot/vmlinuz-6.1", tc.file)
		ks, err := stageone.FindKernels(src)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := stageone.ReadKernel(src, ks[0]); err != nil || string(got) != tc.want {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(tc.want))
		}
	}
}

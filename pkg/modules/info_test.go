package modules_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/modules"
)

// module is the least that has a section .modinfo.
func module(info ...string) []byte {
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
	return b.Bytes()
}

func TestWhatAModuleSaysOfItself(t *testing.T) {
	got := modules.ReadInfo(module("license=GPL", "firmware=a/one.bin", "alias=pci:v00001AF4d*sv*sd*bc*sc*i*", "depends=virtio-ring,virtio,", "",
		"softdep=pre: crc32c sha256 post: late", "softdep=post: later", "firmware=a/two.bin", "alias=net-pf-10", "depends", "=", "intree=Y"))
	want := modules.Info{
		Depends: []string{"virtio-ring", "virtio"}, Before: []string{"crc32c", "sha256"},
		Aliases: []string{"pci:v00001AF4d*sv*sd*bc*sc*i*", "net-pf-10"}, Firmware: []string{"a/one.bin", "a/two.bin"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := modules.ReadInfo([]byte("#!/bin/sh")); !reflect.DeepEqual(got, modules.Info{}) {
		t.Errorf("a script says %+v", got)
	}
}

func TestTheIndexThatNobodyMade(t *testing.T) {
	x := modules.Make([]modules.File{
		{Path: "updates/virtio_net.ko", Info: modules.Info{Depends: []string{"net-failover", "virtio_ring", "virtio"}, Aliases: []string{"virtio:d00000001v*", "a b"}}},
		{Path: "kernel/drivers/net/virtio_net.ko.xz", Info: modules.Info{Aliases: []string{"virtio:d00000009v*"}}},
		{Path: "kernel/drivers/net/net_failover.ko.xz", Info: modules.Info{Depends: []string{"failover"}, Before: []string{"crc32c"}}},
		{Path: "kernel/net/core/failover.ko.xz"},
		{Path: "kernel/drivers/virtio/virtio-ring.ko.xz"},
		{Path: "kernel/crypto/crc32c.ko.xz"},
	})
	for alias, want := range map[string]string{"virtio:d00000001v1": "crc32c failover net_failover virtio_ring virtio_net", "virtio:d00000009v1": "", "a b": ""} {
		if got := names(x.ForAlias(alias)); len(x.ForAlias(alias)) != len(strings.Fields(want)) || !inOrder(got, "crc32c net_failover virtio_net", want) || !inOrder(got, "failover net_failover", want) {
			t.Errorf("%s: %q, want %q or another order that works", alias, got, want)
		}
	}
	out := map[string]*bytes.Buffer{}
	if err := x.Write(func(string) bool { return true }, func(f string) string { return f }, func(name string) io.Writer { out[name] = &bytes.Buffer{}; return out[name] }); err != nil {
		t.Fatal(err)
	}
	y, err := modules.Load(dir(out["modules.dep"].String(), out["modules.alias"].String(), out["modules.softdep"].String()))
	if err != nil || !reflect.DeepEqual(x, y) {
		t.Errorf("written and read: got %+v, %v; want %+v", y, err, x)
	}
}

// inOrder tells whether the words that are in want come in their order in got.
func inOrder(got, words, want string) bool {
	if want == "" {
		return got == ""
	}
	at := -1
	for _, w := range strings.Fields(words) {
		i := strings.Index(" "+got+" ", " "+w+" ")
		if i <= at {
			return false
		}
		at = i
	}
	return true
}

func TestFilesOfModulesByTheirNames(t *testing.T) {
	for name, want := range map[string]bool{"a.ko": true, "kernel/a.ko.gz": true, "a.ko.xz": true, "a.ko.zst": true, "a.ko.bz2": false, "a.xz": false, "modules.dep": false, "a.ko.debug": false} {
		if got := modules.IsFile(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzReadInfo(f *testing.F) {
	if self, err := os.ReadFile("/proc/self/exe"); err == nil {
		f.Add(bytes.Clone(self[:4096]))
	}
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Add(module("depends=a,b", "softdep=pre: c", "alias=x*", "firmware=f"))
	f.Fuzz(func(t *testing.T, b []byte) {
		x := modules.Make([]modules.File{{Path: "kernel/a.ko", Info: modules.ReadInfo(b)}})
		x.Write(func(string) bool { return true }, func(f string) string { return f }, func(string) io.Writer { return io.Discard })
	})
}

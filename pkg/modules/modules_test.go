package modules_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/wulfmesh/wulfmesh/pkg/modules"
)

func dir(dep, alias, softdep string) fs.FS {
	return fstest.MapFS{"modules.dep": {Data: []byte(dep)}, "modules.alias": {Data: []byte(alias)}, "modules.softdep": {Data: []byte(softdep)}}
}

const (
	dep = `kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz kernel/drivers/virtio/virtio-ring.ko.xz
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/net/core/failover.ko.xz:
kernel/drivers/virtio/virtio-ring.ko.xz:
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/arch/x86/crypto/crc32c-intel.ko.xz:
kernel/lib/a.ko:
kernel/lib/b.ko:
kernel/drivers/hv/hv_vmbus.ko:
`
	alias = `# Aliases extracted from modules themselves.
alias virtio:d00000001v* virtio_net
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias fs-ext4 ext4
alias acpi*:VMBUS:* hv_vmbus
alias *odd a
alias cpu:type:x86,ven*fam*mod*:feature:*0094* crc32c_intel
`
	softdep = `softdep ext4 pre: crc32c-intel
softdep a pre: b
softdep b pre: a post: ext4
`
)

func load(t *testing.T) *modules.Index {
	x, err := modules.Load(dir(dep, alias, softdep))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func names(files []string) string {
	var all []string
	for _, f := range files {
		all = append(all, modules.Name(f))
	}
	return strings.Join(all, " ")
}

func TestOrderOfLoading(t *testing.T) {
	x := load(t)
	for alias, want := range map[string]string{
		"virtio:d00000001v00001AF4": "virtio_ring failover net_failover virtio_net",
		"virtio:d00000002v00001AF4": "",
		"fs-ext4":                   "crc32c_intel jbd2 ext4",
		"cpu:type:x86,ven0000fam0006mod0055:feature:,0093,0094,0095": "crc32c_intel",
		"acpi:VMBUS:PNP0C0A:": "hv_vmbus", // the bus itself may hold a wildcard
		"acpi:PNP0C0A:":       "",
		"something odd":       "b a",
		"usb:v1":              "",
	} {
		if got := names(x.ForAlias(alias)); got != want {
			t.Errorf("%s: %q, want %q", alias, got, want)
		}
	}
	if got := names(x.ForName("net-failover")); got != "failover net_failover" {
		t.Errorf("by name: %q", got)
	}
	if got := x.ForName("none"); got != nil {
		t.Errorf("a module that is not there: %v", got)
	}
	if got := names(x.ForName("a")); got != "b a" && got != "a b" {
		t.Errorf("soft dependencies in a circle: %q", got)
	}
}

func TestSoftDependenciesInCirclesTakeNoTimeThatExplodes(t *testing.T) {
	var dep, softdep strings.Builder
	for i := range 200 {
		fmt.Fprintf(&dep, "kernel/m%d.ko:\n", i)
		fmt.Fprintf(&softdep, "softdep m%d pre:", i)
		for j := range 200 {
			fmt.Fprintf(&softdep, " m%d", j)
		}
		softdep.WriteByte('\n')
	}
	x, err := modules.Load(dir(dep.String(), "", softdep.String()))
	if err != nil {
		t.Fatal(err)
	}
	if got := x.ForName("m7"); len(got) != 200 {
		t.Errorf("got %d files, want each of 200 once", len(got))
	}
}

func TestLinesThatSayNothingAreSkipped(t *testing.T) {
	x, err := modules.Load(dir("kernel/a.ko:\nkernel/b.ko\n\n:\n../c.ko:\n/d.ko:\n", "alias x\nalias\n", "softdep:\nsoftdep\nsoftdep a:\n"))
	if err != nil || len(x.ForName("a")) != 1 || len(x.Files()) != 1 {
		t.Errorf("got %v, %v", x, err)
	}
}

func TestNoModules(t *testing.T) {
	if _, err := modules.Load(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsWrittenForSomeReadsAlike(t *testing.T) {
	x := load(t)
	out := map[string]*bytes.Buffer{}
	keep := x.ForAlias("virtio:d00000001v00001AF4")
	err := x.Write(func(f string) bool { return slices.Contains(keep, f) }, func(f string) string { return strings.TrimSuffix(f, ".xz") },
		func(name string) io.Writer { out[name] = &bytes.Buffer{}; return out[name] })
	if err != nil {
		t.Fatal(err)
	}
	y, err := modules.Load(dir(out["modules.dep"].String(), out["modules.alias"].String(), out["modules.softdep"].String()))
	if err != nil {
		t.Fatal(err)
	}
	got := y.ForAlias("virtio:d00000001v00001AF4")
	if names(got) != names(keep) || !strings.HasSuffix(got[0], ".ko") || len(y.Files()) != 4 || y.ForName("ext4") != nil {
		t.Errorf("got %v of %v", got, y.Files())
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(dep, alias, softdep, "virtio:d00000001v00001AF4")
	f.Fuzz(func(t *testing.T, dep, alias, softdep, device string) {
		if x, err := modules.Load(dir(dep, alias, softdep)); err == nil {
			x.ForAlias(device)
			x.Write(func(string) bool { return true }, func(f string) string { return f }, func(string) io.Writer { return io.Discard })
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("pci:v00001AF4d*sv*sd*bc*sc*i*", "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00")
	f.Add("[!a-f]*\\\\[?", "x/y\\[z")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		x, err := modules.Load(dir("kernel/m.ko:\n", "alias "+pattern+" m\n", ""))
		if err != nil {
			return
		}
		got := len(x.ForAlias(name)) > 0
		// path.Match knows the same patterns, but for slashes, runes of several bytes, and what it calls malformed.
		if strings.ContainsAny(pattern+name, "/!\\- \t\n\r\v\f#") || !ascii(pattern+name) || pattern == "" {
			return
		}
		if want, err := path.Match(pattern, name); err == nil && got != want {
			t.Errorf("%q matches %q: got %v, want %v", pattern, name, got, want)
		}
	})
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

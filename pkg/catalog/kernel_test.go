package catalog_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestTheKernelOfANode(t *testing.T) {
	debian := []chunk.Kernel{
		{Version: "6.12.0-1-amd64", Path: "boot/vmlinuz-6.12.0-1-amd64"}, {Version: "6.1.0-18-amd64", Path: "boot/vmlinuz-6.1.0-18-amd64"},
		{Version: "6.1.0-9-amd64", Path: "boot/vmlinuz-6.1.0-9-amd64"}, {Version: "6.1.0-9-cloud-amd64", Path: "usr/lib/modules/6.1.0-9-cloud-amd64/vmlinuz"},
	}
	el := []chunk.Kernel{
		{Version: "5.14.0-427.13.1.el9_4.aarch64", Path: "usr/lib/modules/5.14.0-427.13.1.el9_4.aarch64/vmlinuz"},
		{Version: "5.14.0-427.el9.aarch64+64k", Path: "boot/vmlinuz-5.14.0-427.el9.aarch64+64k"}, {Version: "5.14.0-427.el9.aarch64", Path: "boot/vmlinuz-5.14.0-427.el9.aarch64"},
	}
	arch := []chunk.Kernel{{Version: "6.9.1-arch1-2", Path: "boot/vmlinuz-linux"}, {Version: "6.6.31-1-lts", Path: "boot/vmlinuz-linux-lts"}}
	for _, tc := range []struct {
		have  []chunk.Kernel
		asked string
		want  string // "" for none
	}{
		{debian, "", "6.12.0-1-amd64"},
		{debian, "6", "6.12.0-1-amd64"},
		{debian, "6.1", "6.1.0-18-amd64"}, // not 6.12
		{debian, "6.1.0-9", "6.1.0-9-amd64"},
		{debian, "6.1.0-9-c", "6.1.0-9-cloud-amd64"},
		{debian, "6.1.0-1", ""},
		{debian, "1.0", ""},
		{debian, "6.5", ""},
		{debian, "/boot/vmlinuz-6.1.0-9-amd64", "6.1.0-9-amd64"},
		{debian, "boot//vmlinuz-6.1.0-9-amd64", "6.1.0-9-amd64"},
		{debian, "/lib/modules/6.1.0-9-amd64/vmlinuz", "6.1.0-9-amd64"}, // its other place
		{debian, "/lib/modules/6.1.0-9-cloud-amd64/vmlinuz", "6.1.0-9-cloud-amd64"},
		{debian, "/boot/vmlinuz-6.1", ""},
		{debian, "/vmlinuz", ""},
		{debian, "../boot/vmlinuz-6.1.0-9-amd64", "6.1.0-9-amd64"}, // above the root is the root
		{el, "5.14.0-427", "5.14.0-427.13.1.el9_4.aarch64"},
		{el, "5.14.0-427.el9", "5.14.0-427.el9.aarch64+64k"},     // the first that fits
		{el, "5.14.0-427.el9.aarch64", "5.14.0-427.el9.aarch64"}, // but what it says, if there is such a one
		{el, "/boot/vmlinuz-5.14.0-427.el9.aarch64", "5.14.0-427.el9.aarch64"},
		{el, "/usr/lib/modules/5.14.0-427.13.1.el9_4.aarch64/vmlinuz", "5.14.0-427.13.1.el9_4.aarch64"},
		{arch, "/boot/vmlinuz-linux-lts", "6.6.31-1-lts"},
		{arch, "/boot/vmlinuz-linux", "6.9.1-arch1-2"},
		{nil, "", ""},
	} {
		r := catalog.Resolved{Version: catalog.ImageVersion{Kernels: tc.have}}
		r.Settings.Image, r.Settings.Kernel.Version = new("x"), &tc.asked
		got, at, err := r.Kernel()
		if tc.want == "" && !errors.Is(err, fault.NotFound) || tc.want != "" && (err != nil || got != tc.want || tc.have[at].Version != tc.want) {
			t.Errorf("%q: %q at %d, %v; want %q", tc.asked, got, at, err, tc.want)
		}
	}
}

func TestWhoAsksForAKernelThatIsNotThereIsToldWhichAre(t *testing.T) {
	r := catalog.Resolved{}
	r.Settings.Image, r.Settings.Kernel.Version = new("debian:stable"), new("6.5")
	for i := range 10 {
		r.Version.Kernels = append(r.Version.Kernels, chunk.Kernel{Version: fmt.Sprintf("6.1.0-%d", 20-i)})
	}
	_, _, err := r.Kernel()
	if err == nil || err.Error() != "image debian:stable has no kernel 6.5" ||
		fault.Fix(err) != "it has 6.1.0-20, 6.1.0-19, 6.1.0-18, 6.1.0-17, 6.1.0-16, 6.1.0-15, 6.1.0-14, 6.1.0-13 and 2 more" {
		t.Errorf("got %v; %s", err, fault.Fix(err))
	}
}

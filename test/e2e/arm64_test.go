//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
	"github.com/wulfmesh/wulfmesh/pkg/stageone"
	"github.com/wulfmesh/wulfmesh/test/rig"
)

// A controller of any architecture builds the stage one of an image for arm64, of which it can run nothing, and an arm64
// machine gets to its network with it: the kernel takes the archive, the agent runs, the drivers fit and load.
func TestStageOneForArm64(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	root, err := rig.Repository()
	if err != nil {
		t.Fatal(err)
	}
	agent, err := os.ReadFile(filepath.Join(root, "bin/wulf-agent-arm64"))
	if err != nil {
		t.Fatalf("%v: run make build", err)
	}
	dir, err := rig.Script(ctx, "make-kernel-arm64")
	if err != nil {
		t.Skipf("\n!!! SKIPPED: %v", err)
	}
	src, err := segment.OpenDir(dir, segment.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	kernels, err := stageone.FindKernels(src)
	if err != nil || len(kernels) != 1 || kernels[0].Arch != "arm64" || kernels[0].Warnings != nil {
		t.Fatalf("got %+v, %v", kernels, err)
	}
	built, err := stageone.Build(ctx, src, kernels[0], stageone.Options{Agent: agent, Trust: []byte("{}")})
	if err != nil || len(built.Warnings) > 0 || built.Modules < 100 {
		t.Fatalf("%+v, %v", built, err)
	}
	body, err := stageone.ReadKernel(src, kernels[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d modules, %d bytes", kernels[0].Version, built.Modules, len(built.Archive))

	qemu, err := exec.LookPath("qemu-system-aarch64")
	if err != nil {
		t.Skip("\n!!! SKIPPED, the boot: there is no qemu-system-aarch64; run scripts/install-deps arm64 as root")
	}
	kernel, initrd := filepath.Join(t.TempDir(), "kernel"), filepath.Join(t.TempDir(), "initrd")
	for path, b := range map[string][]byte{kernel: body, initrd: built.Archive} {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	host, err := newRig(t).Host("h1")
	if err != nil {
		t.Fatal(err)
	}
	// QEMU's own network answers DHCP; there is no relay, and this cluster has no certificate.
	machine, err := host.Start("a1", qemu, "-M", "virt", "-cpu", "max,pauth-impdef=on", "-m", "1024", "-smp", "2", "-nographic", "-no-reboot",
		"-nic", "user,restrict=on,model=virtio-net-pci,mac=52:54:00:77:00:0a", "-kernel", kernel, "-initrd", initrd,
		"-append", "console=ttyAMA0 quiet wulf.node=a1 wulf.relays=10.0.2.2:4481 wulf.image="+chunk.Of(nil).String()+" BOOTIF=01-52-54-00-77-00-0a")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"stage one node=a1", "network is up device=eth0 address=10.0.2.15"} {
		line, err := machine.Output().Wait(ctx, want)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("after %.1f s: %s", line.After.Seconds(), line.Text)
	}
}

package scenario

import (
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/test/firmware"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// faultsOfMachines are what is wrong with the machine itself, or with what it runs.
func faultsOfMachines() []injected {
	flawed := func(flaws firmware.Flaws) func(*faulty) {
		return func(f *faulty) {
			f.node.Break(flaws)
			f.on()
		}
	}
	single := mesh.Size{Controllers: 1, Relays: 1, Nodes: 2}
	const disk = "/dev/disk/by-id/none"
	return []injected{
		{
			name: "firmware of an unknown architecture", stage: boot.StageLoader, size: only, cause: []string{"there is no boot program for its architecture"}, fix: []string{"set the firmware of x1"},
			inject: func(f *faulty) { f.claimed(f.m.AddMachine(boot.FirmwareOther)).PowerOn() },
		},
		{
			name: "arm64 without its boot program", stage: boot.StageLoader, size: only, cause: []string{"snponly-arm64.efi is not installed"}, fix: []string{"install iPXE"},
			inject: func(f *faulty) { f.claimed(f.m.AddMachine(boot.FirmwareEFIArm64)).PowerOn() },
		},
		{
			name: "boot program does not run", stage: boot.StageScript, cause: []string{"its boot program was sent and does not run", "Secure Boot"}, fix: []string{"Secure Boot"},
			inject: flawed(withHang(boot.StageLoader)),
		},
		{
			name: "silence after the script", stage: boot.StageKernel, cause: []string{"has its script and did not fetch kernel"}, fix: []string{"console"},
			inject: flawed(withHang(boot.StageScript)),
		},
		{
			name: "kernel panics", stage: boot.StageStageOne, cause: []string{"its agent has not reported", "panicked"}, fix: []string{"console"},
			inject: flawed(withHang(boot.StageKernel)),
		},
		{
			name: "kernel panics and the machine starts over", stage: boot.StageStageOne, cause: []string{"it has started", "times", "never came further than kernel"}, fix: []string{"console"},
			inject: flawed(firmware.Flaws{Resets: boot.StageKernel}),
		},
		{
			name: "machine starts over after its image", stage: boot.StageOverlay, cause: []string{"it has started", "never came further than image"}, fix: []string{"console"},
			inject: flawed(firmware.Flaws{Resets: boot.StageImage}),
		},
		{
			name: "too little memory for the image", stage: boot.StageImage, cause: []string{"the image does not fit: it needs"}, fix: []string{"more memory, or a smaller image"},
			inject: flawed(firmware.Flaws{Memory: 32 << 20}),
		},
		{
			name: "disk for the root missing", stage: boot.StageImage, cause: []string{disk}, fix: []string{"check the name"},
			inject: func(f *faulty) {
				f.set(catalog.Settings{Root: new(disk), Filesystems: map[string]catalog.Filesystem{disk: {Format: new("ext4"), Path: new("/")}}})
				flawed(firmware.Flaws{Disks: true})(f)
			},
		},
		{
			name: "declared disk missing", stage: boot.StageImage, cause: []string{disk}, fix: []string{"check the name"},
			inject: func(f *faulty) {
				f.set(catalog.Settings{Filesystems: map[string]catalog.Filesystem{disk: {Format: new("xfs"), Path: new("/scratch")}}})
				flawed(firmware.Flaws{Disks: true})(f)
			},
		},
		{
			name: "disk that cannot be written", stage: boot.StageImage, cause: []string{"read-only file system"}, fix: []string{"replace the disk"},
			inject: flawed(firmware.Flaws{Breaks: boot.StageStageOne, With: fault.New(fault.Unavailable, "disk /dev/sda: writing its partition table: read-only file system").WithFix("replace the disk, or its cable")}),
		},
		{
			name: "clock of the node years ahead", stage: boot.StageStageOne, cause: []string{"does not accept the certificate of relay", "clock"}, fix: []string{"set the clock of n001"},
			inject: flawed(firmware.Flaws{Clock: 30 * 365 * 24 * time.Hour}),
		},
		{
			name: "clock of the node years behind", cause: fine(),
			inject: flawed(firmware.Flaws{Clock: -20 * 365 * 24 * time.Hour}),
		},
		{
			name: "ticket used by somebody else", stage: boot.StageStageOne, size: single, cause: []string{"has been claimed already"}, fix: []string{"second machine"},
			inject: flawed(firmware.Flaws{Robbed: true}),
		},
		{
			name: "firmware so slow that its ticket is over", stage: boot.StageStageOne, cause: []string{"boot ticket expired"}, fix: []string{"restart n001"}, after: 20 * time.Minute,
			inject: flawed(firmware.Flaws{Pauses: 15 * time.Minute}),
		},
		{
			name: "image without an init", stage: boot.StageInit, cause: []string{"the image has no init at /sbin/init"}, fix: []string{"--init PATH"},
			inject: flawed(firmware.Flaws{Breaks: boot.StageOverlay, With: fault.New(fault.NotFound, "the image has no init at /sbin/init").WithFix("put an init there in the image, or set another: wulf node set NODE --init PATH")}),
		},
		{
			name: "init ends at once", stage: boot.StageInit, cause: []string{"its init did not start the agent's service"}, fix: []string{"console", "wulf-agent"},
			inject: flawed(withHang(boot.StageOverlay)),
		},
		{
			name: "init never reaches its target", stage: boot.StageUp, cause: []string{"has not reached its target"}, fix: []string{"systemctl list-jobs"},
			inject: flawed(withHang(boot.StageInit)),
		},
		{
			name: "switched off in the middle of a boot", stage: boot.StageOverlay, cause: []string{"lost its power"}, fix: []string{"restart it"},
			inject: flawed(withHang(boot.StageImage)),
		},
		{
			name: "agent silent on a running node", stage: boot.StageUp, cause: []string{"its agent has not been heard for"}, fix: []string{"console of n001", "restart it"},
			inject: flawed(firmware.Flaws{Mute: true}),
		},
		{
			name: "switched off while it runs", stage: boot.StageUp, cause: []string{"its agent has not been heard for", "the node is off"}, fix: []string{"restart it"},
			inject: func(f *faulty) {
				f.on()
				f.m.WaitUp(5*time.Minute, f.node)
				time.Sleep(time.Minute)
				f.node.PowerOff()
			},
		},
	}
}

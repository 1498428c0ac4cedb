package overlay_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// booted is a machine in namespaces of its own, whose kernel has unpacked an initramfs: it says what its programs do.
func booted(t *testing.T, root string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root makes machines of namespaces")
	}
	busybox, unshare := program(t, "busybox"), program(t, "unshare")
	for _, dir := range []string{"bin", "sbin", "etc", "warewulf/wwinit.d"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{
		"bin/busybox": string(text), "warewulf/wwinit.d/10-disks": "#!/bin/sh\necho the disks are ready\n", "warewulf/wwinit.d/20-notes": "no program",
		"warewulf/init.d/99-last": "#!/bin/sh\necho the last script of $WWHOSTNAME$(stat -f -c %T /)\n",
		"sbin/init":               "#!/bin/sh\necho init is process $$ in $(stat -f -c %T /), with $(cat /etc/kept)\n", "etc/kept": "all files",
	} {
		mode := os.FileMode(0o755)
		if strings.HasPrefix(content, "no ") {
			mode = 0o644
		}
		if err := os.WriteFile(filepath.Join(root, file), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, applet := range strings.Fields("sh mkdir mount sleep sort tar cat switch_root ip sed grep stat awk modprobe mknod") {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), unshare, "--mount", "--pid", "--net", "--uts", "--fork", "--kill-child", "--propagation", "private",
		"sh", "-ec", `place=$1; mkdir "$place"; mount -t tmpfs machine "$place"; cp -a "$0/." "$place/"; cd "$place"; mount --move . /; exec chroot . /init`, root, filepath.Join(t.TempDir(), "machine"))
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "unshare failed") {
		t.Skipf("no machine can be made of namespaces here: %s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func TestAMachineBootedTheWarewulfWayGetsToItsInit(t *testing.T) {
	for root, is := range map[string]string{"tmpfs": "tmpfs", "ramfs": "ramfs", "initramfs": "tmpfs"} { // this initramfs is one
		t.Run(root, func(t *testing.T) {
			place := laid(t, "other.far.example", "wwinit")
			config := filepath.Join(place, "warewulf/config")
			text, err := os.ReadFile(config)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(config, []byte(strings.ReplaceAll(string(text), "WWROOT='tmpfs'", "WWROOT='"+root+"'")), 0o600); err != nil {
				t.Fatal(err)
			}
			said := booted(t, place)
			at := -1
			for _, s := range []string{"the disks are ready", "the last script of", "init is process 1 in " + is + ", with all files"} {
				next := strings.Index(said, s)
				if next <= at {
					t.Fatalf("no %q where it should be in\n%s", s, said)
				}
				at = next
			}
			if strings.Contains(said, "failed") || strings.Contains(said, "cannot") {
				t.Errorf("it says\n%s", said)
			}
		})
	}
}

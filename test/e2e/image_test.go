//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The distribution's image is fit for many nodes at once: nothing in it belongs to one machine, nobody can log in with a
// password, and it has a kernel with its modules.
func TestSystemImageBelongsToNoMachine(t *testing.T) {
	root := script(t, t.Context(), "make-image")
	if data, err := os.ReadFile(filepath.Join(root, "etc/machine-id")); err != nil || len(data) != 0 {
		t.Errorf("machine-id: %q, %v; want an empty file", data, err)
	}
	shadow, err := os.ReadFile(filepath.Join(root, "etc/shadow"))
	if err != nil || !regexp.MustCompile(`(?m)^root:[*!]`).Match(shadow) {
		t.Errorf("root's password is not locked: %v", err)
	}
	for pattern, want := range map[string]int{
		"etc/ssh/ssh_host_*": 0, "etc/hostname": 0, "boot/initrd*": 0, // each node has its own, or needs none
		"boot/vmlinuz-*": 1, "usr/lib/modules/*/modules.dep": 1, "usr/sbin/sshd": 1, "usr/lib/systemd/systemd": 1,
	} {
		got, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(got) != want {
			t.Errorf("%s: %d files, want %d (%v)", pattern, len(got), want, err)
		}
	}
}

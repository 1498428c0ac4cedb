package workdir

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTheKernelOfThisMachineIsNotSet(t *testing.T) {
	s := image(t)
	for _, file := range []string{"/proc/sys/vm/swappiness", "/proc/sysrq-trigger", "/sys/kernel/mm/x"} {
		if _, err := os.Stat(filepath.Dir(file)); err != nil {
			continue
		}
		out, code := run(t, s, "sh", "-c", "cat /proc/sys/vm/swappiness >/dev/null && : >"+file)
		if code == 0 || !strings.Contains(out, "Read-only") && !strings.Contains(out, "nonexistent") {
			t.Errorf("%s: exit %d: %s", file, code, out)
		}
	}
	if out, code := run(t, s, "stat", "-c", "%a", "/run/lock", "/tmp", "/dev/shm"); out != "1777\n1777\n1777\n" {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestPackagesDoNotStartTheirServices(t *testing.T) {
	s := image(t)
	s.Binds[0].Target = "/machine" // a /usr of its own, with the machine's programs
	sbin := filepath.Join(s.Root, "usr/sbin")
	if err := os.Mkdir(sbin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"bin", "lib", "lib64"} {
		if err := os.Symlink("../machine/"+dir, filepath.Join(s.Root, "usr", dir)); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct{ file, want string }{
		{"other", "127\n"},       // none of Debian
		{"invoke-rc.d", "101\n"}, // Debian
		{"policy-rc.d", "0\n"},   // with a policy of its own
	} {
		if err := os.WriteFile(filepath.Join(sbin, step.file), []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		before := tree(t, s.Root)
		if out, _ := run(t, s, "sh", "-c", "/usr/sbin/policy-rc.d; echo $?"); !strings.HasSuffix(out, step.want) {
			t.Errorf("with %s: %s", step.file, out)
		}
		if after := tree(t, s.Root); !slices.Equal(before, after) {
			t.Errorf("with %s the image changed to\n%s", step.file, strings.Join(after, "\n"))
		}
	}
}

package workdir

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// guard keeps what scripts of packages do as a matter of course from doing it to this machine, whose kernel and network are
// there inside, too. It is against accidents: the command is root.
func guard() error {
	// procps sets what the image's sysctl.d says, of the kernel that runs.
	for _, name := range []string{"/proc/sys", "/proc/sysrq-trigger"} {
		err := unix.Mount(name, name, "", unix.MS_BIND, "")
		if errors.Is(err, unix.ENOENT) {
			continue // this kernel has none
		}
		if err == nil {
			const still = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
			err = unix.Mount("", name, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|still, "")
		}
		if err != nil {
			return fault.Wrap(fault.Internal, err, "protecting %s", name)
		}
	}
	// Without systemd, invoke-rc.d would start the services that are installed, on the addresses of this machine. It asks
	// a program first, and 101 is no (invoke-rc.d(8)).
	const copied = "/run/.policy-rc.d"
	if fi, err := os.Lstat("/" + policy); err != nil || !fi.Mode().IsRegular() || fi.Size() > 0 {
		return nil // the image has one of its own, or needs none
	}
	if err := os.WriteFile(copied, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		return err
	}
	if err := unix.Mount(copied, "/"+policy, "", unix.MS_BIND, ""); err != nil {
		return fault.Wrap(fault.Internal, err, "mounting over /%s", policy)
	}
	return nil
}

// policy is the program of Debian that says which services may be started; mountPoints makes it, empty, where there is none.
const policy = "usr/sbin/policy-rc.d"

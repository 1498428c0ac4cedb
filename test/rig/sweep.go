package rig

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lockDir holds one file for each rig, locked for as long as its process lives: the kernel drops the lock however the
// process ends, and a process ID that is used again cannot pass for the old one.
const lockDir = "/run/wulfmesh-rig"

// claim takes the lock of a new rig, after removing what rigs without a living process left behind.
func claim(name string, log *slog.Logger) (*os.File, error) {
	if err := os.MkdirAll(lockDir, 0o755); err != nil {
		return nil, err
	}
	// One at a time: a rig that is being claimed is not yet locked, and would look dead.
	all, err := os.OpenFile(filepath.Join(lockDir, "all"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	defer all.Close()
	if err := syscall.Flock(int(all.Fd()), syscall.LOCK_EX); err != nil {
		return nil, err
	}
	if err := sweep(log); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(lockDir, name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("this process has a rig already: %w", err)
	}
	return f, nil
}

// release gives a rig's name back.
func release(f *os.File) error {
	err := os.Remove(f.Name())
	f.Close()
	return err
}

// sweep removes the namespaces, and kills what still runs in them, of every rig whose lock nobody holds.
func sweep(log *slog.Logger) error {
	locks, err := os.ReadDir(lockDir)
	if err != nil {
		return err
	}
	for _, lock := range locks {
		if lock.Name() == "all" {
			continue
		}
		f, err := os.Open(filepath.Join(lockDir, lock.Name()))
		if err != nil {
			return err
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			f.Close() // its rig lives
			continue
		}
		spaces, err := filepath.Glob("/run/netns/" + lock.Name() + "-*")
		if err != nil {
			return err
		}
		for _, space := range spaces {
			log.Warn("removing what a dead run left behind", "namespace", filepath.Base(space))
			if err := removeSpace(filepath.Base(space)); err != nil {
				return err
			}
		}
		if err := release(f); err != nil {
			return err
		}
	}
	return nil
}

// removeSpace kills the processes of a namespace and removes it: with a process alive the kernel would keep the
// namespace and its interfaces, nameless.
func removeSpace(name string) error {
	out, err := exec.Command("ip", "netns", "pids", name).Output()
	if err != nil {
		return fmt.Errorf("ip netns pids %s: %w", name, err)
	}
	for _, field := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself meanwhile
		}
	}
	return ip("netns del " + name)
}

// Package rig builds a small machine room on one computer, for end-to-end tests and for the demo: network namespaces
// joined by bridges, real processes inside them, and QEMU machines that boot with real firmware.
//
// It needs root, iproute2 and QEMU; [Missing] says what is not there. Everything of one rig carries one name, is gone
// after [Rig.Close], and is swept by the next rig if its own process was killed: processes die with the process
// that made the rig, and namespaces are found by their name and the lock that a living rig holds.
package rig

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// A Rig owns namespaces, processes and machines, and removes them on Close. Its methods may be called concurrently.
type Rig struct {
	name string // wm<pid>: the prefix of everything that is ours
	dir  string
	log  *slog.Logger
	lock *os.File // held for as long as the rig lives: see sweep

	mu        sync.Mutex
	spaces    []string   // network namespaces, in order of their making
	processes []*Process // all that were ever started
	undo      []func() error
}

// New returns an empty rig that writes consoles, logs and firmware variables under dir. It first removes what rigs
// of dead processes left behind.
func New(dir string, log *slog.Logger) (*Rig, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	r := &Rig{name: fmt.Sprintf("wm%d", os.Getpid()), dir: dir, log: log}
	var err error
	if r.lock, err = claim(r.name, log); err != nil {
		return nil, fmt.Errorf("claiming the name %s: %w", r.name, err)
	}
	return r, nil
}

// Dir is the directory that holds the rig's consoles and logs; Close leaves it.
func (r *Rig) Dir() string { return r.dir }

// Close kills every process and machine, then removes the namespaces. It may be called more than once.
func (r *Rig) Close() error {
	r.mu.Lock()
	processes, spaces, undo := r.processes, r.spaces, r.undo
	r.processes, r.spaces, r.undo = nil, nil, nil
	r.mu.Unlock()

	var errs []error
	for _, p := range slices.Backward(processes) {
		p.Kill()
	}
	for _, space := range slices.Backward(spaces) {
		errs = append(errs, removeSpace(space))
	}
	for _, f := range slices.Backward(undo) {
		errs = append(errs, f())
	}
	if r.lock != nil {
		errs = append(errs, release(r.lock))
		r.lock = nil
	}
	return errors.Join(errs...)
}

// space makes a network namespace named after the rig and what it is for, with its loopback up.
func (r *Rig) space(purpose string) (string, error) {
	name := r.name + "-" + purpose
	if err := ip("netns add " + name); err != nil {
		return "", err
	}
	r.mu.Lock()
	r.spaces = append(r.spaces, name)
	r.mu.Unlock()
	return name, ipIn(name, "link set lo up")
}

// file is a path for something of the rig's.
func (r *Rig) file(name string) string { return filepath.Join(r.dir, name) }

// ip runs commands of ip(8) in one process, outside any namespace of ours. The first that fails stops it.
func ip(commands ...string) error { return ipIn("", commands...) }

// ipIn is ip inside a namespace.
func ipIn(space string, commands ...string) error {
	args := []string{"-batch", "-"}
	if space != "" {
		args = append([]string{"-n", space}, args...)
	}
	cmd := exec.CommandContext(context.Background(), "ip", args...)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(commands, "; "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

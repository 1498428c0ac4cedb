package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Repository is the root of the source tree that the working directory is in.
func Repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the working directory is not inside the source tree")
		}
		dir = filepath.Dir(dir)
	}
}

// Script runs one of scripts/, which prints the path of what it made; a thing that was made before comes from the cache.
func Script(ctx context.Context, name string, args ...string) (string, error) {
	root, err := Repository()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "scripts", name), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("scripts/%s: %w\n%s", name, err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// Kernel is the path of the distribution's kernel.
func Kernel(ctx context.Context) (string, error) {
	dir, err := Script(ctx, "make-kernel")
	if err != nil {
		return "", err
	}
	kernels, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return "", fmt.Errorf("%s/boot has %d kernels, not one: %w", dir, len(kernels), err)
	}
	return kernels[0], nil
}

package units_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/units"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// systemctl is a program in its place: it notes how it was called, and fails for units that are called broken.
func systemctl(t *testing.T) (s units.Systemd, told func() string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	program := "#!/bin/sh\necho \"$*\" >> " + log + "\ncase \"$*\" in *broken*) echo 'Job failed.' >&2; exit 1;; *hangs*) exec sleep 3600;; esac\n"
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	return units.Systemd{Command: filepath.Join(dir, "systemctl")}, func() string {
		b, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		os.Remove(log)
		return strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", "; ")
	}
}

func none() error { return nil }

func TestEachUnitIsToldOnceAndSystemdFirst(t *testing.T) {
	s, told := systemctl(t)
	hooks := []overlay.Hook{
		{Path: "etc/chrony/*", Reload: "chrony.service"}, {Path: "etc/slurm/slurm.conf", Restart: "slurmd.service"},
		{Path: "etc/slurm/*", Reload: "slurmd.service"}, {Path: "etc/wulf/*", Restart: "wulf-agent.service"}, {Path: "etc/x", Restart: "y.service"},
	}
	o := units.Owed{}
	o.Add(hooks, []string{"etc/chrony/a", "etc/chrony/b", "etc/hosts", "etc/slurm/slurm.conf", "etc/slurm/topology.conf", "etc/systemd/system/z.service", "etc/wulf/a"})
	saved := -1
	if failed := s.Pay(t.Context(), o, func() error { saved = len(o); return nil }); len(failed) > 0 {
		t.Error(failed)
	}
	if got := told(); got != "daemon-reload; try-reload-or-restart chrony.service; try-restart slurmd.service; --no-block try-restart wulf-agent.service" {
		t.Errorf("told: %s", got)
	}
	if len(o) != 0 || saved != 0 {
		t.Errorf("owed is %v, and before the restart were %d", o, saved)
	}
	s.Pay(t.Context(), o, none)
	if got := told(); got != "" {
		t.Errorf("told again: %s", got)
	}
}

func TestWhatFailsIsTriedAgainAfterAPause(t *testing.T) {
	s, told := systemctl(t)
	o := units.Owed{}
	o.Add([]overlay.Hook{{Path: "a", Restart: "broken.service"}, {Path: "b", Reload: "fine.service"}}, []string{"a", "b"})
	failed := s.Pay(t.Context(), o, none)
	if len(failed) != 1 || failed[0].Error() != "systemctl try-restart broken.service (Job failed.): exit status 1" {
		t.Errorf("failed: %v", failed)
	}
	if got := told(); got != "try-restart broken.service; try-reload-or-restart fine.service" {
		t.Errorf("told: %s", got)
	}
	if failed := s.Pay(t.Context(), o, none); len(failed) > 0 || told() != "" {
		t.Errorf("it was tried again at once: %v", failed)
	}
	last := time.Duration(0)
	for range 10 {
		d := o["broken.service"]
		pause := time.Until(d.Next)
		if pause < last-time.Second || pause > 30*time.Minute {
			t.Errorf("after %d tries it waits for %s, before for %s", d.Tries, pause, last)
		}
		last, d.Next = pause, time.Now().Add(-time.Second)
		o["broken.service"] = d
		s.Pay(t.Context(), o, none)
	}
	// Another change is another chance.
	told()
	o.Add([]overlay.Hook{{Path: "a", Restart: "broken.service"}}, []string{"a"})
	s.Pay(t.Context(), o, none)
	if got := told(); got != "try-restart broken.service" {
		t.Errorf("told: %s", got)
	}
}

func TestAUnitThatHangsIsGivenUp(t *testing.T) {
	s, _ := systemctl(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	o := units.Owed{"hangs.service": {}}
	if failed := s.Pay(ctx, o, none); len(failed) != 1 || !errors.Is(failed[0], context.DeadlineExceeded) || o["hangs.service"].Tries != 1 {
		t.Errorf("failed: %v, owed %v", failed, o)
	}
}

func TestAMissingSystemctlIsAFailure(t *testing.T) {
	o := units.Owed{"a.service": {}}
	failed := units.Systemd{Command: "/nowhere/systemctl"}.Pay(t.Context(), o, none)
	if len(failed) != 1 || len(o) != 1 {
		t.Errorf("failed: %v, owed %v", failed, o)
	}
}

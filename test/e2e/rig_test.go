//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/test/rig"
)

// doomed is the environment variable that makes a copy of this test program build a rig and wait to be killed; its
// value is the directory for the rig.
const doomed = "WULF_E2E_DOOMED"

func liveDoomed(dir string) {
	r, err := rig.New(dir, slog.New(slog.DiscardHandler))
	if err == nil {
		var host *rig.Host
		if host, err = r.Host("h1"); err == nil {
			_, err = host.Start("sleeper", "sleep", "600")
		}
	}
	fmt.Println("ready", err)
	select {}
}

// What a killed run leaves behind, the next run removes: a namespace and the processes in it.
func TestRigSweepsWhatAKilledRunLeft(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), doomed+"="+t.TempDir())
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if strings.TrimSpace(line) != "ready <nil>" {
		t.Fatalf("the doomed run said %q, %v", line, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	space := filepath.Join("/run/netns", fmt.Sprintf("wm%d-h1", cmd.Process.Pid))
	if _, err := os.Stat(space); err != nil {
		t.Fatalf("the doomed run had no namespace: %v", err)
	}
	newRig(t)
	if _, err := os.Stat(space); !os.IsNotExist(err) {
		t.Errorf("%s is still there", space)
	}
}

// Closing a rig ends its processes and removes its namespaces.
func TestRigLeavesNothing(t *testing.T) {
	room := newRoom(t)
	p, err := room.Relays[0].Start("sleeper", "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	if err := room.Close(); err != nil {
		t.Fatal(err)
	}
	if p.Running() {
		t.Error("a process outlived its rig")
	}
	left, err := filepath.Glob(fmt.Sprintf("/run/netns/wm%d-*", os.Getpid()))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Machines in the rack reach relays and nobody else; relays reach controllers.
func TestRackReachesRelaysOnly(t *testing.T) {
	room := newRoom(t)
	machine, err := room.Host("machine")
	if err != nil {
		t.Fatal(err)
	}
	if err := machine.Connect(room.Rack, rig.RackDev, netip.MustParsePrefix("10.77.0.50/24")); err != nil {
		t.Fatal(err)
	}
	// Even a machine that takes a relay for its router gets no further.
	route := machine.Command(t.Context(), "ip", "route", "add", "default", "via", room.Relays[0].Rack.String())
	if out, err := route.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("no busybox to ping with")
	}
	ping := func(from *rig.Host, to string) bool {
		return from.Command(t.Context(), busybox, "ping", "-q", "-c", "1", "-W", "1", to).Run() == nil
	}
	for _, r := range room.Relays {
		if !ping(machine, r.Rack.String()) {
			t.Errorf("a machine does not reach relay %s", r.Name())
		}
	}
	for _, c := range room.Controllers {
		if ping(machine, c.Control.String()) {
			t.Errorf("a machine reaches controller %s", c.Name())
		}
		if !ping(room.Relays[0].Host, c.Control.String()) {
			t.Errorf("a relay does not reach controller %s", c.Name())
		}
	}
}

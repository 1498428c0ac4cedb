package journal_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/journal"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/discover"
)

// asks is what a machine that nobody knows makes a relay say.
func asks(at time.Time, hw catalog.HardwareAddr, stage boot.Stage, f boot.Firmware, facts catalog.Facts) boot.Event {
	return boot.Event{Time: at, Hardware: hw, Stage: stage, Firmware: f, Relay: "r1", Machine: &facts}
}

func TestTheInboxGathersWhatMachinesSay(t *testing.T) {
	const a, b = catalog.HardwareAddr("52:54:00:00:00:0a"), catalog.HardwareAddr("52:54:00:00:00:0b")
	at := time.Now().Add(-time.Hour).UTC()
	later := at.Add(time.Minute)
	script := asks(later, a, boot.StageScript, boot.FirmwareIPXE, catalog.Facts{Serial: "S1"})
	script.Error, script.Address = "no node has the hardware address", "10.1.250.1"
	dhcp := asks(at, a, boot.StageDHCP, boot.FirmwareEFI64, catalog.Facts{Network: "rack", Switch: "sw1", Port: "7", Agent: "10.1.0.250"})
	none := asks(later, b, boot.StageDHCP, boot.FirmwareBIOS, catalog.Facts{Network: "far"})
	none.Error = "it gets no address"
	events := []boot.Event{
		dhcp, script, none, event(0, boot.StageDHCP, ""),
		{Time: at, Hardware: "nonsense", Stage: boot.StageDHCP, Relay: "r1"},
		{Time: at, Hardware: b, Stage: boot.StageUp, Relay: "r1"},
	}
	want := []discover.Machine{
		{Hardware: a, First: at, Last: later, Firmware: "efi-x64", Relay: "r1", Address: "10.1.250.1", Facts: catalog.Facts{Serial: "S1", Network: "rack", Switch: "sw1", Port: "7", Agent: "10.1.0.250"}},
		{Hardware: b, First: later, Last: later, Firmware: "bios", Relay: "r1", Error: "it gets no address", Facts: catalog.Facts{Network: "far"}},
	}
	for _, order := range [][]int{{0, 1, 2, 3, 4, 5}, {5, 4, 3, 2, 1, 0}, {1, 0, 1, 0, 2, 3}} {
		j := open(t, "")
		for _, i := range order {
			j.Record(events[i : i+1])
		}
		got := j.Inbox()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("in the order %v:\n%+v\nwant\n%+v", order, got, want)
		}
	}
}

// A machine that asks for days is known since its first question, also after a restart; one that asks no more is
// forgotten after a week.
func TestTheInboxOutlivesARestart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		run := func(what func(j *journal.Journal)) {
			j := open(t, dir)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- j.Run(ctx) }()
			what(j)
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		run(func(j *journal.Journal) {
			for range 100 {
				j.Record([]boot.Event{asks(time.Now(), "52:54:00:00:00:0a", boot.StageScript, boot.FirmwareIPXE, catalog.Facts{Serial: "S"})})
				time.Sleep(time.Hour)
			}
		})
		run(func(j *journal.Journal) {
			got := j.Inbox()
			if len(got) != 1 || !got[0].First.Equal(began) || got[0].Facts.Serial != "S" {
				t.Errorf("after a restart: %+v, want it since %s", got, began)
			}
			time.Sleep(8 * 24 * time.Hour)
			if got := j.Inbox(); len(got) != 0 {
				t.Errorf("after a week of silence: %+v", got)
			}
		})
	})
	if err := os.WriteFile(filepath.Join(dir, "inbox.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir) // a damaged one costs no more than itself
}

// A flood of invented machines must not push those out that wait on their screens.
func TestAFloodLeavesTheMachinesThatHaveAddresses(t *testing.T) {
	j := open(t, "")
	honest := asks(time.Now().Add(-time.Minute), "52:54:00:00:00:0a", boot.StageScript, boot.FirmwareIPXE, catalog.Facts{})
	honest.Address = "10.1.250.1"
	j.Record([]boot.Event{honest})
	for i := range 30_000 {
		j.Record([]boot.Event{asks(time.Now(), catalog.HardwareAddr(fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255)), boot.StageDHCP, boot.FirmwareBIOS, catalog.Facts{})})
	}
	got := j.Inbox()
	if len(got) > 10_000 || got[0].Hardware != honest.Hardware {
		t.Errorf("%d machines, the first is %s", len(got), got[0].Hardware)
	}
}

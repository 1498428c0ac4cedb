package journal_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/journal"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

var t0 = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const hw = catalog.HardwareAddr("52:54:00:00:00:01")

// event is what relay r1 saw of node n1 after so many seconds.
func event(after int, stage boot.Stage, id string) boot.Event {
	return boot.Event{Time: t0.Add(time.Duration(after) * time.Second), Node: "n1", Hardware: hw, Boot: id, Stage: stage, Relay: "r1"}
}

func open(t *testing.T, dir string) *journal.Journal {
	j, err := journal.New(journal.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func whole(id string, from int) []boot.Event {
	var all []boot.Event
	for i, s := range boot.Stages() {
		e := event(from+i, s, id)
		if s.Index() < boot.StageScript.Index() {
			e.Boot = ""
		}
		all = append(all, e)
	}
	return all
}

func TestEventsOfABootComeTogether(t *testing.T) {
	j := open(t, "")
	j.Record(whole("b1", 0))
	second := whole("b2", 100)
	j.Record(second[:4])
	boots := j.Boot("n1")
	if len(boots) != 2 || boots[0].Boot != "b2" || boots[0].Stage != boot.StageKernel || boots[1].Stage != boot.StageUp || len(boots[1].Events) != 9 {
		t.Fatalf("boots %+v", boots)
	}
	if got := j.Boots(); len(got) != 1 || got[0].Boot != "b2" || got[0].Events != nil {
		t.Errorf("Boots = %+v", got)
	}
	if got := j.Boot(string(hw)); len(got) != 2 {
		t.Errorf("by hardware address: %d boots", len(got))
	}
}

func TestEventsThatComeTwiceOrLateAreTakenOnceAndInOrder(t *testing.T) {
	j := open(t, "")
	all := whole("b1", 0)
	for i := len(all) - 1; i >= 2; i-- {
		j.Record([]boot.Event{all[i], all[i]})
	}
	b := j.Boot("n1")[0]
	if len(b.Events) != 7 || b.Stage != boot.StageUp || !b.Events[0].Time.Before(b.Events[6].Time) {
		t.Errorf("boot %+v", b)
	}
}

func TestAResetBeforeTheScriptBeginsAnotherBoot(t *testing.T) {
	j := open(t, "")
	j.Record([]boot.Event{event(0, boot.StageDHCP, ""), event(1, boot.StageLoader, ""), event(20, boot.StageDHCP, ""), event(21, boot.StageLoader, "")})
	ipxe := event(22, boot.StageDHCP, "")
	ipxe.Firmware = boot.FirmwareIPXE
	j.Record([]boot.Event{ipxe, event(23, boot.StageScript, "b1")})
	boots := j.Boot("n1")
	if len(boots) != 2 || boots[0].Boot != "b1" || len(boots[0].Events) != 4 || len(boots[1].Events) != 2 {
		t.Errorf("boots %+v", boots)
	}
}

func TestTheKernelMayComeFromAnotherRelayThanTheScript(t *testing.T) {
	j := open(t, "")
	kernel := event(3, boot.StageKernel, "")
	kernel.Relay = "r2"
	j.Record([]boot.Event{event(0, boot.StageDHCP, ""), event(1, boot.StageScript, "b1"), kernel, event(9, boot.StageStageOne, "b1")})
	boots := j.Boot("n1")
	if len(boots) != 1 || len(boots[0].Events) != 4 || boots[0].Relay != "r1" || len(boots[0].Relays) != 2 {
		t.Errorf("boots %+v", boots)
	}
}

func TestAFailureStandsUntilTheBootGetsFurther(t *testing.T) {
	j := open(t, "")
	failed := event(5, boot.StageFailed, "b1")
	failed.Error = "no memory"
	j.Record([]boot.Event{event(0, boot.StageScript, "b1"), event(1, boot.StageStageOne, "b1"), failed})
	if b := j.Boot("n1")[0]; b.Stage != boot.StageFailed || b.FailedAt != boot.StageStageOne || b.Error != "no memory" {
		t.Errorf("boot %+v", b)
	}
	j.Record([]boot.Event{event(9, boot.StageImage, "b1")})
	if b := j.Boot("n1")[0]; b.Stage != boot.StageImage || b.Error != "" {
		t.Errorf("boot %+v", b)
	}
}

func TestJournalOutlivesARestartAndADamagedEnd(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		j := open(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- j.Run(ctx) }()
		j.Record(whole("b1", 0))
		time.Sleep(5 * time.Second)
		j.Record([]boot.Event{event(50, boot.StageDHCP, "")})
		cancel() // what is pending is written before Run ends
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
	f, err := os.OpenFile(filepath.Join(dir, "events.ndjson"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"time":"2026-11-`)
	f.Close()
	if boots := open(t, dir).Boot("n1"); len(boots) != 2 || boots[1].Stage != boot.StageUp {
		t.Errorf("after a restart: %+v", boots)
	}
}

// One relay gave the machine its address and another one everything else; whoever tells first, it is one boot.
func TestWhatOneRelayTellsLateBelongsToItsBoot(t *testing.T) {
	with := func(e boot.Event, relay catalog.RelayName, firmware boot.Firmware) boot.Event {
		e.Relay, e.Firmware = relay, firmware
		return e
	}
	a := []boot.Event{with(event(0, boot.StageDHCP, ""), "r1", boot.FirmwareBIOS), with(event(1, boot.StageLoader, ""), "r1", ""), with(event(4, boot.StageKernel, ""), "r1", "")}
	b := []boot.Event{with(event(2, boot.StageDHCP, ""), "r2", boot.FirmwareIPXE), with(event(3, boot.StageScript, "b1"), "r2", boot.FirmwareIPXE)}
	c := []boot.Event{with(event(9, boot.StageStageOne, "b1"), "r3", ""), with(event(20, boot.StageUp, "b1"), "r3", "")}
	for _, order := range [][][]boot.Event{{a, b, c}, {a, c, b}, {b, a, c}, {b, c, a}, {c, a, b}, {c, b, a}} {
		j := open(t, "")
		for _, events := range order {
			j.Record(events)
		}
		boots := j.Boot("n1")
		if len(boots) != 1 || boots[0].Stage != boot.StageUp || len(boots[0].Events) != 7 || boots[0].Relay != "r2" || !boots[0].Started.Equal(t0) {
			t.Errorf("%+v", boots)
		}
	}
	j := open(t, "")
	j.Record(slices.Concat(a, b, c))
	j.Record([]boot.Event{with(event(300, boot.StageDHCP, ""), "r1", boot.FirmwareBIOS)})
	if boots := j.Boot("n1"); len(boots) != 2 || boots[0].Stage != boot.StageDHCP {
		t.Errorf("the next boot: %+v", boots)
	}
}

// A relay that dies takes with it what nodes told it last. The heart-beats that come over another one make up for it,
// also after a restart of the controller, and for a boot that had failed on its way.
// One relay saw the firmware of two boots and all of the second; the other, whose script the first one followed, speaks up
// last. Whatever the order in which they are heard, each boot has what is its own.
func TestTheNewestBootIsTheSameHoweverLateARelaySpeaks(t *testing.T) {
	first, second := whole("b1", 0), whole("b2", 12)
	for i := range first {
		if first[i].Boot != "" {
			first[i].Relay = "r2"
		}
	}
	script := slices.IndexFunc(first, func(e boot.Event) bool { return e.Boot != "" })
	one, other := append(slices.Clone(first[:script]), second...), first[script:]
	for name, order := range map[string][]boot.Event{
		"in time":       append(slices.Clone(first), second...),
		"late":          append(slices.Clone(one), other...),
		"before":        append(slices.Clone(other), one...),
		"in the middle": append(append(slices.Clone(one[:script+4]), other...), one[script+4:]...),
	} {
		j := open(t, "")
		for _, e := range order {
			j.Record([]boot.Event{e})
		}
		boots := j.Boot("n1")
		if len(boots) != 2 || boots[0].Boot != "b2" || boots[0].Stage != boot.StageUp || len(boots[0].Events) != len(second) ||
			len(boots[1].Events) != len(first) || !boots[1].Started.Equal(t0) {
			t.Errorf("%s: %+v", name, boots)
		}
	}
}

func TestAHeartBeatShowsThatANodeIsUp(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	j.Record(append(whole("b1", 0)[:6], event(7, boot.StageFailed, "b1")))
	j.Record([]boot.Event{event(40, boot.StageAlive, "b1"), event(70, boot.StageAlive, "b1")})
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for what, j := range map[string]*journal.Journal{"at once": j, "after a restart": open(t, dir)} {
		b := j.Boot("n1")
		if len(b) != 1 || b[0].Stage != boot.StageUp || b[0].Error != "" || !b[0].Last.Equal(t0.Add(40*time.Second)) || b[0].Seen.Before(b[0].Last) {
			t.Errorf("%s: %+v", what, b)
		}
	}
}

// Who asks for events is told of all that come after the question, also of those that come before the first look.
// A client of Warewulf knows of no boots, nor does a relay that began after the node's boot.
func TestAHeartBeatOfNoBootIsOfTheNewest(t *testing.T) {
	j := open(t, "")
	j.Record(append(whole("b1", 0), whole("b2", 1000)...))
	j.Record([]boot.Event{event(5000, boot.StageAlive, "")})
	boots := j.Boot("n1")
	if len(boots) != 2 || boots[0].Boot != "b2" || !boots[0].Seen.Equal(event(5000, boot.StageAlive, "").Time) {
		t.Errorf("got %+v", boots)
	}
}

func TestAWatchBeginsWithItsCall(t *testing.T) {
	j := open(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := j.Watch(ctx)
	j.Record([]boot.Event{event(0, boot.StageScript, "b1")})
	for e := range events {
		if e.Stage != boot.StageScript {
			t.Errorf("got %+v", e)
		}
		break
	}
}

func TestASlowWatcherIsToldWhatItMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := open(t, "")
		ctx, cancel := context.WithCancel(t.Context())
		hold, n, told := make(chan bool), 0, ""
		done := make(chan bool)
		go func() {
			for e := range j.Watch(ctx) {
				if n++; n == 1 {
					<-hold
				}
				if e.Stage == "" {
					told = e.Message
				}
			}
			close(done)
		}()
		synctest.Wait()
		for i := range 6000 {
			j.Record([]boot.Event{event(i, boot.StageAlive, "b1")})
		}
		close(hold)
		synctest.Wait()
		j.Record([]boot.Event{event(6001, boot.StageAlive, "b1")})
		synctest.Wait()
		cancel()
		<-done
		if !strings.Contains(told, "left out") {
			t.Errorf("after %d events it was told %q", n, told)
		}
	})
}

// lab is a catalog with node n1, which can boot or, with less of the changes, cannot.
func lab(t *testing.T, changes ...catalog.Change) *catalog.Catalog {
	c := &catalog.Catalog{}
	for _, change := range append([]catalog.Change{
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/24")}},
		catalog.AddNodes{Nodes: []catalog.Node{{Name: "n1", Settings: catalog.Settings{Nets: map[string]catalog.NetDev{"default": {Hardware: new(hw), Address: new(netip.MustParseAddr("10.1.0.1"))}}}}}},
	}, changes...) {
		b, err := catalog.Entry{At: t0, Change: change}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		next, out, err := c.Apply(c.Revision+1, b)
		if err != nil || out.Err != nil {
			t.Fatal(err, out.Err)
		}
		c = next
	}
	return c
}

func image() []catalog.Change {
	return []catalog.Change{
		catalog.PutImage{Name: "debian", Version: catalog.ImageVersion{Manifest: chunk.RefOf([]byte("m")), Kernels: []chunk.Kernel{{Version: "6.1"}}}},
		catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Set: catalog.Settings{Image: new("debian")}},
	}
}

func relay() []catalog.Change {
	return append(image(),
		catalog.AddToken{Token: catalog.Token{ID: "t", Hash: []byte("h"), Role: "relay", Uses: 1, Networks: []catalog.NetworkName{"rack"}, Expires: t0.Add(time.Hour)}},
		catalog.AdmitRelay{Token: "t", Hash: []byte("h"), Relay: catalog.Relay{Name: "r1", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.254")}, BootPort: 1, MeshPort: 2, Mesh: "a", Gossip: "b", Key: []byte("k")}})
}

func TestWhyNamesTheCause(t *testing.T) {
	failed := event(3, boot.StageFailed, "b1")
	failed.Error = "chunk 12ab is corrupt on every relay"
	stranger := boot.Event{Time: t0, Hardware: "52:54:00:00:00:99", Stage: boot.StageDHCP, Relay: "r1"}
	up := whole("b1", 0)
	for i := range up {
		up[i].Manifest = chunk.Of([]byte("m"))
	}
	for name, tc := range map[string]struct {
		changes []catalog.Change
		events  []boot.Event
		after   time.Duration
		want    string
	}{
		"no image":           {nil, nil, 0, "has no image"},
		"no relay":           {image(), nil, 0, "no relay serves network rack"},
		"never seen":         {relay(), []boot.Event{stranger}, 0, "no relay has had a request from 52:54:00:00:00:01"},
		"booting":            {relay(), whole("b1", 0)[:3], 10 * time.Second, "it is booting: script"},
		"stuck after DHCP":   {relay(), whole("b1", 0)[:1], time.Hour, "TFTP"},
		"stuck after kernel": {relay(), whole("b1", 0)[:4], time.Hour, "kernel did not start"},
		"failed":             {relay(), []boot.Event{event(0, boot.StageScript, "b1"), failed}, time.Hour, "corrupt on every relay"},
		"up":                 {relay(), up, 30 * time.Second, "nothing is wrong"},
		"silent":             {relay(), up, time.Hour, "has not been heard"},
		"outdated": {append(relay(), catalog.PutImage{Name: "debian", Version: catalog.ImageVersion{Manifest: chunk.RefOf([]byte("n")), Kernels: []chunk.Kernel{{Version: "6.1"}}}}),
			up, 30 * time.Second, "is declared now"},
	} {
		t.Run(name, func(t *testing.T) {
			j := open(t, "")
			j.Record(tc.events)
			w, err := j.Why(lab(t, tc.changes...), "n1", nil, t0.Add(tc.after))
			if err != nil || !strings.Contains(w.Verdict, tc.want) {
				t.Errorf("verdict %q (state %q, fix %q), %v; want %q", w.Verdict, w.State, w.Fix, err, tc.want)
			}
			if name == "never seen" && !strings.Contains(w.Fix, "52:54:00:00:00:99") {
				t.Errorf("the fix does not name the stranger: %q", w.Fix)
			}
		})
	}
}

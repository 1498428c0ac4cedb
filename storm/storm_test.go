package storm

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func one() Machine {
	return Machine{Name: "s1", Hardware: "52:54:00:00:00:01", Address: netip.MustParseAddr("127.0.0.1")}
}

func lone(t *testing.T) *machine {
	t.Helper()
	s, err := New(Config{Machines: []Machine{one()}})
	if err != nil {
		t.Fatal(err)
	}
	s.tally.begin(1)
	s.machines[0].relays = map[string]int64{}
	return s.machines[0]
}

func TestAStormOfWhatCannotBootIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"nobody":           {func(c *Config) { c.Machines = nil }, "a storm needs a machine"},
		"too many":         {func(c *Config) { c.Machines = make([]Machine, MaxMachines+1) }, "at most 50000"},
		"no card":          {func(c *Config) { c.Machines[0].Hardware = "" }, `machine s1 has the hardware address ""`},
		"no address":       {func(c *Config) { c.Machines[0].Address = netip.Addr{} }, "machine s1 has no IPv4 address"},
		"unknown firmware": {func(c *Config) { c.Firmware = boot.FirmwareIPXE }, `the firmware "ipxe"`},
	} {
		cfg := Config{Machines: []Machine{one()}}
		c.change(&cfg)
		if _, err := New(cfg); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

func TestFilesAreHeldAgainstTheirNames(t *testing.T) {
	body := []byte(strings.Repeat("kernel", 50_000))
	id := chunk.Of(body)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/chunk/" + id.String():
			_, _ = w.Write(body)
		case "/cut/chunk":
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = w.Write(body[:100])
		case "/busy":
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			_, _ = w.Write([]byte("something else"))
		}
	}))
	defer srv.Close()
	m := lone(t)
	get := func(path string, keep bool) (string, error) {
		b, _, err := m.get(t.Context(), srv.URL+path, time.Second, keep)
		return string(b), err
	}
	if b, err := get("/chunk/"+id.String(), true); err != nil || b != string(body) {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
	if b, err := get("/boot/x/script", false); err != nil || b != "" {
		t.Errorf("kept %q, %v", b, err)
	}
	if _, err := get("/chunk/"+chunk.Of([]byte("other")).String(), false); !errors.Is(err, fault.Corrupt) {
		t.Errorf("wrong bytes: got %v", err)
	}
	for _, path := range []string{"/cut/chunk", "/busy"} {
		if _, err := get(path, false); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
	if tl := m.storm.tally; tl.wrong.Load() != 1 || tl.checked.Load() != int64(len(body)) {
		t.Errorf("%d wrong files, %d bytes verified", tl.wrong.Load(), tl.checked.Load())
	}
}

// A relay that lost its power says nothing more: iPXE gives up after the time that the script names.
func TestAFileThatStopsIsGivenUp(t *testing.T) {
	stop := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("begins"))
		_ = http.NewResponseController(w).Flush()
		<-stop
	}))
	defer srv.Close()
	defer close(stop)
	m := lone(t)
	if _, _, err := m.get(t.Context(), srv.URL+"/x", 100*time.Millisecond, false); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := m.get(ctx, srv.URL+"/x", time.Minute, false); err == nil {
		t.Error("the end of the storm ends nothing")
	}
}

func TestOneErrorOfManyMachinesIsOne(t *testing.T) {
	tl := newTally()
	tl.begin(3)
	for i := range 3 {
		tl.fail("s1", fmt.Errorf("reading: read tcp 10.64.0.%d:4%d000->10.98.1.1:4480: connection reset by peer", i, i), i == 0)
		tl.fail("s2", fmt.Errorf("chunk %s is damaged", chunk.Of([]byte{byte(i)}).Short()), false)
		tl.fail("s3", fmt.Errorf("dial tcp4 10.64.0.%d:0->10.98.1.%d:69: connection refused", i, i), false)
	}
	for i := range maxGroups {
		tl.fail("s4", fmt.Errorf("error %d", i), false)
	}
	if n := len(tl.groups); n != maxGroups+1 {
		t.Errorf("%d groups", n)
	}
	if g := tl.groups["reading: read tcp 10.98.1.1:4480: connection reset by peer"]; g == nil || g.count != 3 || g.ended != 1 {
		t.Errorf("got %+v", g)
	}
	if g := tl.groups["chunk … is damaged"]; g == nil || g.count != 3 {
		t.Errorf("got %+v", g)
	}
	if g := tl.groups["other errors"]; g == nil || g.count == 0 {
		t.Errorf("got %+v", g)
	}
}

func TestPercentilesAreOfWhatWasMeasured(t *testing.T) {
	var d []time.Duration
	for i := range 200 {
		d = append(d, time.Duration(200-i)*time.Second)
	}
	if got, want := spreadOf(d), (Spread{100 * time.Second, 180 * time.Second, 198 * time.Second, 200 * time.Second}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := spreadOf([]time.Duration{time.Second}), (Spread{time.Second, time.Second, time.Second, time.Second}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := spreadOf(nil); got != (Spread{}) {
		t.Errorf("got %v of nothing", got)
	}
}

func sample() *Report {
	r := &Report{
		Format: 1, Method: Method, Host: "linux/amd64, 2 processors, go1", Began: time.Unix(1_800_000_000, 0).UTC(), Took: 12345 * time.Millisecond, CPU: 3 * time.Second,
		Spread: 2 * time.Second, Machines: 1000, Up: 999, Down: "s0007", Starts: 1001,
		ToUp:    Spread{2 * time.Second, 3 * time.Second, 4 * time.Second, 11 * time.Second},
		Retries: map[string]int{"dhcp": 12, "agent": 3}, Bytes: 2_700_000_000, Verified: 2_600_000_000, Wrong: 1, ImageBytes: 2_600_000,
		Relays: []Egress{{"r1", 1_700_000_000, 600}, {"r2", 1_000_000_000, 400}},
		Errors: []Error{{Text: "connection refused", Count: 30, Ended: 1, Nodes: "s[0001-0030]", First: time.Second, Last: 3 * time.Second}},
	}
	for i, name := range Phases() {
		r.Phases = append(r.Phases, Phase{Name: name, Reached: 1000 - i, Took: r.ToUp, Bytes: int64(i) * 1e6, Rate: 99.5, Peak: 200})
	}
	for at := range 13 {
		s := Sample{At: time.Duration(at) * time.Second, Total: 1000}
		for i := range phases {
			s.Reached = append(s.Reached, max(0, min(1000, 150*(at-i/2))))
		}
		r.Timeline = append(r.Timeline, s)
	}
	r.AddControllers([]Egress{{Name: "c1", Bytes: 2_600_000}, {Name: "c2", Bytes: 1_300_000}})
	return r
}

func TestReportsReadAsTheyDid(t *testing.T) {
	for name, write := range map[string]func(*Report, *strings.Builder) error{
		"report.txt": func(r *Report, b *strings.Builder) error { return r.WriteText(b) },
		"report.svg": func(r *Report, b *strings.Builder) error { return r.WritePlot(b) },
	} {
		var b strings.Builder
		if err := write(sample(), &b); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || b.String() != string(want) {
			t.Errorf("%s: %v; got\n%s", name, err, b.String())
		}
	}
}

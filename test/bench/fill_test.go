//go:build bench

package bench

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/test/rig"
)

// The size of the mesh and of its links. WULF_BENCH_RELAYS, WULF_BENCH_MB and WULF_BENCH_MBIT change them.
const (
	usualRelays  = 50
	usualImageMB = 48
	usualMbit    = 8 // so slow that two cores can be all ends of 53 links
)

// What is promised of a fill.
const (
	targetCopies = 4 // of the image, that leave the controllers
	targetLinks  = 2 // times what one link needs for one copy
)

// TestFill publishes an image to relays that have nothing, each at the end of a slow link, and measures what leaves the
// controllers and when the last relay has everything.
func TestFill(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	relays, mb, mbit := fromEnv("WULF_BENCH_RELAYS", usualRelays), fromEnv("WULF_BENCH_MB", usualImageMB), fromEnv("WULF_BENCH_MBIT", usualMbit)
	r := newReport(t, fmt.Sprintf("%d cold relays (5 zones, racks of two) and 3 controllers, real programs, a link of %d Mbit/s each and each way", relays, mbit))
	defer r.print()
	f := newFill(t, ctx, relays)
	f.limit(int64(mbit) * 1e6)
	f.publish(mb)
	f.measure(r, float64(mbit)*1e6/8)
}

func fromEnv(name string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return usual
}

// fill is a mesh with a network namespace for each program.
type fill struct {
	t                   *testing.T
	ctx                 context.Context
	wulf, dir           string
	mesh                *rig.Segment
	controllers, relays []fillHost
	cold                map[string]map[string]bool // chunks that a relay had before, by its name
	out                 int64                      // bytes that had left the controllers' interfaces
	cpu                 float64                    // seconds that the relays had used
}

type fillHost struct {
	*rig.Host
	address netip.Addr
	process *rig.Process
}

const fillDev = "mesh0"

func newFill(t *testing.T, ctx context.Context, relays int) *fill {
	t.Helper()
	root, err := rig.Repository()
	if err != nil {
		t.Fatal(err)
	}
	f := &fill{t: t, ctx: ctx, wulf: filepath.Join(root, "bin", "wulf"), cold: map[string]map[string]bool{}}
	if _, err := os.Stat(f.wulf); err != nil {
		t.Fatal("bin/wulf is not built: run make build")
	}
	f.dir, err = os.MkdirTemp(os.Getenv("WULF_BENCH_DIR"), "wf-")
	f.check(err)
	r, err := rig.New(f.dir, slog.New(slog.DiscardHandler))
	f.check(err)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("data and logs: %s", f.dir)
		} else if err := os.RemoveAll(f.dir); err != nil {
			t.Error(err)
		}
	})
	f.check(r.ManyNeighbours(4 * (relays + 3) * (relays + 3))) // each other, on the bridge too
	f.mesh, err = r.Segment("mesh")
	f.check(err)
	host := func(name string, a netip.Addr) fillHost {
		h, err := r.Host(name)
		f.check(err)
		f.check(h.Connect(f.mesh, fillDev, netip.PrefixFrom(a, 16)))
		return fillHost{Host: h, address: a}
	}
	for i := range 3 {
		f.addController(host(fmt.Sprintf("c%d", i+1), netip.AddrFrom4([4]byte{10, 98, 0, byte(i + 1)})))
	}
	f.must("network", "add", "rack", "--cidr", "10.98.0.0/16")
	for i := range relays {
		f.addRelay(i, host(fmt.Sprintf("r%d", i+1), netip.AddrFrom4([4]byte{10, 98, 1, byte(i + 1)})))
	}
	return f
}

func (f *fill) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fill) data(name string) string { return filepath.Join(f.dir, name) }

// on runs a command on a host.
func (f *fill) on(h fillHost, argv ...string) (string, error) {
	cmd := h.Command(f.ctx, append([]string{f.wulf}, argv...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("wulf %s: %w: %.400s", strings.Join(argv, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), err
}

// must runs a command at the first controller, which has to succeed.
func (f *fill) must(argv ...string) string {
	f.t.Helper()
	out, err := f.on(f.controllers[0], append([]string{"--endpoint", api.UnixScheme + f.data("c1.sock")}, argv...)...)
	f.check(err)
	return out
}

func (f *fill) read(into any, argv ...string) {
	f.t.Helper()
	f.check(json.Unmarshal([]byte(f.must(append(argv, "-o", "json")...)), into))
}

func (f *fill) await(what string, limit time.Duration, done func() bool) {
	f.t.Helper()
	for start := time.Now(); !done(); {
		if time.Since(start) > limit || f.ctx.Err() != nil {
			f.t.Fatalf("waited in vain for %s", what)
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-f.ctx.Done():
		}
	}
}

func (f *fill) start(h fillHost, role string, flags ...string) fillHost {
	f.t.Helper()
	p, err := h.Start(h.Name(), append([]string{f.wulf, role, "run", "--data", f.data(h.Name())}, flags...)...)
	f.check(err)
	h.process = p
	return h
}

func (f *fill) addController(h fillHost) {
	f.t.Helper()
	at := netip.AddrPortFrom(h.address, api.PortController).String()
	argv := []string{"controller", "init", "--cluster", "bench"}
	if len(f.controllers) > 0 {
		token := strings.TrimSpace(f.must("controller", "token", "--name", h.Name()))
		argv = []string{"controller", "join", token, netip.AddrPortFrom(f.controllers[0].address, api.PortController).String()}
	}
	_, err := f.on(h, append(argv, "--data", f.data(h.Name()), "--name", h.Name(), "--listen", at, "--advertise", at)...)
	f.check(err)
	f.controllers = append(f.controllers, f.start(h, "controller", "--socket", f.data(h.Name()+".sock")))
	f.await(h.Name()+" to vote", time.Minute, func() bool {
		out, err := f.on(h, "--endpoint", api.UnixScheme+f.data("c1.sock"), "controller", "list", "-o", "json")
		var list api.List[api.ControllerView]
		if err != nil || json.Unmarshal([]byte(out), &list) != nil {
			return false
		}
		return slices.ContainsFunc(list.Items, func(v api.ControllerView) bool { return string(v.Name) == h.Name() && v.Voter && v.Alive })
	})
}

func (f *fill) addRelay(i int, h fillHost) {
	f.t.Helper()
	token := strings.TrimSpace(f.must("relay", "token", "--name", h.Name(), "--networks", "rack",
		"--zone", fmt.Sprintf("z%d", i%5+1), "--rack", fmt.Sprintf("k%d", i/10+1)))
	argv := []string{"relay", "join", token, netip.AddrPortFrom(f.controllers[0].address, api.PortController).String(),
		"--data", f.data(h.Name()), "--address", h.address.String()}
	_, err := f.on(h, argv...)
	f.check(err)
	f.relays = append(f.relays, f.start(h, "relay", "--no-dhcp", "--no-tftp", "--no-ipv6"))
}

// limit waits until everybody knows everybody, and makes the links slow.
func (f *fill) limit(bits int64) {
	f.t.Helper()
	f.await("relays that know each other", 3*time.Minute, func() bool {
		return f.everyRelay(func(v api.RelayView) bool { return len(v.Status.Members) == len(f.relays) })
	})
	for _, h := range slices.Concat(f.controllers, f.relays) {
		f.check(h.Limit(f.mesh, fillDev, bits))
	}
}

// everyRelay tells whether something is so of every relay, which serves the latest catalog.
func (f *fill) everyRelay(is func(api.RelayView) bool) bool {
	var list api.List[api.RelayView]
	f.read(&list, "relay", "list")
	n := 0
	for _, v := range list.Items {
		if v.Alive && v.Status != nil && v.Status.Revision >= list.Revision && is(v) {
			n++
		}
	}
	return n == len(f.relays)
}

// publish imports the image, forgets it, and imports it again: then the controllers have all of it, and what leaves them
// is for relays.
func (f *fill) publish(mb int) {
	f.t.Helper()
	root := filepath.Join(f.dir, "root.tar")
	f.check(os.WriteFile(root, noiseTar(mb<<20), 0o600))
	for _, h := range f.relays {
		f.check(h.process.Pause())
	}
	f.must("image", "import", "fill", root, "--timeout", "10m")
	f.must("image", "delete", "fill", "--yes")
	for _, h := range f.relays {
		f.check(h.process.Resume())
	}
	f.await("relays that know each other again", 3*time.Minute, func() bool {
		return f.everyRelay(func(v api.RelayView) bool {
			return len(v.Status.Members) == len(f.relays) && v.Status.Cache.Missing == 0
		})
	})
	for _, h := range f.relays {
		f.cold[h.Name()] = map[string]bool{}
		for name := range f.chunks(h) {
			f.cold[h.Name()][name] = true
		}
		f.cpu += f.cpuOf(h)
	}
	f.out = f.outOf()
	f.must("image", "import", "fill", root, "--timeout", "10m")
}

// noiseTar is a root file system that does not compress.
func noiseTar(size int) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	dice := rand.NewChaCha8([32]byte{1})
	noise := func(n int) []byte {
		p := make([]byte, n)
		_, _ = dice.Read(p)
		return p
	}
	kernel := noise(8 << 20)
	copy(kernel[0x202:], "HdrS") // the boot protocol of x86 begins so
	put := func(name string, body []byte) {
		// Writing to memory fails only where the header is wrong, and then the import says so.
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg})
		_, _ = w.Write(body)
	}
	put("boot/vmlinuz-6.1.0-bench", kernel)
	put("etc/os-release", []byte("ID=bench\n"))
	put("sbin/init", []byte("#!/bin/sh\n"))
	const part = 300 << 10
	for i := range size / part {
		put(fmt.Sprintf("usr/lib/part%04d", i), noise(part))
	}
	_ = w.Close()
	return b.Bytes()
}

// chunks are the files of a relay's chunks, by name.
func (f *fill) chunks(h fillHost) map[string]fs.FileInfo {
	found := map[string]fs.FileInfo{}
	_ = filepath.WalkDir(filepath.Join(f.data(h.Name()), "chunks"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // it was replaced while we looked
		}
		if _, bad := chunk.ParseID(d.Name()); bad == nil {
			if info, err := d.Info(); err == nil {
				found[d.Name()] = info
			}
		}
		return nil
	})
	return found
}

// cpuOf are the seconds that a process has used.
func (f *fill) cpuOf(h fillHost) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.process.PID()))
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}

func (f *fill) outOf() (sum int64) {
	f.t.Helper()
	for _, h := range f.controllers {
		_, out, err := h.Counters(fillDev)
		f.check(err)
		sum += out
	}
	return sum
}

// measure waits until the relays have everything, and tells what it took.
func (f *fill) measure(r *report, link float64) {
	f.t.Helper()
	var image catalog.Image
	var list api.List[catalog.Image]
	f.read(&list, "image", "list")
	image = list.Items[0]
	began := image.Versions[len(image.Versions)-1].Created
	f.await("relays that have everything", 15*time.Minute, func() bool {
		return f.everyRelay(func(v api.RelayView) bool {
			return v.Status.Cache.Missing == 0 && v.Status.Cache.Chunks > len(f.cold[string(v.Name)])
		})
	})
	out := f.outOf() - f.out
	var size, sent, fromController, fromRelays int64
	var times, memory []float64
	cpu := -f.cpu
	for _, h := range f.relays {
		var last time.Time
		size = 0
		for name, info := range f.chunks(h) {
			if !f.cold[h.Name()][name] {
				size += info.Size()
				last = later(last, info.ModTime())
			}
		}
		times = append(times, last.Sub(began).Seconds())
		cpu += f.cpuOf(h)
		kb, _ := strconv.Atoi(strings.TrimSuffix(field(fmt.Sprintf("/proc/%d/status", h.process.PID()), "VmHWM"), " kB"))
		memory = append(memory, float64(kb)*1024/1e6)
	}
	for _, h := range f.controllers {
		var status api.ControllerStatus
		text, err := f.on(h, "--endpoint", api.UnixScheme+f.data(h.Name()+".sock"), "controller", "status", "-o", "json")
		f.check(err)
		f.check(json.Unmarshal([]byte(text), &status))
		sent += status.BytesOut
	}
	var views api.List[api.RelayView]
	f.read(&views, "relay", "list")
	for _, v := range views.Items {
		fromController += v.Status.Cache.FromController
		fromRelays += v.Status.Cache.FromRelays
	}
	slices.Sort(times)
	ideal := float64(size) / link
	one := func(name, unit string, value, target float64) {
		r.add(figure{Name: name, Unit: unit, Target: target, Values: []float64{value}})
	}
	one("bytes of the image", "MB", float64(size)/1e6, 0)
	one("one copy over one link", "s", ideal, 0)
	one("the first relay has everything after", "s", times[0], 0)
	one("half of them do after", "s", times[len(times)/2], 0)
	one("all do after", "s", times[len(times)-1], targetLinks*ideal)
	one("that is, copies over one link", "", times[len(times)-1]/ideal, targetLinks)
	one("copies that controllers sent to relays", "", float64(sent)/float64(size), targetCopies)
	one("copies' bytes on the controllers' interfaces", "", float64(out)/float64(size), targetCopies)
	one("chunks from controllers", "", float64(fromController), 0)
	one("chunks from relays", "", float64(fromRelays), 0)
	one("CPU of all relays", "s", cpu, 0)
	r.add(figure{Name: "peak memory of a relay", Unit: "MB", Values: memory})
}

func later(a, b time.Time) time.Time {
	if cmp.Compare(a.UnixNano(), b.UnixNano()) > 0 && !a.IsZero() {
		return a
	}
	return b
}

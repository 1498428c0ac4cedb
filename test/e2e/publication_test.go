//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/test/cluster"
)

// publication is a cluster of three controllers without relays, and an image that is published in it by real commands,
// which do not go the way they should.
type publication struct {
	*cluster.Cluster
	t    *testing.T
	ctx  context.Context
	tree string            // the image as a directory, with a shell
	work string            // where commands unpack
	own  map[chunk.ID]bool // what the controllers hold without any image
	rand *rand.Rand
}

// The stories share one cluster, and each leaves it whole for the next.
func TestPublication(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	p := newPublication(t, ctx)
	for _, story := range []struct {
		name string
		tell func(*publication)
	}{
		{"TwoWhoWorkAtOnceBothKeepTheirWork", twoWorkAtOnce},
		{"KilledControllersLeaveTheOldOrTheNewVersion", killedControllers},
		{"AKilledImportLeavesNothingAndGoesOn", killedImport},
		{"AKilledCommandLeavesNothing", killedExec},
		{"ABreakingConnectionCostsNoChunkTwice", breakingConnection},
		{"AControllerThatWasAwayCatchesUp", awayAndEmptied},
	} {
		t.Run(story.name, func(t *testing.T) {
			q := *p
			q.t = t
			story.tell(&q)
		})
	}
}

func newPublication(t *testing.T, ctx context.Context) *publication {
	t.Helper()
	state, err := os.MkdirTemp("", "wulf-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	room := newRoom(t)
	room.Relays = nil
	c, err := cluster.New(room, state, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { room.Close() })
	if err := c.Up(ctx); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	p := &publication{
		Cluster: c, t: t, ctx: ctx, tree: t.TempDir(), work: filepath.Join(t.TempDir(), "work"), own: map[chunk.ID]bool{},
		rand: rand.New(rand.NewPCG(seed, 0)),
	}
	t.Setenv("WULF_WORK", p.work)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if out, err := exec.CommandContext(ctx, "tar", "-C", p.tree, "-xf", script(t, ctx, "make-image-busybox")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, place := range c.Room.Controllers {
		for id := range p.chunks(place.Name()) {
			p.own[id] = true
		}
	}
	p.fill("data", 12)
	p.must("image", "import", "box", p.tree)
	return p
}

// fill writes files of a mebibyte that nothing can compress.
func (p *publication) fill(name string, files int) {
	p.t.Helper()
	for i := range files {
		b := make([]byte, 1<<20)
		for j := 0; j < len(b); j += 8 {
			v := p.rand.Uint64()
			for k := range 8 {
				b[j+k] = byte(v >> (8 * k))
			}
		}
		if err := os.WriteFile(filepath.Join(p.tree, fmt.Sprintf("%s-%02d", name, i)), b, 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
}

// must runs a command at any controller, which must succeed.
func (p *publication) must(argv ...string) string {
	p.t.Helper()
	out, err := p.Wulf(p.ctx, argv...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// image is the image as one controller has it.
func (p *publication) image(controller string) catalog.Image {
	p.t.Helper()
	var out string
	if err := p.eventually(func() (err error) {
		out, err = p.At(p.ctx, controller, "image", "list", "-o", "json")
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
	var list api.List[catalog.Image]
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Items) != 1 {
		p.t.Fatalf("%v in %.300s", err, out)
	}
	return list.Items[0]
}

func (p *publication) latest(controller string) chunk.ID {
	return p.image(controller).Tags[catalog.TagLatest]
}

// chunks are those on a controller's disk.
func (p *publication) chunks(controller string) map[chunk.ID]string {
	p.t.Helper()
	files, err := p.Chunks(controller)
	if err != nil {
		p.t.Fatal(err)
	}
	return files
}

// whole checks every version of the image on every controller, collects what nothing needs, and holds every disk against
// what the versions that are left name.
func (p *publication) whole() {
	p.t.Helper()
	for _, v := range p.image("c1").Versions {
		if err := p.eventually(func() error {
			_, err := p.Wulf(p.ctx, "image", "verify", "box@"+v.Manifest.ID.String())
			return err
		}); err != nil {
			p.t.Errorf("version %s: %v", v.Manifest.ID.Short(), err)
		}
	}
	p.must("image", "gc", "-y", "--keep", "1", "--older", "0s", "--grace", "0s")
	for _, place := range p.Room.Controllers {
		if err := p.eventually(func() error { return p.clean(place.Name()) }); err != nil {
			p.t.Errorf("controller %s: %v", place.Name(), err)
		}
	}
}

// clean tells what is on a controller's disk and should not be, or the other way round.
func (p *publication) clean(controller string) error {
	here := p.chunks(controller)
	want := map[chunk.ID]bool{}
	for _, v := range p.image(controller).Versions {
		b, err := os.ReadFile(here[v.Manifest.ID])
		if err != nil {
			return fmt.Errorf("manifest %s: %w", v.Manifest.ID.Short(), err)
		}
		m, err := chunk.Read(b)
		if err != nil {
			return err
		}
		want[v.Manifest.ID] = true
		for _, ref := range m.Refs() {
			want[ref.ID] = want[ref.ID] || !ref.ID.IsZero()
		}
	}
	delete(want, chunk.ID{})
	for id := range want {
		if here[id] == "" {
			return fmt.Errorf("chunk %s is missing", id.Short())
		}
	}
	for id, path := range here {
		if !want[id] && !p.own[id] {
			return fmt.Errorf("%s is needed by nothing", path)
		}
	}
	return filepath.WalkDir(filepath.Join(p.Data(controller), "chunks"), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if _, bad := chunk.ParseID(d.Name()); err == nil && !d.IsDir() && bad != nil {
			return fmt.Errorf("%s is no chunk", path)
		}
		return err
	})
}

// eventually asks again until the answer is good, for as long as controllers may take to find each other again.
func (p *publication) eventually(ask func() error) error {
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	for {
		err := ask()
		if err == nil || !pauseFor(ctx, 200*time.Millisecond) {
			return err
		}
	}
}

func pauseFor(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// exitOf is the exit code and the message of a command that ended.
func exitOf(err error) (int, string) {
	if exit, ok := errors.AsType[*cluster.ExitError](err); ok {
		return exit.Code, exit.Stderr
	}
	return 0, ""
}

// Two people work in one version at two controllers. Who commits last is told, with both versions and what to do.
func twoWorkAtOnce(p *publication) {
	t := p.t
	first := p.latest("c1")
	ready, release := filepath.Join(p.tree, "..", "ready"), filepath.Join(p.tree, "..", "release")
	bind := filepath.Dir(ready)
	second := make(chan error, 1)
	go func() {
		_, err := p.At(p.ctx, "c2", "image", "exec", "--bind", bind+":/outside", "box", "--", "sh", "-c",
			"echo two > /etc/two; echo > /outside/ready; while [ ! -e /outside/release ]; do sleep 0.05; done")
		second <- err
	}()
	if err := p.eventually(func() error { _, err := os.Stat(ready); return err }); err != nil {
		t.Fatal(err, <-second)
	}
	if _, err := p.At(p.ctx, "c1", "image", "exec", "box", "--", "sh", "-c", "echo one > /etc/one"); err != nil {
		t.Fatal(err)
	}
	one := p.latest("c1")
	if err := os.WriteFile(release, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	code, said := exitOf(<-second)
	i := p.image("c2")
	two := i.Versions[len(i.Versions)-1].Manifest.ID
	if one == first || two == one || len(i.Versions) != 3 || i.Tags[catalog.TagLatest] != one {
		t.Errorf("versions %d, first %s, one %s, two %s, latest %s", len(i.Versions), first.Short(), one.Short(), two.Short(), i.Tags[catalog.TagLatest].Short())
	}
	take := fmt.Sprintf("wulf image tag box latest %s", two.Short())
	last := said[strings.LastIndexByte(said, '\n')+1:]
	if code != 5 || !strings.Contains(last, one.Short()) || !strings.Contains(last, take) || !strings.Contains(last, "wulf image diff box@"+one.Short()+" box@"+two.Short()) {
		t.Errorf("exit %d, told %q", code, said)
	}
	p.must(strings.Fields(strings.TrimPrefix(take, "wulf "))...)
	if err := p.eventually(func() error {
		if got := p.latest("c3"); got != two {
			return fmt.Errorf("latest is %s", got.Short())
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if out := p.must("image", "exec", "--discard", "box", "--", "sh", "-c", "cat /etc/two; ls /etc/one /outside 2>/dev/null || true"); out != "two" {
		t.Errorf("the second's version holds %q", out)
	}
	p.nothingLeft()
	p.whole()
}

// Controllers die at any moment of an import: the one that is asked, and the others.
func killedControllers(p *publication) {
	t := p.t
	const took = 450 * time.Millisecond // about, of an import
	succeeded := 0
	for round := range 6 {
		old := p.latest("c1")
		p.fill("data", 4)
		victim := fmt.Sprintf("c%d", 1+p.rand.IntN(3))
		if round%2 == 0 {
			victim = "c1" // which is asked
		}
		after := time.Duration(p.rand.Int64N(int64(took)))
		ended := make(chan error, 1)
		began := time.Now()
		ctx, cancel := context.WithTimeout(p.ctx, 25*time.Second)
		go func() {
			_, err := p.At(ctx, "c1", "image", "import", "box", p.tree)
			ended <- err
		}()
		pauseFor(p.ctx, after)
		p.Kill(victim)
		var err error
		if victim == "c1" {
			select { // it may end by itself, or wait for the controller to come back
			case err = <-ended:
				ended <- err
			case <-time.After(500 * time.Millisecond):
			}
		}
		if err := p.Start(victim); err != nil {
			t.Fatal(err)
		}
		err = <-ended
		cancel()
		t.Logf("round %d: %s killed after %v, import ended after %v: %v", round, victim, after.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), err)
		if err == nil {
			succeeded++
		} else if code, said := exitOf(err); code != 6 && code != 4 || strings.Count(said, "error: ") != 1 {
			t.Errorf("exit %d: %s", code, said)
		}
		if err := p.WaitControllers(p.ctx, 3); err != nil {
			t.Fatal(err)
		}
		p.must("image", "import", "box", p.tree)
		now := p.latest("c1")
		if now == old {
			t.Error("the repeated import changed nothing")
		}
		for _, v := range p.image("c1").Versions {
			if _, err := p.Wulf(p.ctx, "image", "verify", "box@"+v.Manifest.ID.String()); err != nil && !strings.Contains(err.Error(), "2 of 3") {
				t.Error(err)
			}
		}
		p.whole()
	}
	t.Logf("%d of 6 imports succeeded in spite of it", succeeded)
}

// An import that is killed or interrupted is not seen by anybody; given again, it sends what is left.
func killedImport(p *publication) {
	for _, sig := range []os.Signal{os.Kill, os.Interrupt} {
		before := p.latest("c1")
		p.fill("data", 12)
		way := p.through("c1", 0)
		way.hold(6 << 20)
		cmd := p.Command(p.ctx, way.path, "image", "import", "box", p.tree)
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			p.t.Fatal(err)
		}
		if err := p.eventually(func() error {
			if n := way.up.Load(); n < 6<<20 {
				return fmt.Errorf("%d bytes sent", n)
			}
			return nil
		}); err != nil {
			p.t.Error(err)
		}
		_ = cmd.Process.Signal(sig)
		_ = cmd.Wait()
		way.hold(0)
		sent := way.up.Load()
		if sig == os.Interrupt && (cmd.ProcessState.ExitCode() != 1 || strings.Count(said.String(), "error: ") != 1) {
			p.t.Errorf("interrupted: exit %d, said %q", cmd.ProcessState.ExitCode(), said.String())
		}
		if got := p.latest("c1"); got != before {
			p.t.Errorf("a version %s of an import that was ended with %v", got.Short(), sig)
		}
		if out, err := p.Command(p.ctx, way.path, "image", "import", "box", p.tree).CombinedOutput(); err != nil {
			p.t.Fatalf("%v: %s", err, out)
		}
		total := way.up.Load()
		p.t.Logf("%v: %d bytes sent before, %d after", sig, sent, total-sent)
		if limit := int64(20 << 20); total > limit {
			p.t.Errorf("%d bytes sent in all, want at most %d", total, limit)
		}
	}
	p.whole()
}

// A command in an image that is killed or interrupted takes all with it that it started, and no version comes of it.
func killedExec(p *publication) {
	before := p.latest("c1")
	for _, sig := range []os.Signal{os.Kill, os.Interrupt} {
		mark := fmt.Sprintf("%d", 100000+p.rand.IntN(100000))
		cmd := p.Command(p.ctx, p.Socket("c1"), "image", "exec", "box", "--", "sh", "-c", "echo x > /etc/x; echo begun; sleep "+mark+" & sleep "+mark)
		out, err := cmd.StdoutPipe()
		if err != nil {
			p.t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			p.t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, 5)); err != nil {
			p.t.Fatal(err)
		}
		if sig == os.Kill {
			_ = cmd.Process.Kill()
		} else { // which the program passes on
			_ = cmd.Process.Signal(sig)
			timer := time.AfterFunc(10*time.Second, func() { p.t.Error("it goes on"); _ = cmd.Process.Kill() })
			defer timer.Stop()
		}
		_ = cmd.Wait()
		p.t.Logf("%v: %v", sig, cmd.ProcessState)
		if sig == os.Interrupt && cmd.ProcessState.ExitCode() != 130 {
			p.t.Errorf("interrupted: %v", cmd.ProcessState)
		}
		if err := p.eventually(func() error { return noProcess("sleep\x00" + mark) }); err != nil {
			p.t.Error(err)
		}
	}
	if now := p.latest("c1"); now != before {
		p.t.Errorf("a version %s of work that was killed", now.Short())
	}
	// What was killed is swept; what was interrupted waits for somebody, and is named.
	cmd := p.Command(p.ctx, p.Socket("c1"), "image", "exec", "--discard", "box", "--", "true")
	said, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%v: %s", err, said)
	}
	kept, err := os.ReadDir(p.work)
	if err != nil || len(kept) != 1 || !strings.Contains(string(said), filepath.Join(p.work, kept[0].Name())) {
		p.t.Fatalf("kept are %v, %v; said was %q", kept, err, said)
	}
	if err := os.RemoveAll(filepath.Join(p.work, kept[0].Name())); err != nil {
		p.t.Fatal(err)
	}
	p.nothingLeft()
}

func noProcess(argv string) error {
	list, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, path := range list {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), argv) {
			return fmt.Errorf("%s is %q", path, b)
		}
	}
	return nil
}

// nothingLeft checks that there is no work directory and no mount of one.
func (p *publication) nothingLeft() {
	p.t.Helper()
	list, err := os.ReadDir(p.work)
	if err != nil || len(list) > 0 {
		p.t.Errorf("work directories are left: %v, %v", list, err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || bytes.Contains(mounts, []byte(p.work)) {
		p.t.Errorf("mounts are left: %s, %v", mounts, err)
	}
}

// A connection that breaks after every few megabytes costs no more than what was on its way.
func breakingConnection(p *publication) {
	p.fill("data", 12)
	way := p.through("c1", 3<<19) // a chunk and a half
	out, err := p.Command(p.ctx, way.path, "image", "import", "box", p.tree).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
	p.t.Logf("%d connections were cut, %d bytes sent for 12 MiB of new files: %s", way.cuts.Load(), way.up.Load(), out)
	if way.cuts.Load() < 2 {
		p.t.Error("the connection was not cut")
	}
	if spare := way.cuts.Load()<<20 + 1<<20; way.up.Load() > 12<<20+spare { // of a cut, a chunk that was on its way
		p.t.Errorf("%d bytes sent", way.up.Load())
	}
	p.whole()
}

// A controller that misses a publication fetches it, and so does one whose chunks are gone.
func awayAndEmptied(p *publication) {
	t := p.t
	if err := p.Stop(p.ctx, "c3"); err != nil {
		t.Fatal(err)
	}
	p.fill("data", 4)
	p.must("image", "import", "box", p.tree)
	_, err := p.Wulf(p.ctx, "image", "verify", "box")
	if code, said := exitOf(err); code != 6 || !strings.Contains(said, "whole on 2 of 3 controllers") {
		t.Errorf("verifying without one controller: exit %d, %s", code, said)
	}
	chunks := filepath.Join(p.Data("c3"), "chunks")
	repaired := func(what string) {
		t.Helper()
		began := time.Now()
		if err := p.eventually(func() error { return p.clean("c3") }); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		t.Logf("%s: whole again after %v", what, time.Since(began).Round(time.Millisecond))
		if err := p.eventually(func() error { _, err := p.Wulf(p.ctx, "image", "verify", "box"); return err }); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := p.eventually(func() error {
			status, err := p.Status(p.ctx, "c3")
			if err == nil && len(status.Problems) > 0 {
				return fmt.Errorf("problems: %q", status.Problems)
			}
			return err
		}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	back := func() {
		t.Helper()
		if err := p.Start("c3"); err != nil {
			t.Fatal(err)
		}
		if err := p.WaitControllers(p.ctx, 3); err != nil {
			t.Fatal(err)
		}
		p.image("c3") // it may have been away so shortly that nobody noticed
	}
	back()
	repaired("away during a publication")
	if err := p.Stop(p.ctx, "c3"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(chunks); err != nil {
		t.Fatal(err)
	}
	back()
	repaired("emptied while it was stopped")
	if err := os.RemoveAll(chunks); err != nil {
		t.Fatal(err)
	}
	out, err := p.At(p.ctx, "c1", "image", "verify", "-o", "json", "box") // finds it, and repairs it
	if err != nil || !strings.Contains(out, `"controller": "c3"`) || strings.Count(out, `"repaired": 0`) != 2 {
		t.Errorf("verifying: %v, %s", err, out)
	}
	repaired("emptied while it ran")
	p.whole()
}

// way is a socket before a controller's, whose connections break.
type way struct {
	path string
	up   atomic.Int64 // bytes towards the controller
	stop atomic.Int64 // of which no more than about so many pass; 0: all
	cuts atomic.Int64
}

// hold lets no more than about so many bytes pass; 0 lets go.
func (w *way) hold(bytes int64) { w.stop.Store(bytes) }

// through makes a way to a controller, each connection of which is cut after so many bytes; 0: never.
func (p *publication) through(controller string, cut int64) *way {
	p.t.Helper()
	w := &way{path: filepath.Join(filepath.Dir(p.Socket(controller)), fmt.Sprintf("way%d", p.rand.IntN(1e6)))}
	l, err := net.Listen("unix", w.path)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			go w.carry(from, p.Socket(controller), cut)
		}
	}()
	return w
}

func (w *way) carry(from net.Conn, socket string, cut int64) {
	defer from.Close()
	to, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer to.Close()
	go func() {
		_, _ = io.Copy(from, to)
		from.Close()
	}()
	limit := cut
	if cut == 0 {
		limit = 1 << 60
	}
	n, err := io.Copy(passing{to, w}, io.LimitReader(from, limit))
	if err == nil && n == limit {
		w.cuts.Add(1)
	}
}

// passing is the end of a way.
type passing struct {
	io.Writer
	*way
}

func (p passing) Write(b []byte) (int, error) {
	for stop := p.stop.Load(); stop > 0 && p.up.Load() >= stop; stop = p.stop.Load() {
		pauseFor(context.Background(), 10*time.Millisecond)
	}
	n, err := p.Writer.Write(b)
	p.up.Add(int64(n))
	return n, err
}

//go:build bench

package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// imageBench is a root directory to make images of.
type imageBench struct {
	t      *testing.T
	report *report
	from   string // what was copied
	root   string
	memory string // a directory in memory, if the machine has one
	files  int
	bytes  int64
	lists  int64             // bytes of the package manager's lists, which every build reads
	first  figure            // times of builds that knew nothing
	sums   map[chunk.ID]bool // segments of the last version
	stored map[chunk.ID]bool // chunks of all versions
}

// made is what was measured of one build, ours or theirs.
type made struct {
	wall, cpu time.Duration
	size      int64 // of what nodes fetch
	fresh     int64 // of it, in segments that the version before has not
	segments  int   // that are new
	stored    int64 // bytes of chunks that no version before has
	read      int64 // bytes of files
	result    *segment.Result
	store     *chunkstore.Dir
}

func (m made) String() string {
	return fmt.Sprintf("%.2f s %.2f s %.2f", m.wall.Seconds(), m.cpu.Seconds(), float64(m.size)/1e6)
}

func newImageBench(t *testing.T) *imageBench {
	b := &imageBench{t: t, from: os.Getenv("WULF_BENCH_IMAGE"), sums: make(map[chunk.ID]bool), stored: make(map[chunk.ID]bool)}
	if b.from == "" {
		cmd := exec.Command("../../scripts/make-image-debian")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("making an image: %v", err)
		}
		b.from = strings.TrimSpace(string(out))
	}
	b.root = filepath.Join(t.TempDir(), "root")
	b.memory = t.TempDir()
	if dir, err := os.MkdirTemp("/dev/shm", "wulf-bench-"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		b.memory = dir
	}
	b.run("cp", "-a", b.from, b.root)
	d := b.open()
	defer d.Close()
	for _, e := range d.Entries() {
		b.files++
		b.bytes += e.Size
		if strings.HasSuffix(e.Path, ".list") {
			b.lists += e.Size
		}
	}
	return b
}

func (b *imageBench) run(name string, args ...string) {
	b.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		b.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func (b *imageBench) open() *segment.Directory {
	b.t.Helper()
	d, err := segment.OpenDir(b.root, segment.Limits{})
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

// build makes an image from the scan of the directory to the last chunk in a store.
func (b *imageBench) build(level int, known *segment.Known) made {
	b.t.Helper()
	dir := filepath.Join(b.memory, "chunks")
	if known == nil {
		os.RemoveAll(dir)
	}
	store, err := chunkstore.NewDir(dir, durable.FS{})
	if err != nil {
		b.t.Fatal(err)
	}
	runtime.GC()
	m := made{store: store}
	began, used := time.Now(), processorTime()
	d := b.open()
	defer d.Close()
	var mu sync.Mutex
	m.result, err = segment.Build(b.t.Context(), d, segment.Options{
		Level: level, Known: known,
		Sink: func(ref chunk.Ref, data []byte) error { return store.Put(b.t.Context(), ref, bytes.NewReader(data)) },
		Has: func(ctx context.Context, refs []chunk.Ref) (map[chunk.ID]bool, error) {
			have := make(map[chunk.ID]bool)
			for _, ref := range refs {
				_, err := store.Stat(ctx, ref.ID)
				have[ref.ID] = err == nil
			}
			return have, nil
		},
		Progress: func(p segment.Progress) {
			mu.Lock()
			defer mu.Unlock()
			m.read = max(m.read, p.Read)
		},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	m.wall, m.cpu = time.Since(began), processorTime()-used
	sums := make(map[chunk.ID]bool)
	for _, s := range m.result.Segments {
		sums[s.ID] = true
		m.size += s.Size
		if !b.sums[s.ID] {
			m.fresh += s.Size
			m.segments++
		}
	}
	if known != nil {
		b.sums = sums
		manifest := chunk.Manifest{Segments: m.result.Segments, Index: m.result.Index, Extras: m.result.Extras}
		for _, ref := range manifest.Refs() {
			if !b.stored[ref.ID] {
				b.stored[ref.ID] = true
				m.stored += ref.Size
			}
		}
	}
	return m
}

func processorTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// zstd makes what everybody has: an archive of the tree, compressed on all processors.
func (b *imageBench) zstd(level int) made {
	b.t.Helper()
	cmd := exec.Command("sh", "-c", `find . -xdev -print0 | cpio -0 -o -H newc --quiet | zstd -q -T0 -"$0" >"$1"`, strconv.Itoa(level), b.theirs())
	cmd.Dir, cmd.Env = b.root, append(os.Environ(), "LANG=C", "LC_ALL=C")
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("cpio | zstd: %v\n%s", err, out)
	}
	m := made{wall: time.Since(began), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	fi, err := os.Stat(b.theirs())
	if err != nil {
		b.t.Fatal(err)
	}
	m.size = fi.Size()
	return m
}

func (b *imageBench) theirs() string { return filepath.Join(b.memory, "image.zst") }

// cpio measures how long their image takes to unpack.
func (b *imageBench) cpio() time.Duration {
	b.t.Helper()
	return b.unpacking(func(to string) {
		cmd := exec.Command("sh", "-c", `zstd -q -d -c "$0" | cpio -i -d -m --quiet`, b.theirs())
		cmd.Dir = to
		if out, err := cmd.CombinedOutput(); err != nil {
			b.t.Fatalf("zstd | cpio: %v\n%s", err, out)
		}
	})
}

// unpack measures how long our image takes, with the check of every chunk, as a node unpacks it.
func (b *imageBench) unpack(m made) time.Duration {
	b.t.Helper()
	return b.unpacking(func(to string) {
		u, err := segment.NewUnpacker(to, segment.UnpackOptions{Owners: true, Lost: func(string, string) {}})
		if err != nil {
			b.t.Fatal(err)
		}
		defer u.Close()
		one := func(s chunk.Segment) error {
			data, err := chunkstore.ReadAll(b.t.Context(), m.store, s.ID, s.Size)
			if err != nil {
				return err
			}
			if chunk.Of(data) != s.ID {
				return fmt.Errorf("chunk %s is damaged", s.ID.Short())
			}
			return u.Unpack(b.t.Context(), bytes.NewReader(data), s)
		}
		if err := one(m.result.Segments[0]); err != nil {
			b.t.Fatal(err)
		}
		rest := make(chan chunk.Segment)
		var wg sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			wg.Go(func() {
				for s := range rest {
					if err := one(s); err != nil {
						b.t.Error(err)
					}
				}
			})
		}
		for _, s := range m.result.Segments[1:] {
			rest <- s
		}
		close(rest)
		wg.Wait()
		var extras io.Reader
		if ref := m.result.Extras; !ref.ID.IsZero() {
			data, err := chunkstore.ReadAll(b.t.Context(), m.store, ref.ID, ref.Size)
			if err != nil {
				b.t.Fatal(err)
			}
			extras = bytes.NewReader(data)
		}
		if err := u.Finish(extras); err != nil {
			b.t.Fatal(err)
		}
	})
}

func (b *imageBench) unpacking(do func(to string)) time.Duration {
	to, err := os.MkdirTemp(b.memory, "root-")
	if err != nil {
		b.t.Fatal(err)
	}
	defer os.RemoveAll(to)
	began := time.Now()
	do(to)
	return time.Since(began)
}

// install puts packages, each a name or NAME=VERSION, into the root directory with all that they need and it has not.
// This machine's apt fetches them, the tree's own dpkg unpacks them.
func (b *imageBench) install(packages ...string) error {
	debs := filepath.Join(b.root, "debs")
	if err := os.MkdirAll(filepath.Join(debs, "partial"), 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(debs)
	args := append([]string{"-qq", "-y", "-d", "--no-install-recommends", "--allow-downgrades",
		"-o", "Dir::State::status=" + filepath.Join(b.root, "var/lib/dpkg/status"), "-o", "Dir::Cache::archives=" + debs,
		"-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "install"}, packages...)
	if out, err := exec.Command("apt-get", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get install %v: %w\n%s", packages, err, out)
	}
	cmd := exec.Command("chroot", b.root, "sh", "-c", "dpkg --force-confold -i /debs/*.deb")
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("dpkg -i: %w\n%s", err, out)
	}
	return nil
}

// versions lists packages of which the distribution has an older version than the tree, both as NAME=VERSION.
func (b *imageBench) versions() (older, newer []string, err error) {
	installed, err := exec.Command("dpkg-query", "--admindir="+filepath.Join(b.root, "var/lib/dpkg"), "-W", "-f", "${Package} ${Version}\n").Output()
	if err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(string(installed)) {
		name, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		out, err := exec.Command("apt-cache", "madison", name).Output()
		if err != nil {
			return nil, nil, err
		}
		best, there := "", false
		for row := range strings.Lines(string(out)) {
			f := strings.Split(row, "|")
			if len(f) < 2 || strings.TrimSpace(f[0]) != name {
				continue
			}
			v := strings.TrimSpace(f[1])
			there = there || v == version
			if before(v, version) && (best == "" || before(best, v)) {
				best = v
			}
		}
		if best != "" && there {
			older, newer = append(older, name+"="+best), append(newer, name+"="+version)
		}
	}
	return older, newer, nil
}

// before compares two versions by the distribution's rules.
func before(a, b string) bool {
	return exec.Command("dpkg", "--compare-versions", a, "lt", b).Run() == nil
}

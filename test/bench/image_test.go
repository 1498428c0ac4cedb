//go:build bench

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// What is promised of an image of this machine's Debian, on two cores, in per cent.
const (
	targetBuild = 100 // of the time that cpio and zstd take
	targetSize  = 108 // of the size that they come to
	targetAgain = 5   // of the time of the first build
	targetDelta = 4   // of the image's bytes, after one small package
	targetTen   = 150 // of one version's bytes, for ten
)

// TestImage measures what building images costs beside what everybody uses for it, in turns on the same machine: what
// else runs here slows down both. Both write to memory, because disks are not in question. WULF_BENCH_IMAGE is another
// root directory to measure, WULF_BENCH_LEVELS other levels for the table, or none.
func TestImage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("packages are installed in a root directory: run it as root")
	}
	b := newImageBench(t)
	r := newReport(t, fmt.Sprintf("%s: %d files, %d MB", filepath.Base(b.from), b.files, b.bytes/1e6))
	b.report = r
	defer r.print()
	b.beside()
	b.levels()
	b.again()
	b.upgrade()
}

// beside measures a first build at the default level beside cpio and zstd at the same, several times in turns.
func (b *imageBench) beside() {
	level := segment.DefaultLevel
	var wall, cpu, size figure
	for range runs {
		theirs := b.zstd(level)
		ours := b.build(level, nil)
		b.first.Values = append(b.first.Values, ms(ours.wall))
		wall.Values = append(wall.Values, 100*ours.wall.Seconds()/theirs.wall.Seconds())
		cpu.Values = append(cpu.Values, 100*ours.cpu.Seconds()/theirs.cpu.Seconds())
		size.Values = append(size.Values, 100*float64(ours.size)/float64(theirs.size))
		b.report.t.Logf("level %d: %s, cpio | zstd %s", level, ours, theirs)
	}
	wall.Name, wall.Unit, wall.Target = "time of a build, of cpio | zstd", "%", targetBuild
	cpu.Name, cpu.Unit = "processor time of a build, of cpio | zstd", "%"
	size.Name, size.Unit, size.Target = "size of an image, of cpio | zstd", "%", targetSize
	for _, f := range []figure{wall, cpu, size} {
		b.report.add(f)
	}
}

// levels prints what each level costs and gives.
func (b *imageBench) levels() {
	list, set := os.LookupEnv("WULF_BENCH_LEVELS")
	if !set {
		list = "1 3 6 7 9 12 19"
	}
	fmt.Printf("\n%-6s %28s %28s %22s\n", "level", "build: wall, cpu, MB", "cpio | zstd: wall, cpu, MB", "unpacking: ours, theirs")
	for field := range strings.FieldsSeq(list) {
		level, err := strconv.Atoi(field)
		if err != nil {
			b.t.Fatalf("WULF_BENCH_LEVELS: %v", err)
		}
		theirs, ours := b.zstd(level), b.build(level, nil)
		unpack, cpio := b.unpack(ours), b.cpio()
		fmt.Printf("%-6d %28s %28s %10.2f s %8.2f s\n", level, ours, theirs, unpack.Seconds(), cpio.Seconds())
	}
	fmt.Println()
}

// again measures builds after nothing has changed, and after packages were added one by one.
func (b *imageBench) again() {
	known := segment.NewKnown()
	first := b.build(segment.DefaultLevel, known)
	b.report.duration("a build when nothing has changed", 0, runs, func(int) (time.Duration, error) {
		again := b.build(segment.DefaultLevel, known)
		if again.read > int64(b.lists) || again.fresh != 0 {
			return 0, fmt.Errorf("%d bytes were read, %d are new", again.read, again.fresh)
		}
		return again.wall, nil
	})
	unchanged := b.report.figures[len(b.report.figures)-1]
	if len(unchanged.Values) == 0 {
		return
	}
	// The quickest of each: what else runs on the machine is not in those.
	least := 100 * slices.Min(unchanged.Values) / slices.Min(b.first.Values)
	b.report.add(figure{Name: "of the first build", Unit: "%", Target: targetAgain, Values: []float64{least}})

	total := first.stored
	for i, name := range []string{"htop", "tmux", "strace", "lsof", "rsync", "jq", "tcpdump", "nano", "iperf3", "munge"} {
		if err := b.install(name); err != nil {
			b.report.t.Skipf("%s cannot be installed here: %v", name, err)
		}
		v := b.build(segment.DefaultLevel, known)
		total += v.stored
		if i == 0 {
			b.report.add(figure{Name: "new bytes after " + name, Unit: "%", Target: targetDelta, Values: []float64{100 * float64(v.fresh) / float64(v.size)}})
			b.report.add(figure{Name: "segments of them", Unit: "", Values: []float64{float64(v.segments)}})
			b.report.add(figure{Name: "read for it", Unit: "MB", Values: []float64{float64(v.read) / 1e6}})
			b.report.add(figure{Name: "time of that build", Unit: "ms", Values: []float64{ms(v.wall)}})
		}
		b.report.t.Logf("%s: %.2f MB in %d segments are new, %.1f MB read, %v", name, float64(v.fresh)/1e6, v.segments, float64(v.read)/1e6, v.wall.Round(time.Millisecond))
		if i == 8 { // with the first one these are ten
			b.report.add(figure{Name: "ten versions on disk, of one", Unit: "%", Target: targetTen, Values: []float64{100 * float64(total) / float64(first.stored)}})
		}
	}
}

// upgrade measures what a point release changes: every package of which the distribution still has the version before is
// set back to that, and then brought forward again.
func (b *imageBench) upgrade() {
	older, newer, err := b.versions()
	if err != nil || len(older) == 0 {
		b.report.t.Logf("no package has an older version in the distribution's archive (%v)", err)
		return
	}
	known := segment.NewKnown()
	if err := b.install(older...); err != nil {
		b.report.t.Logf("setting packages back: %v", err)
		return
	}
	b.build(segment.DefaultLevel, known)
	if err := b.install(newer...); err != nil {
		b.report.t.Logf("bringing packages forward: %v", err)
		return
	}
	v := b.build(segment.DefaultLevel, known)
	b.report.t.Logf("upgraded: %v", newer)
	b.report.add(figure{Name: fmt.Sprintf("new bytes after an upgrade of %d packages", len(newer)), Unit: "%", Values: []float64{100 * float64(v.fresh) / float64(v.size)}})
}

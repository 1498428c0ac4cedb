//go:build bench

package bench

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// runs is how often something is measured.
const runs = 5

// figure is one thing measured several times. What has no target is printed for comparison.
type figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"` // ms, MB, % or none, for a number
	Target float64   `json:"target,omitempty"`
	Values []float64 `json:"values"`
	Median float64   `json:"median"`
	Failed string    `json:"failed,omitempty"` // why there are fewer values than runs
}

// machine is what figures depend on.
type machine struct {
	CPU    string  `json:"cpu"`
	Cores  int     `json:"cores"`
	Memory int     `json:"memory_mb"`
	System string  `json:"system"`
	Go     string  `json:"go"`
	Load   float64 `json:"load"` // of the last minute, by whatever else runs here, before the measuring
}

// report collects figures, and prints them at the end.
type report struct {
	t       *testing.T
	began   time.Time
	what    string // the size of the cluster
	machine machine
	figures []figure
}

func newReport(t *testing.T, what string) *report {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: field("/proc/cpuinfo", "model name")}
	kb, _ := strconv.Atoi(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"))
	m.Memory = kb >> 10
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.System = fmt.Sprintf("%s/%s %s", runtime.GOOS, runtime.GOARCH, strings.TrimSpace(string(release)))
	load, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(load), " ")
	m.Load, _ = strconv.ParseFloat(first, 64)
	return &report{t: t, began: time.Now(), what: what, machine: m}
}

// field is a value of a file of lines "name: value", as those below /proc are; "" if it is not there.
func field(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if k, v, found := strings.Cut(lines.Text(), ":"); found && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// duration measures how long something takes, by its own account, several times. What fails ends the measuring.
func (r *report) duration(name string, target time.Duration, times int, measure func(run int) (time.Duration, error)) {
	f := figure{Name: name, Unit: "ms", Target: ms(target)}
	for run := range times {
		took, err := measure(run)
		if err != nil {
			f.Failed = err.Error()
			r.t.Errorf("%s: %v", name, err)
			break
		}
		f.Values = append(f.Values, ms(took))
	}
	r.add(f)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// add takes a figure in.
func (r *report) add(f figure) {
	if sorted := slices.Sorted(slices.Values(f.Values)); len(sorted) > 0 {
		f.Median = (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
	}
	r.figures = append(r.figures, f)
	r.t.Logf("%s: %.1f %s (%d runs)", f.Name, f.Median, f.Unit, len(f.Values))
}

// print writes machine and figures to standard output, and as lines of JSON to the file that WULF_BENCH_OUT names.
func (r *report) print() {
	m := r.machine
	fmt.Printf("\n%s\n%s, %d cores, %d MB, %s, %s, load %.1f before\n\n", r.what, cmp.Or(m.CPU, "unknown CPU"), m.Cores, m.Memory, m.System, m.Go, m.Load)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tmedian\tleast\tmost\truns\tpromised\tof it\t")
	for _, f := range r.figures {
		if len(f.Values) == 0 {
			fmt.Fprintf(w, "%s\tFAILED\t\t\t0\t%s\t\t\n", f.Name, f.amount(f.Target))
			continue
		}
		of := ""
		if f.Target > 0 {
			of = fmt.Sprintf("%.0f %%", 100*f.Median/f.Target)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t\n", f.Name, f.amount(f.Median), f.amount(slices.Min(f.Values)), f.amount(slices.Max(f.Values)), len(f.Values), f.amount(f.Target), of)
	}
	w.Flush()
	fmt.Println()
	if path := os.Getenv("WULF_BENCH_OUT"); path != "" {
		if err := r.save(path); err != nil {
			r.t.Errorf("writing the figures: %v", err)
		}
	}
}

// amount is a value with its unit; "" for none.
func (f figure) amount(v float64) string {
	if v == 0 {
		return ""
	}
	if v < 10 && v != math.Trunc(v) {
		return fmt.Sprintf("%.2f %s", v, f.Unit)
	}
	return fmt.Sprintf("%.0f %s", v, f.Unit)
}

// save appends the figures to a file, each a line of JSON that stands for itself.
func (r *report) save(path string) error {
	out, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	for _, f := range r.figures {
		if err := json.NewEncoder(out).Encode(struct {
			At      time.Time `json:"at"`
			What    string    `json:"what"`
			Machine machine   `json:"machine"`
			figure
		}{r.began, r.what, r.machine, f}); err != nil {
			return err
		}
	}
	return out.Close()
}

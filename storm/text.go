package storm

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// What is printed of long lists; JSON has all.
const (
	printedErrors = 20
	printedNodes  = 120 // bytes of a node set
	printedRelays = 10
)

// WriteText writes the report for people.
func (r *Report) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "%d of %d machines are up after %s; switched on within %s, %s\n", r.Up, r.Machines, brief(r.Took), brief(r.Spread), plural(r.Starts, "start"))
	if r.Down != "" {
		fmt.Fprintf(w, "not up: %s\n", cut(r.Down, printedNodes))
	}
	fmt.Fprintf(w, "\ntime to up\tp50 %s\tp90 %s\tp99 %s\tlast %s\n\n", brief(r.ToUp.P50), brief(r.ToUp.P90), brief(r.ToUp.P99), brief(r.ToUp.Max))
	fmt.Fprintln(w, "PHASE\tMACHINES\tP50\tP90\tP99\tLAST\tPER SECOND\tPEAK\tBYTES")
	for _, p := range r.Phases {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%.1f\t%d\t%s\n", p.Name, p.Reached, brief(p.Took.P50), brief(p.Took.P90), brief(p.Took.P99), brief(p.Took.Max), p.Rate, p.Peak, size(p.Bytes))
	}
	var again []string
	for _, what := range slices.Sorted(maps.Keys(r.Retries)) {
		again = append(again, fmt.Sprintf("%s %d", what, r.Retries[what]))
	}
	fmt.Fprintf(w, "\nasked again\t%s\n", orNone(strings.Join(again, ", ")))
	fmt.Fprintf(w, "bytes\t%s to machines, %s of them verified; %d unverified; %s wrong, noticed and fetched again\n",
		size(r.Bytes), size(r.Verified), r.Unverified, plural(int(r.Wrong), "file"))
	r.writeEgress(w)
	if len(r.Errors) > 0 {
		fmt.Fprintln(w, "\nTIMES\tENDED\tFROM\tTO\tERROR\tNODES")
	}
	for i, e := range r.Errors {
		if i == printedErrors {
			fmt.Fprintf(w, "%d more\n", len(r.Errors)-i)
			break
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\t%s\n", e.Count, e.Ended, brief(e.First), brief(e.Last), cut(e.Text, 200), cut(e.Nodes, printedNodes))
	}
	fmt.Fprintf(w, "\nmachine\t%s; the load took %s of processor time\nmethod\t%s\n", r.Host, brief(r.CPU), r.Method)
	return w.Flush()
}

func (r *Report) writeEgress(w io.Writer) {
	total := int64(0)
	for _, c := range r.Controllers {
		total += c.Bytes
	}
	if len(r.Controllers) > 0 {
		fmt.Fprintf(w, "controllers sent\t%s: %.1f copies of the %s that one machine fetches\n", size(total), r.Copies, size(r.ImageBytes))
	}
	if len(r.Relays) == 0 {
		return
	}
	most := slices.SortedFunc(slices.Values(r.Relays), func(a, b Egress) int { return int(b.Bytes>>10 - a.Bytes>>10) })
	var parts []string
	for _, e := range most[:min(len(most), printedRelays)] {
		parts = append(parts, fmt.Sprintf("%s %s to %d", e.Name, size(e.Bytes), e.Machines))
	}
	if n := len(most) - len(parts); n > 0 {
		parts = append(parts, fmt.Sprintf("%d more", n))
	}
	fmt.Fprintf(w, "relays sent\t%s\n", strings.Join(parts, ", "))
}

func brief(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

func size(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func orNone(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

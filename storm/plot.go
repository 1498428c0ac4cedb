package storm

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// The plot's size, and the margins around the curves.
const (
	plotWidth, plotHeight = 960, 540
	plotLeft, plotRight   = 70, 130
	plotTop, plotBottom   = 40, 50
)

// plotColours are those of the phases, apart for eyes of all kinds (Okabe and Ito), up the darkest.
var plotColours = [phases]string{"#56b4e9", "#0072b2", "#cc79a7", "#e69f00", "#d55e00", "#009e73", "#999999", "#000000"}

// WritePlot writes the report's timeline as an SVG: for each phase, how many times it was reached by when.
func (r *Report) WritePlot(out io.Writer) error {
	var b strings.Builder
	span, most := time.Second, 1
	for _, s := range r.Timeline {
		span = max(span, s.At)
		for _, n := range s.Reached {
			most = max(most, n)
		}
	}
	x := func(d time.Duration) float64 {
		return plotLeft + float64(plotWidth-plotLeft-plotRight)*float64(d)/float64(span)
	}
	y := func(n float64) float64 {
		return plotHeight - plotBottom - float64(plotHeight-plotTop-plotBottom)*n/float64(most)
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<text x="%d" y="24" font-size="15">%d machines: %d up after %s</text>`+"\n", plotLeft, r.Machines, r.Up, brief(r.Took))
	for _, n := range ticks(float64(most)) {
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.0f</text>`+"\n",
			plotLeft, y(n), plotWidth-plotRight, plotLeft-8, y(n)+4, n)
	}
	for _, s := range ticks(span.Seconds()) {
		at := x(time.Duration(s * float64(time.Second)))
		fmt.Fprintf(&b, `<path d="M%.1f %dV%d" stroke="#eee"/><text x="%.1f" y="%d" text-anchor="middle">%g s</text>`+"\n",
			at, plotTop, plotHeight-plotBottom, at, plotHeight-plotBottom+20, s)
	}
	for i, name := range Phases() {
		width := 1.5
		if i == atUp {
			width = 3
		}
		fmt.Fprintf(&b, `<path fill="none" stroke="%s" stroke-width="%g" d="M%.1f %.1f`, plotColours[i], width, x(0), y(0))
		for _, s := range r.Timeline {
			fmt.Fprintf(&b, "L%.1f %.1f", x(s.At), y(float64(s.Reached[i])))
		}
		at := plotTop + 20*i + 10
		fmt.Fprintf(&b, "\"/>\n"+`<path d="M%d %dh20" stroke="%s" stroke-width="%g"/><text x="%d" y="%d">%s</text>`+"\n",
			plotWidth-plotRight+14, at, plotColours[i], width, plotWidth-plotRight+40, at+4, name)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(out, b.String())
	return err
}

// ticks are about five round numbers up to a limit.
func ticks(limit float64) []float64 {
	step := math.Pow(10, math.Floor(math.Log10(max(limit/2, 1e-9))))
	for _, more := range []float64{2, 2.5} {
		if limit/step > 6 {
			step *= more
		}
	}
	var list []float64
	for n := 0.0; n <= limit && len(list) < 50; n += step {
		list = append(list, n)
	}
	return list
}

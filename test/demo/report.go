package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

// say prints a line of the story, with the time since its beginning.
func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "%6.1f s  %s\n", time.Since(d.start).Seconds(), fmt.Sprintf(format, args...))
}

// table prints a line for each machine: when it reached each stage, in seconds since it was switched on, who served it
// and what it booted.
func (d *demo) table(machines []*machine) {
	w := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	header := []string{"", "NODE", "FIRMWARE", "IMAGE"}
	for _, stage := range boot.Stages() {
		header = append(header, strings.ToUpper(string(stage)))
	}
	fmt.Fprintln(w, strings.Join(append(header, "RELAY", "REVISION"), "\t"))
	for _, m := range machines {
		row := []string{"", m.Name(), string(m.firmware), m.last.Image}
		for _, stage := range boot.Stages() {
			row = append(row, reached(m.last, stage, m.on))
		}
		fmt.Fprintln(w, strings.Join(append(row, served(m.last), fmt.Sprint(m.last.Revision)), "\t"))
	}
	w.Flush()
	fmt.Fprintln(d.out)
}

// reached is when a boot reached a stage, in seconds after on; "-" if it was not seen there.
func reached(b api.Boot, stage boot.Stage, on time.Time) string {
	for _, e := range b.Events {
		if e.Stage == stage {
			return fmt.Sprintf("%.1f", e.Time.Sub(on).Seconds())
		}
	}
	return "-"
}

// served names the relay that handed out the script, and any others that took part.
func served(b api.Boot) string {
	names := []string{string(b.Relay)}
	for _, r := range b.Relays {
		if r != b.Relay {
			names = append(names, string(r))
		}
	}
	return strings.Join(names, "+")
}

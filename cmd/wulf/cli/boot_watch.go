package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// lostFor is how long a watch goes on asking when no controller answers: elections and restarts take less.
const lostFor = time.Minute

// sessionWatch tells how a session goes on. When the controller that tells it goes away, another one is asked.
func (p *program) sessionWatch(c *cli.Context, format string) error {
	path, ends, err := sessionPath(c)
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	w := &sessionWatcher{p: p, format: format}
	var heard time.Time // when a controller last answered
	for {
		over, answered, err := w.follow(c, cl, path, ends)
		if answered {
			heard = time.Now()
		}
		switch {
		case c.Context.Err() != nil || over:
			return nil // somebody has seen enough, or there is no more to see
		case err != nil && (fault.KindOf(err) != fault.Unavailable || time.Since(heard) > lostFor):
			return err
		}
		w.say("the controller ended the watch; asking another")
		select {
		case <-time.After(time.Second):
		case <-c.Context.Done():
		}
	}
}

// sessionWatcher writes summaries of sessions as they come.
type sessionWatcher struct {
	p      *program
	format string

	drawn  int // lines of the block that stands on the terminal
	before api.BootSession
	at     time.Time // of the last line
}

// follow tells what one answer brings: whether there is no more to see, and whether there was an answer at all.
func (w *sessionWatcher) follow(c *cli.Context, cl *client, path string, ends bool) (over, answered bool, err error) {
	a, err := cl.Do(c.Context, api.Request{Method: http.MethodGet, Path: path})
	if err != nil {
		return false, false, unreached(err)
	}
	defer a.Body.Close()
	in := json.NewDecoder(a.Body)
	for {
		var v api.BootSession
		if err := in.Decode(&v); err != nil {
			return false, true, nil // it broke off, or the controller stops
		}
		if err := w.tell(v, time.Now()); err != nil {
			return false, true, err
		}
		if ends && v.State == api.SessionOver {
			return true, true, nil
		}
	}
}

func (w *sessionWatcher) tell(v api.BootSession, now time.Time) error {
	switch {
	case w.format != formatTable:
		return json.NewEncoder(w.p.out).Encode(v)
	case w.p.tty.out:
		return w.draw(v)
	}
	news := v.Number != w.before.Number || v.State != w.before.State
	if !news && (now.Sub(w.at) < plainEvery || countsText(v) == countsText(w.before)) {
		return nil
	}
	w.before, w.at = v, now
	_, err := fmt.Fprintln(w.p.out, plain(sessionLine(v)))
	return err
}

// sessionLine is a session in one line.
func sessionLine(v api.BootSession) string {
	parts := []string{countsText(v)}
	if v.ToUp.Count > 0 {
		parts = append(parts, fmt.Sprintf("p50 %s, p95 %s", lasting(v.ToUp.P50), lasting(v.ToUp.P95)))
	}
	if v.ETA > 0 {
		parts = append(parts, "eta "+lasting(v.ETA))
	}
	return fmt.Sprintf("%s  #%d %s, %s: %s", v.Last.UTC().Format(time.TimeOnly), v.Number, v.State, machines(v), strings.Join(parts, "; "))
}

// draw writes the block over the one that stands there.
func (w *sessionWatcher) draw(v api.BootSession) error {
	cols := width(w.p.out)
	if cols == 0 {
		cols = 80
	}
	t := table{colour: w.p.colour()}
	var b bytes.Buffer
	if w.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r", w.drawn)
	}
	lines := sessionBlock(v, cols)
	for _, line := range lines {
		line = cut(plain(line), cols)
		if strings.Contains(line, "✗") {
			line = t.paintAll(line, red)
		}
		b.WriteString(line + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	w.drawn = len(lines)
	_, err := w.p.out.Write(b.Bytes())
	return err
}

// say tells something besides, below the block that stands there.
func (w *sessionWatcher) say(text string) {
	w.drawn = 0
	fmt.Fprintln(w.p.err, text)
}

// blockErrors is how many errors a block shows; with them it has no more than 14 lines.
const blockErrors = 5

// sessionBlock is a session in a few lines, however many machines it has.
func sessionBlock(v api.BootSession, cols int) []string {
	share := 0
	if v.Nodes > 0 {
		share = 100 * v.Up / v.Nodes
	}
	head := fmt.Sprintf("boot #%d  started %s  %s %s", v.Number, v.Started.UTC().Format(time.TimeOnly), map[bool]string{true: "elapsed", false: "took"}[v.State == api.SessionRunning], lasting(v.Took))
	who := machines(v)
	lines := []string{head + strings.Repeat(" ", max(2, min(cols, 80)-len(head)-len(who))) + who}
	full := barWidth * share / 100
	up := fmt.Sprintf("  up %s %s%s %3d%%", thousands(v.Up), strings.Repeat("█", full), strings.Repeat("░", barWidth-full), share)
	if v.ToUp.Count > 0 {
		up += fmt.Sprintf("   p50 %s  p95 %s  max %s", lasting(v.ToUp.P50), lasting(v.ToUp.P95), lasting(v.ToUp.Max))
	}
	if v.ETA > 0 {
		up += "   eta " + lasting(v.ETA)
	}
	lines = append(lines, up)
	if here := phasesText(v); here != "" {
		lines = append(lines, "  at "+here)
	}
	for i, e := range v.Errors {
		if i == blockErrors {
			break
		}
		if i == 0 {
			lines = append(lines, fmt.Sprintf("  failed %s, silent %s", thousands(v.Failed), thousands(v.Silent)))
		}
		lines = append(lines, fmt.Sprintf("    %s %s %s  %s", mark(e.State), thousands(e.Count), cut(errorText(e), max(cols/2, 30)), e.Nodes))
	}
	if n := moreOf(v).Errors + max(len(v.Errors)-blockErrors, 0); n > 0 {
		lines = append(lines, fmt.Sprintf("    and %d more: wulf boot show %d", n, v.Number))
	}
	if relays := relaysText(v); relays != "" {
		lines = append(lines, "  relays  "+relays)
	}
	if v.Again > 0 {
		lines = append(lines, fmt.Sprintf("  begun anew %s", thousands(v.Again)))
	}
	if v.Since.After(v.Started) {
		lines = append(lines, fmt.Sprintf("  %s listens since %s, and may not know all", or(string(v.By)), v.Since.UTC().Format(time.TimeOnly)))
	}
	return lines
}

// phasesText is where the machines are that boot.
func phasesText(v api.BootSession) string {
	var parts []string
	for _, ph := range v.Phases {
		if ph.At > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", ph.Stage, thousands(ph.At)))
		}
	}
	text := strings.Join(parts, " · ")
	if v.Queued > 0 {
		text += fmt.Sprintf(" (queued %s)", thousands(v.Queued))
	}
	return text
}

// relaysText names the worst relays, those about which there is something to say.
func relaysText(v api.BootSession) string {
	var parts []string
	for _, r := range v.Relays {
		var says []string
		if r.Dead {
			says = append(says, "dead")
		}
		if n := r.Failed + r.Silent; n > 0 {
			says = append(says, fmt.Sprintf("%s of %s not up", thousands(n), thousands(r.Nodes)))
		}
		if r.Queue > 0 {
			says = append(says, "queue "+thousands(r.Queue))
		}
		if len(says) > 0 && len(parts) < 4 {
			parts = append(parts, or(string(r.Relay))+" "+strings.Join(says, ", "))
		}
	}
	return strings.Join(parts, " · ")
}

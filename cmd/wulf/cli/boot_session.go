package cli

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
)

// lastSession is what the newest session is called where a number is asked for.
const lastSession = "last"

// sessionRef is a session as somebody names it: by number, with or without #, or last.
func sessionRef(word string) (string, bool) {
	word = strings.TrimPrefix(word, "#")
	_, err := strconv.ParseUint(word, 10, 64)
	return word, err == nil || word == lastSession
}

// session fetches all of a session.
func (c *client) session(ref string) (v api.BootSession, err error) {
	if named, ok := sessionRef(ref); ok {
		ref = named
	}
	c.stale = "" // sessions are what this controller has heard, in any case
	return v, c.get(pathOf(api.PathBootSession, ref), &v)
}

func sessionNumber(v api.BootSession) string { return strconv.FormatUint(v.Number, 10) }

func (p *program) sessionList(c *cli.Context, cl *client) error {
	cl.stale = ""
	list, err := fetch[api.BootSession](cl, api.PathBootSessions)
	if err != nil {
		return err
	}
	count := func(n int) string { return thousands(n) }
	return printList(p, c, listing[api.BootSession]{
		list: list,
		name: sessionNumber,
		columns: []column[api.BootSession]{
			{name: "SESSION", cell: func(v api.BootSession) string { return "#" + sessionNumber(v) }},
			{name: "STATE", cell: func(v api.BootSession) string { return v.State }},
			{name: "STARTED", cell: func(v api.BootSession) string { return ago(v.Started) }},
			{name: "TOOK", cell: func(v api.BootSession) string { return lasting(v.Took) }},
			{name: "NODES", cell: func(v api.BootSession) string {
				if v.Single != "" {
					return v.Single
				}
				return count(v.Nodes)
			}},
			{name: "UP", cell: func(v api.BootSession) string { return count(v.Up) }},
			{name: "FAILED", cell: func(v api.BootSession) string { return count(v.Failed) }},
			{name: "SILENT", cell: func(v api.BootSession) string { return count(v.Silent) }},
			{name: "BOOTING", wide: true, cell: func(v api.BootSession) string { return count(v.Booting) }},
			{name: "AGAIN", wide: true, cell: func(v api.BootSession) string { return count(v.Again) }},
			{name: "P50", cell: func(v api.BootSession) string { return spreadText(v.ToUp, v.ToUp.P50) }},
			{name: "P95", cell: func(v api.BootSession) string { return spreadText(v.ToUp, v.ToUp.P95) }},
			{name: "MAX", wide: true, cell: func(v api.BootSession) string { return spreadText(v.ToUp, v.ToUp.Max) }},
			{name: "BYTES", wide: true, cell: func(v api.BootSession) string { return size(v.Bytes) }},
			{name: "IMAGE", cell: func(v api.BootSession) string { return or(imagesText(v.Images, 2)) }},
		},
	})
}

// spreadText is a duration of a spread, - where nothing was measured.
func spreadText(s api.Spread, d time.Duration) string {
	if s.Count == 0 {
		return "-"
	}
	return lasting(d)
}

// lasting is how long something took, to the second: 92s, 3m41s; below a second, 250ms.
func lasting(d time.Duration) string {
	switch d = max(d, 0); {
	case d == 0:
		return "0s"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d.Round(time.Second)/time.Second)
	case d < 2*time.Hour:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
}

// imagesText names some versions of images: debian@1a2b3c4d5e6f, and so on.
func imagesText(images []api.SessionImage, most int) string {
	var all []string
	for i, image := range images {
		if i == most {
			all = append(all, "…")
			break
		}
		text := or(image.Image)
		if !image.Manifest.IsZero() {
			text += "@" + image.Manifest.Short()
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

func (p *program) bootShow(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	ref := c.Args().First()
	if ref == "" {
		ref = lastSession
	}
	v, err := cl.session(ref)
	if err != nil {
		return err
	}
	return p.show(c, v, func(r *report) { sessionReport(r, v) })
}

// sessionReport tells all of a session.
func sessionReport(r *report, v api.BootSession) {
	r.line("boot #%d %s, started %s, took %s, %s", v.Number, v.State, v.Started.UTC().Format(time.DateTime), lasting(v.Took), machines(v))
	r.line("%s", countsText(v))
	if v.ToUp.Count > 0 {
		r.line("to up: p50 %s, p95 %s, p99 %s, max %s", lasting(v.ToUp.P50), lasting(v.ToUp.P95), lasting(v.ToUp.P99), lasting(v.ToUp.Max))
	}
	r.line("")
	rows := [][]string{{"PHASE", "HERE", "PASSED", "P50", "P95", "P99", "MAX"}}
	for _, ph := range v.Phases {
		rows = append(rows, []string{string(ph.Stage), thousands(ph.At), thousands(ph.Passed),
			spreadText(ph.Spread, ph.P50), spreadText(ph.Spread, ph.P95), spreadText(ph.Spread, ph.P99), spreadText(ph.Spread, ph.Max)})
	}
	r.rows(rows)
	if len(v.Errors) > 0 {
		r.line("")
		for _, e := range v.Errors {
			r.line("%s %s: %s", mark(e.State), plural(e.Count, "node"), errorText(e))
			r.line("    %s", e.Nodes)
			if e.Fix != "" {
				r.line("    fix: %s", e.Fix)
			}
		}
	}
	if len(v.Relays) > 0 {
		r.line("")
		rows := [][]string{{"RELAY", "NODES", "UP", "FAILED", "SILENT", "P95", "QUEUE", ""}}
		for _, rel := range v.Relays[:min(len(v.Relays), worstRelays)] {
			p95, dead := "-", ""
			if rel.P95 > 0 {
				p95 = lasting(rel.P95)
			}
			if rel.Dead {
				dead = "dead"
			}
			rows = append(rows, []string{or(string(rel.Relay)), thousands(rel.Nodes), thousands(rel.Up), thousands(rel.Failed), thousands(rel.Silent), p95, thousands(rel.Queue), dead})
		}
		r.rows(rows)
		if n := len(v.Relays) - worstRelays; n > 0 {
			r.line("and %s more", plural(n+moreOf(v).Relays, "relay"))
		}
	}
	r.line("")
	for _, image := range v.Images {
		r.line("image %s: %s", imagesText([]api.SessionImage{image}, 1), plural(image.Nodes, "node"))
	}
	r.line("nodes fetched %s; controllers sent %s", size(v.Bytes), egressText(v.Egress))
	r.line("told by %s%s", or(string(v.By)), missed(v))
}

// worstRelays is how many relays people are shown.
const worstRelays = 10

func moreOf(v api.BootSession) api.SessionMore {
	if v.More == nil {
		return api.SessionMore{}
	}
	return *v.More
}

// missed says what the controller that tells of a session may not know.
func missed(v api.BootSession) string {
	if !v.Since.After(v.Started) {
		return ""
	}
	return fmt.Sprintf(", which listens since %s: of what was before, it knows what it wrote down and what relays told it afterwards", v.Since.UTC().Format(time.DateTime))
}

func machines(v api.BootSession) string {
	if v.Single != "" {
		return v.Single
	}
	return thousands(v.Nodes) + " nodes"
}

// countsText is where the machines of a session are: 31,210 up, 268 failed.
func countsText(v api.BootSession) string {
	parts := []string{thousands(v.Up) + " up"}
	for _, of := range []struct {
		n    int
		what string
	}{{v.Failed, "failed"}, {v.Silent, "silent"}, {v.Booting, "booting"}, {v.Queued, "of them queued"}, {v.Again, "begun anew"}} {
		if of.n > 0 {
			parts = append(parts, thousands(of.n)+" "+of.what)
		}
	}
	return strings.Join(parts, ", ")
}

// errorText says what went wrong, and after what.
func errorText(e api.SessionError) string {
	switch {
	case e.State == api.ResultSilent && e.Text == "" && e.Stage == "":
		return "not heard of again"
	case e.State == api.ResultSilent && e.Text == "":
		return fmt.Sprintf("not heard of again after %s", e.Stage)
	case e.Stage == "":
		return e.Text
	}
	return fmt.Sprintf("after %s: %s", e.Stage, e.Text)
}

func mark(state string) string {
	if state == api.ResultBooting {
		return "!"
	}
	return "✗"
}

func egressText(all []api.ControllerEgress) string {
	total, parts := int64(0), []string(nil)
	for _, e := range all {
		total += e.Bytes
		parts = append(parts, fmt.Sprintf("%s %s", e.Controller, size(e.Bytes)))
	}
	if len(parts) < 2 {
		return size(total)
	}
	return fmt.Sprintf("%s (%s)", size(total), strings.Join(parts, ", "))
}

// sessionPath is where a session is watched, and whether it is one that has an end. The words are a session or a node set.
func sessionPath(c *cli.Context) (path string, ends bool, err error) {
	ref, query := lastSession, url.Values{"watch": {"true"}}
	if c.NArg() > 0 {
		words := strings.Join(c.Args().Slice(), " ")
		if named, ok := sessionRef(words); ok {
			ref, ends = named, named != lastSession
		} else if err := notEmpty(c, words); err != nil {
			return "", false, err
		} else {
			query.Set("nodes", words)
		}
	}
	return pathOf(api.PathBootSession, ref) + "?" + query.Encode(), ends, nil
}

package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// changeFlags are the flags of every command that changes something.
func changeFlags(more ...cli.Flag) []cli.Flag {
	return append(more,
		toggle("yes", "do not ask", "y"),
		toggle("dry-run", "check it and show what it would do, and do nothing"),
		text("message", "say why, for the history, in a `TEXT`", "m"),
		&cli.Uint64Flag{Name: "if-revision", Usage: "only if nothing has changed since revision `N`"},
		waitFlag(), waitTimeFlag(),
		number("confirm-above", "ask before changing more than `N` nodes (WULF_CONFIRM_ABOVE; default "+strconv.Itoa(usualConfirm)+")"),
	)
}

func waitFlag() cli.Flag { return toggle("wait", "wait until every living relay serves the change") }

func waitTimeFlag() cli.Flag {
	return duration("wait-timeout", time.Minute, "how long to wait, at most `TIME`")
}

// usualConfirm is how many nodes may be changed without being asked: a rack.
const usualConfirm = 48

// mutation is a change on its way: what it does in words, and what there is to lose.
type mutation struct {
	change catalog.Change
	diff   []string         // what it does, for people, before they are asked; nil: the controllers say it
	ask    string           // the question; "": only if it is about many
	count  int              // how many things are lost: of many, the number must be typed
	seen   catalog.Revision // the change holds only if nothing happened since; 0: it holds whatever happened

	message string // for the history, if nobody gives another
}

// perform shows, confirms and makes a change, and waits for the relays if it is told to.
func (p *program) perform(c *cli.Context, cl *client, m mutation) error {
	opt := api.ChangeOptions{If: cmp.Or(catalog.Revision(c.Uint64("if-revision")), m.seen), Message: cmp.Or(c.String("message"), m.message)}
	limit, err := p.confirmAbove(c)
	if err != nil {
		return err
	}
	// It is tried first, so that nobody is asked about what cannot be done.
	v, tried, err := cl.preview(m.change, opt)
	if err != nil {
		return err
	}
	if m.diff == nil {
		if !v.Changed { // and there is no revision that says nothing
			p.say("nothing changes")
			return p.waitIfTold(c, cl, tried)
		}
		m.diff = previewLines(v)
	}
	for _, line := range m.diff {
		fmt.Fprintln(p.err, plainIndented(line))
	}
	if c.Bool("dry-run") {
		fmt.Fprintf(p.err, "dry run: nothing was changed; tried at revision %d\n", tried)
		return nil
	}
	switch {
	case m.ask != "":
	case v.Deleted > 1: // as a revert may, of which nobody knows before
		m.count, m.ask = v.Deleted, fmt.Sprintf("Delete %s?", plural(v.Deleted, "thing"))
	case max(v.Nodes-v.Added, v.Affected) > limit:
		m.ask = "Apply?"
	}
	if m.ask != "" {
		if err := p.confirm(c, m); err != nil {
			return err
		}
		cl.again(c) // the time that somebody takes to think is not the command's
	}
	var made api.ChangeResult
	if err := cl.make(m.change, opt, &made); err != nil {
		return err
	}
	return p.changed(c, cl, made)
}

// changed says at which revision a change happened, and waits for the relays if it is told to.
func (p *program) changed(c *cli.Context, cl *client, made api.ChangeResult) error {
	line := fmt.Sprintf("revision %d", made.Revision)
	if made.By != "" {
		line += " by " + made.By
	}
	if p.hints() && made.Undo != 0 {
		line += fmt.Sprintf(". Undo: wulf revert %d", made.Undo)
	}
	fmt.Fprintln(p.err, line)
	return p.waitIfTold(c, cl, made.Revision)
}

func (p *program) waitIfTold(c *cli.Context, cl *client, rev catalog.Revision) error {
	if !c.Bool("wait") {
		return nil
	}
	return p.waitForRelays(c, cl, rev)
}

// make makes a change.
func (cl *client) make(change catalog.Change, opt api.ChangeOptions, made *api.ChangeResult) error {
	if err := cl.reach(); err != nil {
		return err
	}
	r, err := cl.Make(cl.ctx, change, opt)
	*made = r
	return unreached(err)
}

// preview asks what a change would do.
func (cl *client) preview(change catalog.Change, opt api.ChangeOptions) (*catalog.Preview, catalog.Revision, error) {
	if err := cl.reach(); err != nil {
		return nil, 0, err
	}
	v, rev, err := cl.Preview(cl.ctx, change, opt)
	return v, rev, unreached(err)
}

// again lets the time that the command may take begin anew.
func (cl *client) again(c *cli.Context) {
	cl.cancel()
	cl.ctx, cl.cancel = context.WithTimeout(c.Context, c.Duration("timeout"))
}

// confirm asks a person. Where there is none it fails, instead of waiting for ever.
// askYes asks a question of which the answer is yes or no.
func (p *program) askYes(ctx context.Context, question string) (bool, error) {
	fmt.Fprint(p.err, question+" [y/N] ")
	said, err := p.readLine(ctx)
	said = strings.ToLower(strings.TrimSpace(said))
	return said == "y" || said == "yes", err
}

func (p *program) confirm(c *cli.Context, m mutation) error {
	if c.Bool("yes") {
		return nil
	}
	if !p.tty.in {
		return fault.New(fault.Invalid, "nobody is there to be asked: %s", m.ask).WithFix("add --yes")
	}
	ask, err := p.inContext(c, m.ask)
	if err != nil {
		return err
	}
	limit, err := p.confirmAbove(c)
	if err != nil {
		return err
	}
	want, prompt := "y", ask+" [y/N] "
	if m.count > limit {
		want = strconv.Itoa(m.count)
		prompt = fmt.Sprintf("%s Type %s to go on: ", ask, want)
	}
	fmt.Fprint(p.err, prompt)
	said, err := p.readLine(c.Context)
	if err != nil {
		return err
	}
	if said = strings.ToLower(strings.TrimSpace(said)); said != want && (want != "y" || said != "yes") {
		return errors.New("nothing was changed")
	}
	return nil
}

// readLine reads what somebody types, until they do or the program is told to end.
func (p *program) readLine(ctx context.Context) (string, error) {
	typed := make(chan string, 1)
	go func() { // it ends with the process where nobody types: a terminal cannot be told to stop reading
		line, _ := bufio.NewReader(p.in).ReadString('\n')
		typed <- line
	}()
	select {
	case line := <-typed:
		return line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (p *program) confirmAbove(c *cli.Context) (int, error) {
	if c.IsSet("confirm-above") {
		return c.Int("confirm-above"), nil
	}
	s := p.env.Getenv("WULF_CONFIRM_ABOVE")
	if s == "" {
		return p.contextConfirm(c, usualConfirm)
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fault.New(fault.Invalid, "WULF_CONFIRM_ABOVE=%s is not a number", s)
	}
	return n, nil
}

// waitForRelays returns when every relay that is alive serves a revision. Those that are not alive are named and not
// waited for: they take it when they come back.
func (p *program) waitForRelays(c *cli.Context, cl *client, rev catalog.Revision) error {
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("wait-timeout"))
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var behind, dead []string
	for {
		var list api.List[api.RelayView]
		err := cl.Get(ctx, api.PathRelays, &list)
		if err == nil {
			if behind, dead = laggards(list.Items, rev); len(behind) == 0 {
				break
			}
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		if c.Context.Err() != nil {
			return c.Context.Err()
		}
		if len(behind) == 0 {
			return fault.Wrap(fault.Timeout, err, "the change was made, but the relays cannot be asked about it")
		}
		return fault.New(fault.Timeout, "the change was made, but after %s these relays do not serve revision %d yet: %s",
			c.Duration("wait-timeout"), rev, nodeset.Fold(behind)).WithFix("see wulf relay list")
	}
	if len(dead) > 0 {
		fmt.Fprintf(p.err, "not waited for, as nothing is heard of them: %s\n", nodeset.Fold(dead))
	}
	return nil
}

// laggards are the relays that do not serve a revision yet, and those of which nothing is heard.
func laggards(relays []api.RelayView, rev catalog.Revision) (behind, dead []string) {
	for _, r := range relays {
		switch {
		case !r.Alive:
			dead = append(dead, string(r.Name))
		case r.Status == nil || r.Status.Revision < rev:
			behind = append(behind, string(r.Name))
		}
	}
	return behind, dead
}

// plainIndented is plain, keeping the spaces that a line begins with.
func plainIndented(line string) string {
	rest := strings.TrimLeft(line, " ")
	return line[:len(line)-len(rest)] + plain(rest)
}

package cli

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// How often nodes are looked at while they are waited for. It grows, for many nodes are a long list.
const (
	firstLook = 200 * time.Millisecond
	lastLook  = 2 * time.Second
)

func syncFlags() []cli.Flag {
	return append(selectFlags(), text("message", "say why, for the history, in a `TEXT`", "m"),
		toggle("wait", "wait until the nodes have done it, and tell which could not"), waitTimeFlag())
}

// nodeSync asks running nodes to look after their runtime overlays now.
func (p *program) nodeSync(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	names, err := p.namedNodes(c, cl)
	if err != nil {
		return err
	}
	var made api.ChangeResult
	if err := cl.make(catalog.SyncNodes{Nodes: nodeSet(names)}, api.ChangeOptions{Message: c.String("message")}, &made); err != nil {
		return err
	}
	p.say("asked %s at revision %d", counted(names, "node"), made.Revision)
	if !c.Bool("wait") {
		return nil
	}
	return p.waitForNodes(c, cl, names, made.Revision)
}

// synced is what has become of nodes that were asked.
type synced struct {
	done    int
	waiting []string
	down    []string // not up, so nobody waits for them
	failed  []string // NAME: why
}

// waitForNodes returns when the runtime overlays of nodes are as a revision has them, or are known not to get so.
func (p *program) waitForNodes(c *cli.Context, cl *client, names []string, rev catalog.Revision) error {
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("wait-timeout"))
	defer cancel()
	s := synced{waiting: names}
	var unread error
	for look := firstLook; ; look = min(2*look, lastLook) {
		if unread = cl.look(ctx, &s, rev); unread == nil && len(s.waiting) == 0 {
			break
		}
		timer := time.NewTimer(look)
		select {
		case <-timer.C:
			continue
		case <-ctx.Done():
			timer.Stop()
		}
		if c.Context.Err() != nil {
			return c.Context.Err()
		}
		break
	}
	if len(s.down) > 0 {
		p.say("not waited for, as they are not up: %s", nodeset.Fold(s.down))
	}
	var err error
	switch {
	case len(s.waiting) > 0 && unread != nil:
		err = fault.Wrap(fault.Timeout, unread, "the nodes were asked, but nobody can tell what became of it")
	case len(s.waiting) > 0:
		err = fault.New(fault.Timeout, "after %s nothing was heard of %s", c.Duration("wait-timeout"), counted(s.waiting, "node")).WithFix("see wulf node why %s", s.waiting[0])
	case len(s.failed) == 0:
		p.say("in step: %s", plural(s.done, "node"))
		return nil
	}
	for _, line := range s.failed {
		p.say("%s", plain(line))
	}
	if len(s.failed) > 0 {
		err = errors.Join(fault.New(fault.Internal, "%s could not do all", plural(len(s.failed), "node")), err)
	}
	if s.done == 0 {
		return err
	}
	return &partialError{done: plural(s.done, "node") + " in step", err: err}
}

// look asks about the nodes that are still waited for.
func (cl *client) look(ctx context.Context, s *synced, rev catalog.Revision) error {
	q := api.NodeQuery{Nodes: nodeset.Fold(s.waiting), Any: true, Columns: []string{"name", "state", "runtime-revision", "runtime"}}
	var t api.NodeTable
	if err := cl.Query(ctx, api.PathQuery, q, &t); err != nil {
		return err
	}
	s.waiting = nil
	for _, row := range t.Rows {
		name, state, how := row[0], row[1], row[3]
		follows, _ := strconv.ParseUint(row[2], 10, 64)
		switch {
		case state != string(boot.StageUp):
			s.down = append(s.down, name)
		case catalog.Revision(follows) < rev:
			s.waiting = append(s.waiting, name)
		case strings.HasPrefix(how, api.RuntimeFailed):
			s.failed = append(s.failed, name+" "+how)
		default:
			s.done++
		}
	}
	return nil
}

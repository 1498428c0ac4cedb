package cli

import (
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// maxSetFile bounds a file of node sets, and what is read from standard input. Their grammar allows no more.
const maxSetFile = 4 << 20

// selectFlags choose among the nodes of a set, without a character that a shell would take for its own.
func selectFlags() []cli.Flag {
	return []cli.Flag{
		text("exclude", "without the nodes of `NODESET`", "x"),
		texts("select", "only nodes of which `COLUMN=VALUE` holds; also COLUMN!=VALUE, COLUMN (it is decided), !COLUMN; several, or with commas: all must hold", "l"),
		number("pick", "only `N` of them, evenly spread"),
	}
}

// query is the question for the nodes that a command line names; the sets in files come with it. No words are all nodes
// if orAll, for commands that only look; else a set or a condition must be named: nobody changes all nodes by saying
// nothing.
func (p *program) query(c *cli.Context, orAll bool) (api.NodeQuery, error) {
	q := api.NodeQuery{Nodes: strings.Join(c.Args().Slice(), " "), Exclude: c.String("exclude"), Where: names(c, "select")}
	if c.NArg() > 0 {
		if err := notEmpty(c, q.Nodes); err != nil {
			return q, err
		}
	}
	if q.Nodes == "" && len(q.Where) == 0 && !orAll {
		return q, fault.New(fault.Invalid, "%s needs NODESET", commandOf(c)).WithFix("name nodes, or say which with --select; @* is all of them")
	}
	for _, set := range []string{q.Nodes, q.Exclude} {
		if err := p.readFiles(set, &q); err != nil {
			return q, err
		}
	}
	return q, nil
}

// notEmpty refuses a node set without a word in it: a script's variable that was never set must not be all nodes.
func notEmpty(c *cli.Context, set string) error {
	if strings.TrimSpace(set) != "" {
		return nil
	}
	return fault.New(fault.Invalid, "%s was given a node set with nothing in it", commandOf(c)).WithFix("@* is all nodes")
}

func commandOf(c *cli.Context) string {
	return "wulf " + strings.TrimPrefix(c.Command.HelpName, "wulf ")
}

// readFiles reads the files that a node set names. What a group is, only the controllers know; here all are empty.
func (p *program) readFiles(set string, q *api.NodeQuery) error {
	if !strings.ContainsAny(set, "^-") {
		return nil
	}
	_, err := nodeset.Parser{
		Groups: anyGroup{},
		Match:  func(*regexp.Regexp) ([]string, error) { return nil, nil },
		Read: func(file string) (string, error) {
			if text, ok := q.Files[file]; ok {
				return text, nil
			}
			text, err := readSets(p.in, file)
			if err != nil {
				return "", err
			}
			if q.Files == nil {
				q.Files = map[string]string{}
			}
			q.Files[file] = text
			return text, nil
		},
	}.Parse(set)
	return err
}

// anyGroup has every group, with nobody in it.
type anyGroup struct{}

// Group returns no nodes.
func (anyGroup) Group(string, string) ([]string, error) { return nil, nil }

// namedNodes are the names of the nodes that a command line chooses, at least one. A name that no node has is an error,
// never left out silently: whoever mistypes a node must not learn it from the node that stays as it was.
func (p *program) namedNodes(c *cli.Context, cl *client) ([]string, error) {
	q, err := p.query(c, false)
	if err != nil {
		return nil, err
	}
	all, err := cl.names(c, q)
	if err == nil && len(all) == 0 {
		err = nobody(q)
	}
	return all, err
}

// names are the names of the nodes that a question is about.
func (cl *client) names(c *cli.Context, q api.NodeQuery) ([]string, error) {
	t, err := cl.table(q, "name")
	if err != nil {
		return nil, err
	}
	all := make([]string, len(t.Rows))
	for i, row := range t.Rows {
		all[i] = row[0]
	}
	return picked(c, all)
}

// picked are as many of the things as --pick says, evenly spread over them, so that a try-out reaches every rack.
func picked[T any](c *cli.Context, all []T) ([]T, error) {
	if !c.IsSet("pick") {
		return all, nil
	}
	n := c.Int("pick")
	if n < 1 {
		return nil, fault.New(fault.Invalid, "--pick %d is not a number of nodes", n)
	}
	if n >= len(all) {
		return all, nil
	}
	out := make([]T, n)
	for i := range out {
		out[i] = all[i*len(all)/n]
	}
	return out, nil
}

func nobody(q api.NodeQuery) error {
	var said string
	if q.Nodes != "" {
		said = " in " + q.Nodes
	}
	if q.Exclude != "" {
		said += " without " + q.Exclude
	}
	if where := strings.Join(q.Where, ", "); where != "" {
		if said == "" {
			return fault.New(fault.NotFound, "%s holds of no node", where)
		}
		said += " with " + where
	}
	return fault.New(fault.NotFound, "no node is%s", said)
}

// chosen are the nodes that --pick leaves of those that a question found. To have asked for some and found none is an
// error, also for commands that only look: a script would go on with nothing, or with everything.
func chosen[T any](c *cli.Context, q api.NodeQuery, found []T) ([]T, error) {
	if len(found) == 0 && (q.Nodes != "" || len(q.Where) > 0) {
		return nil, nobody(q)
	}
	return picked(c, found)
}

// table asks for columns of nodes.
func (c *client) table(q api.NodeQuery, columns ...string) (api.NodeTable, error) {
	q.Columns = columns
	var t api.NodeTable
	err := c.ask(func() error { return c.Query(c.ctx, api.PathQuery+c.stale, q, &t) })
	return t, err
}

// views asks for all that is known of nodes.
func (c *client) views(q api.NodeQuery) (api.List[api.NodeView], error) {
	list := api.List[api.NodeView]{Items: []api.NodeView{}}
	q.Columns = nil
	err := c.ask(func() error { return c.Query(c.ctx, api.PathQuery+c.stale, q, &list) })
	return list, err
}

// newNames are names for nodes that do not exist yet: groups and expressions say nothing about them.
func newNames(words []string) ([]string, error) {
	set, err := nodeset.Parse(strings.Join(words, " "))
	if err != nil {
		return nil, err
	}
	if set.Len() == 0 {
		return nil, fault.New(fault.Invalid, "no node is in %s", strings.Join(words, " "))
	}
	return set.Names(), nil
}

// readSets reads a file of node sets; "-" is standard input.
func readSets(stdin io.Reader, file string) (string, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fault.Wrap(fault.NotFound, err, "reading node sets")
		}
		defer f.Close()
		stdin = f
	}
	b, err := io.ReadAll(io.LimitReader(stdin, maxSetFile+1))
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "reading node sets")
	}
	if len(b) > maxSetFile {
		return "", fault.New(fault.Invalid, "the node sets have more than %d bytes", maxSetFile)
	}
	return string(b), nil
}

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/controller"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Where controllers and relays keep their data.
const (
	controllerData = "/var/lib/wulf/controller"
	relayData      = "/var/lib/wulf/relay"
)

func dataFlag(path string) cli.Flag {
	return &cli.StringFlag{Name: "data", Usage: "keep everything in `DIR`", Value: path}
}

func (p *program) controller() *cli.Command {
	place := func(more ...cli.Flag) []cli.Flag {
		return append(more, dataFlag(controllerData),
			text("name", "its `NAME`; else the host's"),
			text("listen", fmt.Sprintf("listen at `ADDRESS:PORT` (default :%d)", api.PortController)),
			text("advertise", "the `IP:PORT` where other controllers and relays reach it"))
	}
	return noun("controller", "who keeps the declared state: one, three or five of them",
		verb{
			name: "init", usage: "make the first controller of a new cluster",
			examples: []string{"wulf controller init --cluster hpc", "wulf controller init --cluster hpc --advertise 10.0.0.1:4400"},
			flags:    place(text("cluster", "the cluster's `NAME`; else the host's")), run: p.controllerInit,
		},
		verb{
			name: "token", usage: "make a token with which one more controller may join",
			about:    "The token is printed on standard output, and cannot be shown again.",
			examples: []string{"wulf controller token --name c2"},
			flags:    tokenFlags(), run: func(c *cli.Context) error { return p.token(c, catalog.TokenController) },
		},
		verb{
			name: "join", usage: "make this machine a controller of a cluster", args: "TOKEN HOST:PORT…", least: 2, most: unlimited,
			about:    "HOST:PORT is any controller of the cluster. TOKEN may be - to read it from standard input, which keeps it out of the list of processes.",
			examples: []string{"wulf controller join TOKEN 10.0.0.1:4400"},
			flags:    place(), run: p.controllerJoin,
		},
		verb{
			name: "run", usage: "be a controller, until told to stop; in an empty directory, of a new cluster",
			examples: []string{"wulf controller run"},
			flags:    append(place(text("cluster", "the `NAME` of a new cluster")), logFlags()...), run: p.controllerRun,
		},
		verb{
			name: "list", aliases: []string{"ls"}, usage: "list controllers, who leads, and who is alive",
			examples: []string{"wulf controller list"}, flags: listFlags(), run: p.controllerList,
		},
		verb{
			name: "status", usage: "say how the controller that answers is",
			examples: []string{"wulf controller status", "wulf --endpoint 10.0.0.2:4400 controller status -o json"},
			flags:    showFlags(), run: p.controllerStatus,
		},
		verb{
			name: "leader", usage: "hand leadership to another controller", args: "[CONTROLLER]", most: 1,
			examples: []string{"wulf controller leader", "wulf controller leader c2"}, run: p.controllerLeader,
		},
		verb{
			name: "remove", usage: "take a controller out of the cluster for good", args: "CONTROLLER", least: 1, most: 1,
			examples: []string{"wulf controller remove c3"},
			flags:    []cli.Flag{toggle("yes", "do not ask", "y")}, run: p.controllerRemove,
		},
		verb{
			name: "operator", usage: "make credentials with which an operator may use the API from elsewhere, for a working day", args: "NAME", least: 1, most: 1,
			about:    "It is made with the cluster's own authority, which only root on a controller may read.",
			examples: []string{"wulf controller operator alice --out alice.pem"},
			flags:    []cli.Flag{dataFlag(controllerData), text("out", "write them to `FILE` (default NAME.pem)")}, run: p.controllerOperator,
		},
	)
}

// tokenFlags are what a join token may say, for controllers and relays.
func tokenFlags(more ...cli.Flag) []cli.Flag {
	return append(more,
		text("name", "whoever joins with it gets `NAME`; else it may choose"),
		duration("ttl", time.Hour, "it is good for `TIME`"),
		number("uses", "it is good for `N` joins (default 1)"))
}

// token makes a join token. Only the token itself is data.
func (p *program) token(c *cli.Context, role string) error {
	q := api.TokenRequest{Role: role, Name: c.String("name"), Rack: c.String("rack"), Zone: c.String("zone"), Uses: 1, TTL: c.Duration("ttl")}
	for _, n := range names(c, "networks") {
		q.Networks = append(q.Networks, catalog.NetworkName(n))
	}
	if c.IsSet("uses") {
		q.Uses = c.Int("uses")
	}
	switch { // 0 would mean the usual to the controller
	case q.Uses < 1:
		return fault.New(fault.Invalid, "a token cannot be used %d times", q.Uses)
	case q.TTL <= 0:
		return fault.New(fault.Invalid, "a token cannot live for %s", q.TTL)
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	if err := cl.reach(); err != nil {
		return err
	}
	var t api.TokenResult
	if err := cl.Post(cl.ctx, api.PathTokens, q, &t); err != nil {
		return unreached(err)
	}
	fmt.Fprintln(p.out, t.Token)
	if p.hints() {
		fmt.Fprintf(p.err, "good until %s. On the new %s, as root: wulf %s join %s %s\n",
			t.Expires.Local().Format(time.DateTime), role, role, t.Token, strings.Join(t.Endpoints, " "))
	}
	return nil
}

// settingsOf are what the flags say of a controller; what they do not say is left for the controller to choose.
func settingsOf(c *cli.Context) controller.Settings {
	return controller.Settings{
		Cluster: c.String("cluster"), Name: catalog.ControllerName(c.String("name")),
		Listen: c.String("listen"), Advertise: c.String("advertise"),
	}
}

func (p *program) controllerInit(c *cli.Context) error {
	s, err := controller.Init(c.String("data"), settingsOf(c))
	if err != nil {
		return err
	}
	fmt.Fprintf(p.err, "controller %s of the new cluster %s, for others at %s\n", s.Name, s.Cluster, s.Advertise)
	if p.hints() {
		fmt.Fprintln(p.err, "next: systemctl enable --now wulf-controller; wulf network add NAME --cidr PREFIX")
	}
	return nil
}

func (p *program) controllerJoin(c *cli.Context) error {
	token, err := p.joinToken(c)
	if err != nil {
		return err
	}
	ctx, cancel := timeLimit(c)
	defer cancel()
	s, err := controller.Join(ctx, c.String("data"), controller.JoinConfig{Token: token, Endpoints: c.Args().Tail(), Settings: settingsOf(c)})
	if err != nil {
		return err
	}
	fmt.Fprintf(p.err, "controller %s of cluster %s, for others at %s\n", s.Name, s.Cluster, s.Advertise)
	if p.hints() {
		fmt.Fprintln(p.err, "next: systemctl enable --now wulf-controller")
	}
	return nil
}

func (p *program) controllerList(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := fetch[api.ControllerView](cl, api.PathControllers)
	if err != nil {
		return err
	}
	return printList(p, c, listing[api.ControllerView]{
		list: list,
		name: func(v api.ControllerView) string { return string(v.Name) },
		columns: []column[api.ControllerView]{
			{name: "NAME", cell: func(v api.ControllerView) string { return string(v.Name) }},
			{name: "ADDRESS", cell: func(v api.ControllerView) string { return v.API }},
			{name: "ROLE", cell: func(v api.ControllerView) string {
				switch {
				case v.Leader:
					return "leader"
				case v.Voter:
					return "voter"
				}
				return "non-voter"
			}},
			{name: "STATE", cell: func(v api.ControllerView) string { return aliveText(v.Alive) }},
			{name: "JOINED", wide: true, cell: func(v api.ControllerView) string { return ago(v.Joined) }},
		},
	})
}

func aliveText(alive bool) string {
	if alive {
		return "alive"
	}
	return "dead"
}

func (p *program) controllerStatus(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	var s api.ControllerStatus
	if err := cl.get(api.PathStatus, &s); err != nil {
		return err
	}
	return p.show(c, s, func(r *report) {
		r.line("controller %s of cluster %s: %s", s.Name, s.Cluster, s.State)
		r.rows([][]string{
			{"leader", or(s.Leader)}, {"term", fmt.Sprint(s.Term)}, {"revision", fmt.Sprint(s.Revision)}, {"hash", s.Hash.String()},
			{"nodes", fmt.Sprint(s.Nodes)}, {"disk free", size(s.DiskFree)},
			{"sent to relays", fmt.Sprintf("%d chunks, %s", s.ChunksOut, size(s.BytesOut))}, {"version", s.Version},
		})
		for _, problem := range s.Problems {
			r.line("✗ %s", problem)
		}
	})
}

func (p *program) controllerLeader(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	if err := cl.reach(); err != nil {
		return err
	}
	path := api.PathLeader
	if to := c.Args().First(); to != "" {
		path += "?" + url.Values{"to": {to}}.Encode()
	}
	a, err := cl.Do(cl.ctx, api.Request{Method: http.MethodPost, Path: path, Once: true})
	if err != nil {
		return unreached(err)
	}
	a.Body.Close()
	var s api.ControllerStatus
	if err := cl.get(api.PathStatus, &s); err == nil && s.Leader != "" {
		fmt.Fprintf(p.err, "%s leads\n", s.Leader)
	}
	return nil
}

func (p *program) controllerRemove(c *cli.Context) error {
	name := c.Args().First()
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := fetch[api.ControllerView](cl, api.PathControllers)
	if err != nil {
		return err
	}
	if _, err := find("controller", list.Items, []string{name}, func(v api.ControllerView) string { return string(v.Name) }); err != nil {
		return err
	}
	if err := p.confirm(c, mutation{ask: fmt.Sprintf("Take controller %s out of the cluster for good?", name)}); err != nil {
		return err
	}
	cl.again(c)
	if err := cl.Delete(cl.ctx, pathOf(api.PathController, name), nil); err != nil {
		return unreached(err)
	}
	fmt.Fprintf(p.err, "controller %s is removed\n", name)
	if p.hints() {
		fmt.Fprintf(p.err, "next: on %s, systemctl disable --now wulf-controller, and delete its data\n", name)
	}
	return nil
}

func (p *program) controllerOperator(c *cli.Context) error {
	name, err := catalog.ParseName[string]("operator", c.Args().First())
	if err != nil {
		return err
	}
	creds, err := controller.OperatorCredentials(c.String("data"), name)
	if err != nil {
		return err
	}
	path := c.String("out")
	if path == "" {
		path = name + ".pem"
	}
	if _, err := os.Lstat(path); err == nil {
		return fault.New(fault.Conflict, "%s exists already", path).WithFix("choose another name with --out")
	}
	if err := creds.Save(path); err != nil {
		return err
	}
	fmt.Fprintf(p.err, "%s is good until %s; use it with: wulf --credentials %s --endpoint HOST:%d …\n",
		path, creds.Expires().Local().Format(time.DateTime), path, api.PortController)
	return nil
}

// joinToken is the first argument of a join, or the first line of standard input.
func (p *program) joinToken(c *cli.Context) (string, error) {
	token := c.Args().First()
	if token != "-" {
		return token, nil
	}
	line, err := bufio.NewReader(io.LimitReader(p.in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fault.Wrap(fault.Invalid, err, "reading the token from standard input")
	}
	return strings.TrimSpace(line), nil
}

// timeLimit is the time that a command may take.
func timeLimit(c *cli.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.Context, c.Duration("timeout"))
}

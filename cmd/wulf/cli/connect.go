package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// defaultSocket is where root finds the controller of the same machine.
const defaultSocket = "/run/wulf/controller.sock"

// usualTimeout is how long a question or a change may take where nobody says otherwise: an election of a new leader
// fits in several times.
const usualTimeout = 30 * time.Second

func (p *program) globalFlags() []cli.Flag {
	return []cli.Flag{
		text("endpoint", "ask the controllers at `HOST:PORT`[,…], or unix:PATH (WULF_ENDPOINTS)"),
		text("credentials", "the `FILE` with the operator's key and certificate, for HOST:PORT (WULF_CREDENTIALS)"),
		text("context", "ask as context `NAME` says (WULF_CONTEXT; see wulf context --help)"),
		text("socket", "the `PATH` of the controller's socket on this machine (WULF_SOCKET; default "+defaultSocket+")"),
		duration("timeout", usualTimeout, "give up after `TIME`"),
	}
}

// client is a connection to the controllers, and the time that a command may take. Call done at the end.
type client struct {
	*api.Client
	ctx    context.Context
	cancel context.CancelFunc
	stale  string // a query for lists that need not be the latest; "" usually
}

// done lets go of the connections.
func (c *client) done() {
	c.cancel()
	c.Close()
}

// connect makes a client. It does not speak to anybody yet.
func (p *program) connect(c *cli.Context) (*client, error) {
	api, err := p.newClient(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	out := &client{Client: api, ctx: ctx, cancel: cancel}
	if c.Bool("stale") {
		out.stale = "?consistency=stale"
	}
	return out, nil
}

func (p *program) newClient(c *cli.Context) (*api.Client, error) {
	t, err := p.target(c)
	if err != nil {
		return nil, err
	}
	tls, err := p.controllersTLS(t)
	if err != nil {
		return nil, err
	}
	return api.NewClient(api.ClientConfig{Endpoints: func() []string { return t.endpoints }, TLS: tls}), nil
}

// controllersTLS is how controllers on other machines are asked; nil if there are only sockets to ask.
func (p *program) controllersTLS(t *target) (*tls.Config, error) {
	for _, e := range t.endpoints {
		if strings.HasPrefix(e, api.UnixScheme) {
			continue
		}
		creds, err := p.operator(t.credentials)
		if err != nil {
			return nil, err
		}
		return pki.ClientTLS(pki.NewKeeper(creds), []string{api.ALPNHTTP}, pki.Controller), nil
	}
	return nil, nil
}

func (p *program) socket(c *cli.Context) string {
	return cmp.Or(c.String("socket"), p.env.Getenv("WULF_SOCKET"), defaultSocket)
}

// operator loads the credentials with which controllers on other machines are asked.
func (p *program) operator(path string) (*pki.Credentials, error) {
	const fix = "get some on a controller, as root: wulf controller operator NAME"
	creds, err := pki.LoadCredentials(path)
	switch {
	case errors.Is(err, fault.NotFound):
		return nil, fault.New(fault.Denied, "there are no operator's credentials in %s", path).WithFix("name their file with --credentials, or %s", fix)
	case err != nil:
		return nil, fault.Wrap(fault.KindOf(err), err, "the operator's credentials")
	}
	if end := creds.Expires(); time.Now().After(end) {
		return nil, fault.New(fault.Denied, "the credentials in %s expired at %s", path, end.UTC().Format(time.RFC3339)).WithFix("%s", fix)
	}
	return creds, nil
}

// get fetches JSON into out.
func (c *client) get(path string, out any) error {
	return c.ask(func() error { return c.Get(c.ctx, path+c.stale, out) })
}

// electionTime is how long a question waits for a leader: an election takes seconds, and who asks in the middle of one
// wants the answer and not the news. Where there is no controller at all, nobody waits.
const electionTime = 10 * time.Second

// ask asks until somebody answers who can.
func (c *client) ask(question func() error) error {
	giveUp := time.Now().Add(electionTime)
	for {
		err := question()
		if fault.KindOf(err) != fault.Unavailable || !answered(err) || time.Now().After(giveUp) {
			return unreached(err)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-c.ctx.Done():
			return unreached(err)
		}
	}
}

// answered tells whether an error came from a controller, and not from the attempt to reach one.
func answered(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return !ok || op.Op != "dial"
}

// fetch gets a list.
func fetch[T any](c *client, path string) (api.List[T], error) {
	var list api.List[T]
	err := c.get(path, &list)
	if list.Items == nil {
		list.Items = []T{}
	}
	return list, err
}

// reach asks whether anybody is there at all. A change is asked for again and again until the time is over, which is
// right while leaders change and tedious where there is no controller.
func (c *client) reach() error {
	var status api.ControllerStatus
	return unreached(c.Get(c.ctx, api.PathStatus, &status))
}

// unreached says what can be done about a controller that does not answer.
func unreached(err error) error {
	if fault.KindOf(err) != fault.Unavailable || fault.Fix(err) != "" {
		return err
	}
	op, _ := errors.AsType[*net.OpError](err)
	if answered(err) { // and cannot
		return fault.Wrap(fault.Unavailable, err, "").WithFix("see who is missing: wulf controller list --stale; what is known can be read with --stale")
	}
	cause := op.Err
	if sys, ok := errors.AsType[*os.SyscallError](err); ok {
		cause = sys.Err
	}
	if errors.Is(cause, fs.ErrPermission) {
		return fault.New(fault.Denied, "only root may use the controller's socket").WithFix("use sudo, or name a controller: --endpoint HOST:%d", api.PortController)
	}
	out := fault.New(fault.Unavailable, "no controller answers at %s: %v", op.Addr, cause)
	if op.Net == "unix" {
		return out.WithFix("start it: systemctl start wulf-controller; or name another: --endpoint HOST:%d", api.PortController)
	}
	return out.WithFix("name another: --endpoint HOST:%d", api.PortController)
}

// decodeJSON reads an answer.
func decodeJSON(r io.Reader, out any) error {
	if err := json.NewDecoder(io.LimitReader(r, api.MaxAnswer)).Decode(out); err != nil {
		return fault.Wrap(fault.Unknown, err, "the controller's answer broke off").WithFix("look before you repeat it")
	}
	return nil
}

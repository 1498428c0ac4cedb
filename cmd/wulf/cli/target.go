package cli

import (
	"cmp"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// target is whom a command asks, and as whom.
type target struct {
	context     string // the name of the context in use; "" if there is none
	endpoints   []string
	credentials string // a file
	settings    namedContext
}

// target finds out whom to ask: what the flags say comes before what the environment says, that before the current
// context, and where nobody says anything it is the controller of this machine. A context that is named beside
// endpoints lends its credentials and its habits to them; one that is merely the current one does not, since whoever
// names an endpoint means another cluster, or none that a context knows.
//
// It is found out once, so that the context in a question is the one that the answer goes to.
func (p *program) target(c *cli.Context) (*target, error) {
	if p.asked != nil {
		return p.asked, nil
	}
	t, err := p.findTarget(c)
	if err == nil {
		p.asked = t
	}
	return t, err
}

func (p *program) findTarget(c *cli.Context) (*target, error) {
	if c.IsSet("endpoint") && c.IsSet("socket") {
		return nil, fault.New(fault.Invalid, "--endpoint and --socket exclude one another")
	}
	env := p.env.Getenv
	addressed := c.IsSet("endpoint") || c.IsSet("socket") || env("WULF_ENDPOINTS") != "" || env("WULF_SOCKET") != ""
	byFlag, name := c.IsSet("context"), env("WULF_CONTEXT")
	if byFlag {
		name = c.String("context") // "" is to have none
	}
	t := &target{}
	if name != "" || !byFlag && !addressed {
		if err := p.useContext(t, name); err != nil {
			return nil, err
		}
	}
	byFlag = byFlag && name != ""
	var err error
	switch list := env("WULF_ENDPOINTS"); {
	case c.IsSet("endpoint"):
		t.endpoints, err = parseEndpoints(c.String("endpoint"))
	case c.IsSet("socket"):
		t.endpoints = []string{api.UnixScheme + p.socket(c)}
	case byFlag, t.context != "" && !addressed:
		t.endpoints = t.settings.Endpoints
	case list != "":
		t.endpoints, err = parseEndpoints(list)
	default:
		t.endpoints = []string{api.UnixScheme + p.socket(c)}
	}
	fromEnv := env("WULF_CREDENTIALS")
	if byFlag && t.credentials != "" {
		fromEnv = "" // they belong to another cluster
	}
	t.credentials = cmp.Or(c.String("credentials"), fromEnv, t.credentials, filepath.Join(p.configDir(), "credentials"))
	return t, err
}

// useContext takes over what a context says: the named one, or without a name the current one, if there is one.
func (p *program) useContext(t *target, name string) error {
	all, err := p.contexts()
	if err != nil {
		return err
	}
	if name = cmp.Or(name, all.current); name == "" {
		return nil
	}
	if t.settings, err = all.named(name); err != nil {
		return err
	}
	t.context, t.credentials = name, all.file(t.settings)
	return nil
}

// inContext puts the context in use before a question, so that nobody answers for the wrong cluster.
func (p *program) inContext(c *cli.Context, question string) (string, error) {
	t, err := p.target(c)
	if err != nil || t.context == "" {
		return question, err
	}
	return "context " + t.context + ": " + question, nil
}

// contextConfirm is how many nodes may be changed without being asked, as the context says, or usual.
func (p *program) contextConfirm(c *cli.Context, usual int) (int, error) {
	t, err := p.target(c)
	if err != nil || t.settings.ConfirmAbove == nil {
		return usual, err
	}
	return *t.settings.ConfirmAbove, nil
}

// preferredFormat is the format of those who say nothing about it; "" if there is none. A file of contexts that cannot
// be read is told by who needs it to ask somebody.
func (p *program) preferredFormat(c *cli.Context) string {
	if f := p.env.Getenv("WULF_OUTPUT"); f != "" {
		return f
	}
	if t, err := p.target(c); err == nil {
		return t.settings.Output
	}
	return ""
}

package relay

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// JoinConfig says which cluster a new relay joins, and what it is.
type JoinConfig struct {
	Token     string       // as the cluster gave it out for relays
	Endpoints []string     // host:port of controllers of the cluster; any will do
	Settings  Settings     // what is empty is chosen; a name in the token wins
	Dial      api.DialFunc // nil: the system's network
}

// joinAgain is the pause before a cluster that did not answer is asked again.
const joinAgain = 500 * time.Millisecond

// Join makes a relay in a data directory: it shows the token, gets its certificate, and writes down what it needs to
// run. Until ctx ends it asks again while nobody answers; a token that was used up by an answer that got lost still
// serves the same attempt. A directory that holds a relay already is fault.Conflict.
func Join(ctx context.Context, dir string, cfg JoinConfig) (Settings, error) {
	if err := vacant(dir); err != nil {
		return Settings{}, err
	}
	token, err := pki.ParseToken(cfg.Token)
	if err != nil {
		return Settings{}, err
	}
	s, err := cfg.Settings.withDefaults()
	if err != nil {
		return Settings{}, err
	}
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		return Settings{}, err
	}
	client := api.NewClient(api.ClientConfig{
		Endpoints: func() []string { return cfg.Endpoints },
		TLS:       pki.PinnedTLS(token.CA, []string{api.ALPNHTTP}),
		Dial:      cfg.Dial,
	})
	defer client.Close()
	joined, err := askToJoin(ctx, client, api.JoinRelay{Token: cfg.Token, CSR: csr, Relay: s.declared()})
	if err != nil {
		return Settings{}, err
	}
	own, err := pki.NewCredentials(key, []byte(joined.Certificate), []byte(joined.CA))
	if err != nil {
		return Settings{}, err
	}
	if id := own.Identity(); !own.Trust().Trusts(token.CA) || id.Role != pki.Relay || id.Name != string(joined.Name) {
		return Settings{}, fault.New(fault.Corrupt, "the cluster answered with a certificate for %s, which is not what the token promises", id)
	}
	if err := own.Save(filepath.Join(dir, identityFile)); err != nil {
		return Settings{}, err
	}
	s.Cluster, s.Name, s.Endpoints = own.Trust().Cluster(), joined.Name, joined.Endpoints
	if len(s.Endpoints) == 0 {
		s.Endpoints = cfg.Endpoints
	}
	return s, s.save(dir)
}

// vacant makes the directory, for its owner only, and sees that no relay is in it.
func vacant(dir string) error {
	if _, err := LoadSettings(dir); !errors.Is(err, fault.NotFound) {
		if err != nil {
			return err
		}
		return fault.New(fault.Conflict, "there is a relay in %s already", dir).WithFix("run it with: wulf relay run --data %s", dir)
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700) // it may have been there, open to others
}

func askToJoin(ctx context.Context, client *api.Client, q api.JoinRelay) (joined api.JoinedRelay, err error) {
	for {
		err = client.Post(ctx, api.PathJoinRelay, q, &joined)
		switch fault.KindOf(err) {
		case fault.Unavailable, fault.Unknown, fault.NotLeader, fault.Timeout:
		default:
			return joined, err
		}
		select {
		case <-time.After(joinAgain):
		case <-ctx.Done():
			return joined, err
		}
	}
}

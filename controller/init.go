package controller

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// Init makes the first controller of a new cluster in a data directory: the cluster's keys, the controller's own
// certificate, its settings. What settings do not say is chosen sensibly; what was chosen is returned. The cluster
// itself begins when the controller runs. A directory that holds a controller already is fault.Conflict.
func Init(dir string, s Settings) (Settings, error) {
	if err := vacant(dir); err != nil {
		return Settings{}, err
	}
	s, err := s.withDefaults()
	if err != nil {
		return Settings{}, err
	}
	s.Found, s.Endpoints = true, nil
	shared, err := newSecrets(s.Cluster, time.Now())
	if err != nil {
		return Settings{}, err
	}
	if err := shared.save(dir); err != nil {
		return Settings{}, err
	}
	own, err := issue(shared.ca, pki.Identity{Role: pki.Controller, Name: string(s.Name)}, s.Advertise)
	if err != nil {
		return Settings{}, err
	}
	if err := own.Save(filepath.Join(dir, identityFile)); err != nil {
		return Settings{}, err
	}
	return s, s.save(dir)
}

// Open returns the settings of the controller in a data directory; in an empty one it makes the first controller of
// a new cluster, as Init does.
func Open(dir string, s Settings) (Settings, error) {
	have, err := LoadSettings(dir)
	if errors.Is(err, fault.NotFound) {
		return Init(dir, s)
	}
	return have, err
}

// vacant makes the directory, for its owner only, and sees that no controller is in it. What an attempt left behind
// that did not come to its end is written over.
func vacant(dir string) error {
	if _, err := LoadSettings(dir); !errors.Is(err, fault.NotFound) {
		if err != nil {
			return err
		}
		return fault.New(fault.Conflict, "there is a controller in %s already", dir).WithFix("run it with: wulf controller run --data %s", dir)
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700) // it may have been there, open to others
}

// issue makes a key and a certificate for it.
func issue(ca *pki.CA, id pki.Identity, advertise string) (*pki.Credentials, error) {
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		return nil, err
	}
	cert, err := ca.Sign(csr, id, addressesOf(advertise), id.Role.Validity(), time.Now())
	if err != nil {
		return nil, err
	}
	return pki.NewCredentials(key, cert, ca.Trust().PEM())
}

func addressesOf(advertise string) []netip.Addr {
	if ap, err := netip.ParseAddrPort(advertise); err == nil {
		return []netip.Addr{ap.Addr()}
	}
	return nil
}

// JoinConfig says which cluster a new controller joins, and what it is.
type JoinConfig struct {
	Token     string       // as the cluster gave it out for controllers
	Endpoints []string     // host:port of controllers of the cluster; any will do
	Settings  Settings     // Cluster is not needed; a name in the token wins
	Dial      api.DialFunc // nil: the system's network
}

// joinAgain is the pause before a cluster that did not answer is asked again.
const joinAgain = 500 * time.Millisecond

// Join makes a controller in a data directory that belongs to a cluster: it shows the token, gets certificate and
// keys, and writes them down. The controller takes part in the cluster when it runs. Until ctx ends it asks again
// while nobody answers; a token that was used up by an answer that got lost still serves the same attempt.
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
	joined, err := askToJoin(ctx, client, api.JoinController{Token: cfg.Token, CSR: csr, Name: s.Name, API: s.Advertise})
	if err != nil {
		return Settings{}, err
	}
	own, err := pki.NewCredentials(key, []byte(joined.Certificate), []byte(joined.CA))
	if err != nil {
		return Settings{}, err
	}
	if id := own.Identity(); !own.Trust().Trusts(token.CA) || id.Role != pki.Controller || id.Name != string(joined.Name) {
		return Settings{}, fault.New(fault.Corrupt, "the cluster answered with a certificate for %s, which is not what the token promises", id)
	}
	if _, err := writeSecrets(dir, joined.Keys); err != nil {
		return Settings{}, err
	}
	if err := own.Save(filepath.Join(dir, identityFile)); err != nil {
		return Settings{}, err
	}
	s.Cluster, s.Name, s.Found, s.Endpoints = joined.Cluster, joined.Name, false, joined.Endpoints
	return s, s.save(dir)
}

func askToJoin(ctx context.Context, client *api.Client, q api.JoinController) (joined api.JoinedController, err error) {
	for {
		err = client.Post(ctx, api.PathJoinControl, q, &joined)
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

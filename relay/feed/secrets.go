package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// Secrets is what this relay holds in confidence. It is immutable.
type Secrets struct {
	Gossip   pki.Secret                             // key of the membership protocol; empty before it is known
	Networks map[catalog.NetworkName]pki.NetworkKey // of the networks whose nodes' secrets this relay may hold
	Tickets  map[catalog.NetworkName]pki.NetworkKey // with which a network's tickets and sessions are sealed
	Values   map[string]pki.Secret                  // by catalog.Secret.ID: those of Networks' nodes that are held here
}

// Value is the value of a node's sealed secret; false if it is not held here. Whoever asks makes sure that the node is of
// one of Networks: a secret may be in several networks by one profile, and not be for relays in all of them.
func (s *Secrets) Value(sealed catalog.Secret) (pki.Secret, bool) {
	v, ok := s.Values[sealed.ID()]
	return v, ok
}

// heldSecrets are the secrets and the channel that closes when there are others.
type heldSecrets struct {
	Secrets
	kept    bool // on disk, too
	changed chan struct{}
}

const (
	secretsFile  = "secrets.json"
	maxSecrets   = 4 * api.MaxRelayValues // the file's JSON is larger than what it says
	secretsEvery = time.Minute            // they are asked for, whether or not a reason is seen
	secretsRetry = 5 * time.Second
)

// Secrets returns those held now; before a controller was ever reached, none.
func (f *Feed) Secrets() *Secrets { return &f.secrets.Load().Secrets }

// SecretsChanged returns a channel that closes when Secrets no longer returns what it returns now.
func (f *Feed) SecretsChanged() <-chan struct{} { return f.secrets.Load().changed }

func (f *Feed) secretsPath() string { return filepath.Join(f.cfg.Dir, secretsFile) }

// loadSecrets reads the secrets on disk. A file that others could have read is not used: the controllers have a
// better one.
func (f *Feed) loadSecrets() *heldSecrets {
	none := &heldSecrets{changed: make(chan struct{})}
	info, err := os.Stat(f.secretsPath())
	if errors.Is(err, fs.ErrNotExist) {
		return none
	}
	var s api.RelaySecrets
	if err == nil && (info.Mode().Perm()&0o077 != 0 || info.Size() > maxSecrets) {
		err = fault.New(fault.Denied, "it can be read by others (mode %04o)", info.Mode().Perm())
	}
	if err == nil {
		var b []byte
		if b, err = os.ReadFile(f.secretsPath()); err == nil {
			err = json.Unmarshal(b, &s)
		}
	}
	if err != nil {
		f.say(topicSecrets, fmt.Sprintf("the secrets on disk cannot be used, until a controller answers: %v", err))
		f.cfg.Log.Warn("the secrets on disk cannot be used", "relay", f.cfg.Name, "err", err)
		return none
	}
	return &heldSecrets{readSecrets(s), true, make(chan struct{})}
}

func readSecrets(s api.RelaySecrets) Secrets {
	values := make(map[string]pki.Secret, len(s.Values))
	for id, v := range s.Values {
		values[id] = pki.NewSecret(v)
	}
	return Secrets{Gossip: pki.NewSecret(s.Gossip), Networks: readKeys(s.Networks), Tickets: readKeys(s.Tickets), Values: values}
}

func readKeys(m map[string][]byte) map[catalog.NetworkName]pki.NetworkKey {
	keys := make(map[catalog.NetworkName]pki.NetworkKey, len(m))
	for name, k := range m {
		keys[catalog.NetworkName(name)] = pki.NewNetworkKey(k)
	}
	return keys
}

// followSecrets asks for the secrets at the start, when the relay, one of its networks or the secrets of their nodes
// changed, and now and then.
func (f *Feed) followSecrets(ctx context.Context) {
	for ctx.Err() == nil {
		c := f.Catalog()
		held := f.mayHold(c)
		wait := secretsEvery
		if !f.removed.Load() {
			if err := f.fetchSecrets(ctx); err != nil && ctx.Err() == nil {
				wait = secretsRetry
			}
		}
		for deadline := time.Now().Add(wait); ctx.Err() == nil && time.Now().Before(deadline); {
			changed := f.Changed()
			if now := f.Catalog(); f.bears(c, now) || !slices.Equal(held, f.mayHold(now)) {
				break
			}
			timer := time.NewTimer(time.Until(deadline))
			select {
			case <-changed:
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
		}
	}
}

// mayHold are the sealed secrets whose values this relay may hold, by a catalog.
func (f *Feed) mayHold(c *catalog.Catalog) []catalog.Secret {
	if is, ok := c.Relay(f.cfg.Name); ok {
		return f.confidence.HeldBy(c, is)
	}
	return nil
}

// bears tells whether the difference of two catalogs may bear on what this relay may know.
func (f *Feed) bears(old, c *catalog.Catalog) bool {
	was, _ := old.Relay(f.cfg.Name)
	is, _ := c.Relay(f.cfg.Name)
	if was != is { // an unchanged thing is the same pointer in all revisions that follow by deltas
		return true
	}
	if is == nil {
		return false
	}
	for _, name := range is.Networks {
		a, _ := old.Network(name)
		b, _ := c.Network(name)
		if a != b {
			return true
		}
	}
	return false
}

func (f *Feed) fetchSecrets(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var s api.RelaySecrets
	if err := f.cfg.Client.Get(ctx, api.PathSecrets, &s); err != nil {
		return err
	}
	problem := ""
	if s.LeftOut > 0 {
		problem = fmt.Sprintf("%d secrets of nodes were not sealed in this cluster, or are too many: nodes do without; set them anew", s.LeftOut)
	}
	now, next := f.secrets.Load(), readSecrets(s)
	if same(now.Secrets, next) && now.kept {
		f.say(topicSecrets, problem)
		return nil
	}
	b, err := json.Marshal(s)
	if err == nil {
		err = f.cfg.Disk.WriteFile(f.secretsPath(), b, 0o600)
	}
	if err != nil {
		problem = "the secrets cannot be kept on disk: " + err.Error()
		f.cfg.Log.Error("the secrets cannot be kept on disk", "relay", f.cfg.Name, "err", err)
	}
	f.say(topicSecrets, problem)
	f.secrets.Store(&heldSecrets{next, err == nil, make(chan struct{})})
	close(now.changed)
	return nil
}

func same(a, b Secrets) bool {
	eq := func(x, y pki.NetworkKey) bool { return x.Equal(y.Secret) }
	return a.Gossip.Equal(b.Gossip) && maps.EqualFunc(a.Networks, b.Networks, eq) && maps.EqualFunc(a.Tickets, b.Tickets, eq) &&
		maps.EqualFunc(a.Values, b.Values, pki.Secret.Equal)
}

// dropSecrets forgets what a relay that was removed must no longer hold.
func (f *Feed) dropSecrets() {
	now := f.secrets.Swap(&heldSecrets{changed: make(chan struct{})})
	close(now.changed)
	if err := os.Remove(f.secretsPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.say(topicSecrets, "the secrets of a removed relay are still on disk: "+err.Error())
	}
}

package feed_test

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const sealed = catalog.Secret(catalog.SealedPrefix + "munge")

// munge are the secrets of a relay that may hold the value of sealed.
var munge = api.RelaySecrets{Gossip: []byte("gossip"), Values: map[string][]byte{sealed.ID(): []byte("open sesame")}}

// armedNode is a node that has the secret, in the relay's network.
var armedNode = catalog.AddNodes{Nodes: []catalog.Node{{Name: "n1", Settings: catalog.Settings{
	Nets:    map[string]catalog.NetDev{catalog.DefaultNet: {Hardware: new(catalog.HardwareAddr("52:54:00:00:00:01")), Address: new(netip.MustParseAddr("10.1.0.9"))}},
	Secrets: map[string]catalog.Secret{"munge": sealed},
}}}}

func TestSecretsOfNodesAreAskedForWhenTheyChangeAndForgottenWhenTheyGo(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		s := newSetup(t, h, dir)
		c := &controller{history: h, name: "c1", secrets: api.RelaySecrets{Gossip: []byte("gossip")}}
		defer c.start(s.net.Host("c1", "10.0.0.1"))()
		f := s.open(s.config("10.0.0.1:4400"))
		halt := s.run(f)
		wait := func(change catalog.Change) { // far less than the relay asks by itself
			h.change(change)
			time.Sleep(time.Second)
		}
		value := func() string {
			v, _ := f.Secrets().Value(sealed)
			return string(v.Reveal())
		}
		time.Sleep(time.Second)
		c.hold(munge)
		wait(armedNode)
		if got := value(); got != "open sesame" {
			t.Fatalf("the relay holds %q", got)
		}
		path := filepath.Join(dir, "secrets.json")
		if i, err := os.Stat(path); err != nil || i.Mode().Perm() != 0o600 {
			t.Errorf("on disk: %v, %v", i, err)
		}
		told := c.tells()
		wait(catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Set: catalog.Settings{Comment: new("nothing secret")}})
		if n := c.tells(); n != told {
			t.Errorf("it asked %d times because of a comment", n-told)
		}
		halt()
		f = s.open(s.config("10.0.0.1:4400"))
		if got := value(); got != "open sesame" {
			t.Errorf("after a restart it holds %q", got)
		}
		defer s.run(f)()
		time.Sleep(time.Second)
		c.hold(api.RelaySecrets{Gossip: []byte("gossip")})
		wait(catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Unset: []string{"secrets.munge"}})
		b, err := os.ReadFile(path)
		if got := value(); got != "" || err != nil || bytes.Contains(b, []byte(sealed.ID())) {
			t.Errorf("it still holds %q; on disk: %s, %v", got, b, err)
		}
	})
}

func TestSecretsThatCouldNotBeKeptAreKeptLater(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.change(armedNode)
		s := newSetup(t, h, dir)
		defer (&controller{history: h, name: "c1", secrets: munge}).start(s.net.Host("c1", "10.0.0.1"))()
		var full atomic.Bool
		full.Store(true)
		cfg := s.config("10.0.0.1:4400")
		cfg.Disk = durable.FS{Hook: func(op durable.Op, path string) error {
			if full.Load() && op == durable.OpWrite && strings.Contains(path, "secrets") {
				return fault.New(fault.Full, "no space left")
			}
			return nil
		}}
		f := s.open(cfg)
		defer s.run(f)()
		time.Sleep(5 * time.Minute)
		if _, ok := f.Secrets().Value(sealed); !ok {
			t.Error("they are not used")
		}
		if p := strings.Join(f.State().Problems, "\n"); !strings.Contains(p, "secrets cannot be kept on disk") {
			t.Errorf("nothing is said about the full disk: %q", p)
		}
		full.Store(false)
		time.Sleep(5 * time.Minute)
		if b, err := os.ReadFile(filepath.Join(dir, "secrets.json")); err != nil || !bytes.Contains(b, []byte(sealed.ID())) || len(f.State().Problems) > 0 {
			t.Errorf("on disk: %s, %v; problems %q", b, err, f.State().Problems)
		}
	})
}

func TestSecretsThatAControllerCannotGiveAreAProblem(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		s := newSetup(t, h, dir)
		c := &controller{history: h, name: "c1", secrets: api.RelaySecrets{LeftOut: 2}}
		defer c.start(s.net.Host("c1", "10.0.0.1"))()
		f := s.open(s.config("10.0.0.1:4400"))
		defer s.run(f)()
		time.Sleep(time.Second)
		if p := strings.Join(f.State().Problems, "\n"); !strings.Contains(p, "2 secrets of nodes") {
			t.Errorf("problems %q", p)
		}
		c.hold(munge)
		time.Sleep(2 * time.Minute)
		if p := f.State().Problems; len(p) > 0 {
			t.Errorf("problems %q", p)
		}
	})
}

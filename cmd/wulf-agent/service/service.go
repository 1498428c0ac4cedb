// Package service is the agent on a running node: it tells that the node is up and alive, and keeps the files of
// the runtime overlays as they are declared.
package service

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"time"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/mesh"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/session"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// Config says where the node's files are and how it reaches the relays.
type Config struct {
	Root string       // "/" on a node
	Dial api.DialFunc // nil: the system's network
	Log  *slog.Logger
	// Reached waits until the node is up in its own opinion; nil asks systemd, if that runs here.
	Reached func(ctx context.Context) error
	// Systemctl is by what units are told that their files have changed; "" is the system's, if its init is systemd.
	Systemctl string
}

// Times.
const (
	defaultInterval = time.Minute
	minInterval     = 5 * time.Second
	requestTime     = 2 * time.Minute
	lastWords       = 10 * time.Second // for telling why it ends
)

// Run is the service; it blocks until ctx ends. Relays that are away only delay it.
func Run(ctx context.Context, cfg Config) error {
	state, err := session.Load(cfg.Root)
	if err != nil {
		return err
	}
	trust, err := pki.ParseTrust([]byte(state.Trust.CA))
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(cfg.Root)
	if err != nil {
		return err
	}
	defer root.Close()
	lock, err := session.Lock(cfg.Root)
	if err != nil {
		return err
	}
	defer lock.Close()
	kept, err := session.OpenKept(cfg.Root)
	if err != nil {
		return err
	}
	defer kept.Close()
	if cfg.Reached == nil {
		cfg.Reached = systemdReached
	}
	m := mesh.New(mesh.Config{Trust: trust, Relays: state.Relays, Dial: cfg.Dial, Log: cfg.Log})
	defer m.Close()
	s := &service{cfg: cfg, state: state, mesh: m}
	s.reporter = mesh.NewReporter(m, boot.Event{Node: state.Node, Hardware: state.Hardware, Boot: state.Boot, Revision: state.Revision, Manifest: state.Manifest})
	s.runtime = s.newRuntime(root, kept)
	return s.run(ctx)
}

type service struct {
	cfg      Config
	state    *session.State
	mesh     *mesh.Mesh
	reporter *mesh.Reporter
	runtime  *runtime
}

func (s *service) run(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	reports, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { s.reporter.Run(reports); close(done) }()
	defer func() { stop(); <-done }()

	s.reporter.Record(boot.Event{Stage: boot.StageInit, Without: s.state.Without})
	if err := s.cfg.Reached(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		s.reporter.Record(boot.Event{Stage: boot.StageInit, Error: err.Error()})
		s.reporter.Flush(lastWords)
		return err
	}
	s.reporter.Record(boot.Event{Stage: boot.StageUp})
	for {
		s.runtime.keep(ctx, time.Now().Add(s.interval()))
		if ctx.Err() != nil {
			return nil
		}
		s.reporter.Record(s.runtime.beat())
		s.renew(ctx)
	}
}

// enter takes up the session that stage one left, or claims the boot where it could not.
func (s *service) enter(ctx context.Context) error {
	if s.state.Session != nil {
		s.mesh.SetSession(*s.state.Session)
		return nil
	}
	held, err := s.mesh.Claim(ctx, s.state.Ticket)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	s.state.Session, s.state.Ticket = &held, ""
	if s.state.Method == catalog.MethodOneStage {
		// What stage one would have told, had it had a network.
		s.reporter.Record(boot.Event{Stage: boot.StageOverlay, Message: "one-stage boot: the kernel unpacked image and overlays"})
	}
	return session.Save(s.cfg.Root, s.state)
}

// interval is the time until the next heart-beat: a little more or less each time, so that nodes that started together do
// not stay together.
func (s *service) interval() time.Duration {
	usual := defaultInterval
	if s.state.Session != nil && s.state.Session.Interval != 0 {
		usual = max(minInterval, s.state.Session.Interval)
	}
	return usual*9/10 + rand.N(usual/5)
}

// renew prolongs the session when less than half of a day is left of it.
func (s *service) renew(ctx context.Context) {
	if s.state.Session == nil || time.Until(s.state.Session.Expires) > 12*time.Hour {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	held, err := s.mesh.Renew(ctx)
	if err != nil {
		s.cfg.Log.Warn("the session is not renewed", "err", err)
		return
	}
	s.state.Session = &held
	if err := session.Save(s.cfg.Root, s.state); err != nil {
		s.cfg.Log.Warn("the session is not kept", "err", err)
	}
}

// systemdReached waits for systemd's default target. Under another init there is nothing to wait for.
func systemdReached(ctx context.Context) error {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return nil
	}
	for {
		// Exit status 0 is "active"; any other is "not yet", or a target that failed, which may still be mended.
		if exec.CommandContext(ctx, "systemctl", "--quiet", "is-active", "default.target").Run() == nil {
			return nil
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waiting for default.target: %w", ctx.Err())
		}
	}
}

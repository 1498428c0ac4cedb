// Package service is the agent on a running node: it tells that the node is up and alive, and keeps the files of
// the runtime overlays as they are declared.
package service

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/files"
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
	if cfg.Reached == nil {
		cfg.Reached = systemdReached
	}
	m := mesh.New(mesh.Config{Trust: trust, Relays: state.Relays, Dial: cfg.Dial, Log: cfg.Log})
	defer m.Close()
	s := &service{cfg: cfg, state: state, mesh: m, root: root}
	s.reporter = mesh.NewReporter(m, boot.Event{Node: state.Node, Hardware: state.Hardware, Boot: state.Boot, Revision: state.Revision, Manifest: state.Manifest})
	return s.run(ctx)
}

type service struct {
	cfg      Config
	state    *session.State
	mesh     *mesh.Mesh
	reporter *mesh.Reporter
	root     *os.Root
}

func (s *service) run(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	reports, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { s.reporter.Run(reports); close(done) }()
	defer func() { stop(); <-done }()

	s.reporter.Record(boot.Event{Stage: boot.StageInit})
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
		select {
		case <-time.After(s.interval()):
		case <-ctx.Done():
			return nil
		}
		s.reporter.Record(boot.Event{Stage: boot.StageAlive})
		s.renew(ctx)
		if err := s.refresh(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("runtime overlays are not refreshed", "err", err)
		}
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

func (s *service) interval() time.Duration {
	if s.state.Session == nil || s.state.Session.Interval == 0 {
		return defaultInterval
	}
	return max(minInterval, s.state.Session.Interval)
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

// refresh makes the files of the runtime overlays what they are declared to be now, and removes those that it wrote
// before and that no overlay has any more.
func (s *service) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	archive, tag, err := s.mesh.Overlay(ctx, s.state.Node, "runtime", s.state.Tag)
	if err != nil || archive == nil {
		return err
	}
	paths, err := files.ApplyTar(s.root, bytes.NewReader(archive))
	if err != nil {
		return err
	}
	gone, err := files.Remove(s.root, s.state.Runtime, paths)
	if err != nil {
		return err
	}
	s.state.Runtime, s.state.Tag = paths, tag
	s.cfg.Log.Info("runtime overlays are refreshed", "files", len(paths), "removed", len(gone))
	return session.Save(s.cfg.Root, s.state)
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

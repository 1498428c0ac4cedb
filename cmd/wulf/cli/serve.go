package cli

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/controller"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// logFlags are the flags of every command that serves.
func logFlags() []cli.Flag {
	return []cli.Flag{
		text("log-format", "log as `FORMAT`: text or json (WULF_LOG_FORMAT; default: json to the journal, else text)"),
		text("log-level", "log from `LEVEL` on: debug, info, warn or error (WULF_LOG_LEVEL; default info)"),
		text("agents", "find the programs wulf-agent and wulf-agent-ARCH in `DIR` (default: beside wulf, then "+agentsDir+")"),
	}
}

// logger makes the log of a program that serves. It goes to standard error.
func (p *program) logger(c *cli.Context) (*slog.Logger, error) {
	level := new(slog.LevelVar)
	name := c.String("log-level")
	if name == "" {
		name = p.env.Getenv("WULF_LOG_LEVEL")
	}
	if name != "" {
		if err := level.UnmarshalText([]byte(name)); err != nil {
			return nil, fault.New(fault.Invalid, "%q is not a level of the log", name).WithFix("choose debug, info, warn or error")
		}
	}
	format := c.String("log-format")
	if format == "" {
		format = p.env.Getenv("WULF_LOG_FORMAT")
	}
	if format == "" && isJournal(p.err, p.env.Getenv("JOURNAL_STREAM")) {
		format = "json"
	}
	options := &slog.HandlerOptions{Level: level}
	switch format {
	case "", "text":
		return slog.New(slog.NewTextHandler(p.err, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(p.err, options)), nil
	}
	return nil, fault.New(fault.Invalid, "%q is not a format of the log", format).WithFix("choose text or json")
}

// agentsDir is where packages put the programs for nodes.
const agentsDir = "/usr/lib/wulfmesh"

// agents finds the program wulf-agent for an architecture: wulf-agent-ARCH, or wulf-agent for the machine's own.
func agents(dir, own string) func(arch string) ([]byte, error) {
	dirs := []string{dir}
	if dir == "" {
		dirs = []string{agentsDir}
		if self, err := os.Executable(); err == nil {
			dirs = []string{filepath.Dir(self), agentsDir}
		}
	}
	return func(arch string) ([]byte, error) {
		for _, d := range dirs {
			names := []string{"wulf-agent-" + arch}
			if arch == own {
				names = append(names, "wulf-agent")
			}
			for _, name := range names {
				b, err := os.ReadFile(filepath.Join(d, name))
				if !errors.Is(err, fs.ErrNotExist) {
					return b, err
				}
			}
		}
		return nil, fault.New(fault.NotFound, "there is no wulf-agent for %s in %s", arch, strings.Join(dirs, " or ")).
			WithFix("install it there, or say where it is with --agents")
	}
}

// listenSocket listens at the socket for root. One that a controller left behind when it was killed is replaced; one
// at which a controller answers is not. Root connects whatever the mode is, and nobody else is heard.
func listenSocket(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, socketFault(err)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fault.New(fault.Conflict, "another controller answers at %s", path).WithFix("stop it, or choose another --socket")
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, socketFault(err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, socketFault(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, socketFault(err)
	}
	return l, nil
}

func socketFault(err error) error {
	kind := fault.Invalid
	if errors.Is(err, fs.ErrPermission) {
		kind = fault.Denied
	}
	return fault.Wrap(kind, err, "the controller's socket").WithFix("run as root, or choose another --socket")
}

// listenTCP listens at an address.
func listenTCP(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, listenFault(err)
	}
	return l, nil
}

func listenFault(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(fault.Denied, err, "listening").WithFix("run as root, or with CAP_NET_BIND_SERVICE")
	case errors.Is(err, syscall.EADDRINUSE):
		return fault.Wrap(fault.Conflict, err, "listening").WithFix("see who has the port: ss -tulnp")
	}
	return fault.Wrap(fault.Invalid, err, "listening")
}

// ready tells systemd, if it wants to know, that the program serves; and at the end that it stops.
func ready(ctx context.Context, log *slog.Logger, what string) {
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady+"\nSTATUS="+what); err != nil {
		log.Warn("systemd cannot be told that this runs", "err", err)
	}
	context.AfterFunc(ctx, func() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) })
}

// openController makes the controller of a data directory, or of a new cluster as the flags describe it. It serves when
// it runs.
func (p *program) openController(c *cli.Context, log *slog.Logger, dir string, wanted controller.Settings) (*controller.Controller, error) {
	s, err := controller.Open(dir, wanted)
	if err != nil {
		return nil, err
	}
	address := s.Listen
	if c.IsSet("listen") {
		address = c.String("listen")
	}
	if wanted.Name != "" && wanted.Name != s.Name || wanted.Cluster != "" && wanted.Cluster != s.Cluster {
		return nil, fault.New(fault.Conflict, "in %s is controller %s of cluster %s already", dir, s.Name, s.Cluster).WithFix("leave out --name and --cluster, or use another --data")
	}
	l, err := listenTCP(c.Context, address)
	if err != nil {
		return nil, err
	}
	local, err := listenSocket(p.socket(c))
	if err != nil {
		l.Close()
		return nil, err
	}
	ctl, err := controller.New(controller.Config{
		Dir: dir, Listener: l, Local: local, Agents: agents(c.String("agents"), runtime.GOARCH), Version: p.env.Version, Log: log,
	})
	if err != nil {
		l.Close()
		local.Close()
		return nil, err
	}
	log.Info("starting", "controller", s.Name, "cluster", s.Cluster, "listen", l.Addr().String(), "advertise", s.Advertise, "socket", local.Addr().String(), "version", p.env.Version)
	return ctl, nil
}

func (p *program) controllerRun(c *cli.Context) error {
	log, err := p.logger(c)
	if err != nil {
		return err
	}
	ctl, err := p.openController(c, log, c.String("data"), settingsOf(c))
	if err != nil {
		return err
	}
	ready(c.Context, log, "controller")
	return ended(c.Context, ctl.Run(c.Context))
}

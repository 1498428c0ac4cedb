package units

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Times. A unit that does not come back within its time is told of, and systemd goes on with it.
const (
	unitTime   = 90 * time.Second
	beginTime  = 30 * time.Second // after which the rest is left for the next time, so that the node's heart goes on beating
	firstPause = 30 * time.Second // after a failure; doubles
	maxPause   = 30 * time.Minute
)

// Systemd is the node's. Its zero value is that of the system.
type Systemd struct {
	Command string // systemctl; "" finds it on PATH
}

// Running tells whether the node's init is systemd.
func Running() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// Pay does what is owed and due, and takes out what is done. Each failure is an error; what failed is owed on, to be tried
// again after a pause that grows. before is called before this program itself is told to restart, for it does not come
// back: nothing is owed by then but what failed.
func (s Systemd) Pay(ctx context.Context, o Owed, before func() error) []error {
	began := time.Now()
	var failed []error
	for _, unit := range o.due(began) {
		if ctx.Err() != nil || time.Since(began) > beginTime {
			break
		}
		debt := o[unit]
		var err error
		if unit == agent {
			delete(o, unit)
			if err = before(); err == nil {
				err = s.run(ctx, "--no-block", verb(debt), unit)
			}
		} else {
			err = s.tell(ctx, unit, debt)
		}
		if err == nil {
			delete(o, unit)
			continue
		}
		debt.Tries++
		debt.Next = time.Now().Add(min(maxPause, firstPause<<min(debt.Tries-1, 10)))
		o[unit] = debt
		failed = append(failed, err)
	}
	return failed
}

func (s Systemd) tell(ctx context.Context, unit string, debt Debt) error {
	if unit == manager {
		return s.run(ctx, "daemon-reload")
	}
	return s.run(ctx, verb(debt), unit)
}

// verb is how a unit is told. One that does not run is left so: somebody stopped it, or it will read its files when it
// starts.
func verb(debt Debt) string {
	if debt.Restart {
		return "try-restart"
	}
	return "try-reload-or-restart"
}

// run runs systemctl, without a shell.
func (s Systemd) run(ctx context.Context, args ...string) error {
	command := s.Command
	if command == "" {
		command = "systemctl"
	}
	ctx, cancel := context.WithTimeout(ctx, unitTime)
	defer cancel()
	c := exec.CommandContext(ctx, command, args...)
	c.WaitDelay = time.Second
	out := &tail{limit: 300}
	c.Stdout, c.Stderr = out, out
	if err := c.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fault.Wrap(fault.Unavailable, err, "systemctl %s%s", strings.Join(args, " "), out.said()).WithFix("on the node: systemctl status %s", args[len(args)-1])
	}
	return nil
}

// tail keeps the end of what a program says.
type tail struct {
	limit int
	b     []byte
}

// Write takes what the program says.
func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-t.limit):]
	return len(p), nil
}

func (t *tail) said() string {
	if b := bytes.TrimSpace(t.b); len(b) > 0 {
		return " (" + strings.Join(strings.Fields(strings.ToValidUTF8(string(b), "?")), " ") + ")"
	}
	return ""
}

package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// A Process runs in a namespace of a rig and does not outlive it.
type Process struct {
	name   string
	cmd    *exec.Cmd
	output *Output
	done   chan struct{}
	err    error // how it ended; valid once done is closed
}

// Start starts a program on the host. Both its outputs go to name.log in the rig's directory.
func (h *Host) Start(name string, argv ...string) (*Process, error) {
	return h.rig.start(h.space, name, h.rig.file(name+".log"), nil, argv)
}

// Command prepares a program that will run on the host and that the caller waits for: a client, a probe.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.space}, argv...)...)
}

// start starts a program in a namespace; extra become its file descriptors 3 and up, and are closed here.
func (r *Rig) start(space, name, log string, extra []*os.File, argv []string) (*Process, error) {
	defer func() {
		for _, f := range extra {
			f.Close()
		}
	}()
	output, err := newOutput(name, log)
	if err != nil {
		return nil, err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	// ip(8) enters the namespace and then becomes the program: the process ID is the program's own.
	cmd := exec.Command("ip", append([]string{"netns", "exec", space}, argv...)...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = writer, writer, extra
	// Its own group: CTRL-C on a terminal is for the run, which then ends its processes in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = cmd.Start()
	writer.Close()
	if err != nil {
		reader.Close()
		output.file.Close()
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &Process{name: name, cmd: cmd, output: output, done: make(chan struct{})}
	copied := make(chan struct{})
	go func() {
		output.copyFrom(reader)
		close(copied)
	}()
	go func() {
		p.err = cmd.Wait()
		// A grandchild may hold the other end of the pipe for ever: what it writes is not waited for.
		_ = reader.SetReadDeadline(time.Now().Add(time.Second))
		<-copied
		reader.Close()
		close(p.done)
	}()
	r.mu.Lock()
	r.processes = append(r.processes, p)
	r.mu.Unlock()
	return p, nil
}

// Name is the name that the process was started with.
func (p *Process) Name() string { return p.name }

// PID is the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output is what it writes.
func (p *Process) Output() *Output { return p.output }

// Done is closed when the process has ended and all that it wrote has been read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running tells whether it has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Kill ends the process as a power cut would (SIGKILL) and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// Stop asks the process to end (SIGTERM) and waits; the error is how it ended, or that it did not.
func (p *Process) Stop(ctx context.Context) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("%s did not end when asked: %w; its last lines:\n%s", p.name, context.Cause(ctx), p.output.Tail(15))
	}
}

// Pause stops the process from running (SIGSTOP), as a host that hangs does; Resume undoes it.
func (p *Process) Pause() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (p *Process) Resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

package workdir

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// passed are the signals that the command gets when this process does. One of them is the end of the terminal: this process
// lives on, and what was done is kept.
var passed = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2}

// settle is how long a signal may take to arrive after the end of the context that it brought about.
const settle = 20 * time.Millisecond

// passSignals passes on what this process is told until stop is called. When ctx is done it asks the command to end,
// unless a signal has done so, and kills it after the grace.
//
// They go through a pipe and not as signals: those of the terminal reach the first process as they reach the command, and it
// could not tell which of them to pass on.
func passSignals(ctx context.Context, p *os.Process, to io.Writer, grace time.Duration) (stop func()) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, passed...)
	ended, gone := make(chan struct{}), make(chan struct{})
	pass := func(s syscall.Signal) { _, _ = to.Write([]byte{byte(s)}) } // it fails where there is nobody to tell
	go func() {
		defer close(gone)
		done := ctx.Done()
		var end, kill <-chan time.Time
		told := false
		for {
			select {
			case s := <-signals:
				told = told || s == unix.SIGINT || s == unix.SIGTERM
				pass(s.(syscall.Signal))
			case <-done:
				done, end, kill = nil, time.After(settle), time.After(grace)
			case <-end:
				if !told {
					pass(unix.SIGTERM)
				}
			case <-kill:
				_ = p.Kill() // and with it all in its namespace
			case <-ended:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(ended)
		<-gone
	}
}

// lendTerminal makes the process group of pid the one that reads the terminal, if it is ours to give, so that what is typed
// there is the command's only. It returns what takes the terminal back and sets it as it was: a shell gives it to numbers
// that do not exist out here, and a program that is killed leaves it as it is.
func lendTerminal(in io.Reader, pid int) (giveBack func()) {
	nothing := func() {}
	f, ok := in.(*os.File)
	if !ok || f == nil {
		return nothing
	}
	fd := int(f.Fd())
	if group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err != nil || group != unix.Getpgrp() {
		return nothing
	}
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	signal.Ignore(unix.SIGTTOU) // who is not in front is stopped when it takes the terminal
	if unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, pid) != nil {
		signal.Reset(unix.SIGTTOU)
		return nothing
	}
	return func() {
		_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, unix.Getpgrp())
		if err == nil {
			_ = unix.IoctlSetTermios(fd, unix.TCSETSW, before)
		}
		signal.Reset(unix.SIGTTOU)
	}
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// The exit codes, which scripts may rely on; help topic exit-codes and docs/cli.md say the same.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2 // the command line or a value in it is wrong
	exitPartial     = 3 // some of it was done
	exitTimeout     = 4
	exitConflict    = 5 // it exists already, is in use, or the state has changed since --if-revision
	exitUnavailable = 6 // no controller answers or none leads; or nobody knows whether the change happened
	exitDenied      = 7
)

// exitCodes is the exit code of each kind of fault.
var exitCodes = map[fault.Kind]int{
	fault.Internal:    exitFailed,
	fault.Invalid:     exitUsage,
	fault.NotFound:    exitFailed,
	fault.Conflict:    exitConflict,
	fault.Denied:      exitDenied,
	fault.NotLeader:   exitUnavailable,
	fault.Unavailable: exitUnavailable,
	fault.Corrupt:     exitFailed,
	fault.Unknown:     exitUnavailable,
	fault.Timeout:     exitTimeout,
	fault.Full:        exitFailed,
}

// ExitCode is the exit code of a command that ended with err: the one place that decides it.
func ExitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if _, ok := errors.AsType[*partialError](err); ok {
		return exitPartial
	}
	if code, ok := errors.AsType[endedWith](err); ok {
		return int(code) // what there is to say was said
	}
	if errors.Is(err, errDifferent) {
		return exitUsage // Terraform's code for a plan that is not empty; it is asked for by --detailed-exitcode only
	}
	if code, ok := exitCodes[fault.KindOf(err)]; ok {
		return code
	}
	return exitFailed
}

// partialError is a command that did some of what was asked for before it failed.
type partialError struct {
	done string // what was done
	err  error
}

func (e *partialError) Error() string { return fmt.Sprintf("%v; done before that: %s", e.err, e.done) }

func (e *partialError) Unwrap() error { return e.err }

// errInterrupted is the end of a command by a signal, where nothing more is known about it.
var errInterrupted = errors.New("interrupted")

// endedWith is the end of a command that ran in an image; its exit code becomes the program's.
type endedWith int

func (e endedWith) Error() string { return fmt.Sprintf("the command ended with %d", int(e)) }

// finish says in one line what went wrong, and returns the exit code.
func (p *program) finish(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	if code, ok := errors.AsType[endedWith](err); ok {
		return int(code) // what there is to say was said
	}
	if errors.Is(err, errDifferent) {
		return ExitCode(err) // it is an answer, and not a failure
	}
	if kind := fault.KindOf(err); ctx.Err() != nil && (kind == fault.Unavailable || kind == fault.Timeout || errors.Is(err, context.Canceled)) {
		err = errInterrupted
	}
	fmt.Fprintln(p.err, "error: "+sentence(err))
	return ExitCode(err)
}

// sentence is an error on one line: what, why, and how to fix it.
func sentence(err error) string {
	s := plain(err.Error())
	if fix := fault.Fix(err); fix != "" {
		s += " (" + plain(fix) + ")"
	}
	return s
}

// plain makes a text fit for one line of a terminal. Some of what is printed comes from nodes, which may say anything,
// and what moves the cursor or changes colours could hide the rest.
func plain(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	s = strings.ReplaceAll(strings.TrimSpace(s), "\r\n", "\n")
	s = strings.ReplaceAll(s, "\n", "; ")
	return strings.Map(func(r rune) rune {
		if unprintable(r) {
			return ' '
		}
		return r
	}, s)
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

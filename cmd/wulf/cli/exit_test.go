package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestEveryKindOfFaultHasADocumentedExitCode(t *testing.T) {
	text, ok := topicText("exit-codes")
	if !ok {
		t.Fatal("there is no topic exit-codes")
	}
	for _, kind := range fault.Kinds() {
		code, ok := exitCodes[kind]
		if !ok || code == exitOK {
			t.Errorf("%s has the exit code %d", kind, code)
		}
		if got := ExitCode(fmt.Errorf("doing x: %w", fault.New(kind, "y"))); got != code {
			t.Errorf("%s: exit code %d, want %d", kind, got, code)
		}
		if !strings.Contains(text, fmt.Sprintf("\n  %d  ", code)) {
			t.Errorf("exit code %d of %s is in no help", code, kind)
		}
	}
	for err, want := range map[error]int{
		nil:             exitOK,
		errors.New("x"): exitFailed,
		&partialError{err: fault.New(fault.Conflict, "x")}: exitPartial,
	} {
		if got := ExitCode(err); got != want {
			t.Errorf("%v: exit code %d, want %d", err, got, want)
		}
	}
}

func TestAnErrorIsOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"a\nb\r\nc\n":         "a; b; c",
		"red \x1b[31malert\a": "red  [31malert ",
		"naïve → ok":          "naïve → ok",
	} {
		if got := sentence(errors.New(text)); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if got, want := sentence(fault.New(fault.Invalid, "x").WithFix("y")), "x (y)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnInterruptedCommandSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var said strings.Builder
	p := testProgram()
	p.err = &said
	if code := p.finish(ctx, fault.Wrap(fault.Unavailable, context.Canceled, "given up")); code != exitFailed || said.String() != "error: interrupted\n" {
		t.Errorf("exit code %d, %q", code, said.String())
	}
	said.Reset()
	if code := p.finish(ctx, fault.New(fault.Unknown, "who knows")); code != exitUnavailable || said.String() != "error: who knows\n" {
		t.Errorf("exit code %d, %q", code, said.String())
	}
}

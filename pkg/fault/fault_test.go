package fault_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestKindAndCauseAreBothFound(t *testing.T) {
	err := fmt.Errorf("adding node: %w", fault.Wrap(fault.Conflict, io.EOF, "node %q exists", "n1").WithFix("choose another name"))
	if !errors.Is(err, fault.Conflict) || !errors.Is(err, io.EOF) {
		t.Fatalf("%v: kind or cause is not in the chain", err)
	}
	if errors.Is(err, fault.NotFound) {
		t.Fatal("a conflict claims to be not-found")
	}
	if got := fault.KindOf(err); got != fault.Conflict {
		t.Fatalf("KindOf = %q", got)
	}
	if got, want := err.Error(), `adding node: node "n1" exists: EOF`; got != want {
		t.Fatalf("text %q, want %q", got, want)
	}
	if got := fault.Fix(err); got != "choose another name" {
		t.Fatalf("Fix = %q", got)
	}
}

func TestKindOfStrangers(t *testing.T) {
	if got := fault.KindOf(io.EOF); got != fault.Internal {
		t.Errorf("KindOf(EOF) = %q", got)
	}
	if got := fault.KindOf(nil); got != "" {
		t.Errorf("KindOf(nil) = %q", got)
	}
	if got := fault.KindOf(fmt.Errorf("x: %w", fault.Denied)); got != fault.Denied {
		t.Errorf("KindOf(bare kind) = %q", got)
	}
}

func TestFixOfTheInnerFault(t *testing.T) {
	inner := fault.New(fault.Invalid, "inner").WithFix("do this")
	if got := fault.Fix(fault.Wrap(fault.Internal, inner, "outer")); got != "do this" {
		t.Errorf("Fix = %q", got)
	}
}

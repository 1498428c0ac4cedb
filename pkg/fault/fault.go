// Package fault is the vocabulary in which wulfmesh says what went wrong.
//
// An error made here has a Kind, which programs act on, and a sentence, which people read: what happened,
// why, and where it helps how to fix it. A Kind is itself an error, so the test is errors.Is(err, fault.NotFound).
// The edges translate a Kind once: pkg/api into an HTTP status, cmd/wulf/cli into an exit code.
package fault

import (
	"errors"
	"fmt"
)

// Kind says which class of failure an error belongs to. It is an error so that errors.Is can look for it.
type Kind string

// The kinds. A failure that fits none is Internal.
const (
	Internal    Kind = "internal"    // a bug or an unexpected failure of the machine
	Invalid     Kind = "invalid"     // the request itself is wrong; repeating it cannot help
	NotFound    Kind = "not-found"   // the thing named does not exist
	Conflict    Kind = "conflict"    // it exists already, is in use, or the revision expected has passed
	Denied      Kind = "denied"      // the caller is not who it must be, or may not do this
	NotLeader   Kind = "not-leader"  // this controller cannot order writes; another one can
	Unavailable Kind = "unavailable" // nobody can answer now; the same request may succeed later
	Corrupt     Kind = "corrupt"     // bytes are not what their digest, checksum or signature says
	Unknown     Kind = "unknown"     // a write may or may not have happened; its request ID settles it
	Timeout     Kind = "timeout"     // the time allowed ran out while waiting
	Full        Kind = "full"        // no space is left for what was asked
)

// Error makes Kind an error; its text is the kind's name.
func (k Kind) Error() string { return string(k) }

// Kinds lists every kind, for tables that must cover them all.
func Kinds() []Kind {
	return []Kind{Internal, Invalid, NotFound, Conflict, Denied, NotLeader, Unavailable, Corrupt, Unknown, Timeout, Full}
}

// Error is a failure with its kind. Its zero value is not useful; make one with New or Wrap.
type Error struct {
	Kind    Kind
	Message string // what and why, one line, no trailing full stop
	Fix     string // how to fix it, one line; may be empty
	Err     error  // the cause; may be nil
}

// New returns an error of the kind whose message is formatted as by fmt.Sprintf.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Wrap returns an error of the kind with a cause. A nil cause is allowed and leaves only the message.
func Wrap(kind Kind, cause error, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...), Err: cause}
}

// WithFix adds the line that tells a person how to fix it, and returns the same error.
func (e *Error) WithFix(format string, args ...any) *Error {
	e.Fix = fmt.Sprintf(format, args...)
	return e
}

// Error gives message and cause; the fix is kept apart for those who print it (see Fix).
func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return e.Message
	case e.Message == "":
		return e.Err.Error()
	}
	return e.Message + ": " + e.Err.Error()
}

// Unwrap gives the kind and the cause to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// KindOf returns the kind of the outermost fault in err's chain, and Internal where there is none.
// It returns "" for a nil error.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	if k, ok := errors.AsType[Kind](err); ok {
		return k
	}
	return Internal
}

// Fix returns the first hint in err's chain on how to fix it, or "".
func Fix(err error) string {
	for err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return ""
		}
		if e.Fix != "" {
			return e.Fix
		}
		err = e.Err
	}
	return ""
}

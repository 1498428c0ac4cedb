package nodeset

import (
	"fmt"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// problem is something wrong at a position (from 0) of the text being read.
type problem struct {
	at   int
	text string
	fix  string
	err  error // of a hook; nil if the text itself is wrong
}

func flaw(at int, format string, args ...any) *problem {
	return &problem{at: at, text: fmt.Sprintf(format, args...)}
}

func (p *problem) hint(format string, args ...any) *problem {
	p.fix = fmt.Sprintf(format, args...)
	return p
}

func (p *problem) Error() string { return p.text }

// describe turns a problem in a text into the fault that callers see. What says what the text is.
func describe(what string, err error, text string) error {
	p, ok := err.(*problem) //nolint:errorlint // made in this package, never wrapped
	if !ok {
		return err
	}
	// Of a long text the part around the problem is enough.
	from, to, dots := max(0, p.at-30), min(len(text), p.at+30), [2]string{}
	if from > 0 {
		dots[0] = "…"
	}
	if to < len(text) {
		dots[1] = "…"
	}
	message := fmt.Sprintf("%s %s%q%s at %d: %s", what, dots[0], text[from:to], dots[1], p.at+1, p.text)
	f := fault.New(fault.Invalid, "%s", message)
	if p.err != nil {
		f = fault.Wrap(fault.KindOf(p.err), p.err, "%s", message)
	}
	f.Fix = p.fix
	return f
}

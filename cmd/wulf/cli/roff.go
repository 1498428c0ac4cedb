package cli

import (
	"fmt"
	"strings"
)

// roff writes a page for man(1), in the macros of man(7), which groff and mandoc both read. All of it is ASCII:
// what is not is written as an escape, so that no locale can spoil it.
func (pg page) roff(date, version string) string {
	var w roffWriter
	title := roffEscape(strings.ToUpper(pg.name))
	w.macro("TH", title, fmt.Sprint(pg.section), date, "wulf "+roffEscape(version), "wulfmesh")
	w.macro("SH", "NAME")
	w.line(roffEscape(pg.name) + ` \- ` + roffEscape(pg.usage))
	for _, c := range pg.chapters {
		w.macro("SH", roffEscape(c.heading))
		for i, b := range c.blocks {
			w.block(b, i == 0 || c.blocks[i-1].heading != "")
		}
	}
	return w.String()
}

type roffWriter struct{ strings.Builder }

// macro writes a request with its arguments, each in quotation marks.
func (w *roffWriter) macro(name string, args ...string) {
	w.WriteString("." + name)
	for _, a := range args {
		w.WriteString(` "` + a + `"`)
	}
	w.WriteString("\n")
}

// line writes a line of text, which must not be taken for a request.
func (w *roffWriter) line(s string) {
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		w.WriteString(`\&`)
	}
	w.WriteString(s + "\n")
}

// text writes text that is filled, in lines that editors and mandoc find short enough.
func (w *roffWriter) text(s string) {
	for _, l := range wrap(s, 79) {
		w.line(l)
	}
}

// block writes a block; the first one below a heading needs no paragraph before it.
func (w *roffWriter) block(b block, first bool) {
	switch {
	case b.heading != "":
		w.macro("SS", roffEscape(b.heading))
	case b.terms != nil:
		for _, t := range b.terms {
			w.macro("TP")
			w.line(roffSpans(t.name))
			w.text(roffSpans(t.text))
		}
	case b.lines != nil:
		if !first {
			w.macro("PP")
		}
		w.WriteString(".RS 4\n.nf\n")
		for _, l := range b.lines {
			w.line(roffEscape(l))
		}
		w.WriteString(".fi\n.RE\n")
	default:
		if !first {
			w.macro("PP")
		}
		w.text(roffSpans(b.text))
	}
}

func roffSpans(all []span) string {
	var b strings.Builder
	for _, s := range all {
		switch text := roffEscape(s.text); s.style {
		case inBold:
			b.WriteString(`\fB` + text + `\fR`)
		case inItalic:
			b.WriteString(`\fI` + text + `\fR`)
		default:
			b.WriteString(text)
		}
	}
	return b.String()
}

// roffEscapes are characters that roff would take for something else, or print as something that cannot be copied:
// a hyphen that breaks lines, quotation marks that curl, accents instead of characters of the shell.
var roffEscapes = map[rune]string{
	'\\': `\e`, '-': `\-`, '\'': `\(aq`, '"': `\(dq`, '`': `\(ga`, '^': `\(ha`, '~': `\(ti`, '\n': " ",
}

func roffEscape(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch escape, ok := roffEscapes[r]; {
		case ok:
			b.WriteString(escape)
		case r > '~':
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

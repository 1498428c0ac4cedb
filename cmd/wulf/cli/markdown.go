package cli

import (
	"fmt"
	"strings"
)

// markdown writes pages as one document: what the manual says, for a web site or a reader.
func markdown(pages []page) string {
	var b strings.Builder
	b.WriteString("# The manual of wulf\n\n")
	for _, pg := range pages {
		fmt.Fprintf(&b, "- [%s(%d)](#%s): %s\n", pg.name, pg.section, pg.anchor(), markdownEscape(pg.usage))
	}
	for _, pg := range pages {
		fmt.Fprintf(&b, "\n## %s(%d)\n\n%s\n", pg.name, pg.section, markdownEscape(sentenceOfUsage(pg.usage)))
		for _, c := range pg.chapters {
			fmt.Fprintf(&b, "\n### %s\n", markdownEscape(strings.ToUpper(c.heading[:1])+strings.ToLower(c.heading[1:])))
			for _, block := range c.blocks {
				b.WriteString("\n" + block.markdown())
			}
		}
	}
	return b.String()
}

// anchor is what readers of Markdown make of the page's heading: wulf-node-set(1) becomes wulf-node-set1.
func (pg page) anchor() string { return fmt.Sprintf("%s%d", pg.name, pg.section) }

func (b block) markdown() string {
	switch {
	case b.heading != "":
		return "#### " + markdownEscape(b.heading) + "\n"
	case b.terms != nil:
		var out strings.Builder
		for _, t := range b.terms {
			fmt.Fprintf(&out, "- %s: %s\n", markdownSpans(t.name), markdownSpans(t.text))
		}
		return out.String()
	case b.lines != nil:
		return "```\n" + strings.Join(b.lines, "\n") + "\n```\n"
	}
	return markdownSpans(b.text) + "\n"
}

func markdownSpans(all []span) string {
	var out strings.Builder
	for _, s := range all {
		switch {
		case s.text == "":
		case s.style == inBold && strings.Contains(s.text, "`"):
			out.WriteString("`` " + s.text + " ``")
		case s.style == inBold:
			out.WriteString("`" + s.text + "`")
		case s.style == inItalic:
			out.WriteString("*" + markdownEscape(s.text) + "*")
		default:
			out.WriteString(markdownEscape(s.text))
		}
	}
	return out.String()
}

// markdownEscape keeps characters from being taken for marks.
func markdownEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", `\<`, ">", `\>`, "|", `\|`, "#", `\#`).Replace(s)
}

package cli

import (
	"embed"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// topicFiles are the texts of wulf help TOPIC: the same words as in the documentation.
//
//go:embed topics/*.txt
var topicFiles embed.FS

// topic is a text about something that is not a command.
type topic struct {
	name    string
	usage   string
	section int           // of the manual
	more    func() string // what is appended to the text of the file; nil for nothing
}

func topicTable() []topic {
	return []topic{
		{"config", "the file of contexts", 5, nil},
		{"exit-codes", "what an exit code means", 7, nil},
		{"nodesets", "how to name many nodes, and their addresses", 7, nil},
		{"output", "formats, columns and colours", 7, nil},
		{"settings", "what can be decided about a node, and who wins", 7, settingPaths},
	}
}

// topicNames are the topics of wulf help, the list of them first.
func topicNames() []string {
	names := []string{"topics"}
	for _, t := range topicTable() {
		names = append(names, t.name)
	}
	return names
}

// page is the name of the topic's page in the manual.
func (t topic) page() string { return fmt.Sprintf("wulf-%s(%d)", t.name, t.section) }

// text is the topic in plain text: the first line is its title, lines that begin with blanks are kept as they are.
func (t topic) text() string {
	b, err := topicFiles.ReadFile("topics/" + t.name + ".txt")
	if err != nil {
		return t.usage + "\n" // cannot be: a test reads them all
	}
	text := string(b)
	if t.more != nil {
		text += t.more()
	}
	return text
}

// topicText is what wulf help NAME prints; false if there is no such topic.
func topicText(name string) (string, bool) {
	if name == "topics" {
		var r report
		r.line("Topics, as wulf help NAME and in the manual")
		r.WriteString("\n")
		var rows [][]string
		for _, t := range topicTable() {
			rows = append(rows, []string{"  " + t.name, t.page(), t.usage})
		}
		r.rows(rows)
		return r.String(), true
	}
	i := slices.IndexFunc(topicTable(), func(t topic) bool { return t.name == name })
	if i < 0 {
		return "", false
	}
	return topicTable()[i].text(), true
}

// settingPaths are all paths of settings, those with the same first word together.
func settingPaths() string {
	var b strings.Builder
	before := ""
	for _, path := range catalog.Paths() {
		first, _, nested := strings.Cut(path, ".")
		if before != "" && (nested || strings.Contains(before, ".")) && first != strings.Split(before, ".")[0] {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "  %s\n", path)
		before = path
	}
	return b.String()
}

// gaps stand between columns, and between words that mean the same.
var gaps = regexp.MustCompile(` {2,}`)

// topicPage makes a page of the manual out of a topic's text.
func topicPage(t topic) page {
	title, rest, _ := strings.Cut(t.text(), "\n")
	current := chapter{heading: "DESCRIPTION"}
	out := page{name: "wulf-" + t.name, section: t.section, usage: t.usage}
	for part := range strings.SplitSeq(strings.TrimSpace(dedent(rest)), "\n\n") {
		lines := strings.Split(part, "\n")
		if len(lines) == 1 && !strings.HasPrefix(part, " ") && !strings.ContainsAny(part, ".:,") {
			if len(current.blocks) > 0 {
				out.chapters = append(out.chapters, current)
			}
			current = chapter{heading: strings.ToUpper(part)}
			continue
		}
		current.blocks = append(current.blocks, topicBlocks(lines)...)
	}
	out.chapters = append(out.chapters, current)
	if len(current.blocks) == 0 {
		out.chapters = []chapter{{"DESCRIPTION", []block{{text: plainText(title)}}}}
	}
	see := []string{"wulf(1)"}
	for _, other := range topicTable() {
		if other.name != t.name {
			see = append(see, other.page())
		}
	}
	out.chapters = append(out.chapters, chapter{"SEE ALSO", seeAlso(see)})
	return out
}

// dedent keeps blank lines blank.
func dedent(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// topicBlocks takes lines without an empty one between them apart: what is not indented is a paragraph; of what is
// indented, lines with a gap explain a term, and others stay as they are.
func topicBlocks(lines []string) []block {
	var out []block
	for i := 0; i < len(lines); {
		end := i
		kind := kindOfLine(lines[i])
		for end < len(lines) && kindOfLine(lines[end]) == kind {
			end++
		}
		run := lines[i:end]
		switch kind {
		case lineText:
			out = append(out, block{text: plainText(strings.Join(run, " "))})
		case lineTerm:
			var b block
			for _, l := range run {
				l = strings.TrimSpace(l)
				at := strings.LastIndex(l, "  ")
				name := gaps.ReplaceAllString(strings.TrimSpace(l[:at]), ", ")
				b.terms = append(b.terms, term{[]span{{inBold, name}}, plainText(strings.TrimSpace(l[at:]))})
			}
			out = append(out, b)
		case lineKept:
			b := block{}
			for _, l := range run {
				b.lines = append(b.lines, strings.TrimPrefix(l, "  "))
			}
			out = append(out, b)
		}
		i = end
	}
	return out
}

const (
	lineText = iota
	lineTerm
	lineKept
)

func kindOfLine(l string) int {
	switch body := strings.TrimLeft(l, " "); {
	case body == l:
		return lineText
	case strings.Contains(body, "  "):
		return lineTerm
	}
	return lineKept
}

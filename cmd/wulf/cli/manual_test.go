package cli

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// everyCommand calls each for every command that is shown, with the words that lead to it.
func everyCommand(app *cli.App, each func(words []string, c *cli.Command)) {
	var walk func([]string, []*cli.Command)
	walk = func(before []string, commands []*cli.Command) {
		for _, c := range commands {
			if c.Hidden {
				continue
			}
			words := append(slices.Clone(before), c.Name)
			each(words, c)
			walk(words, c.Subcommands)
		}
	}
	walk(nil, app.Commands)
}

// manualText is every page by its file's name, as roff.
func manualText() map[string]string {
	out := map[string]string{}
	for _, pg := range testProgram().manual() {
		out[fmt.Sprintf("%s.%d", pg.name, pg.section)] = pg.roff("2026-01-02", "test")
	}
	return out
}

// Every command has a page, which has every flag, its examples, and a chapter for each thing that people look for.
func TestTheManualHasEveryCommandAndFlag(t *testing.T) {
	app, pages := testProgram().tree(), manualText()
	everyCommand(app, func(words []string, c *cli.Command) {
		name := "wulf-" + strings.Join(words, "-") + ".1"
		text, ok := pages[name]
		if !ok {
			t.Errorf("there is no page %s", name)
			return
		}
		for _, f := range append(slices.Clone(c.Flags), app.Flags...) {
			for _, n := range f.Names() {
				if want := `\fB` + roffEscape(strings.Repeat("-", min(len(n), 2))+n) + `\fR`; !strings.Contains(text, want) {
					t.Errorf("%s does not have the flag %s", name, n)
				}
			}
		}
		for _, example := range examplesOf(c) {
			if !strings.Contains(text, "\n"+roffEscape(example)+"\n") {
				t.Errorf("%s does not have the example %s", name, example)
			}
		}
		for _, sub := range c.Subcommands {
			if !sub.Hidden && !strings.Contains(text, roffEscape("wulf "+strings.Join(words, " ")+" "+sub.Name)) {
				t.Errorf("%s does not name %s", name, sub.Name)
			}
		}
		for _, heading := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "FILES", "ENVIRONMENT", "SEE ALSO"} {
			if strings.Count(text, "\n.SH \""+heading+"\"\n") != 1 {
				t.Errorf("%s has no chapter %s", name, heading)
			}
		}
		if !strings.Contains(pages["wulf.1"], roffEscape("wulf "+words[0])) {
			t.Errorf("wulf.1 does not name %s", words[0])
		}
	})
}

// What a page sends its readers to is there.
func TestPagesOfTheManualSendToPagesThatAreThere(t *testing.T) {
	pages := manualText()
	for name, text := range pages {
		_, see, ok := strings.Cut(text, ".SH \"SEE ALSO\"\n")
		if !ok || strings.TrimSpace(see) == "" {
			t.Errorf("%s has no SEE ALSO", name)
		}
		for _, m := range regexp.MustCompile(`\\fB(\S+?)\\fR\((\d)\)`).FindAllStringSubmatch(see, -1) {
			if other := strings.ReplaceAll(m[1], `\-`, "-") + "." + m[2]; pages[other] == "" {
				t.Errorf("%s sends to %s, which is not there", name, other)
			}
		}
	}
}

// The exit codes are the same in the manual, in the topic, in docs/cli.md and in the table of kinds.
func TestExitCodesAreTheSameEverywhere(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	topic, _ := topicText("exit-codes")
	meanings := exitMeanings()
	rows := regexp.MustCompile(`(?m)^  (\d+)  (.*)$`).FindAllStringSubmatch(topic, -1)
	if len(rows) != len(meanings) {
		t.Errorf("the topic has %d exit codes, want %d", len(rows), len(meanings))
	}
	for _, row := range rows {
		if code, _ := strconv.Atoi(row[1]); code >= len(meanings) || meanings[code] != row[2] {
			t.Errorf("the topic says otherwise: %s", row[0])
		}
	}
	for code, text := range meanings {
		if !strings.Contains(strings.ReplaceAll(string(doc), "`", ""), fmt.Sprintf("\n| %d | %s |\n", code, text)) {
			t.Errorf("docs/cli.md does not say this of %d: %s", code, text)
		}
	}
	for kind, code := range exitCodes {
		if code <= exitOK || code >= len(meanings) || meanings[code] == "" {
			t.Errorf("the exit code %d of %s means nothing", code, kind)
		}
	}
	for name, text := range manualText() {
		if !strings.HasSuffix(name, ".1") {
			continue
		}
		_, chapter, _ := strings.Cut(text, ".SH \"EXIT STATUS\"\n")
		chapter, _, _ = strings.Cut(chapter, ".SH ")
		if got, want := unroff(chapter), flatMeanings(meanings); got != want {
			t.Fatalf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

func flatMeanings(meanings []string) string {
	var b strings.Builder
	for code, text := range meanings {
		fmt.Fprintf(&b, "%d %s ", code, text)
	}
	return strings.TrimSpace(b.String())
}

// unroff is the text of what roff.go writes, on one line.
func unroff(s string) string {
	s = regexp.MustCompile(`(?m)^\.S[HS] "(.*)"$`).ReplaceAllString(s, "$1")
	s = regexp.MustCompile(`(?m)^\..*$`).ReplaceAllString(s, "")
	s = strings.NewReplacer(`\fB`, "", `\fR`, "", `\fI`, "", `\-`, "-", `\(aq`, "'", `\&`, "").Replace(s)
	return strings.Join(strings.Fields(s), " ")
}

// Whatever variable the sources ask for is explained, and nothing is explained that nobody asks for.
func TestEveryVariableOfTheEnvironmentIsExplained(t *testing.T) {
	explained := map[string]bool{}
	for _, f := range environment() {
		for name := range strings.SplitSeq(f.name, ", ") {
			explained[name] = false
		}
	}
	variable := regexp.MustCompile(`"(WULF_[A-Z_]+|NO_COLOR|TERM|VISUAL|EDITOR)"`)
	sources, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range sources {
		if strings.HasSuffix(file, "_test.go") || file == "facts.go" {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range variable.FindAllStringSubmatch(string(b), -1) {
			if _, ok := explained[m[1]]; !ok {
				t.Errorf("%s reads %s, which is not explained", file, m[1])
			}
			explained[m[1]] = true
		}
	}
	for name, read := range explained {
		if !read {
			t.Errorf("%s is explained, and nobody reads it", name)
		}
	}
}

// The programs that show manuals find nothing wrong with ours; what both check is checked here, too, for machines that
// have neither.
func TestTheManualIsWellFormed(t *testing.T) {
	dir := t.TempDir()
	var all []string
	for name, text := range manualText() {
		if err := lintRoff(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		all = append(all, file)
	}
	for _, garbage := range []string{"", "NAME\nwulf", ".TH A 1\n", ".TH \"A\" \"1\"\n.SH \"NAME\"\na\n.XX\n", ".TH \"A\" \"1\"\n.SH \"NAME\"\na \\- b \\fBc\n",
		".TH \"A\" \"1\"\n.SH \"NAME\"\na \\- \\zz\n", ".TH \"A\" \"1\"\n.SH \"NAME\"\na \\- b\n.nf\n", ".TH \"A\" \"1\"\n.SH \"NAME\"\na \\- b…\n"} {
		if lintRoff(garbage) == nil {
			t.Errorf("%q passes for a page", garbage)
		}
	}
	checked := false
	for _, tool := range [][]string{{"mandoc", "-Tlint", "-Wwarning"}, {"groff", "-man", "-ww", "-z"}} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			continue
		}
		checked = true
		if said, err := exec.Command(tool[0], append(tool[1:], all...)...).CombinedOutput(); err != nil || len(said) > 0 {
			t.Errorf("%s: %v\n%.4000s", tool[0], err, said)
		}
	}
	if !checked {
		t.Log("!!! neither mandoc nor groff is here: only the structure of the manual was checked")
	}
}

var (
	roffMacro = regexp.MustCompile(`^\.(TH|SH|SS|TP|PP|RS|RE|nf|fi)( (4|"[^"]*"))*$`)
	roffWord  = regexp.MustCompile(`\\(f[BIR]|e|-|&|\((aq|dq|ga|ha|ti)|\[u[0-9A-F]{4,6}\])`)
)

// lintRoff checks the structure of a page: its title, its name, macros and escapes that exist, everything closed.
func lintRoff(text string) error {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 3 || !strings.HasPrefix(lines[0], `.TH "`) || lines[1] != `.SH "NAME"` || !strings.Contains(lines[2], ` \- `) {
		return fmt.Errorf("it has no title or no name")
	}
	open := map[string]int{}
	for i, l := range lines {
		rest := roffWord.ReplaceAllString(l, "")
		switch {
		case strings.HasPrefix(l, "'"), strings.HasPrefix(l, ".") && !roffMacro.MatchString(l):
			return fmt.Errorf("line %d: no macro of ours: %s", i+1, l)
		case strings.Contains(rest, `\`):
			return fmt.Errorf("line %d: an escape that is none: %s", i+1, l)
		case strings.Count(l, `\fB`)+strings.Count(l, `\fI`) < strings.Count(l, `\fR`)-1:
			return fmt.Errorf("line %d: a style ends that did not begin: %s", i+1, l)
		case strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r > '~' }):
			return fmt.Errorf("line %d: not ASCII: %q", i+1, l)
		}
		switch l {
		case ".nf", ".RS 4":
			open[l[:3]]++
		case ".fi", ".RE":
			open[map[string]string{".fi": ".nf", ".RE": ".RS"}[l]]--
		}
	}
	if strings.Count(text, `\fB`)+strings.Count(text, `\fI`) != strings.Count(text, `\fR`) || open[".nf"] != 0 || open[".RS"] != 0 {
		return fmt.Errorf("something is not closed")
	}
	return nil
}

func TestEveryTopicHasATextAndAPage(t *testing.T) {
	entries, err := topicFiles.ReadDir("topics")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(topicTable()) {
		t.Errorf("%d texts for %d topics", len(entries), len(topicTable()))
	}
	list, _ := topicText("topics")
	pages := manualText()
	for _, top := range topicTable() {
		text, ok := topicText(top.name)
		if !ok || strings.Count(text, "\n") < 5 {
			t.Errorf("the topic %s says %q", top.name, text)
		}
		if !strings.Contains(list, top.name) {
			t.Errorf("the topic %s is not in the list", top.name)
		}
		page := unroff(pages[fmt.Sprintf("wulf-%s.%d", top.name, top.section)])
		for _, word := range strings.Fields(strings.SplitN(text, "\n", 3)[2]) {
			if word = strings.TrimRight(word, ","); strings.IndexFunc(word, func(r rune) bool { return r < 'a' || r > 'z' }) < 0 && !strings.Contains(strings.ToLower(page), word) {
				t.Errorf("the page of %s lacks %q", top.name, word)
			}
		}
	}
}

func TestTheManualInMarkdownHasEveryPage(t *testing.T) {
	pages := testProgram().manual()
	doc := markdown(pages)
	for _, pg := range pages {
		if !strings.Contains(doc, fmt.Sprintf("\n## %s(%d)\n", pg.name, pg.section)) {
			t.Errorf("%s is not there", pg.name)
		}
	}
	if strings.Count(doc, "\n```\n")%2 != 0 {
		t.Error("a block of lines is not closed")
	}
}

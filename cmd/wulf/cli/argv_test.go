package cli

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func testProgram() *program {
	return &program{env: Env{Getenv: func(string) string { return "" }, Version: "test"}, in: strings.NewReader(""), out: io.Discard, err: io.Discard}
}

func TestWordsAreArrangedForTheLibrary(t *testing.T) {
	app := testProgram().tree()
	for typed, want := range map[string]string{
		"node list":                                 "wulf node list --",
		"node set n1 --image x -y":                  "wulf node set --image=x --yes -- n1",
		"-y node --image=x set n1":                  "wulf node set --yes --image=x -- n1",
		"node ls n1 --socket s -o json":             "wulf --socket=s node list --output=json -- n1",
		"container rm x":                            "wulf image delete -- x",
		"node set n1 -A console=ttyS0,115200 -A -b": "wulf node set --kernelargs=console=ttyS0,115200 --kernelargs=-b -- n1",
		"node set n1 --kernelargs a -A b":           "wulf node set --kernelargs=a --kernelargs=b -- n1",
		"node set -image x n1":                      "wulf node set --image=x -- n1",
		"node set --comment= n1":                    "wulf node set --comment= -- n1",
		"node set --yes=false n1":                   "wulf node set --yes=false -- n1",
		"node list -- -x --image":                   "wulf node list -- -x --image",
		"node list -":                               "wulf node list -- -",
		"node list -- ":                             "wulf node list -- ",
		"node delete n[1-2] n5 -x n2":               "wulf node delete --exclude=n2 -- n[1-2] n5",
		"node add n1 --comment -y":                  "wulf node add --comment=-y -- n1",
		"help node set":                             "wulf help -- node set",
	} {
		l, err := arrange(app, strings.Split(typed, " "))
		if err != nil {
			t.Errorf("%s: %v", typed, err)
			continue
		}
		if got := strings.Join(l.words(app), " "); got != want {
			t.Errorf("%s:\n got %s\nwant %s", typed, got, want)
		}
	}
}

// What a command is given is what was typed, through the library and all.
func TestTheLibraryReadsWhatWasTyped(t *testing.T) {
	app := testProgram().tree()
	set := named(named(app.Commands, "node").Subcommands, "set")
	for typed, check := range map[string]func(*cli.Context) bool{
		"node set n1 n2 --yes":        func(c *cli.Context) bool { return c.Bool("yes") && c.NArg() == 2 },
		"node set n1 -A a,b -A c":     func(c *cli.Context) bool { return slices.Equal(c.StringSlice("kernelargs"), []string{"a,b", "c"}) },
		"node set n1":                 func(c *cli.Context) bool { return !c.Bool("yes") && !c.IsSet("image") },
		"node set n1 --image=--yes":   func(c *cli.Context) bool { return c.String("image") == "--yes" && !c.Bool("yes") },
		"node set help --comment=":    func(c *cli.Context) bool { return c.Args().First() == "help" && c.IsSet("comment") },
		"node set -- --yes":           func(c *cli.Context) bool { return c.Args().First() == "--yes" && !c.Bool("yes") },
		"node set n1 --timeout 3s -y": func(c *cli.Context) bool { return c.Duration("timeout").Seconds() == 3 },
	} {
		ran := false
		set.Action = func(c *cli.Context) error {
			if ran = true; !check(c) {
				t.Errorf("%s: flags %v, arguments %q", typed, c.LocalFlagNames(), c.Args().Slice())
			}
			return nil
		}
		l, err := arrange(app, strings.Split(typed, " "))
		if err == nil {
			err = app.Run(l.words(app))
		}
		if err != nil || !ran {
			t.Errorf("%s: %v, ran %v", typed, err, ran)
		}
	}
}

// A line can be read before its command is known only if a flag takes a value wherever it occurs, or nowhere.
func TestFlagsTakeAValueEverywhereOrNowhere(t *testing.T) {
	app := testProgram().tree()
	known := valued(app)
	var walk func(path string, flags []cli.Flag, commands []*cli.Command)
	walk = func(path string, flags []cli.Flag, commands []*cli.Command) {
		seen := map[string]bool{}
		for _, f := range flags {
			for _, n := range f.Names() {
				if known[n] != takesValue(f) && !strings.HasSuffix(path, " unset") { // which must be named before its flags
					t.Errorf("%s: --%s takes a value here and none elsewhere, or the other way", path, n)
				}
				if seen[n] {
					t.Errorf("%s has two flags --%s", path, n)
				}
				seen[n] = true
			}
			if d, ok := f.(cli.DocGenerationFlag); !ok || d.GetUsage() == "" {
				t.Errorf("%s: --%s is not explained", path, f.Names()[0])
			}
		}
		for _, c := range commands {
			if c.Usage == "" && !c.Hidden {
				t.Errorf("%s %s is not explained", path, c.Name)
			}
			if len(c.Subcommands) == 0 && c.UsageText == "" && !c.Hidden && c.Name != "version" {
				t.Errorf("%s %s has no example", path, c.Name)
			}
			for _, f := range c.Flags {
				if owns(app.Flags, f.Names()[0]) {
					t.Errorf("%s %s: --%s is a flag of the program, too", path, c.Name, f.Names()[0])
				}
			}
			walk(path+" "+c.Name, c.Flags, c.Subcommands)
		}
	}
	walk("wulf", app.Flags, app.Commands)
}

// The examples in the help are lines that can be typed.
func TestExamplesAreUnderstood(t *testing.T) {
	app := testProgram().tree()
	var walk func([]*cli.Command)
	walk = func(commands []*cli.Command) {
		for _, c := range commands {
			for line := range strings.SplitSeq(c.UsageText, "\n") {
				line, ok := strings.CutPrefix(line, "wulf ")
				if !ok || strings.ContainsAny(line, "|><(") {
					continue
				}
				l, err := arrange(app, shellWords(line))
				if err != nil {
					t.Errorf("wulf %s: %v", line, err)
					continue
				}
				if got := l.path[len(l.path)-1]; got != c {
					t.Errorf("wulf %s is an example of %s, but calls %s", line, c.Name, got.Name)
				}
			}
			walk(c.Subcommands)
		}
	}
	walk(app.Commands)
}

// shellWords splits a line where a shell does, as far as the examples need it.
func shellWords(line string) []string {
	var words []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

func FuzzArrange(f *testing.F) {
	for _, seed := range []string{"node set n1 --image x -y", "node\x00set\x00n1\x00-A\x00--", "--\x00-x", "image\x00import\x00-\x00--tag=", "-=\x00--=\x00---"} {
		f.Add(strings.ReplaceAll(seed, " ", "\x00"))
	}
	app := testProgram().tree()
	f.Fuzz(func(t *testing.T, typed string) {
		l, err := arrange(app, strings.Split(typed, "\x00"))
		if err != nil {
			if msg := sentence(err); msg == "" || strings.ContainsAny(msg, "\n\x1b") || ExitCode(err) != exitUsage {
				t.Fatalf("%q: exit code %d, message %q", typed, ExitCode(err), msg)
			}
			return
		}
		// What was arranged is understood in the same way again: nothing is in doubt any more.
		if l.help || l.version || len(l.path) == 0 || !runs(l.path[len(l.path)-1]) {
			return
		}
		words := l.words(app)
		again, err := arrange(app, words[1:])
		if err != nil || !slices.Equal(again.words(app), words) {
			t.Fatalf("%q becomes %q, and then %q (%v)", typed, words, again.words(app), err)
		}
		for _, w := range l.args {
			if !slices.Contains(strings.Split(typed, "\x00"), w) {
				t.Fatalf("%q: nobody typed the argument %q", typed, w)
			}
		}
	})
}

// Whatever is mistyped, at whichever level, is refused in a line that says what was perhaps meant.
func TestMistypedWordsAreRefusedWithASuggestion(t *testing.T) {
	app := testProgram().tree()
	refused := func(words []string, meant string) {
		t.Helper()
		_, err := arrange(app, words)
		if err == nil || ExitCode(err) != exitUsage || strings.Contains(sentence(err), "\n") {
			t.Errorf("%q: %v", words, err)
		} else if len(meant) > 3 && !strings.Contains(sentence(err), "did you mean") {
			t.Errorf("%q: %v", words, err)
		}
	}
	everyCommand(app, func(words []string, c *cli.Command) {
		last := len(words) - 1
		refused(append(slices.Clone(words[:last]), words[last]+"x"), words[last])
		if len(c.Subcommands) > 0 {
			refused(append(slices.Clone(words), "xyzzy-nothing"), "")
		}
		for _, f := range append(slices.Clone(c.Flags), app.Flags...) {
			if name := f.Names()[0]; len(c.Subcommands) == 0 {
				refused(append(slices.Clone(words), "--"+name+"x"), name)
			}
		}
	})
	for word, meant := range map[string]string{"nodes": "node", "profil": "profile", "imgae": "image", "containr": "container", "overlays": "overlay", "cotroller": "controller"} {
		_, err := arrange(app, []string{word, "list"})
		if want := `did you mean "` + meant + `"?`; err == nil || !strings.Contains(sentence(err), want) {
			t.Errorf("%s: %v, want %s", word, err, want)
		}
	}
}

// The names that wwctl has for verbs and nouns lead to ours.
func TestTheWordsOfWwctlAreUnderstood(t *testing.T) {
	app := testProgram().tree()
	for typed, want := range map[string]string{
		"node ls": "node list", "node new n1": "node add", "node create n1": "node add", "node modify n1": "node set",
		"node rm n1": "node delete", "node remove n1": "node delete", "node del n1": "node delete",
		"profile new p": "profile add", "profile modify p": "profile set", "profile del p": "profile delete",
		"container ls": "image list", "vnfs ls": "image list", "container pull a b": "image import", "vnfs remove a": "image delete",
		"overlay cat a b": "overlay show", "overlay cp a b": "overlay import", "overlay rm a": "overlay delete",
		"relay rm r1": "relay remove", "controller delete c1": "controller remove", "context rm a": "context delete",
	} {
		l, err := arrange(app, strings.Fields(typed))
		if err != nil {
			t.Errorf("%s: %v", typed, err)
		} else if got := strings.TrimPrefix(l.spoken(app), "wulf "); got != want {
			t.Errorf("%s is %s, want %s", typed, got, want)
		}
	}
	// No two verbs of a noun answer to one name.
	everyCommand(app, func(words []string, c *cli.Command) {
		seen := map[string]bool{}
		for _, sub := range c.Subcommands {
			for _, n := range sub.Names() {
				if seen[n] {
					t.Errorf("%s has two commands %s", strings.Join(words, " "), n)
				}
				seen[n] = true
			}
		}
	})
}

package cli_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/cmd/wulf/cli"
)

// said runs wulf in this process and returns what it prints.
func said(t *testing.T, getenv func(string) string, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, err strings.Builder
	cli.Run(context.Background(), cli.Env{Args: args, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &err, Getenv: getenv, Version: "test"})
	return out.String(), err.String()
}

// What is offered for --columns is what each list has. Lists of nodes have the paths of settings, too.
func TestCompletionOffersTheColumnsOfEachList(t *testing.T) {
	dir := t.TempDir()
	c, err := startController(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	getenv := func(name string) string {
		return map[string]string{"WULF_SOCKET": c.socket, "HOME": dir}[name]
	}
	for _, noun := range []string{"profile", "network", "image", "overlay", "file", "boot", "relay", "controller", "context"} {
		offered, _ := said(t, getenv, "__complete", "--", noun, "list", "--columns", "")
		_, refused := said(t, getenv, noun, "list", "--columns", "?")
		m := regexp.MustCompile(`\(there are (.*)\)`).FindStringSubmatch(refused)
		if m == nil {
			t.Fatalf("%s: %s", noun, refused)
		}
		if got := strings.Join(strings.Fields(offered), ", "); got != m[1] {
			t.Errorf("%s offers the columns %s, and has %s", noun, got, m[1])
		}
	}
	if offered, _ := said(t, getenv, "__complete", "--", "node", "list", "--columns", "im"); offered != "image\n" {
		t.Errorf("node offers %q", offered)
	}
}

// The sources that are offered after an @ are those that controllers know.
func TestCompletionOffersTheSourcesOfGroups(t *testing.T) {
	dir := t.TempDir()
	c, err := startController(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	getenv := func(name string) string { return map[string]string{"WULF_SOCKET": c.socket}[name] }
	offered, _ := said(t, getenv, "__complete", "--", "node", "list", "@")
	var sources []string
	for term := range strings.FieldsSeq(offered) {
		if source, ok := strings.CutSuffix(strings.TrimPrefix(term, "@"), ":"); ok {
			sources = append(sources, source)
		}
	}
	_, refused := said(t, getenv, "node", "list", "@xyzzy-nothing:x")
	if want := "there are groups by " + strings.Join(sources, ", "); !strings.Contains(refused, want) {
		t.Errorf("offered are %s, and %s", strings.Join(sources, ", "), refused)
	}
}

// Every shell understands its script.
func TestShellsUnderstandTheirScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			program, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("!!! SKIPPED: there is no %s here", shell)
			}
			script, _ := said(t, func(string) string { return "" }, "completion", shell)
			file := filepath.Join(t.TempDir(), "wulf."+shell)
			if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(program, "-n", file).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

package files_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/files"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// crashDir tells a process of this test that it is the one to be killed.
const crashDir = "WULF_TEST_CRASH_DIR"

const crashFiles = 40

// version is one of the listings that follow each other: its files differ from the next one's, and some are not there.
func version(n int) []overlay.Listed {
	var all []overlay.Listed
	for i := range crashFiles {
		if (i+n)%5 == 0 {
			continue
		}
		path := fmt.Sprintf("d%d/f%d", i%7, i)
		if (i+n)%4 == 0 {
			all = append(all, link(path, fmt.Sprintf("v%d", n)))
			continue
		}
		all = append(all, file(path, strings.Repeat(fmt.Sprintf("v%d ", n), 3000)))
	}
	return all
}

// whole tells whether what is at a path is what some version or the image has there.
func whole(content string) bool {
	if content == "nothing" || content == "the image's" || strings.HasPrefix(content, "→ v") {
		return true
	}
	word, _, _ := strings.Cut(content, " ")
	return content == strings.Repeat(word+" ", 3000)
}

func crashLab(t *testing.T, base string) *lab {
	t.Helper()
	l := newLab(t)
	l.dir = filepath.Join(base, "root")
	for dir, root := range map[string]**os.Root{"root": &l.tree.Root, "kept": &l.tree.Kept} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		r, err := os.OpenRoot(filepath.Join(base, dir))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		*root = r
	}
	at := filepath.Join(base, "record")
	l.tree.Save = func(r files.Record) error {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		return durable.WriteFile(at, b, 0o600)
	}
	if b, err := os.ReadFile(at); err == nil {
		if err := json.Unmarshal(b, &l.record); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// TestCrash is no test but the process that is killed: it applies one version after the other.
func TestCrash(t *testing.T) {
	base := os.Getenv(crashDir)
	if base == "" {
		t.Skip("only as a process of the next test")
	}
	l := crashLab(t, base)
	for n := 0; ; n = (n + 1) % 9 {
		fmt.Println("begins")
		l.apply(version(n)...)
		if err := l.tree.Save(l.record); err != nil {
			t.Fatal(err)
		}
	}
}

// Killed at any moment, a node has whole files, and the next refresh knows which of them are the overlays'.
func TestFilesAreWholeAndKnownAfterACrash(t *testing.T) {
	base := t.TempDir()
	l := crashLab(t, base)
	for i := 0; i < crashFiles; i += 3 {
		l.write(fmt.Sprintf("d%d/f%d", i%7, i), "the image's")
	}
	before := l.all()
	for round := range 12 {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrash$")
		c.Env = append(os.Environ(), crashDir+"="+base)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 1+round%3 && lines.Scan(); {
			if lines.Text() == "begins" {
				n++
			}
		}
		// Somewhere in the writing, each time elsewhere.
		for try := 0; try < 20_000 && round%2 == 0 && len(l.temporaries()) == 0; try++ {
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		c.Wait()
		for _, path := range l.all() {
			if c := l.content(path); !strings.Contains(path, ".wulf-") && !strings.HasPrefix(c, "directory") && !whole(c) {
				t.Errorf("after crash %d %s holds %d bytes of neither version", round, path, len(c))
			}
		}
	}
	l = crashLab(t, base)
	if got := l.apply(version(5)...); strings.Contains(got, "failed") {
		t.Errorf("after all: %s", got)
	}
	l.want(l.apply(version(5)...), "")
	if left := l.temporaries(); len(left) > 0 {
		t.Errorf("%v is left of crashes", left)
	}
	l.apply()
	if got := l.all(); !slices.Equal(got, before) {
		t.Errorf("taken back, there are %v\nwant %v", got, before)
	}
	for i := 0; i < crashFiles; i += 3 {
		l.want(l.content(fmt.Sprintf("d%d/f%d", i%7, i)), "the image's")
	}
}

// temporaries lists files that are not in their place yet.
func (l *lab) temporaries() []string {
	found, err := filepath.Glob(filepath.Join(l.dir, "d*", ".wulf-*"))
	if err != nil {
		l.t.Fatal(err)
	}
	return found
}

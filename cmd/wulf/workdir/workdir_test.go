package workdir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == ChildArg {
		os.Exit(Child())
	}
	if len(os.Args) > 3 && os.Args[1] == "run" {
		os.Exit(helper(os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

// rooted skips where nobody may make namespaces.
func rooted(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make namespaces")
	}
}

// image is a root whose programs are this machine's, bound in.
func image(t *testing.T) Spec {
	t.Helper()
	rooted(t)
	root := t.TempDir()
	for _, dir := range []string{"etc", "usr", "var"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := Spec{Root: root, Name: "test", Binds: []Bind{{Source: "/usr", Target: "/usr", ReadOnly: true}}}
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		target, err := os.Readlink("/" + name)
		if err != nil {
			t.Skipf("/%s of this machine is no link to /usr", name)
		}
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func run(t *testing.T, s Spec, argv ...string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	s.Argv = argv
	code, err := Run(t.Context(), s, nil, &out, &out)
	if err != nil {
		t.Fatalf("%v: %v", argv, err)
	}
	return out.String(), code
}

// tree is what is below a directory, with modes, times and contents.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		body := ""
		if fi.Mode().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			body = string(b)
		}
		all = append(all, fmt.Sprintf("%s %s %s %s", p, fi.Mode(), fi.ModTime(), body))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestACommandRunsInTheImageAndLeavesNothingOfItsSurroundings(t *testing.T) {
	s := image(t)
	before := tree(t, s.Root)
	out, code := run(t, s, "sh", "-c", `echo $$ $(hostname) "$PATH" "$PS1"; test -c /dev/null && test -d /proc/self && test -d /sys/kernel && test -d /run && touch /tmp/x /run/y && cat /etc/resolv.conf >/dev/null && ls /dev/pts >/dev/null && echo fine`)
	if code != 0 || !strings.Contains(out, "test "+searched) || !strings.Contains(out, "[wulf:test]") || !strings.HasSuffix(out, "fine\n") {
		t.Errorf("exit %d: %s", code, out)
	}
	if after := tree(t, s.Root); !slices.Equal(before, after) {
		t.Errorf("the image changed from\n%s\nto\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	if b, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(b), s.Root) {
		t.Errorf("something is still mounted there, %v", err)
	}
}

func TestWhatACommandChangesStays(t *testing.T) {
	s := image(t)
	past := time.Unix(1e9, 0)
	if err := os.Chtimes(s.Root, past, past); err != nil {
		t.Fatal(err)
	}
	if out, code := run(t, s, "sh", "-c", "echo hello >/etc/motd; mkdir /opt"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	if fi, err := os.Stat(s.Root); err != nil || fi.ModTime().Equal(past) {
		t.Errorf("the time at which /opt was made is taken back with the mount points, %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(s.Root, "etc/motd")); err != nil || string(b) != "hello\n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestExitCodesAreTheCommands(t *testing.T) {
	s := image(t)
	for script, want := range map[string]int{"exit 0": 0, "exit 3": 3, "kill -TERM $$": 128 + 15, "kill -KILL $$": 128 + 9} {
		if out, code := run(t, s, "sh", "-c", script); code != want {
			t.Errorf("%s: exit %d, want %d: %s", script, code, want, out)
		}
	}
}

func TestAllThatACommandStartedEndsWithIt(t *testing.T) {
	s := image(t)
	mark := filepath.Join(s.Root, "var/mark")
	if out, code := run(t, s, "sh", "-c", "(exec 0</dev/null 1>/dev/null 2>&1; while :; do echo x >>/var/mark; sleep 0.01; done) & sleep 0.1; exit 0"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	size := func() int64 {
		fi, err := os.Stat(mark)
		if err != nil {
			t.Fatal(err)
		}
		return fi.Size()
	}
	if a := size(); a == 0 {
		t.Error("it did nothing")
	} else if _, code := run(t, s, "sleep", "0.2"); code != 0 || size() != a {
		t.Error("a process went on after the command")
	}
}

func TestBindsComeAndGo(t *testing.T) {
	s := image(t)
	from := t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "file"), []byte("from outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Binds = append(s.Binds, Bind{Source: from, Target: "/srv/deep/data"}, Bind{Source: from, Target: "/ro", ReadOnly: true}, Bind{Source: filepath.Join(from, "file"), Target: "/etc/one"})
	before := tree(t, s.Root)
	out, code := run(t, s, "sh", "-c", "cat /srv/deep/data/file /etc/one && touch /srv/deep/data/new && ! touch /ro/no 2>/dev/null && echo ' fine'")
	if code != 0 || out != "from outsidefrom outside fine\n" {
		t.Errorf("exit %d: %s", code, out)
	}
	if _, err := os.Stat(filepath.Join(from, "new")); err != nil {
		t.Error(err)
	}
	if after := tree(t, s.Root); !slices.Equal(before, after) {
		t.Errorf("the image changed from\n%s\nto\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

func TestBindsMayLieInWhatIsMountedOver(t *testing.T) {
	s := image(t)
	if err := os.Symlink("/run", filepath.Join(s.Root, "var/run")); err != nil {
		t.Fatal(err)
	}
	from := t.TempDir()
	for _, dir := range []string{"sub", "sub/deep"} {
		if err := os.Mkdir(filepath.Join(from, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(from, "file"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Binds = append(s.Binds, Bind{Source: from + "/sub", Target: "/mnt/sub"}, Bind{Source: from, Target: "/mnt"}, Bind{Source: from, Target: "/tmp/a/b"},
		Bind{Source: from + "/file", Target: "/run/c/file"}, Bind{Source: from, Target: "/var/run/d"})
	before, outside := tree(t, s.Root), tree(t, from)
	if out, code := run(t, s, "ls", "-d", "/mnt/sub/deep", "/tmp/a/b/file", "/run/c/file", "/run/d/file"); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	s.Argv, s.Binds = []string{"true"}, append(s.Binds, Bind{Source: from, Target: "/mnt/none"})
	if _, err := Run(t.Context(), s, nil, nil, nil); !errors.Is(err, fault.Invalid) || fault.Fix(err) == "" {
		t.Errorf("a place in a directory of this machine that is not there: %v", err)
	}
	if after := tree(t, s.Root); !slices.Equal(before, after) {
		t.Errorf("the image changed from\n%s\nto\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	if after := tree(t, from); !slices.Equal(outside, after) {
		t.Errorf("what was bound changed to\n%s", strings.Join(after, "\n"))
	}
}

// Whatever links an image has, nothing outside of it is written to.
func TestLinksOfAnImageLeadNowhere(t *testing.T) {
	s := image(t)
	outside := t.TempDir()
	for _, name := range []string{"srv", "mnt"} {
		if err := os.Symlink(outside, filepath.Join(s.Root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../../../"+outside+"/resolv", filepath.Join(s.Root, "etc/resolv.conf")); err != nil {
		t.Fatal(err)
	}
	from := t.TempDir()
	s.Binds = append(s.Binds, Bind{Source: from, Target: "/srv/x"})
	s.Argv = []string{"true"}
	_, err := Run(t.Context(), s, nil, nil, nil)
	if err == nil {
		t.Error("a bind below a link that leads out was made")
	}
	s.Binds = s.Binds[:1]
	if out, code := run(t, s, "sh", "-c", "echo x >/mnt/y 2>/dev/null; true"); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	if list, _ := os.ReadDir(outside); len(list) > 0 {
		t.Errorf("%s was written outside", list[0].Name())
	}
}

func TestWhatCannotRunIsSaid(t *testing.T) {
	s := image(t)
	for _, tc := range []struct {
		argv []string
		kind fault.Kind
		say  string
	}{
		{[]string{"nosuch"}, fault.NotFound, "no program nosuch"},
		{[]string{"/etc/motd"}, fault.Invalid, "/etc/motd"},
	} {
		s.Argv = tc.argv
		if _, err := Run(t.Context(), s, nil, nil, nil); !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.say) || fault.Fix(err) == "" {
			t.Errorf("%v: %v", tc.argv, err)
		}
	}
	s.Argv, s.Binds = []string{"true"}, append(s.Binds, Bind{Source: "/nowhere", Target: "/x"})
	if _, err := Run(t.Context(), s, nil, nil, nil); !errors.Is(err, fault.NotFound) {
		t.Errorf("a bind of nothing: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(s.Root, "x")); err == nil {
		t.Error("a mount point is left")
	}
}

func TestBindsAreParsed(t *testing.T) {
	for in, want := range map[string]Bind{
		"/a": {"/a", "/a", false}, "/a:/b": {"/a", "/b", false}, "/a:/b:ro": {"/a", "/b", true}, "/a::ro": {"/a", "/a", true}, "/a:/b/../c:rw": {"/a", "/c", false},
	} {
		if got, err := ParseBind(in); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "a", "/a:b", "/a:/b:xx", "/a:/b:ro:ro", "/a:/", "/a:/..", ":/b"} {
		if _, err := ParseBind(in); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestWorkDirectoriesOfTheDeadAreSweptAndThoseKeptAreNot(t *testing.T) {
	rooted(t)
	base := filepath.Join(t.TempDir(), "work")
	make := func(name string) *Dir {
		d, err := Create(base, Note{Image: name, Version: "1", Since: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.Root(), "file"), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		return d
	}
	living, dead, kept := make("living"), make("dead"), make("kept")
	if err := kept.Keep("the command failed"); err != nil {
		t.Fatal(err)
	}
	dead.Close() // as the kernel does for a process that was killed
	kept.Close()
	half := filepath.Join(base, "half-1")
	if err := os.Mkdir(half, 0o700); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(half, past, past); err != nil {
		t.Fatal(err)
	}
	list, err := Sweep(base)
	if err != nil || len(list) != 1 || list[0].Image != "kept" || list[0].Kept != "the command failed" {
		t.Errorf("kept %+v, %v", list, err)
	}
	for path, want := range map[string]bool{living.Root(): true, dead.Root(): false, kept.Root(): true, half: false} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := living.Remove(); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(base, &st); err != nil || st.Mode&0o777 != 0o700 {
		t.Errorf("the base has mode %o, %v", st.Mode&0o777, err)
	}
}

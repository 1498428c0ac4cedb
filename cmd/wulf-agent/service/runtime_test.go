package service_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// up runs a node that was booted in two stages, while f does.
func (l *lab) up(f func()) {
	l.t.Helper()
	l.booted(catalog.MethodTwoStage)
	if err := l.run(func() { time.Sleep(2 * time.Second); f() }); err != nil {
		l.t.Error(err)
	}
}

func TestFilesOfRuntimeOverlaysFollowTheirDeclaration(t *testing.T) {
	bubble(t, func(l *lab) {
		l.write("etc/passwd", "the node's own")
		l.write("etc/motd", "the image's")
		with := func(files map[string]string) map[string]string {
			all := map[string]string{"etc/passwd": "the node's own", "etc/motd": "the image's"}
			maps.Copy(all, files)
			return all
		}
		l.up(func() {
			l.wantRefreshes("7 all files were as declared")
			for _, c := range []struct {
				files map[string]string
				told  string
			}{
				{map[string]string{"etc/hosts": "one", "etc/motd": "hello"}, "8 2 changed: etc/hosts, etc/motd"},
				{map[string]string{"etc/hosts": "two", "etc/motd": "hello", "opt/site/new": "x"}, "9 2 changed: etc/hosts, opt/site/new"},
				{map[string]string{"etc/hosts": "two"}, "10 2 removed: etc/motd, opt/site/new"},
				{map[string]string{}, "11 1 removed: etc/hosts"},
				{map[string]string{"etc/hosts": "three"}, "12 1 changed: etc/hosts"},
			} {
				l.declare(c.files)
				time.Sleep(3 * time.Second) // far less than an interval
				l.wantContent(with(c.files))
				l.wantRefreshes(c.told)
			}
			sent := l.count(&l.sent)
			time.Sleep(10 * l.interval)
			if now := l.count(&l.sent); now != sent {
				l.t.Errorf("files that have not changed were fetched %d times", now-sent)
			}
			if b := l.beat(); b.Revision != 12 || b.Error != "" {
				l.t.Errorf("the last heart-beat is %+v", b)
			}
		})
		// What an earlier run of the service wrote, a later one takes back.
		l.declare(map[string]string{"etc/motd": "again"})
		if err := l.run(func() { time.Sleep(l.interval + time.Second) }); err != nil {
			l.t.Error(err)
		}
		l.wantContent(with(map[string]string{"etc/motd": "again"}))
	})
}

func TestLargeFilesAreFetchedOnce(t *testing.T) {
	bubble(t, func(l *lab) {
		l.inline = 10
		l.declare(map[string]string{"etc/hosts": strings.Repeat("host ", 1000), "etc/motd": "hello"})
		l.up(func() {
			l.wantContent(l.files)
			l.declare(map[string]string{"etc/hosts": l.files["etc/hosts"], "etc/motd": "good-bye"})
			time.Sleep(3 * time.Second)
			l.wantContent(l.files)
			if n := l.count(&l.fetched); n != 1 {
				l.t.Errorf("contents were fetched %d times", n)
			}
			// One that the relay no longer knows is of a listing that has passed: the next one is asked for soon.
			l.with(func() { l.lost = true })
			l.declare(map[string]string{"etc/hosts": strings.Repeat("node ", 1000)})
			time.Sleep(3 * time.Second)
			l.with(func() { l.lost = false })
			time.Sleep(10 * time.Second)
			l.wantContent(map[string]string{"etc/hosts": strings.Repeat("node ", 1000)})
		})
	})
}

// A relay that holds back no answer, because too many wait there, is asked at every interval and not more often.
func TestARelayThatHoldsNoAnswerBackIsNotAskedAllTheTime(t *testing.T) {
	bubble(t, func(l *lab) {
		l.full = true
		l.up(func() {
			before := l.count(&l.asked)
			time.Sleep(20 * l.interval)
			if n := l.count(&l.asked) - before; n < 15 || n > 25 {
				l.t.Errorf("in 20 intervals it was asked %d times", n)
			}
			l.declare(map[string]string{"etc/hosts": "one"})
			time.Sleep(l.interval*11/10 + 2*time.Second)
			l.wantContent(map[string]string{"etc/hosts": "one"})
		})
	})
}

func TestChangesByTheSecondAreTakenWithABreath(t *testing.T) {
	bubble(t, func(l *lab) {
		l.up(func() {
			sent := l.count(&l.sent)
			for n := range 1000 {
				l.declare(map[string]string{"etc/hosts": fmt.Sprint(n)})
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(3 * time.Second)
			l.wantContent(map[string]string{"etc/hosts": "999"})
			if n := l.count(&l.sent) - sent; n > 15 {
				l.t.Errorf("in 10 seconds %d listings were sent", n)
			}
		})
	})
}

func TestWhatWasChangedOnTheNodeIsSetBack(t *testing.T) {
	bubble(t, func(l *lab) {
		l.declare(map[string]string{"etc/hosts": "declared", "etc/motd": "hello"})
		l.up(func() {
			l.refreshes()
			l.write("etc/hosts", "by hand")
			time.Sleep(5*time.Minute + 2*l.interval)
			l.wantContent(map[string]string{"etc/hosts": "declared", "etc/motd": "hello"})
			l.wantRefreshes("8 1 changed: etc/hosts")
			l.write("etc/hosts", "by hand")
			l.declare(map[string]string{"etc/motd": "hello"})
			time.Sleep(3 * time.Second)
			l.wantContent(map[string]string{"etc/hosts": "by hand", "etc/motd": "hello"})
			l.wantRefreshes("9 1 left as changed on the node: etc/hosts")
			// Somebody asks, and need not wait.
			l.write("etc/motd", "by hand")
			l.ask()
			time.Sleep(3 * time.Second)
			l.wantContent(map[string]string{"etc/hosts": "by hand", "etc/motd": "hello"})
			l.wantRefreshes("10 1 changed: etc/motd")
		})
	})
}

// What cannot be done is told, tried again with pauses that grow, and does not keep the rest back.
func TestAFileThatCannotBeWrittenIsToldAndTriedAgain(t *testing.T) {
	bubble(t, func(l *lab) {
		l.write("etc/hosts/precious", "x")
		l.declare(map[string]string{"etc/hosts": "declared", "etc/motd": "hello"})
		const wrong = "/etc/hosts: a directory is where a file should be: it is left as it is"
		l.up(func() {
			l.wantContent(map[string]string{"etc/hosts/precious": "x", "etc/motd": "hello"})
			l.wantRefreshes("8 1 changed: etc/motd ERROR " + wrong)
			sent := l.count(&l.sent)
			time.Sleep(time.Hour)
			if n := l.count(&l.sent) - sent; n < 5 || n > 25 {
				l.t.Errorf("in an hour %d listings were sent", n)
			}
			if b := l.beat(); b.Revision != 8 || b.Error != wrong {
				l.t.Errorf("the last heart-beat is %+v", b)
			}
			l.refreshes()
			l.declare(map[string]string{"etc/hosts": "declared", "etc/motd": "news come in the meantime"})
			time.Sleep(3 * time.Second)
			l.wantRefreshes("9 1 changed: etc/motd ERROR " + wrong)
			if err := os.RemoveAll(filepath.Join(l.root, "etc/hosts")); err != nil {
				l.t.Fatal(err)
			}
			time.Sleep(6 * time.Minute)
			l.wantContent(l.files)
			l.wantRefreshes("9 1 changed: etc/hosts")
			time.Sleep(2 * l.interval)
			if b := l.beat(); b.Revision != 9 || b.Error != "" {
				l.t.Errorf("the last heart-beat is %+v", b)
			}
		})
	})
}

// Whatever a relay sends, nothing outside of the root changes, and the service goes on.
func TestOverlaysThatReachOutsideAreRefused(t *testing.T) {
	bubble(t, func(l *lab) {
		l.up(func() {
			l.declare(map[string]string{"../outside": "x"})
			time.Sleep(2*l.interval + time.Second)
			l.wantContent(map[string]string{})
			if _, err := os.Stat(filepath.Join(filepath.Dir(l.root), "outside")); err == nil {
				l.t.Error("a file was written outside of the root")
			}
			l.declare(map[string]string{"etc/hosts": "fine"})
			time.Sleep(3 * time.Minute)
			l.wantContent(map[string]string{"etc/hosts": "fine"})
		})
	})
}

// fakeSystemctl notes how it is called, and fails for units that are called broken until it is mended.
func (l *lab) fakeSystemctl() (called func() string, mend func()) {
	l.t.Helper()
	dir := l.t.TempDir()
	log, mended := filepath.Join(dir, "log"), filepath.Join(dir, "mended")
	l.systemctl = filepath.Join(dir, "systemctl")
	program := "#!/bin/sh\necho \"$*\" >> " + log + "\ncase \"$*\" in *broken*) test -e " + mended + " || { echo 'Job failed.' >&2; exit 1; };; esac\n"
	if err := os.WriteFile(l.systemctl, []byte(program), 0o755); err != nil {
		l.t.Fatal(err)
	}
	called = func() string {
		b, _ := os.ReadFile(log)
		os.Remove(log)
		return strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", "; ")
	}
	return called, func() {
		if err := os.WriteFile(mended, nil, 0o644); err != nil {
			l.t.Fatal(err)
		}
	}
}

func TestUnitsAreToldWhenTheirFilesChange(t *testing.T) {
	bubble(t, func(l *lab) {
		called, mend := l.fakeSystemctl()
		l.hooks = []overlay.Hook{{Path: "etc/chrony/*", Reload: "chrony.service"}, {Path: "etc/slurm.conf", Restart: "broken.service"}}
		wantCalled := func(want string) {
			l.t.Helper()
			if got := called(); got != want {
				l.t.Errorf("systemctl was called for %q, want %q", got, want)
			}
		}
		chrony := map[string]string{"etc/chrony/a": "1", "etc/chrony/b": "1", "etc/hosts": "1"}
		l.declare(chrony)
		l.up(func() {
			wantCalled("try-reload-or-restart chrony.service")
			l.wantRefreshes("8 3 changed: etc/chrony/a, etc/chrony/b, etc/hosts; told chrony.service")
			chrony["etc/hosts"] = "2"
			l.declare(chrony)
			time.Sleep(3 * time.Second)
			wantCalled("")
			l.refreshes()
			// The unit whose file and hook are gone is told once more; that of a unit file makes systemd look.
			l.with(func() { l.hooks = l.hooks[1:] })
			l.declare(map[string]string{"etc/systemd/system/x.service": "1"})
			time.Sleep(3 * time.Second)
			wantCalled("daemon-reload; try-reload-or-restart chrony.service")
			l.refreshes()

			l.declare(map[string]string{"etc/slurm.conf": "1"})
			time.Sleep(3 * time.Second)
			wantCalled("daemon-reload; try-restart broken.service")
			l.wantRefreshes("11 1 changed: etc/slurm.conf; 1 removed: etc/systemd/system/x.service; told systemd" +
				" ERROR systemctl try-restart broken.service (Job failed.): exit status 1")
			time.Sleep(time.Hour)
			if n := strings.Count(called(), "broken"); n < 3 || n > 10 {
				l.t.Errorf("in an hour it was tried %d times", n)
			}
			if b := l.beat(); b.Stage != boot.StageAlive || !strings.Contains(b.Error, "broken.service") {
				l.t.Errorf("the last heart-beat is %+v", b)
			}
			l.wantRefreshes("")
			// Somebody mends it, and asks.
			mend()
			l.ask()
			time.Sleep(3 * time.Second)
			wantCalled("try-restart broken.service")
			l.wantRefreshes("12 all files were as declared; told broken.service")
			time.Sleep(2 * l.interval)
			if b := l.beat(); b.Error != "" {
				l.t.Errorf("the last heart-beat is %+v", b)
			}
		})
	})
}

func TestOnlyOneAgentLooksAfterANode(t *testing.T) {
	bubble(t, func(l *lab) {
		l.up(func() {
			if err := l.run(func() {}); err == nil || !strings.Contains(err.Error(), "another wulf-agent runs here") {
				l.t.Errorf("a second one: %v", err)
			}
		})
	})
}

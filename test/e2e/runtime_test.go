//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/test/rig"
)

// story is a unit that says on the console with which file it started and was reloaded, and a watcher that says what
// becomes of another file.
var story = map[string]string{
	"etc/systemd/system/story.service": `[Unit]
Description=The story of a file
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/story starts
ExecReload=/usr/local/sbin/story reloads
[Install]
WantedBy=multi-user.target
`,
	"etc/systemd/system/multi-user.target.wants/story.service.ww": `{{softlink "../story.service"}}`,
	"usr/local/sbin/story": `#!/bin/sh
echo "story $1: $(cat /etc/story.conf), second file: $(cat /etc/second.conf 2>/dev/null), motd: $(sha256sum </etc/motd | cut -c1-16)" >/dev/console
`,
}

// A node of a distribution with systemd runs. A changed file of its runtime overlays arrives and its unit is reloaded; one
// that is deleted disappears, and what the image had in its place is there again; what somebody changes on the node is
// set back when another asks for that.
func TestRuntimeOverlaysOfANodeWithSystemd(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	c := newCluster(t, ctx)
	wulf := func(args ...string) string {
		t.Helper()
		out, err := c.Wulf(ctx, args...)
		if err != nil {
			t.Fatalf("wulf %q: %v %s", args, err, out)
		}
		return out
	}
	if err := c.ImportImage(ctx, "system", script(t, ctx, "make-image")); err != nil {
		t.Fatal(err)
	}
	wulf("overlay", "import", "story", overlayOf(t, story))
	wulf("overlay", "import", "tale", overlayOf(t, map[string]string{
		"etc/story.conf.ww": "{{.Tags.story}} for {{.Id}}\n", "etc/second.conf": "there\n", "etc/motd": "of the overlay\n",
	}))
	wulf("overlay", "hook", "tale", "etc/*", "--reload", "story.service")

	mac := "52:54:00:77:00:31"
	m, err := c.Room.Rack.Machine(rig.MachineConfig{Name: "n31", MAC: mac, Firmware: rig.UEFI, Memory: 2048})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddNode(ctx, "n31", "system", mac, "10.77.0.131", "-O", "story", "-R", "tale", "--tagadd", "story=once", "--kernelargs", "console=ttyS0"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitRelays(ctx); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := m.PowerOn(); err != nil {
		t.Fatal(err)
	}
	defer m.PowerOff()
	says := func(text string) {
		t.Helper()
		if _, err := m.Console().Wait(ctx, text); err != nil {
			t.Fatalf("%v\n%s", err, m.Console().Tail(40))
		}
	}
	says("story starts: once for n31, second file: there, motd: " + sum("of the overlay\n"))
	if _, err := c.WaitBoot(ctx, "n31", began); err != nil {
		t.Fatalf("%v\n%s", err, m.Console().Tail(40))
	}
	t.Logf("up after %.1f s", time.Since(began).Seconds())

	began = time.Now()
	wulf("node", "set", "n31", "--tagadd", "story=upon a time")
	says("story reloads: upon a time for n31, second file: there")
	t.Logf("a changed file and its unit: %.1f s after the change began", time.Since(began).Seconds())

	began = time.Now()
	wulf("overlay", "delete", "tale", "etc/second.conf", "--yes")
	says("second file: , motd: " + sum("of the overlay\n"))
	t.Logf("a deleted file: %.1f s", time.Since(began).Seconds())

	began = time.Now()
	out := wulf("node", "sync", "n31", "--wait")
	t.Logf("asked and done: %.1f s %s", time.Since(began).Seconds(), out)
	if out := wulf("node", "list", "n31", "--columns", "runtime", "--no-headers"); strings.TrimSpace(out) != "in step" {
		t.Errorf("its runtime overlays are %q", out)
	}

	wulf("overlay", "delete", "tale", "etc/motd", "--yes")
	image, err := os.ReadFile(script(t, ctx, "make-image") + "/etc/motd")
	if err != nil {
		t.Fatal(err)
	}
	says("second file: , motd: " + sum(string(image)))
}

// sum is what story says of a content.
func sum(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content)))[:16] }

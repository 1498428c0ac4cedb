//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/test/rig"
)

// oldinit is what Warewulf's overlay wwinit does, in a page: it becomes the node's first process, makes a root of its own,
// and starts the image's init there.
var oldinit = map[string]string{
	"init": `#!/bin/sh
export PATH=/sbin:/bin:/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
. /warewulf/config
echo "wwinit: node $WWHOSTNAME, root $WWROOT, server $WWIPADDR:$WWPORT, command line $(cat /proc/cmdline)"
[ "$WWROOT" = initramfs ] && exec /warewulf/run-init
mkdir /newroot
mount -t "$WWROOT" "$WWROOT" /newroot
for path in /*; do
	case $path in /newroot | /proc | /sys | /dev) ;; *) cp -a "$path" /newroot/ ;; esac
done
mkdir -p /newroot/proc /newroot/sys /newroot/dev
for path in proc sys dev; do mount --move /$path /newroot/$path; done
exec switch_root -c /dev/console /newroot /warewulf/run-init
`,
	"warewulf/config.ww": `WWHOSTNAME={{.Id}}
WWROOT={{.Root}}
WWIPADDR={{.Ipaddr}}
WWPORT={{.Warewulf.Port}}
`,
	"warewulf/run-init": `#!/bin/sh
for script in /warewulf/init.d/*; do "$script"; done
exec /sbin/init
`,
}

// client is what wwclient does, in a page: it asks for the runtime overlays again and again. The server's address and port it
// learns from a template, as the programs of Warewulf do.
var client = map[string]string{
	"warewulf/init.d/80-client": `#!/bin/sh
/warewulf/client &
`,
	// Of a file that differs in size or time it says so, and puts it in place at once.
	"warewulf/client": `#!/bin/sh
. /warewulf/config
wwid=$(sed 's/.*wwid=\([^ ]*\).*/\1/' /proc/cmdline)
echo 512 >/proc/sys/net/ipv4/ip_unprivileged_port_start
echo 512 1023 >/proc/sys/net/ipv4/ip_local_port_range
sleep 3
while :; do
	rm -rf /warewulf/new && mkdir /warewulf/new && cd /warewulf/new
	wget -q -O - "http://$WWIPADDR:$WWPORT/runtime/$wwid?assetkey=&uuid=&compress=gz" | gzip -dc | cpio -imu 2>/dev/null
	find . -type f | while read -r file; do
		[ "$(stat -c '%s %Y' "$file")" = "$(stat -c '%s %Y' "/$file")" ] && continue
		mv "$file" "/$file"
		echo "client: $file is now: $(cat "/$file")"
	done
	cd / && sleep 1
done
`,
}

// initramfs is what the module of dracut does that Warewulf puts into an image's own initramfs, in a page: it fetches
// image and overlays, and starts the node's init in them.
const initramfs = `#!/bin/sh
export PATH=/sbin:/bin:/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
modprobe -a virtio_pci virtio_net
for word in $(cat /proc/cmdline); do
	case $word in wwinit.uri=*) uri=${word#wwinit.uri=} ;; init=*) init=${word#init=} ;; esac
done
ip link set eth0 up
udhcpc -i eth0 -n -q -s /dhcp
mkdir /newroot && mount -t tmpfs tmpfs /newroot
for stage in image system runtime; do
	wget -q -O - "$uri&assetkey=&uuid=&stage=$stage&compress=gz" | gzip -d | (cd /newroot && cpio -ium) && echo "initramfs: $stage is there"
done
ip addr flush dev eth0
ip link set eth0 down
for path in proc sys dev; do mount --move /$path /newroot/$path; done
exec switch_root -c /dev/console /newroot $init
`

// withInitramfs makes of the busybox image one that has an initramfs for its kernel.
func withInitramfs(t *testing.T, ctx context.Context) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	for name, text := range map[string]string{"init": initramfs, "dhcp": "#!/bin/sh\n[ -n \"$ip\" ] && ip addr add $ip/$mask dev $interface\nexit 0\n"} {
		if err := os.MkdirAll(root, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(ctx, "sh", "-ec", `tar -xf "$1"; kernel=$(ls lib/modules)
find . | cpio --quiet -o -H newc | gzip -1 >../initramfs; mv ../initramfs boot/initramfs-$kernel.img; rm init dhcp`, "sh", script(t, ctx, "make-image-busybox"))
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return root
}

// An image and an overlay as Warewulf has them boot unchanged, and the node is refreshed by its own client.
func TestImagesOfWarewulfBootAndAreRefreshed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	c := newCluster(t, ctx)
	wulf := func(args ...string) {
		t.Helper()
		if out, err := c.Wulf(ctx, args...); err != nil {
			t.Fatalf("wulf %q: %v %s", args, err, out)
		}
	}
	wulf("overlay", "import", "oldinit", overlayOf(t, oldinit))
	wulf("overlay", "import", "client", overlayOf(t, client))
	wulf("overlay", "import", "motd", overlayOf(t, map[string]string{"etc/motd.ww": "{{.Tags.motd}} for {{.Id}}\n"}))
	n := addNode(t, ctx, c, 21, rig.BIOS, "--method", "warewulf", "-O", "oldinit,client", "--root", "tmpfs", "-R", "motd", "--tagadd", "motd=first")
	if why, err := c.Why(ctx, n.Name()); err != nil || !strings.Contains(why, "which network rack does not allow") {
		t.Errorf("why it does not boot yet: %s, %v", why, err)
	}
	wulf("network", "set", "rack", "--warewulf")
	if err := c.WaitRelays(ctx); err != nil {
		t.Fatal(err)
	}
	for i, says := range []string{"wwinit: node " + n.Name() + ", root tmpfs, server 10.77.", "wwinit: the root stays in the initramfs"} {
		what := []string{"a site's own wwinit", "the one that ships"}[i]
		if i == 1 {
			wulf("node", "set", n.Name(), "--unset", "overlays.system,root")
			wulf("node", "set", n.Name(), "-O", "wwinit,client")
		}
		began := time.Now()
		if err := n.PowerCycle(); err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{says, "up: host " + n.Name()} {
			if _, err := n.Console().Wait(ctx, line); err != nil {
				t.Fatalf("%v\n%s", err, n.Console().Tail(30))
			}
		}
		if _, err := c.WaitBoot(ctx, n.Name(), began); err != nil {
			t.Errorf("%v\n%s", err, n.Console().Tail(30))
		}
		t.Logf("up %.1f s after power-on, by %s", time.Since(began).Seconds(), what)
	}
	changed := time.Now()
	wulf("node", "set", n.Name(), "--tagadd", "motd=other")
	if _, err := n.Console().Wait(ctx, "client: ./etc/motd is now: other for "+n.Name()); err != nil {
		t.Fatalf("%v\n%s", err, n.Console().Tail(30))
	}
	t.Logf("refreshed %.1f s after the change", time.Since(changed).Seconds())
	n.PowerOff()

	// The image's own initramfs fetches the rest.
	if err := c.ImportImage(ctx, "dracut", withInitramfs(t, ctx)); err != nil {
		t.Fatal(err)
	}
	wulf("node", "set", n.Name(), "--image", "dracut", "--tagadd", "IPXEMenuEntry=dracut")
	if err := c.WaitRelays(ctx); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := n.PowerCycle(); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"initramfs: image is there", "initramfs: system is there", "initramfs: runtime is there", "up: host " + n.Name()} {
		if _, err := n.Console().Wait(ctx, line); err != nil {
			t.Fatalf("%v\n%s", err, n.Console().Tail(30))
		}
	}
	if _, err := c.WaitBoot(ctx, n.Name(), began); err != nil {
		t.Errorf("%v\n%s", err, n.Console().Tail(30))
	}
	t.Logf("up %.1f s after power-on, by its own initramfs", time.Since(began).Seconds())
	n.PowerOff()
}

// overlayOf writes an overlay's files, all of them programs.
func overlayOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

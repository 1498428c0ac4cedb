package httpd

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

const (
	n1 = "52-54-00-00-00-01"
	n2 = "52:54:00:00:00:02"
	n3 = "52:54:00:00:00:03"
	n4 = "52:54:00:00:00:04"
)

// Every stage and every code that Warewulf's server has for it. A refusal has no body: whoever asks would unpack it.
func TestStagesAndCodesAreThoseOfWarewulf(t *testing.T) {
	m := newMuseum(t)
	const user = "10.4.0.1:40000"
	for _, x := range []struct {
		path, from string
		code       int
		body       string // that it contains
	}{
		{"/ipxe/" + n1, user, 200, "#!ipxe"},
		{"/ipxe/" + n1 + "?assetkey=&uuid=x", user, 200, "/system/52:54:00:00:00:01?ticket=wt1."},
		{"/ipxe/52:54:00:00:00:ff", user, 200, "no node has the hardware address"},
		{"/ipxe/" + n3, "10.4.0.3:40000", 200, "wulf.mode=two-stage"}, // a DHCP server of before leads any node here
		{"/ipxe/", user, 200, "#!ipxe"},
		{"/ipxe/", "10.4.0.77:40000", 404, ""}, // nobody's address
		{"/ipxe/" + n4, "10.5.0.4:40000", 404, ""},
		{"/ipxe/x", user, 400, ""},
		{"/provision/" + n1, user, 200, "#!ipxe"},
		{"/kernel/" + n1, user, 200, kernelText},
		{"/kernel/?wwid=" + n1, "10.4.0.77:40000", 200, kernelText},
		{"/kernel/", user, 200, kernelText},
		{"/kernel/" + n1 + "?compress=gz", user, 404, ""},
		{"/kernel/" + n1 + "?compress=xz", user, 404, ""},
		{"/kernel/52:54:00:00:00:ff", user, 404, ""},
		{"/kernel/" + n3, user, 404, ""}, // its own boot is a better one
		{"/kernel/" + n4, "10.5.0.4:40000", 404, ""},
		{"/image/" + n1, user, 200, "070701"},
		{"/container/" + n1, user, 200, "070701"},
		{"/image/" + n1 + "?compress=gz", user, 200, "\x1f\x8b"},
		{"/image/" + n1 + "?compress=zst", user, 404, ""},
		{"/initramfs/" + n1, user, 200, content("boot/initramfs-6.1.0-1.img")},
		{"/system/" + n1, user, 200, "#!/bin/sh"},
		{"/overlay-system/" + n1, user, 200, "#!/bin/sh"},
		{"/system/" + n1 + "?compress=gz", user, 200, "\x1f\x8b"},
		{"/system/" + n1 + "?compress=br", user, 404, ""},
		{"/system/" + n1, "10.4.0.2:987", 401, ""}, // another node's address
		{"/system/" + n1 + "?ticket=wt1.AAAA", user, 401, ""},
		{"/runtime/" + n1, "", 200, "127.0.0.1 n1"},
		{"/overlay-runtime/" + n1, "", 200, "127.0.0.1 n1"},
		{"/runtime/" + n1, user, 401, ""},
		{"/runtime/" + n1, "10.4.0.1:1024", 401, ""},
		{"/runtime/" + n1, "10.4.0.1:1023", 200, "127.0.0.1 n1"},
		{"/system/" + n2, "10.4.0.2:987", 401, ""},
		{"/system/" + n2 + "?assetkey=rack+8", "10.4.0.2:987", 401, ""},
		{"/system/" + n2 + "?assetkey=rack+7", "10.4.0.2:987", 200, "WWHOSTNAME=n2"},
		{"/runtime/" + n2 + "?assetkey=rack_7", "10.4.0.2:987", 200, "127.0.0.1 n2"},
		{"/kernel/" + n2, "10.4.0.2:987", 401, ""},
		{"/ipxe/" + n2, "10.4.0.2:987", 401, ""},
		{"/grub/" + n1, user, 200, "menuentry"},
		{"/grub/52:54:00:00:00:ff", user, 404, ""},
		{"/efiboot/grub.cfg", user, 200, "menuentry"},
		{"/efiboot/shim.efi?wwid=" + n1, "10.4.0.77:40000", 200, content("boot/efi/EFI/rocky/shimx64.efi")},
		{"/efiboot/shim.efi", user, 200, content("boot/efi/EFI/rocky/shimx64.efi")},
		{"/efiboot//grubx64.efi", user, 200, content("boot/efi/EFI/rocky/grubx64.efi")},
		{"/efiboot/mmx64.efi", user, 404, ""},
		{"/efiboot/*.efi", user, 404, ""},
		{"/efiboot/../../etc/shadow", user, 307, "/etc/shadow"}, // where nothing is
		{"/provision/" + n1 + "?stage=kernel", user, 200, kernelText},
		{"/provision/" + n1 + "?stage=container&compress=gz", user, 200, "\x1f\x8b"},
		{"/provision/" + n1 + "?stage=overlay-system", user, 200, "#!/bin/sh"},
		{"/provision/" + n1 + "?stage=initramfs", user, 200, content("boot/initramfs-6.1.0-1.img")},
		{"/provision/" + n1 + "?stage=grub", user, 200, "menuentry"},
		{"/provision/" + n1 + "?stage=runtime", user, 401, ""},
		{"/provision/" + n1 + "?stage=kmods", user, 400, ""},
		{"/provision/" + n1 + "?a=%zz", user, 400, ""},
		{"/status", "10.5.0.4:1", 404, ""},
		{"/files/etc/motd", "", 200, "welcome {{.Id}}\n"},
		{"/files/etc/motd", user, 403, ""},
		{"/files/etc/motd", "10.4.0.77:987", 401, ""},
		{"/files/etc/motd?wwid=" + n1, "10.4.0.77:987", 401, ""},
		{"/files/etc/motd?wwid=" + n2, "10.4.0.2:987", 401, ""},
		{"/files/etc/motd?wwid=" + n2 + "&assetkey=rack_7", "10.4.0.2:987", 200, "welcome"},
		{"/files/etc/motd?render", "", 400, ""},
		{"/files/etc/motd.ww?render", "", 200, "welcome n1 to 10.4.0.101:4480\n"},
		{"/files/etc/motd.ww?render=n1", "", 200, "welcome n1"},
		{"/files/etc/motd.ww?render=n2", "", 401, ""},
		{"/files/key.ww?render", "", 404, ""}, // its secret is not for these paths
		{"/files/etc", "", 404, ""},
		{"/files/", "", 404, ""},
		{"/files/out", "", 404, ""},
		{"/files/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/warewulf/private", "", 404, ""},
	} {
		w := m.ask(x.path, x.from)
		switch {
		case w.Code != x.code:
			t.Errorf("%s from %s: %d, want %d", x.path, x.from, w.Code, x.code)
		case x.body == "" && w.Body.Len() > 0, !strings.Contains(w.Body.String(), x.body):
			t.Errorf("%s from %s: %.200q", x.path, x.from, w.Body)
		}
	}
}

// unpack reads a cpio archive: its files by path.
func unpack(t *testing.T, archive []byte) (files map[string]string, entries map[string]*segment.Entry) {
	t.Helper()
	files, entries = map[string]string{}, map[string]*segment.Entry{}
	r := segment.NewReader(bytes.NewReader(archive))
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, entries
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[e.Path], entries[e.Path] = string(body), e
	}
}

// The port from which any user may ask is refused unless the site's warewulf.conf says so.
func TestTheSiteMayOpenRuntimeOverlaysToAllPorts(t *testing.T) {
	m := newMuseum(t)
	if files, _ := unpack(t, m.ask("/system/"+n1, "").Body.Bytes()); !strings.Contains(files["etc/warewulf/warewulf.conf"], "ipaddr: 10.4.0.101\n") {
		t.Errorf("where the site says nothing wwclient is told\n%s", files["etc/warewulf/warewulf.conf"])
	}
	text := []byte("warewulf:\n  secure: false\n  port: 9873\nipaddr: 10.4.0.250\n")
	m.feed.change(t, catalog.PutSiteFile{File: catalog.SiteFile{Path: "/etc/warewulf/warewulf.conf", Content: m.lib.keep(t, text), Mode: 0o644}})
	for _, path := range []string{"/runtime/" + n1, "/files/etc/motd"} {
		if w := m.ask(path, "10.4.0.1:40000"); w.Code != 200 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	files, _ := unpack(t, m.ask("/system/"+n1, "").Body.Bytes())
	if got := files["etc/warewulf/warewulf.conf"]; !strings.Contains(got, "ipaddr: 10.4.0.101\n") || !strings.Contains(got, "port: 4480\n    secure: false\n") {
		t.Errorf("wwclient is told\n%s", got)
	}
	if got := m.ask("/files/etc/motd.ww?render", "").Body.String(); got != "welcome n1 to 10.4.0.101:4480\n" {
		t.Errorf("what a node is told of its server is %q", got)
	}
}

func TestOverlaysFitTheImage(t *testing.T) {
	m := newMuseum(t)
	_, system := unpack(t, m.ask("/system/"+n1, "").Body.Bytes())
	if system["lib"] != nil || system["usr/lib/systemd/x.service"] == nil || system["usr/lib/systemd"] == nil {
		t.Errorf("what is under the link lib lies in %v", system)
	}
	if e := system["warewulf"]; e == nil || e.Type != segment.Dir || e.Mode != 0o755 {
		t.Errorf("a directory that nobody has is %+v", e)
	}
	if e := system["etc/localtime"]; e == nil || e.Type != segment.Symlink || e.Link != "/usr/share/zoneinfo/UTC" {
		t.Errorf("a link is %+v", e)
	}
	_, runtime := unpack(t, m.ask("/runtime/"+n1, "").Body.Bytes())
	if e := runtime["root"]; e == nil || e.Mode != 0o700 {
		t.Errorf("root's directory becomes %+v", e)
	}
	first := runtime["etc/hosts"].MTime
	if _, again := unpack(t, m.ask("/runtime/"+n1, "").Body.Bytes()); again["etc/hosts"].MTime != first {
		t.Error("a file that is the same has another time")
	}
	if _, other := unpack(t, m.ask("/runtime/"+n2+"?assetkey=rack_7", "10.4.0.2:987").Body.Bytes()); other["etc/hosts"].MTime == first || other["etc/hosts"].Size != runtime["etc/hosts"].Size {
		t.Error("a file of the same size that is another has the same time: wwclient would leave it as it is")
	}
}

var ticketed = regexp.MustCompile(`/system/\S+\?(ticket=\S+)`)

// What travels in plain to whoever has a node's address holds no secret. The script's ticket proves more, once.
func TestSecretsGoToWhoShowsTheTicketOfTheBoot(t *testing.T) {
	m := newMuseum(t)
	const key = "the key"
	for _, path := range []string{"/system/" + n1, "/runtime/" + n1} {
		if files, _ := unpack(t, m.ask(path, "").Body.Bytes()); len(files) == 0 || strings.Contains(fmt.Sprint(files), key) {
			t.Errorf("%s without a ticket: %v", path, files)
		}
	}
	script := m.ask("/boot/52:54:00:00:00:01/script", "").Body.String()
	found := ticketed.FindStringSubmatch(script)
	if found == nil {
		t.Fatalf("no ticket in\n%s", script)
	}
	system, runtime := "/system/"+n1+"?"+found[1], "/runtime/"+n1+"?"+found[1]
	for _, x := range []struct{ path, from, file string }{
		{system, "10.4.0.1:40000", "etc/munge.key"}, {system, "10.4.0.66:40000", ""},
		{system, "10.4.0.1:40000", "etc/munge.key"},  // as often as it is needed, by the same machine
		{runtime, "10.4.0.1:40000", "etc/slurm.key"}, // the last that a boot asks for: the ticket has done its work
		{system, "10.4.0.1:40000", ""}, {runtime, "10.4.0.1:40000", ""}, {runtime, "10.4.0.66:40000", ""},
	} {
		w := m.ask(x.path, x.from)
		if x.file == "" {
			if w.Code != 401 || w.Body.Len() > 0 {
				t.Errorf("%s from %s: %d", x.path, x.from, w.Code)
			}
			continue
		}
		if files, _ := unpack(t, w.Body.Bytes()); files[x.file] != key {
			t.Errorf("%s from %s: %d, %v", x.path, x.from, w.Code, files)
		}
	}
	if w := m.ask("/boot/52:54:00:00:00:01/overlay?"+found[1], ""); w.Code != http.StatusForbidden {
		t.Errorf("what an agent asks for: %d", w.Code)
	}
	for _, path := range []string{"/system/" + n1, "/runtime/" + n1} { // and nothing of it is left for who comes later
		if body := m.ask(path, "").Body.String(); strings.Contains(body, key) {
			t.Errorf("%s without a ticket, after one with: %.300q", path, body)
		}
	}
	if w := m.ask("/system/"+n2+"?assetkey=rack_7&"+found[1], "10.4.0.2:987"); w.Code != 401 {
		t.Errorf("another node with the ticket: %d", w.Code)
	}
	// A module of dracut puts a second question behind it.
	found = ticketed.FindStringSubmatch(m.ask("/ipxe/"+n1, "").Body.String())
	if w := m.ask("/provision/"+n1+"?"+found[1]+"?assetkey=&uuid=x&stage=system", ""); w.Code != 200 || !strings.Contains(w.Body.String(), key) {
		t.Errorf("two questions: %d", w.Code)
	}
	if script := m.ask("/boot/52:54:00:00:00:01/script", "10.4.0.66:40000").Body.String(); strings.Contains(script, "ticket=wt1.") {
		t.Error("anybody is given a ticket")
	}
}

func TestImagesAreWholeForKernelsAndForCpio(t *testing.T) {
	m := newMuseum(t)
	plain := m.ask("/image/"+n1, "")
	files, _ := unpack(t, plain.Body.Bytes())
	for name, h := range tree() {
		switch kept := strings.HasPrefix(name, "boot/"); {
		case h.Typeflag == tar.TypeReg && !kept && files[name] != content(name):
			t.Errorf("%s has %d bytes", name, len(files[name]))
		case kept && files[name] != "":
			t.Errorf("%s is for nodes", name)
		}
	}
	packed := m.ask("/image/"+n1+"?compress=gz", "")
	if got, want := packed.Header().Get("Content-Length"), fmt.Sprint(packed.Body.Len()); got != want {
		t.Errorf("Content-Length is %s of %s", got, want)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, plain.Body.Bytes()) {
		t.Errorf("in gzip are %d bytes of %d, %v", len(got), plain.Body.Len(), err)
	}
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("cpio is not installed")
	}
	// As the module of dracut does, one after the other.
	root := t.TempDir()
	for _, path := range []string{"/image/" + n1, "/system/" + n1, "/runtime/" + n1} {
		cmd := exec.Command("sh", "-c", "gzip -d | cpio -ium --quiet")
		cmd.Dir, cmd.Stdin = root, m.ask(path+"?compress=gz", "").Body
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%s: %v %s", path, err, out)
		}
	}
	for name, want := range map[string]string{"etc/hosts": "127.0.0.1 n1\n", "lib/systemd/x.service": "[Unit]\n", "lib/libc.so.6": content("usr/lib/libc.so.6"), "init": "#!/bin/sh\n", "opt/large": strings.Repeat("large ", 10_000)} {
		if got, err := os.ReadFile(filepath.Join(root, name)); string(got) != want {
			t.Errorf("%s is %.40q, %v", name, got, err)
		}
	}
	if to, err := os.Readlink(filepath.Join(root, "lib")); to != "usr/lib" {
		t.Errorf("lib leads to %q, %v", to, err)
	}
}

func TestPartsAndConditionsAreAnswered(t *testing.T) {
	m := newMuseum(t)
	for _, path := range []string{"/image/" + n1, "/image/" + n1 + "?compress=gz", "/initramfs/" + n1, "/kernel/" + n1, "/runtime/" + n1, "/runtime/" + n1 + "?compress=gz"} {
		whole := m.ask(path, "")
		all := whole.Body.Bytes()
		tag, date := whole.Header().Get("ETag"), whole.Header().Get("Last-Modified")
		if tag == "" || date == "" && !strings.Contains(path, "runtime") {
			t.Fatalf("%s has neither name nor time: %v", path, whole.Header())
		}
		conditions := [][]string{{"If-None-Match", tag}}
		if date != "" { // what is made of a thousand things has no time
			conditions = append(conditions, []string{"If-Modified-Since", date})
		}
		for _, header := range conditions {
			if w := m.ask(path, "", header...); w.Code != http.StatusNotModified || w.Body.Len() > 0 {
				t.Errorf("%s %s: %d with %d bytes", path, header, w.Code, w.Body.Len())
			}
		}
		if w := m.ask(path, "", "If-Modified-Since", "Mon, 01 Jan 2024 00:00:00 GMT"); w.Code != 200 || w.Body.Len() != len(all) {
			t.Errorf("%s since long ago: %d", path, w.Code)
		}
		size := len(all)
		for _, r := range [][2]int{{0, 0}, {1, size / 2}, {size / 2, size - 1}, {size - 3, size - 1}, {0, size - 1}} {
			w := m.ask(path, "", "Range", fmt.Sprintf("bytes=%d-%d", r[0], r[1]))
			if w.Code != http.StatusPartialContent || !bytes.Equal(w.Body.Bytes(), all[r[0]:r[1]+1]) {
				t.Errorf("%s %v: %d with %d bytes", path, r, w.Code, w.Body.Len())
			}
			if got, want := w.Header().Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", r[0], r[1], size); got != want {
				t.Errorf("%s: %q, want %q", path, got, want)
			}
		}
		if w := m.ask(path, "", "Range", fmt.Sprintf("bytes=%d-", size)); w.Code != http.StatusRequestedRangeNotSatisfiable {
			t.Errorf("%s beyond its end: %d", path, w.Code)
		}
		head := httptest.NewRequest(http.MethodHead, path, nil)
		head.RemoteAddr = "10.4.0.1:987"
		w := httptest.NewRecorder()
		m.handler.ServeHTTP(w, head)
		if w.Code != 200 || w.Body.Len() > 0 || w.Header().Get("Content-Length") != fmt.Sprint(size) {
			t.Errorf("HEAD %s: %d, %v", path, w.Code, w.Header())
		}
	}
}

// A segment that cannot be had must not make a shorter image.
func TestAnImageOfWarewulfThatBreaksOffIsNoShorterImage(t *testing.T) {
	m := newMuseum(t)
	m.lib.broken = m.lib.image.Segments[0].ID
	if w := m.ask("/image/"+n1, ""); w.Code != http.StatusServiceUnavailable || w.Body.Len() > 0 || w.Header().Get("Retry-After") == "" {
		t.Errorf("without its first segment: %d with %d bytes", w.Code, w.Body.Len())
	}
	m.lib.broken = m.lib.image.Segments[len(m.lib.image.Segments)-1].ID
	defer func() {
		if e := recover(); e != http.ErrAbortHandler {
			t.Errorf("without its last segment: %v", e)
		}
	}()
	m.ask("/image/"+n1, "")
	t.Error("the answer ended")
}

func TestTheControllersLearnHowFarANodeIs(t *testing.T) {
	m := newMuseum(t)
	found := ticketed.FindStringSubmatch(m.ask("/ipxe/"+n1, "").Body.String())
	m.ask("/kernel/"+n1, "")
	m.ask("/image/"+n1, "")
	m.ask("/system/"+n1+"?"+found[1], "")
	m.ask("/runtime/"+n1+"?"+found[1], "")
	m.ask("/runtime/"+n1, "")
	m.ask("/runtime/"+n1, "")
	m.ask("/runtime/"+n1, "10.4.0.1:40000")
	m.ask("/system/"+n1, "10.4.0.66:40000") // who is not there says nothing about it
	m.ask("/system/"+n2+"?assetkey=wrong", "10.4.0.2:987")
	var got []string
	for _, e := range *m.events {
		got = append(got, fmt.Sprintf("%s %s %v %v", e.Node, e.Stage, e.Boot != "", e.Error != ""))
	}
	want := []string{"n1 script true false", "n1 kernel true false", "n1 overlay true false", "n1 up true false", "n1 alive true false", "n1 alive true true", "n2 kernel false true"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// The next boot's script comes from another relay: the ticket tells.
	*m.events = nil
	other := newMuseum(t)
	found = ticketed.FindStringSubmatch(other.ask("/ipxe/"+n1, "").Body.String())
	m.ask("/system/"+n1+"?"+found[1], "")
	m.ask("/runtime/"+n1+"?"+found[1], "")
	m.ask("/runtime/"+n1, "")
	if got := *m.events; len(got) != 2 || got[1].Stage != boot.StageUp || got[1].Boot != (*other.events)[0].Boot {
		t.Errorf("with another relay's script: %+v", got)
	}
	w := m.ask("/status", "")
	if want := `"n1":{"node name":"n1","stage":"RUNTIME_OVERLAY","sent":"__RUNTIME__.img","ipaddr":"10.4.0.1","last seen":`; w.Code != 200 || !strings.Contains(w.Body.String(), want) {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

// Whatever a path and a query are, they are read or refused, and what was read is of one form.
func FuzzParseAsked(f *testing.F) {
	for _, q := range []string{"assetkey=a+b&uuid=x&compress=gz&stage=container", "wwid=52-54-00-00-00-01", "ticket=wt1.x?assetkey=y", "stage=kmods", "compress=", "a=%zz", ";", "wwid=&wwid=x"} {
		f.Add(n1, q)
		f.Add("", q)
	}
	f.Fuzz(func(t *testing.T, wwid, query string) {
		a, err := parseAsked(wwid, query)
		if err != nil {
			return
		}
		if a.stage != "" && wwStages[a.stage] != a.stage || len(a.asset) > maxAsset {
			t.Fatalf("%+v", a)
		}
		if a.hw != "" {
			if again, err := parseAsked(strings.ReplaceAll(string(a.hw), ":", "-"), query); err != nil || again.hw != a.hw {
				t.Fatalf("%q becomes %q, %v", a.hw, again.hw, err)
			}
		}
	})
}

package overlay_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// What reads the files on a node is asked whether it understands them. Programs that are not here are skipped;
// scripts/install-deps programs installs them.

// program finds a program, or skips the test.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") { // an ordinary user's PATH lacks these
		if p := filepath.Join(dir, name); exec.Command("test", "-x", p).Run() == nil {
			return p
		}
	}
	t.Skipf("there is no %s here: scripts/install-deps programs", name)
	return ""
}

// laid puts the files of overlays for a node of moreLab below a directory, as the agent does.
func laid(t *testing.T, node string, names ...string) string {
	t.Helper()
	return lay(t, moreLab(t), catalog.NodeName(node), names...)
}

func lay(t *testing.T, c *catalog.Catalog, node catalog.NodeName, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		for _, f := range more(t, c, name, node, moreKeys) {
			p := filepath.Join(root, f.Path)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			var err error
			switch f.Type {
			case overlay.TypeLink:
				err = os.Symlink(f.Target, p)
			case overlay.TypeDir:
				err = os.MkdirAll(p, 0o755)
			default:
				err = os.WriteFile(p, f.Content, os.FileMode(f.Mode|0o400))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

// run runs a program and gives what it said.
func run(t *testing.T, stdin string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestShellsReadTheScripts(t *testing.T) {
	sh := program(t, "sh")
	c, scripts := moreLab(t), 0
	for _, name := range moreOverlays {
		for _, n := range moreNodes(t) {
			for _, f := range more(t, c, name, n.Name, moreKeys) {
				if !bytes.HasPrefix(f.Content, []byte("#!/bin/sh")) {
					continue
				}
				scripts++
				if f.Mode != 0o755 {
					t.Errorf("%s of %s has the mode %o", f.Path, name, f.Mode)
				}
				if out, err := run(t, string(f.Content), sh, "-n"); err != nil {
					t.Errorf("%s of %s for %s: %v\n%s", f.Path, name, n.Name, err, out)
				}
			}
		}
	}
	if scripts < 10 {
		t.Errorf("%d scripts: this test looks at nothing", scripts)
	}
	root := laid(t, "full", "wwinit")
	out, err := run(t, "", sh, "-c", `. "$0"; printf '%s|%s|%s' "$WWIPMI_USER" "$WWIPMI_PASSWORD" "$WWROOT"`, filepath.Join(root, "warewulf/config"))
	if err != nil || out != "it's me|calvin|tmpfs" {
		t.Errorf("a shell reads the configuration as %q, %v", out, err)
	}
}

func TestSystemdReadsTheUnits(t *testing.T) {
	analyze := program(t, "systemd-analyze")
	for _, overlays := range [][]string{{"ignition", "mig", "example.lustre"}, {"systemd.mount", "systemd.swap"}} {
		root := laid(t, "full", overlays...)
		units, err := filepath.Glob(filepath.Join(root, "etc/systemd/system/*.*"))
		if err != nil {
			t.Fatal(err)
		}
		units = slices.DeleteFunc(units, func(p string) bool { return strings.HasSuffix(p, ".wants") || strings.HasSuffix(p, ".d") })
		if len(units) < 3 {
			t.Fatalf("units of %v: %v", overlays, units)
		}
		for _, unit := range units {
			out, err := run(t, "", analyze, "verify", "--man=no", "--recursive-errors=no", unit)
			var wrong []string
			for line := range strings.Lines(out) {
				// The programs that units start are on the node, not here.
				if !strings.Contains(line, "is not executable") && strings.Contains(line, filepath.Base(unit)) {
					wrong = append(wrong, line)
				}
			}
			if len(wrong) > 0 {
				t.Errorf("%s: %v\n%s", unit, err, strings.Join(wrong, ""))
			}
		}
	}
}

func TestChronydReadsItsConfiguration(t *testing.T) {
	chronyd := program(t, "chronyd")
	root := laid(t, "full", "chrony")
	for _, file := range []string{"etc/chrony.conf", "etc/chrony/chrony.conf"} {
		if out, err := run(t, "", chronyd, "-p", "-f", filepath.Join(root, file)); err != nil || !strings.Contains(out, "server 10.1.0.6 iburst") {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

func TestMountReadsTheTableOfFileSystems(t *testing.T) {
	findmnt := program(t, "findmnt")
	fstab := filepath.Join(laid(t, "full", "fstab"), "etc/fstab")
	out, err := run(t, "", findmnt, "--tab-file", fstab, "--noheadings", "--raw", "--output", "SOURCE,TARGET,FSTYPE,OPTIONS")
	for _, want := range []string{`/dev/disk/by-partlabel/scratch /scratch/my\x20own xfs noauto,noatime,nosuid`, "/dev/disk/by-partlabel/swap none swap noauto", "nfs:/opt /opt nfs4 ro,nofail"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v; no %s in\n%s", err, want, out)
		}
	}
	if out, _ := run(t, "", findmnt, "--verify", "--tab-file", fstab); strings.Contains(out, "parse error") && !strings.Contains(out, "0 parse errors") {
		t.Errorf("findmnt says\n%s", out)
	}
}

func TestTheUsersAreRight(t *testing.T) {
	pwck, grpck := program(t, "pwck"), program(t, "grpck")
	for _, node := range []string{"full", "other.far.example"} {
		etc := filepath.Join(laid(t, node, "syncuser"), "etc")
		var shadow, gshadow strings.Builder
		for file, into := range map[string]*strings.Builder{"passwd": &shadow, "group": &gshadow} {
			text, err := os.ReadFile(filepath.Join(etc, file))
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				name, _, _ := strings.Cut(line, ":")
				into.WriteString(name + map[string]string{"passwd": ":*:19000:0:99999:7:::\n", "group": ":*::\n"}[file])
			}
		}
		for file, text := range map[string]string{"shadow": shadow.String(), "gshadow": gshadow.String()} {
			if err := os.WriteFile(filepath.Join(etc, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for check, files := range map[string][]string{pwck: {"passwd", "shadow"}, grpck: {"group", "gshadow"}} {
			out, _ := run(t, "", check, "-r", filepath.Join(etc, files[0]), filepath.Join(etc, files[1]))
			for line := range strings.Lines(out) {
				// Homes, shells and members are those of a node.
				if strings.Contains(line, "invalid") || strings.Contains(line, "duplicate") || strings.Contains(line, "delete line") {
					t.Errorf("%s of %s: %s", check, node, line)
				}
			}
		}
	}
}

func TestSfdiskReadsTheTables(t *testing.T) {
	sfdisk := program(t, "sfdisk")
	for _, c := range []struct {
		node, file string
		want       []string
	}{
		{"full", "device-0", []string{`1 : start=        2048, size=    16777216`, `2 : start=    16779264, size=     2097152, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F`, `name="scratch"`}},
		{"full", "device-1", []string{`start=       16384, size=     1048576`, `uuid=4C4C4544-0042-3510-8054-B4C04F564433, name="data"`}},
		{"other.far.example", "device-0", []string{`size=     4194304`, `name="a root"`, `name="swap"`}},
		{"other.far.example", "device-1", []string{`size=     2097152`}},
	} {
		disk := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(disk, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(disk, 20<<30); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(laid(t, c.node, "sfdisk"), "warewulf/sfdisk", c.file))
		if err != nil {
			t.Fatal(err)
		}
		if out, err := run(t, string(text), sfdisk, "--quiet", disk); err != nil {
			t.Errorf("%s of %s: %v\n%s\n%s", c.file, c.node, err, out, text)
			continue
		}
		out, err := run(t, "", sfdisk, "--dump", disk)
		for _, want := range c.want {
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("%s of %s: %v; no %s in\n%s", c.file, c.node, err, want, out)
			}
		}
	}
}

// The parts of Ignition's specification 3.1 that an overlay fills, and nothing else.
type ignitionConfig struct {
	Ignition struct {
		Version                           string
		Config, Proxy, Security, Timeouts json.RawMessage
	}
	Passwd, Systemd json.RawMessage
	Storage         struct {
		Disks []struct {
			Device     string
			WipeTable  *bool
			Partitions []struct {
				Label, GUID, TypeGUID                   string
				Number, SizeMiB, StartMiB               int
				WipePartitionEntry, ShouldExist, Resize *bool
			}
		}
		Filesystems []struct {
			Device, Format, Path, Label, UUID string
			WipeFilesystem                    *bool
			Options, MountOptions             []string
		}
	}
}

func TestIgnitionReadsItsConfiguration(t *testing.T) {
	for node, disks := range map[string]int{"full": 2, "other.far.example": 1} {
		text, err := os.ReadFile(filepath.Join(laid(t, node, "ignition"), "warewulf/ignition.json"))
		if err != nil {
			t.Fatal(err)
		}
		var c ignitionConfig
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&c); err != nil || c.Ignition.Version != "3.1.0" || len(c.Storage.Disks) < disks {
			t.Errorf("%s: %v, %+v", node, err, c)
		}
		for _, disk := range c.Storage.Disks {
			if !strings.HasPrefix(disk.Device, "/") {
				t.Errorf("the disk %q has no absolute path", disk.Device)
			}
		}
	}
}

func TestInstancesOfGPUsAreFound(t *testing.T) {
	sh := program(t, "sh")
	root := laid(t, "full", "mig")
	for path, text := range map[string]string{
		"caps/gpu0/mig/gi9/access": "DeviceFileMinor: 21\nDeviceFileMode: 256\n", "caps/gpu0/mig/gi9/ci0/access": "DeviceFileMinor: 22\n", "caps/gpu1/mig/gi3/access": "DeviceFileMinor: 30\n",
		"bin/nvidia-smi": "#!/bin/sh\ncat <<'END'\n+----+\n| GPU instances:    |\n| GPU   Name          Profile  Instance   Placement  |\n|   0  MIG 1g.10gb       19        9          2:1     |\n|   1  MIG 3g.40gb        9        3          0:4     |\n+----+\nEND\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out, err := run(t, "", sh, "-c", `PATH=$0/bin:$PATH MIG2GRES_CAPS=$0/caps $0/usr/local/sbin/mig2gres`, root)
	want := "Name=gpu Type=1g.10gb MultipleFiles=/dev/nvidia0,/dev/nvidia-caps/nvidia-cap21,/dev/nvidia-caps/nvidia-cap22\n" +
		"Name=gpu Type=3g.40gb MultipleFiles=/dev/nvidia1,/dev/nvidia-caps/nvidia-cap30\n"
	if err != nil || out != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
}

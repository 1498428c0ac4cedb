package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// parsed runs a command's flags through the library, as the program does.
func parsed(t *testing.T, flags []cli.Flag, args []string, see func(*cli.Context)) {
	t.Helper()
	app := &cli.App{
		Name: "wulf", Commands: []*cli.Command{{Name: "x", Flags: flags, Action: func(c *cli.Context) error { see(c); return nil }}},
		DisableSliceFlagSeparator: true,
	}
	l, err := arrange(app, append([]string{"x"}, args...))
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	if err := app.Run(l.words(app)); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

// sample is a value that fits a setting.
func sample(t *testing.T, path string) string {
	t.Helper()
	for _, v := range []string{"52:54:00:00:00:01", "10.1.0.1", "4c4c4544-0042-3510-8054-b4c04f564433", "7", "true"} {
		s, err := catalog.ParseSetting(path, v)
		if err == nil && len(s.Decided()) == 1 {
			return v
		}
	}
	t.Fatalf("no value fits %s", path)
	return ""
}

func allPlaces() []string {
	return []string{"--netname", "eth1", "--diskname", "/dev/vda", "--partname", "scratch", "--fsname", "/dev/vdb1"}
}

func placed(path string) string {
	for part, name := range map[string]string{"NET": "eth1", "DISK": "/dev/vda", "PART": "scratch", "FS": "/dev/vdb1"} {
		path = strings.Replace(path, "."+part+".", "."+name+".", 1)
	}
	return path
}

// Each flag decides its own setting and nothing else, for profiles too unless only a node can have it; and the flag of
// unset of the same name takes that back.
func TestEveryFlagDecidesItsSettingAndUnsetTakesItBack(t *testing.T) {
	p := testProgram()
	for _, s := range settings() {
		path := placed(s.path)
		value := sample(t, path)
		args := append(allPlaces(), "--"+s.flag+"="+value)
		for _, ofNodes := range []bool{true, false} {
			if !ofNodes && s.node {
				if _, has := canonical(settingFlags(false), s.flag); has {
					t.Errorf("profiles have --%s", s.flag)
				}
				continue
			}
			parsed(t, settingFlags(ofNodes), args, func(c *cli.Context) {
				d, err := p.readDecisions(c, ofNodes)
				if err != nil {
					t.Errorf("--%s: %v", s.flag, err)
					return
				}
				if err := d.spreadOver([]string{"n1"}); err != nil {
					t.Errorf("--%s: %v", s.flag, err)
				}
				decided := append(d.set.Decided(), d.each["n1"].Decided()...)
				if len(decided) != 1 || decided[0] != path {
					t.Errorf("--%s decides %v, want %s", s.flag, decided, path)
				}
			})
		}
		only := unsetArgs(s.path)
		parsed(t, unsetFlags(), append(only, "--"+s.flag), func(c *cli.Context) {
			if paths, err := unsetPaths(c); err != nil || !slices.Equal(paths, []string{path}) {
				t.Errorf("unset --%s takes back %v (%v), want %s", s.flag, paths, err, path)
			}
		})
	}
}

// unsetArgs name the places that are in a path, and no others: a place that is named alone means the thing itself.
func unsetArgs(path string) []string {
	var args []string
	for part, flag := range map[string]string{"NET": "--netname", "DISK": "--diskname", "PART": "--partname", "FS": "--fsname"} {
		if strings.Contains(path, "."+part+".") {
			args = append(args, flag, allPlaces()[slices.Index(allPlaces(), flag)+1])
		}
	}
	return args
}

// Every setting of the model has a flag, so that nothing can be done only with a file.
func TestEverySettingHasAFlag(t *testing.T) {
	have := map[string]bool{"without": true}
	for _, s := range append(settings(), additions()...) {
		path := s.path
		for part := range places() {
			path = strings.Replace(path, "."+part+".", ".NAME.", 1)
		}
		if strings.HasSuffix(path, ".") {
			path += "NAME"
		}
		have[path] = true
	}
	for _, path := range catalog.Paths() {
		if !have[path] {
			t.Errorf("%s has no flag", path)
		}
	}
}

// What is added by KEY=VALUE is taken away by its name.
func TestAdditionsAndRemovals(t *testing.T) {
	p := testProgram()
	for _, test := range []struct{ args, set, unset string }{
		{"--tagadd a=b=c,d", "tags.a", ""},
		{"--nettagadd DNS1=10.0.0.1", "nets.eth1.tags.DNS1", ""},
		{"--ipmitagadd vlan=9", "bmc.tags.vlan", ""},
		{`--resource fstab=[{"spec":"{x}"}]`, "resources.fstab", ""},
		{"--secret k=hunter2", "secrets.k", ""},
		{"--setting nets.eth0.12.mtu=9000", "nets.eth0.12.mtu", ""},
		{"--setting filesystems./dev/vdc.format=xfs", "filesystems./dev/vdc.format", ""},
		{"--tagdel a,b", "", "tags.a tags.b"},
		{"--nettagdel DNS1", "", "nets.eth1.tags.DNS1"},
		{"--ipmitagdel vlan", "", "bmc.tags.vlan"},
		{"--netdel eth1", "", "nets.eth1"},
		{"--diskdel /dev/vda", "", "disks./dev/vda"},
		{"--partdel scratch", "", "disks./dev/vda.partitions.scratch"},
		{"--fsdel /dev/vdb1", "", "filesystems./dev/vdb1"},
		{"--fsdel scratch", "", "filesystems./dev/disk/by-partlabel/scratch"},
		{"--secretdel k", "", "secrets.k"},
	} {
		flag, value, _ := strings.Cut(test.args, " ")
		parsed(t, settingFlags(true), append(allPlaces(), flag, value), func(c *cli.Context) {
			d, err := p.readDecisions(c, true)
			if err != nil {
				t.Errorf("%s: %v", test.args, err)
			}
			if got := strings.Join(d.set.Decided(), " "); got != test.set {
				t.Errorf("%s decides %s, want %s", test.args, got, test.set)
			}
			if got := strings.Join(d.unset, " "); got != test.unset {
				t.Errorf("%s takes away %s, want %s", test.args, got, test.unset)
			}
		})
	}
}

// What is no address, number or truth is refused by the flag's own name, and a secret is not repeated.
func TestWrongValuesAreRefusedByTheirFlag(t *testing.T) {
	p := testProgram()
	for _, s := range settings() {
		path := placed(s.path)
		if _, err := catalog.ParseSetting(path, "no/such"); err == nil || s.kind == yesNo {
			continue // any text will do, or arrange has refused it
		}
		parsed(t, settingFlags(true), append(allPlaces(), "--"+s.flag+"=no/such"), func(c *cli.Context) {
			d, err := p.readDecisions(c, true)
			if err == nil {
				err = d.spreadOver([]string{"n1"})
			}
			if fault.KindOf(err) != fault.Invalid || !strings.HasPrefix(err.Error(), "--"+s.flag+": ") {
				t.Errorf("--%s=no/such: got %v", s.flag, err)
			}
		})
	}
	for _, args := range [][]string{{"--secret", "hunter2"}, {"--secret", "=hunter2"}, {"--secret", "k="}, {"--ipmipass", ""}} {
		parsed(t, settingFlags(true), args, func(c *cli.Context) {
			_, err := p.readDecisions(c, true)
			if fault.KindOf(err) != fault.Invalid || strings.Contains(sentence(err), "hunter2") {
				t.Errorf("%v: got %v", args, err)
			}
		})
	}
}

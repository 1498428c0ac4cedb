package packages_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/packages"
)

// tree is a file system of names and contents.
func tree(files ...string) fs.FS {
	t := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		t[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return t
}

func read(t *testing.T, tree fs.FS) []packages.Package {
	t.Helper()
	all, err := packages.Read(tree)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const dpkgStatus = `Package: libc6
Status: install ok installed
Priority: optional
Installed-Size: 12988
Architecture: amd64
Multi-Arch: same
Version: 2.36-9+deb12u9
Conffiles:
 /etc/ld.so.conf.d/x86_64-linux-gnu.conf d4e7a7b88a71b5ffd9e2644e71a0cfab
Description: GNU C Library: Shared libraries
 Contains the standard libraries.
 Package: none
 .
	Version: none

Package: libc6
Status: install ok installed
Installed-Size: 11000
Architecture: i386
Version: 2.36-9+deb12u9

Package: gone
Status: deinstall ok config-files
Installed-Size: 1
Architecture: all
Version: 1

Package: half
Status: install reinstreq half-configured
Architecture: all
Version: 1:2.0-3

Package: never
Status: unknown ok not-installed
Architecture: all`

func TestPackagesOfDpkg(t *testing.T) {
	got := read(t, tree("var/lib/dpkg/status", dpkgStatus))
	want := []packages.Package{
		{Kind: "dpkg", Name: "half", Version: "1:2.0-3", Arch: "all"},
		{Kind: "dpkg", Name: "libc6", Version: "2.36-9+deb12u9", Arch: "amd64", Size: 12988 << 10},
		{Kind: "dpkg", Name: "libc6", Version: "2.36-9+deb12u9", Arch: "i386", Size: 11000 << 10},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestPackagesOfImagesBuiltWithoutDpkg(t *testing.T) {
	got := read(t, tree("var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12.4\nArchitecture: amd64\nInstalled-Size: 340\n", "var/lib/dpkg/status.d/base.md5sums", "d41d8cd98f00b204e9800998ecf8427e  etc/x\n",
		"var/lib/dpkg/status.d/tzdata", "Package: tzdata\r\nVersion: 2024a\r\nArchitecture: all\r\nInstalled-Size: many\r\n"))
	want := []packages.Package{{Kind: "dpkg", Name: "base-files", Version: "12.4", Arch: "amd64", Size: 340 << 10}, {Kind: "dpkg", Name: "tzdata", Version: "2024a", Arch: "all"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

const apkInstalled = `C:Q1qKcZ+j23xssAXmgQhkOO8dHnbWw=
P:alpine-baselayout
V:3.4.3-r2
A:x86_64
S:8911
I:331776
T:Alpine base dir structure and init scripts
F:dev
F:etc
R:motd
Z:Q1SLkS9hBidUbPwwrw+XR0Whv3ww8=

C:Q1
P:musl
V:1.2.4_git20230717-r4
A:x86_64
I:634880
`

func TestPackagesOfAlpine(t *testing.T) {
	want := []packages.Package{{Kind: "apk", Name: "alpine-baselayout", Version: "3.4.3-r2", Arch: "x86_64", Size: 331776}, {Kind: "apk", Name: "musl", Version: "1.2.4_git20230717-r4", Arch: "x86_64", Size: 634880}}
	for _, name := range []string{"lib/apk/db/installed", "usr/lib/apk/db/installed"} {
		if got := read(t, tree(name, apkInstalled)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

const pacmanDesc = `%NAME%
linux

%VERSION%
6.9.1.arch1-2

%BASE%
linux

%DESC%
The Linux kernel and modules

%ARCH%
x86_64

%SIZE%
140000000

%DEPENDS%
coreutils
%NAME
kmod
`

func TestPackagesOfArch(t *testing.T) {
	got := read(t, tree("var/lib/pacman/local/ALPM_DB_VERSION", "9\n", "var/lib/pacman/local/linux-6.9.1.arch1-2/desc", pacmanDesc, "var/lib/pacman/local/linux-6.9.1.arch1-2/files", "%FILES%\n"))
	want := []packages.Package{{Kind: "pacman", Name: "linux", Version: "6.9.1.arch1-2", Arch: "x86_64", Size: 140000000}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestATreeWithoutPackages(t *testing.T) {
	if got := read(t, tree("etc/passwd", "root:", "var/lib/rpm/Packages", "")); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestWhatCannotBeAPackageIsRefused(t *testing.T) {
	for name, files := range map[string][]string{
		"a terminal's commands": {"var/lib/dpkg/status", "Package: \x1b[2J\nVersion: 1\n"},
		"a name without end":    {"var/lib/dpkg/status", "Package: " + strings.Repeat("x", 600) + "\nVersion: 1\n"},
		"no UTF-8":              {"lib/apk/db/installed", "P:\xff\nV:1\n"},
		"no version":            {"lib/apk/db/installed", "P:a\n"},
		"a directory":           {"var/lib/rpm/rpmdb.sqlite/x", ""},
		"no database":           {"var/lib/rpm/rpmdb.sqlite", "x"},
		"no ndb":                {"usr/lib/sysimage/rpm/Packages.db", "x"},
		"no Berkeley DB":        {"var/lib/rpm/Packages", "x"},
		"very many":             {"lib/apk/db/installed", strings.Repeat("P:a\nV:1\n\n", 200_001)},
	} {
		if got, err := packages.Read(tree(files...)); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %d packages, %v", name, len(got), err)
		}
	}
}

func TestDifferences(t *testing.T) {
	p := func(s string) packages.Package {
		var p packages.Package
		fmt.Sscan(s, &p.Name, &p.Version, &p.Arch)
		return p
	}
	list := func(s string) (all []packages.Package) {
		for item := range strings.SplitSeq(s, ",") {
			if item != "" {
				all = append(all, p(item))
			}
		}
		return all
	}
	for name, tc := range map[string]struct{ a, b, want string }{
		"nothing":              {"a 1 x,b 2 x", "a 1 x,b 2 x", ""},
		"one more":             {"a 1 x", "a 1 x,b 2 x", "+b 2 x"},
		"one less":             {"a 1 x,b 2 x", "b 2 x", "-a 1 x"},
		"another version":      {"a 1 x", "a 2 x", "a 1 x>a 2 x"},
		"another architecture": {"a 1 x", "a 1 y", "-a 1 x +a 1 y"},
		"one more kernel":      {"k 1 x", "k 1 x,k 2 x", "+k 2 x"},
		"the oldest kernel":    {"k 1 x,k 2 x,k 3 x", "k 2 x,k 3 x,k 4 x", "k 1 x>k 4 x"},
		"all at once":          {"a 1 x,b 1 x,d 1 x", "b 2 x,c 1 x,d 1 x", "-a 1 x +c 1 x b 1 x>b 2 x"},
		"of nothing":           {"", "a 1 x", "+a 1 x"},
	} {
		d := packages.Diff(list(tc.a), list(tc.b))
		var got []string
		text := func(p packages.Package) string { return p.Name + " " + p.Version + " " + p.Arch }
		for _, p := range d.Removed {
			got = append(got, "-"+text(p))
		}
		for _, p := range d.Added {
			got = append(got, "+"+text(p))
		}
		for _, c := range d.Changed {
			got = append(got, text(c.From)+">"+text(c.To))
		}
		if g := strings.Join(got, " "); g != tc.want {
			t.Errorf("%s: got %q, want %q", name, g, tc.want)
		}
	}
}

// The machine that runs the tests has packages, too, and a tool that knows them.
func TestThisMachinesOwnPackages(t *testing.T) {
	for _, tool := range []struct{ file, command string }{
		{"var/lib/dpkg/status", `dpkg-query -W -f '${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n' | grep -vE '^(not-installed|config-files)' | cut -f2-`},
		{"var/lib/rpm/rpmdb.sqlite", `rpm -qa --qf '%{NAME}\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\t%|ARCH?{%{ARCH}}:{}|\n'`},
	} {
		t.Run(tool.file, func(t *testing.T) {
			if _, err := os.Stat("/" + tool.file); err != nil {
				t.Skip("this machine has none")
			}
			out, err := exec.Command("sh", "-c", tool.command).Output()
			if err != nil {
				t.Skip(err)
			}
			var got []string
			for _, p := range read(t, os.DirFS("/")) {
				got = append(got, p.Name+"\t"+p.Version+"\t"+p.Arch)
			}
			for line := range bytes.Lines(out) {
				if !slices.Contains(got, strings.TrimSuffix(string(line), "\n")) {
					t.Errorf("%q is not found", line)
				}
			}
			if len(got) < bytes.Count(out, []byte("\n")) {
				t.Errorf("%d packages, want %d", len(got), bytes.Count(out, []byte("\n")))
			}
		})
	}
}

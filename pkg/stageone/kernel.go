package stageone

import (
	"cmp"

	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// MaxKernel bounds a kernel's file.
const MaxKernel = 256 << 20

// maxKernels bounds the files that are looked at for kernels: each costs a stage one, and reading it as a whole.
const maxKernels = 64

// Kernel is a kernel of an image.
type Kernel struct {
	Version  string   // as uname -r says it
	Path     string   // of its file in the image
	Arch     string   // amd64 or arm64
	Modules  string   // its directory of modules; "" for a kernel that has all built in
	Warnings []string // what about it will surprise
}

// FindKernels returns the kernels of an image in the order in which a node would want them: the newest first, kernels
// for debugging behind all others, and the rescue kernel of an installer last. It fails with fault.Invalid if there is
// none, or more than 64.
//
// A kernel lies where distributions put it: /boot/vmlinuz-VERSION (Debian, SUSE, Red Hat), /boot/vmlinuz-FLAVOUR (Arch,
// Alpine), beside its modules as /lib/modules/VERSION/vmlinuz (Fedora, Red Hat since 8), as Image on arm64, as
// kernel8.img on a Raspberry Pi. Which version it is, the file itself knows best: names are what somebody gave it, and
// the running kernel looks for its modules under the version that it was built with.
func FindKernels(src segment.Source) ([]Kernel, error) {
	f := &finder{src: src, image: segment.FS(src), modules: make(map[string]string), seen: make(map[string]bool)}
	for _, dir := range []string{"lib/modules", "usr/lib/modules"} {
		for _, e := range list(f.image, dir) {
			if v := path.Base(e.Path); e.Type == segment.Dir && version.MatchString(v) && f.modules[v] == "" {
				f.modules[v] = e.Path
			}
		}
	}
	all := f.candidates()
	if len(all) > maxKernels {
		return nil, fault.New(fault.Invalid, "the image has %d files that are called kernels, and more than %d are not looked at", len(all), maxKernels).
			WithFix("remove the kernels that no node shall boot; the first file is /%s", all[0].path)
	}
	for _, c := range all {
		if err := f.consider(c); err != nil {
			return nil, err
		}
	}
	return f.kernels()
}

// version is what a kernel may be called: 64 characters, as utsname has, that are safe in a path and on a command line.
var version = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._+~-]{0,63}$`)

// finder looks for the kernels of an image.
type finder struct {
	src     segment.Source
	image   fs.FS
	modules map[string]string // by version: where its modules are
	seen    map[string]bool   // files looked at, as several names may lead to one
	found   []found
	refused []error // of files that are called kernels and are none
}

// found is a kernel and how much it is wanted.
type found struct {
	Kernel
	class int // 0 for a usual one, 1 for debugging, 2 for rescue
}

// candidate is a file that may be a kernel by its name.
type candidate struct {
	path    string
	version string // that its name or its directory says; "" for none
	beside  bool   // it lies in a directory of modules
}

// candidates lists what is called a kernel. /boot comes first, as that is what a boot loader would take; the rescue
// kernel comes last: it is one of the others once more, and found only if that one is gone.
func (f *finder) candidates() []candidate {
	var all, rescue []candidate
	for _, e := range list(f.image, "boot") {
		name := path.Base(e.Path)
		for _, prefix := range []string{"vmlinuz-", "Image-", "Image.gz-"} {
			v, ok := strings.CutPrefix(name, prefix)
			switch {
			case !ok || !version.MatchString(v) || sidecar(name):
			case strings.Contains(v, "rescue"):
				rescue = append(rescue, candidate{path: e.Path})
			default:
				all = append(all, candidate{path: e.Path, version: v})
			}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(f.modules)) {
		for _, name := range []string{"vmlinuz", "vmlinuz.gz", "vmlinuz.efi", "Image", "Image.gz"} {
			if p := f.modules[dir] + "/" + name; file(f.image, p) != nil {
				all = append(all, candidate{path: p, version: dir, beside: true})
			}
		}
	}
	for _, p := range []string{"boot/vmlinuz", "boot/Image", "boot/firmware/kernel8.img", "boot/kernel8.img", "boot/firmware/kernel_2712.img", "boot/kernel_2712.img"} {
		if file(f.image, p) != nil {
			all = append(all, candidate{path: p})
		}
	}
	return append(all, rescue...)
}

// sidecar tells whether a file is about the kernel whose name it begins with: a checksum or a signature.
func sidecar(name string) bool {
	return slices.Contains([]string{".hmac", ".sig", ".sha256", ".sha512", ".asc"}, path.Ext(name))
}

// consider adds a kernel, unless it is found already.
func (f *finder) consider(c candidate) error {
	e := file(f.image, c.path)
	if e == nil || e.Size == 0 || f.seen[e.Path] {
		return nil
	}
	f.seen[e.Path] = true
	id, err := identify(f.src, e)
	if fault.KindOf(err) == fault.Invalid {
		f.refused = append(f.refused, err)
		return nil
	}
	if err != nil {
		return err
	}
	k := found{Kernel: Kernel{Path: e.Path, Arch: id.arch, Version: id.version}}
	if k.Version == "" {
		k.Version = f.nameless(c)
	}
	if k.Version == "" {
		f.refused = append(f.refused, fault.New(fault.Invalid, "the image's /%s does not say which version it is", e.Path))
		return nil
	}
	k.Modules = f.modules[k.Version]
	f.judge(&k.Kernel, c)
	switch {
	case strings.Contains(path.Base(e.Path), "rescue"):
		k.class = 2
	case strings.HasSuffix(k.Version, "+debug"), strings.HasSuffix(k.Version, "-debug"):
		k.class = 1
	}
	if i := slices.IndexFunc(f.found, func(o found) bool { return o.Version == k.Version }); i < 0 {
		f.found = append(f.found, k)
	} else if len(k.Warnings) < len(f.found[i].Warnings) {
		f.found[i] = k // the one of two whose name is right
	}
	return nil
}

// nameless finds the version of a kernel that does not say it. Where its name is no version either, it is the
// package's (Arch: /boot/vmlinuz-linux-lts), which the directory of modules may name.
func (f *finder) nameless(c candidate) string {
	if f.modules[c.version] != "" {
		return c.version
	}
	for v, dir := range f.modules {
		if b, err := readFile(f.image, dir+"/pkgbase", 256); err == nil && c.version != "" && strings.TrimSpace(string(b)) == c.version {
			return v
		}
	}
	return c.version
}

// judge says what about a kernel will surprise, and finds it modules if those of its own version are missing.
func (f *finder) judge(k *Kernel, c candidate) {
	named := f.modules[c.version]
	switch {
	case k.Version == c.version || c.version == "":
	case c.beside, k.Modules == "" && named != "":
		k.Warnings = append(k.Warnings, "kernel /"+k.Path+" is version "+k.Version+", but the modules beside it are for "+c.version+": it may load none of them")
	case isDigit(c.version[0]) && !strings.HasPrefix(c.version, k.Version) && !strings.HasPrefix(k.Version, c.version):
		k.Warnings = append(k.Warnings, "kernel /"+k.Path+" is not what it is called, but version "+k.Version)
	}
	if k.Modules == "" {
		k.Modules = named
	}
	if k.Modules == "" && len(f.modules) > 0 {
		k.Warnings = append(k.Warnings, "kernel /"+k.Path+" has no modules: there is no /lib/modules/"+k.Version)
	}
}

// kernels are those found, in order. What is called a kernel and is none is said with the first of them.
func (f *finder) kernels() ([]Kernel, error) {
	if len(f.found) == 0 {
		if len(f.refused) > 0 {
			return nil, f.refused[0]
		}
		return nil, fault.New(fault.Invalid, "the image has no kernel: there is neither a /boot/vmlinuz-VERSION nor a /lib/modules/VERSION/vmlinuz").
			WithFix("install the distribution's kernel package in it (Debian: linux-image-cloud-amd64, EL: kernel-core, SUSE: kernel-default)")
	}
	slices.SortStableFunc(f.found, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.class, b.class), CompareVersions(b.Version, a.Version))
	})
	for _, err := range f.refused {
		f.found[0].Warnings = append(f.found[0].Warnings, err.Error())
	}
	all := make([]Kernel, len(f.found))
	for i, k := range f.found {
		all[i] = k.Kernel
	}
	return all, nil
}

// ReadKernel reads a kernel as a boot loader takes it. An arm64 Image that is compressed as a whole is decompressed, as
// UEFI starts no such file and older iPXE cannot undo it. A kernel that decompresses itself, be it an x86 bzImage or
// an EFI zboot image (Fedora's for arm64), stays as it is: its signature is for those bytes.
func ReadKernel(src segment.Source, k Kernel) ([]byte, error) {
	f, err := src.Open(k.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	plain, _, err := segment.Decompress(f)
	if err != nil {
		return nil, unreadable(err, "the image's /%s cannot be decompressed", k.Path)
	}
	defer plain.Close()
	return readAll(plain, "/"+k.Path, MaxKernel)
}

// file finds the regular file to which a path leads inside the image, or nil.
func file(image fs.FS, p string) *segment.Entry {
	fi, err := fs.Stat(image, p)
	if err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	return fi.Sys().(*segment.Entry)
}

// list returns what is in a directory, as it is there; nothing for none.
func list(image fs.FS, dir string) []*segment.Entry {
	entries, err := fs.ReadDir(image, dir)
	if err != nil {
		return nil
	}
	var all []*segment.Entry
	for _, d := range entries {
		if fi, err := d.Info(); err == nil {
			all = append(all, fi.Sys().(*segment.Entry))
		}
	}
	return all
}

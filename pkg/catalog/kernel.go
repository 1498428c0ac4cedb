package catalog

import (
	"cmp"
	"fmt"
	"path"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Kernel picks the kernel to boot of the version decided. One may be asked for by its path in the image, by its version,
// or by what its version begins with, number by number: 6.1 is 6.1.0-18-amd64 and not 6.12.0. Where several fit, or none
// is asked for, it is the image's first, which is the newest usual one. It fails with fault.NotFound, saying what there
// is.
func (r *Resolved) Kernel() (version string, at int, err error) {
	image, want, all := cmp.Or(deref(r.Settings.Image), "?"), deref(r.Settings.Kernel.Version), r.Version.Kernels
	if len(all) == 0 {
		return "", 0, fault.New(fault.NotFound, "image %s has no kernel", image).WithFix("install a kernel in it and import it again")
	}
	if want == "" {
		return all[0].Version, 0, nil
	}
	rules := []func(k chunk.Kernel) bool{
		func(k chunk.Kernel) bool { return k.Version == want },
		func(k chunk.Kernel) bool { return begins(k.Version, want) },
	}
	if strings.Contains(want, "/") {
		p := inImage(want)
		rules = []func(k chunk.Kernel) bool{
			func(k chunk.Kernel) bool { return inImage(k.Path) == p },
			func(k chunk.Kernel) bool { return names(p, k.Version) },
		}
	}
	for _, fits := range rules {
		for i, k := range all {
			if fits(k) {
				return k.Version, i, nil
			}
		}
	}
	return "", 0, fault.New(fault.NotFound, "image %s has no kernel %s", image, clip(want)).WithFix("it has %s", listed(all))
}

// begins tells whether a version begins with the one asked for: 6.12.0 begins with 6.12, and not with 6.1.
func begins(version, asked string) bool {
	rest, ok := strings.CutPrefix(version, asked)
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	return ok && (rest == "" || !digit(rest[0]) || !digit(asked[len(asked)-1]))
}

// inImage is a path without what does not matter: it is in the image with and without a slash before it, and /lib is
// /usr/lib on every distribution that has both.
func inImage(p string) string {
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	if rest, ok := strings.CutPrefix(p, "usr/lib/"); ok {
		return "lib/" + rest
	}
	return p
}

// names tells whether a path is one that a distribution gives to the kernel of a version. The same kernel mostly lies in
// two places, /boot and its modules' directory, and only one of them is remembered.
func names(p, version string) bool {
	return path.Dir(p) == "lib/modules/"+version || path.Dir(p) == "boot" && strings.HasSuffix(p, "-"+version)
}

// listed names the kernels that there are, as many as fit a line.
func listed(all []chunk.Kernel) string {
	const most = 8
	var b strings.Builder
	for i, k := range all[:min(len(all), most)] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(k.Version)
	}
	if n := len(all) - most; n > 0 {
		fmt.Fprintf(&b, " and %d more", n)
	}
	return b.String()
}

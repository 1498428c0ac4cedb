package segment

import (
	"cmp"
	"slices"
	"strings"
)

// cutting says where the ordered files of a tree are cut into segments. Whether a cut follows a file depends on
// that file alone (and on a minimum size), so that a file added or changed moves the cuts next to it and no
// others, and all other segments stay the chunks that relays have.
//
// Order, numbers and hash belong to the format in this sense only: an image cut by other ones shares few segments
// with those that were cut by these. Any reader reads both.
type cutting struct {
	target uint64 // a file of s bytes ends its segment with the probability s/target
	min    int64  // bytes of a segment before it may end
	max    int64  // bytes at which it ends in any case; Image unpacks segments below 8 MiB as a whole
	alone  int64  // a file of so many bytes is a segment of its own and does not end the one around it
}

// cuttings, by class, were chosen by measurement. On a Debian 12 root (232 MB, 68.1 MB as one stream of cpio and zstd -6)
// to which ten packages were added, each in turn, compressed at level 6, with modules of kernels as now:
//
//	                                            segments      all   new for a package, mean
//	in the order of the walk, target 512 KiB         157  74.3 MB   1.97 MB
//	the same, 1 MiB                                  122  73.2 MB   2.81 MB
//	ordered by package, 512 KiB                      158  73.6 MB   1.42 MB
//	ordered by package, 768 KiB                      127  73.0 MB   1.82 MB
//	ordered by package, 1 MiB                        107  71.7 MB   2.08 MB
//	ordered by package, 2 MiB                         85  71.2 MB   2.69 MB
//
// What is one package's compresses well together and changes together: its files lie all over the tree otherwise, and
// each place costs a segment. On a root of 1099 MB, htop changed 1.2 % of the bytes before and 0.6 % with this.
// Counting bytes and not paths makes segments of even size: a change then seldom hits a large one.
func cuttings() [classes]cutting {
	small := cutting{target: 512 << 10, min: 256 << 10, max: 4 << 20, alone: 1 << 20}
	return [classes]cutting{
		content:  small,
		packaged: {target: 1 << 20, min: 512 << 10, max: 4 << 20, alone: 1 << 20},
		bulk:     {target: 2 << 20, min: 2 << 20, max: 6 << 20, alone: 1 << 20},
		notes:    small,
		volatile: small,
	}
}

// plan divides some entries of a sorted tree into segments. The first is the skeleton; every name of a hard-linked
// file is where its first name is. The pointers point into entries, except for the first one, the root.
func plan(entries []Entry, which []int, owners map[string]string) [][]*Entry {
	skeleton, files, names := sorted(entries, which, owners)
	plan := [][]*Entry{skeleton}
	var part []*Entry
	var size int64
	end := func() {
		if part != nil {
			plan = append(plan, part)
		}
		part, size = nil, 0
	}
	rules := cuttings()
	last := content
	for _, f := range files {
		if f.class != last {
			last = f.class
			end()
		}
		c, e := rules[f.class], f.entry
		same := []*Entry{e}
		if e.Group > 0 {
			same = names[e.Group]
		}
		if e.Size >= c.alone {
			plan = append(plan, same)
			continue
		}
		part = append(part, same...)
		size += e.Size + newcHeader
		if size >= c.max || size >= c.min && c.endsSegment(e) {
			end()
		}
	}
	end()
	return plan
}

// endsSegment tells whether a cut may follow e.
func (c cutting) endsSegment(e *Entry) bool {
	return pathHash(e.Path)%c.target < uint64(e.Size)+newcHeader
}

// file is a regular file with content and its place in the order.
type file struct {
	entry *Entry
	class class
	key   string
}

// sorted divides the entries into those of the skeleton and the files, in the order in which they are stored.
// Of hard links the first name stands for all that are in names.
func sorted(entries []Entry, which []int, owners map[string]string) (skeleton []*Entry, files []file, names map[int][]*Entry) {
	skeleton = []*Entry{{Path: ".", Type: Dir, Mode: 0o755}}
	names = make(map[int][]*Entry)
	for _, i := range which {
		e := &entries[i]
		if e.Type != File || e.Size == 0 {
			skeleton = append(skeleton, e)
			continue
		}
		if e.Group > 0 {
			names[e.Group] = append(names[e.Group], e)
			if len(names[e.Group]) > 1 {
				continue
			}
		}
		class, key := classify(e.Path, owners)
		files = append(files, file{e, class, key})
	}
	slices.SortStableFunc(files, func(a, b file) int { // what is equal stays in the order of the walk
		return cmp.Or(cmp.Compare(a.class, b.class), strings.Compare(a.key, b.key))
	})
	return skeleton, files, names
}

// class groups files by what makes them change.
type class int

const (
	content  class = iota // everything else, in the order of the walk
	packaged              // what is known to be of a package, ordered by package: one package, one place
	bulk                  // what comes and goes as a whole
	notes                 // what a package manager keeps for each package, ordered by package
	volatile              // what nearly every change of an image touches
	classes  = iota
)

var bulkDirs = []string{"lib/firmware/", "lib/modules/", "usr/lib/firmware/", "usr/lib/modules/"}

var noteDirs = []string{
	"usr/share/bug/", "usr/share/doc/", "usr/share/licenses/", "usr/share/lintian/overrides/", "var/lib/dpkg/info/",
}

var volatileDirs = []string{
	"usr/lib/sysimage/rpm/", "usr/share/rpm/", "var/cache/", "var/lib/alternatives/", "var/lib/apt/",
	"var/lib/dnf/", "var/lib/dpkg/", "var/lib/rpm/", "var/lib/systemd/", "var/lib/yum/", "var/lib/zypp/", "var/log/",
}

var volatileFiles = []string{
	"etc/group", "etc/group-", "etc/gshadow", "etc/gshadow-", "etc/ld.so.cache", "etc/machine-id", "etc/mailcap",
	"etc/passwd", "etc/passwd-", "etc/shadow", "etc/shadow-", "etc/subgid", "etc/subuid", "etc/udev/hwdb.bin",
	"usr/lib/udev/hwdb.bin", "usr/share/applications/mimeinfo.cache", "usr/share/info/dir",
}

// classify gives the class of a path, and the package for what is of one.
func classify(path string, owners map[string]string) (class, string) {
	below := func(dirs []string) bool {
		return slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(path, dir) })
	}
	owner, owned := owners[path]
	note, noted := noteOf(path)
	switch {
	case below(bulkDirs):
		return bulk, ""
	case !noted && (below(volatileDirs) || slices.Contains(volatileFiles, path)):
		return volatile, ""
	case owned:
		return packaged, owner
	case noted:
		return notes, note
	}
	return content, ""
}

// noteOf gives the package that a note is of.
func noteOf(path string) (string, bool) {
	for _, dir := range noteDirs {
		if name, ok := strings.CutPrefix(path, dir); ok {
			if i := strings.IndexAny(name, "/:."); i >= 0 {
				name = name[:i] // doc/NAME/copyright, info/NAME:amd64.list, overrides/NAME
			}
			return name, true
		}
	}
	return "", false
}

// pathHash spreads paths over 64 bits: FNV-1a, and then the finaliser of MurmurHash3, because the low bits of
// FNV-1a follow the last letters too closely.
func pathHash(path string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(path) {
		h = (h ^ uint64(path[i])) * 1099511628211
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

package disks

import (
	"path"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Mount is how a file system is mounted.
type Mount struct {
	Path   string   // absolute and clean
	Flags  []string // such as ro and nodev: what every file system knows
	Data   string   // what its own code reads
	NoFail bool     // the node boots without it, if need be
	NoAuto bool     // it is not mounted, nor switched on
}

// flagWords are the options that are a flag of mount(2).
var flagWords = []string{"ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "sync", "async", "dirsync", "noatime", "atime",
	"nodiratime", "diratime", "relatime", "norelatime", "strictatime", "lazytime", "nolazytime", "silent", "loud"}

// fstabWords are options for programs that read fstab, and say nothing to the kernel.
var fstabWords = []string{"defaults", "auto", "noauto", "nofail", "fail", "user", "nouser", "users", "owner", "group", "_netdev", "comment", "sw"}

// MountOf reads path and mount options of a file system. Its path is "" if it is not to be mounted.
func MountOf(fs catalog.Filesystem) Mount {
	var m Mount
	if p := deref(fs.Path); strings.HasPrefix(p, "/") {
		m.Path = path.Clean(p)
	}
	var data []string
	for word := range strings.SplitSeq(deref(fs.Mount), ",") {
		word = strings.TrimSpace(word)
		key, _, _ := strings.Cut(word, "=")
		switch {
		case word == "" || strings.HasPrefix(word, "x-") || strings.HasPrefix(word, "X-"):
		case slices.Contains(flagWords, word):
			m.Flags = append(m.Flags, word)
		case slices.Contains(fstabWords, key):
			m.NoFail = m.NoFail || word == "nofail"
			m.NoAuto = m.NoAuto || word == "noauto"
		default:
			data = append(data, word)
		}
	}
	m.Data = strings.Join(data, ",")
	return m
}

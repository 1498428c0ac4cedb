package modules

import (
	"bytes"
	"debug/elf"
	"path"
	"strings"
)

// maxInfo bounds the section .modinfo, which is a few kilobytes.
const maxInfo = 1 << 20

// Info is what a module says of itself.
type Info struct {
	Depends  []string // names of the modules that it needs
	Before   []string // names of those that it wants loaded before, where they are
	Aliases  []string // patterns of the devices that it drives
	Firmware []string // files that it may ask for, below /lib/firmware
}

// ReadInfo reads what a module says of itself, from the section .modinfo of its file, which must not be compressed. It is
// empty for a file that is no module.
func ReadInfo(module []byte) Info {
	var i Info
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return i
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil || s.Size > maxInfo || s.Flags&elf.SHF_COMPRESSED != 0 {
		return i // the kernel reads no such section either
	}
	section, err := s.Data()
	if err != nil {
		return i
	}
	for field := range bytes.SplitSeq(section, []byte{0}) {
		key, value, _ := strings.Cut(string(field), "=")
		switch key {
		case "depends":
			i.Depends = append(i.Depends, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
		case "softdep":
			i.Before = append(i.Before, before(strings.Fields(value))...)
		case "alias":
			i.Aliases = append(i.Aliases, value)
		case "firmware":
			i.Firmware = append(i.Firmware, value)
		}
	}
	return i
}

// before takes "pre: a b post: c" and returns a and b; what should follow is not waited for.
func before(words []string) []string {
	var all []string
	pre := false
	for _, w := range words {
		switch {
		case w == "pre:":
			pre = true
		case w == "post:":
			pre = false
		case pre:
			all = append(all, w)
		}
	}
	return all
}

// File is a module's file, as a path in the directory of modules, and what the module says of itself.
type File struct {
	Path string
	Info Info
}

// Make makes the index that depmod(8) would have written, for an image in which nobody ran it. Of two files with the
// same module the first counts. What a module needs and is not among the files is built into the kernel.
func Make(files []File) *Index {
	x := newIndex()
	paths := make(map[string]string, len(files))
	for _, f := range files {
		if n := Name(f.Path); paths[n] == "" {
			paths[n] = f.Path
		}
	}
	for _, f := range files {
		if paths[Name(f.Path)] != f.Path {
			continue
		}
		words := []string{f.Path + ":"}
		for _, d := range f.Info.Depends {
			if p := paths[canonical(d)]; p != "" {
				words = append(words, p)
			}
		}
		x.dep(words)
		x.softdep(append([]string{"softdep", Name(f.Path), "pre:"}, f.Info.Before...))
		for _, a := range f.Info.Aliases {
			if !strings.ContainsAny(a, " \t\n\r\v\f") { // the file has words
				x.alias([]string{"alias", a, Name(f.Path)})
			}
		}
	}
	return x
}

// IsFile tells whether a file is called as one with a module is, compressed or not.
func IsFile(name string) bool {
	switch path.Ext(name) {
	case ".ko":
		return true
	case ".gz", ".xz", ".zst":
		return strings.HasSuffix(strings.TrimSuffix(name, path.Ext(name)), ".ko")
	}
	return false
}

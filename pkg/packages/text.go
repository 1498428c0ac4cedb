package packages

import (
	"bytes"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxDesc bounds the one package's file of pacman and of a distroless image.
const maxDesc = 4 << 20

// dpkg reads /var/lib/dpkg/status, and the files of status.d, which images built without dpkg have in its place.
func dpkg(tree fs.FS) ([]Package, error) {
	const dir = "var/lib/dpkg/"
	b, err := readFile(tree, dir+"status", maxDatabase)
	if err != nil && !absent(err) {
		return nil, err
	}
	all, err := dpkgStatus(b)
	if err != nil {
		return nil, err
	}
	more, err := fs.ReadDir(tree, dir+"status.d")
	if err != nil && !absent(err) {
		return nil, fault.Wrap(fault.Invalid, err, "reading the image's /%sstatus.d", dir)
	}
	for _, d := range more {
		if d.IsDir() || strings.HasSuffix(d.Name(), ".md5sums") {
			continue
		}
		name := path.Join(dir, "status.d", d.Name())
		b, err := readFile(tree, name, maxDesc)
		if absent(err) {
			continue // a link that leads nowhere
		}
		if err != nil {
			return nil, err
		}
		one, err := dpkgStatus(b)
		if err != nil {
			return nil, err
		}
		if all = append(all, one...); len(all) > maxPackages {
			return nil, tooMany("dpkg")
		}
	}
	return all, nil
}

// dpkgStatus reads paragraphs of fields as of RFC 822. Left out is what was removed and left its settings behind; what
// was unpacked and never configured is there.
func dpkgStatus(b []byte) ([]Package, error) {
	var all []Package
	var p Package
	state := ""
	end := func() {
		words := strings.Fields(state) // want, error, state
		if p.Name != "" && (state == "" || len(words) == 3 && words[2] != "not-installed" && words[2] != "config-files") {
			all = append(all, p)
		}
		p, state = Package{}, ""
	}
	for line := range bytes.Lines(b) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			end()
			continue
		}
		field, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || line[0] == ' ' || line[0] == '\t' {
			continue // what continues the line before is none of ours
		}
		text := string(bytes.TrimSpace(value))
		switch string(field) {
		case "Package":
			p.Name = text
		case "Version":
			p.Version = text
		case "Architecture":
			p.Arch = text
		case "Installed-Size":
			p.Size = number(text) << 10
		case "Status":
			state = text
		}
		if len(all) > maxPackages {
			return nil, tooMany("dpkg")
		}
	}
	end()
	return all, nil
}

// number reads a size. What is none, or larger than any disk, is not said.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > 1<<50 {
		return 0
	}
	return n
}

// apk reads Alpine's database: paragraphs of lines that begin with one letter.
func apk(tree fs.FS) ([]Package, error) {
	for _, name := range []string{"lib/apk/db/installed", "usr/lib/apk/db/installed"} { // the latter since 3.23
		b, err := readFile(tree, name, maxDatabase)
		if absent(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return apkInstalled(b)
	}
	return nil, nil
}

func apkInstalled(b []byte) ([]Package, error) {
	var all []Package
	var p Package
	end := func() {
		if p.Name != "" {
			all = append(all, p)
		}
		p = Package{}
	}
	for line := range bytes.Lines(b) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			end()
			continue
		}
		if len(line) < 2 || line[1] != ':' {
			continue
		}
		switch value := string(line[2:min(len(line), maxText+3)]); line[0] {
		case 'P':
			p.Name = value
		case 'V':
			p.Version = value
		case 'A':
			p.Arch = value
		case 'I':
			p.Size = number(value)
		}
		if len(all) > maxPackages {
			return nil, tooMany("apk")
		}
	}
	end()
	return all, nil
}

// pacman reads a directory for each package, with a file desc in it.
func pacman(tree fs.FS) ([]Package, error) {
	const dir = "var/lib/pacman/local"
	entries, err := fs.ReadDir(tree, dir)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "reading the image's /%s", dir)
	}
	if len(entries) > maxPackages {
		return nil, tooMany("pacman")
	}
	var all []Package
	for _, d := range entries {
		b, err := readFile(tree, path.Join(dir, d.Name(), "desc"), maxDesc)
		if absent(err) {
			continue // ALPM_DB_VERSION, which is a file
		}
		if err != nil {
			return nil, err
		}
		if p := pacmanDesc(b); p.Name != "" {
			all = append(all, p)
		}
	}
	return all, nil
}

// pacmanDesc reads values, each in the line below its name.
func pacmanDesc(b []byte) Package {
	var p Package
	field := ""
	for line := range bytes.Lines(b) {
		text := string(bytes.TrimSpace(line))
		switch {
		case strings.HasPrefix(text, "%"):
			field = text
			continue
		case field == "%NAME%":
			p.Name = text
		case field == "%VERSION%":
			p.Version = text
		case field == "%ARCH%":
			p.Arch = text
		case field == "%SIZE%":
			p.Size = number(text)
		}
		field = "" // what follows belongs to a list
	}
	return p
}

package overlay

import (
	"fmt"
	"path"
	"strings"
)

// uniqueField keeps of lines that have the same text between the separators number i and i+1 the first one. Lines that
// have nothing there are kept. It merges passwd and group files.
func uniqueField(sep string, i int, text string) string {
	seen := map[string]bool{}
	var out []string
	for _, line := range strings.Split(text, "\n") {
		fields := strings.Split(line, sep)
		if i >= 0 && i < len(fields) && fields[i] != "" {
			if seen[fields[i]] {
				continue
			}
			seen[fields[i]] = true
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// systemdEscape makes a text part of a unit's name, as systemd-escape(1) does: systemd.unit(5), "String escaping".
func systemdEscape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '/':
			b.WriteByte('-')
		case c == '.' && i == 0, !isUnitCharacter(c):
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// systemdEscapePath makes a path the name of its mount, swap or device unit, without the suffix.
func systemdEscapePath(p string) string {
	if p = strings.Trim(path.Clean("/"+p), "/"); p == "" {
		return "-"
	}
	return systemdEscape(p)
}

func isUnitCharacter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == ':' || c == '_' || c == '.'
}

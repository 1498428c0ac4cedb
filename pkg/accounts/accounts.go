// Package accounts merges the users and groups of a machine into those of an image, as Warewulf's syncuser does: nodes whose
// files come from shared storage must give every user the number that the others give. It is pure.
package accounts

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Bounds of the files, in which a site with all its users is far below.
const (
	maxFile = 32 << 20
	maxLine = 1 << 20 // a group with all of them
)

// Kind is what a file lists.
type Kind string

// The kinds.
const (
	Users  Kind = "user"  // passwd(5): name:password:uid:gid:comment:home:shell
	Groups Kind = "group" // group(5): name:password:gid:members
)

func (k Kind) fields() int {
	if k == Users {
		return 7
	}
	return 4
}

// Account is a line.
type Account struct {
	Name   string
	ID     uint32
	fields []string
}

func (a *Account) line() string { return strings.Join(a.fields, ":") }

// Parse reads a passwd or group file. Blank lines, comments and lines of NIS (+ and -) are passed over; another line that is
// none is fault.Invalid with its number. Of two lines with one name the first counts, as for the C library.
func Parse(kind Kind, file []byte) ([]Account, error) {
	if len(file) > maxFile {
		return nil, fault.New(fault.Invalid, "the list of %ss has more than %d bytes", kind, maxFile)
	}
	var all []Account
	seen := make(map[string]bool)
	at := 0
	for line := range strings.Lines(string(file)) {
		at++
		line = strings.TrimRight(line, "\r\n")
		if t := strings.TrimSpace(line); t == "" || t[0] == '#' || t[0] == '+' || t[0] == '-' {
			continue
		}
		f := strings.Split(line, ":")
		bad := func(why string) error {
			return fault.New(fault.Invalid, "line %d of the list of %ss %s", at, kind, why).WithFix("mend the line: %.80q", line)
		}
		if len(line) > maxLine {
			return nil, bad("is too long")
		}
		if len(f) != kind.fields() || f[0] == "" {
			return nil, bad(fmt.Sprintf("has %d fields and not %d", len(f), kind.fields()))
		}
		id, err := number(f[2])
		if err == nil && kind == Users {
			_, err = number(f[3])
		}
		if err != nil {
			return nil, bad("has no number where one must be")
		}
		if !seen[f[0]] {
			seen[f[0]] = true
			all = append(all, Account{f[0], id, f})
		}
	}
	return all, nil
}

// number reads an ID; the last two numbers mean “none” to the kernel and to tools.
func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && n >= 1<<32-2 {
		err = strconv.ErrRange
	}
	return uint32(n), err
}

// Files are the account files of a tree; those that are not there are nil.
type Files struct {
	Passwd, Group, Shadow, Gshadow []byte
}

// Merged is the image's files after a merge, and what it means for the rest of the image.
type Merged struct {
	Files
	UIDs, GIDs map[uint32]uint32 // owners of files that change
	Added      map[Kind][]string // names that came from the machine
	Moved      map[Kind][]string // “name 1000 → 1001”
}

// Merge takes the machine's accounts over: its lines replace the image's of the same name, names that only the image has
// follow, and files of accounts that got another number are to change with them. It is fault.Conflict, naming all,
// if an account that only the image has uses a number of one of the machine's under another name: its files would become
// somebody else's. Accounts new to the image get locked lines in shadow and gshadow.
func Merge(host, image Files) (*Merged, error) {
	out := &Merged{Added: map[Kind][]string{}, Moved: map[Kind][]string{}}
	groups, gids, err := out.merge(Groups, host.Group, image.Group)
	if err != nil {
		return nil, err
	}
	users, uids, err := out.merge(Users, host.Passwd, image.Passwd)
	if err != nil {
		return nil, err
	}
	out.UIDs, out.GIDs = uids, gids
	mine := make(map[string]bool)
	for _, a := range parsed(Users, host.Passwd) {
		mine[a.Name] = true
	}
	for i := range users { // the machine's own lines have its own groups
		if a := &users[i]; !mine[a.Name] {
			gid, _ := number(a.fields[3])
			if to, ok := gids[gid]; ok {
				a.fields = slices.Clone(a.fields)
				a.fields[3] = strconv.FormatUint(uint64(to), 10)
			}
		}
	}
	out.Passwd, out.Group = text(users), text(groups)
	out.Shadow = lock(image.Shadow, users, ":*:::::::")
	out.Gshadow = lock(image.Gshadow, groups, ":!::")
	return out, nil
}

// parsed is Parse of what was parsed before.
func parsed(kind Kind, file []byte) []Account {
	all, _ := Parse(kind, file)
	return all
}

func (m *Merged) merge(kind Kind, host, image []byte) (all []Account, moved map[uint32]uint32, err error) {
	if all, err = Parse(kind, host); err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, err, "this machine")
	}
	old, err := Parse(kind, image)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, err, "the image")
	}
	byName, byID := make(map[string]uint32), make(map[uint32]string)
	for _, a := range all {
		byName[a.Name] = a.ID
		if byID[a.ID] == "" {
			byID[a.ID] = a.Name
		}
	}
	moved = make(map[uint32]uint32)
	had := make(map[string]bool)
	var clashes []string
	for _, a := range old {
		had[a.Name] = true
		to, ok := byName[a.Name]
		switch {
		case !ok && byID[a.ID] != "":
			clashes = append(clashes, fmt.Sprintf("%s (%d, which is %s here)", a.Name, a.ID, byID[a.ID]))
		case !ok:
			all = append(all, a)
		case to != a.ID:
			if other, twice := moved[a.ID]; twice && other != to {
				clashes = append(clashes, fmt.Sprintf("%s (%d, which another name has in the image, too)", a.Name, a.ID))
			}
			moved[a.ID] = to
			m.Moved[kind] = append(m.Moved[kind], fmt.Sprintf("%s %d → %d", a.Name, a.ID, to))
		}
	}
	if len(clashes) > 0 {
		return nil, nil, fault.New(fault.Conflict, "%ss that only the image has use numbers that this machine gives to others: %s", kind, strings.Join(clashes, ", ")).
			WithFix("give them other numbers in the image (usermod -u, groupmod -g), or the same names here")
	}
	// A number that stays under some name must not move under another.
	for _, a := range old {
		if to, ok := byName[a.Name]; ok && to == a.ID {
			delete(moved, a.ID)
		}
	}
	for name := range byName {
		if !had[name] {
			m.Added[kind] = append(m.Added[kind], name)
		}
	}
	slices.Sort(m.Added[kind])
	return all, moved, nil
}

func text(all []Account) []byte {
	var b strings.Builder
	for i := range all {
		b.WriteString(all[i].line())
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

// lock adds a line without a valid password for each account that a shadow file lacks. One that is not there stays so.
func lock(file []byte, all []Account, rest string) []byte {
	if file == nil {
		return nil
	}
	have := make(map[string]bool)
	for line := range strings.Lines(string(file)) {
		name, _, _ := strings.Cut(line, ":")
		have[name] = true
	}
	out := slices.Clone(file)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	for i := range all {
		if !have[all[i].Name] {
			out = append(out, all[i].Name+rest+"\n"...)
		}
	}
	return out
}

// Changes tells whether a merge changes anything of the image.
func (m *Merged) Changes(image Files) bool {
	return len(m.UIDs)+len(m.GIDs) > 0 || string(m.Passwd) != string(image.Passwd) || string(m.Group) != string(image.Group) ||
		string(m.Shadow) != string(image.Shadow) || string(m.Gshadow) != string(image.Gshadow)
}

// Lines say what a merge does, for people.
func (m *Merged) Lines() []string {
	var lines []string
	for _, kind := range []Kind{Users, Groups} {
		if names := m.Added[kind]; len(names) > 0 {
			lines = append(lines, fmt.Sprintf("add %d %ss: %s", len(names), kind, some(names)))
		}
		if moves := m.Moved[kind]; len(moves) > 0 {
			lines = append(lines, fmt.Sprintf("move %d %ss: %s", len(moves), kind, some(moves)))
		}
	}
	return lines
}

// some is a list that fits on a line.
func some(list []string) string {
	const most = 8
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

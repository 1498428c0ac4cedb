package accounts

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Merged is what becomes of an image.
type Merged struct {
	Files // as they are to be
	// UIDs and GIDs say who owns what: a file of a number that is in here gets another one, all at once, for two accounts may
	// have changed places.
	UIDs, GIDs map[uint32]uint32
	Notes      []Note
	lines      []string
}

// Lines say what a merge does, for people.
func (m *Merged) Lines() []string { return m.lines }

// Changed are the files that are not as they were in the image, by their place in Paths.
func (m *Merged) Changed(image Files) map[string][]byte {
	changed := make(map[string][]byte)
	for _, path := range Paths {
		if text := *m.At(path); string(text) != string(*image.At(path)) {
			changed[path] = text
		}
	}
	return changed
}

// Merge brings the accounts of an image in line with those of a machine:
//
//   - A name that both have gets the machine's numbers, comment, home and shell, and the machine's place in the file. A
//     password stays the image's. Root, in the sense of number 0, stays as it is in the image.
//   - A name that only the machine has is added. It has no password.
//   - A name that only the image has stays, behind the others, and in the groups it is in.
//   - A group has the members that the machine says, and those that only the image knows.
//   - Lines for a directory service stay the image's; the machine's are not taken over.
//   - Where the image has /etc/shadow and /etc/gshadow, new names get entries there, locked but for keys. Where it has
//     /etc/subuid and /etc/subgid, users that have none there get the machine's. No file is made but passwd and group.
//
// fault.Conflict names every account that only the image has and whose number the machine gives to somebody else, and all
// else that cannot be decided: nothing may be done then. Other errors are fault.Invalid.
func Merge(machine, image Files) (*Merged, error) {
	for _, path := range Paths[2:] { // the others are read line by line
		if len(*image.At(path)) > MaxFile || len(*machine.At(path)) > MaxFile {
			return nil, fault.New(fault.Invalid, "/%s has more than %d bytes", path, MaxFile)
		}
	}
	iu, err := readUsers("image", image.Passwd)
	if err != nil {
		return nil, err
	}
	ig, err := readGroups("image", image.Group)
	if err != nil {
		return nil, err
	}
	mu, err := readUsers("machine", machine.Passwd)
	if err != nil {
		return nil, err
	}
	mg, err := readGroups("machine", machine.Group)
	if err != nil {
		return nil, err
	}
	if len(mu.entries) == 0 || len(mg.entries) == 0 {
		return nil, fault.New(fault.Invalid, "this machine has no accounts in /etc/passwd or /etc/group").
			WithFix("run it on a machine that has, or give its files")
	}
	m := &Merged{Notes: slices.Concat(iu.notes, ig.notes, mu.notes, mg.notes)}
	var bad, badGroups []string
	m.UIDs, bad = moves("user", numbers(iu, user.key), numbers(mu, user.key))
	m.GIDs, badGroups = moves("group", numbers(ig, group.key), numbers(mg, group.key))
	if bad = append(bad, badGroups...); len(bad) > 0 {
		return nil, fault.New(fault.Conflict, "the accounts of the image and of this machine exclude each other: %s", strings.Join(bad, "; ")).
			WithFix("give those of the image other numbers, with usermod -u and groupmod -g in it, or make the same accounts on this machine")
	}
	m.lines = append(told("user", numbers(iu, user.key), numbers(mu, user.key)), told("group", numbers(ig, group.key), numbers(mg, group.key))...)
	users := mergeUsers(iu, mu, m.GIDs, image.Shadow != nil)
	groups := mergeGroups(ig, mg, mu, image.Gshadow != nil)
	m.Files = Files{
		Passwd:  lines(users, iu.nis),
		Group:   lines(groups, ig.nis),
		Shadow:  shadow(image.Shadow, users),
		Gshadow: gshadow(image.Gshadow, groups, mg),
	}
	for _, sub := range []string{"etc/subuid", "etc/subgid"} {
		text, notes := subIDs(sub, *image.At(sub), *machine.At(sub), mu)
		*m.At(sub) = text
		m.Notes = append(m.Notes, notes...)
	}
	return m, nil
}

// numbered is a name with its number.
type numbered struct {
	name string
	id   uint32
}

func (u user) key() numbered  { return numbered{u.name, u.uid} }
func (g group) key() numbered { return numbered{g.name, g.gid} }

func numbers[T any](f *file[T], key func(T) numbered) []numbered {
	all := make([]numbered, len(f.entries))
	for i, e := range f.entries {
		all[i] = key(e)
	}
	return all
}

// moves says which numbers of the image change, and what cannot be.
func moves(kind string, image, machine []numbered) (moved map[uint32]uint32, bad []string) {
	moved = make(map[uint32]uint32)
	ids, inImage := make(map[string]uint32), make(map[string]uint32)
	owner := make(map[uint32]string) // of each number on the machine, the first
	for _, m := range machine {
		ids[m.name] = m.id
		if owner[m.id] == "" {
			owner[m.id] = m.name
		}
	}
	for _, i := range image {
		inImage[i.name] = i.id
	}
	refuse := func(format string, args ...any) { bad = append(bad, kind+" "+fmt.Sprintf(format, args...)) }
	by := make(map[uint32]numbered) // who decided what becomes of a number
	for _, i := range image {
		to, both := ids[i.name]
		if !both {
			to = i.id
			// Two that share a number in the image may go on to.
			if other := owner[i.id]; other != "" {
				if id, ok := inImage[other]; !ok || id != i.id {
					refuse("%s has %d in the image, which is %s's here", i.name, i.id, other)
					continue
				}
			}
		}
		if (i.id == 0) != (to == 0) {
			refuse("%s is %d in the image and %d here, and only one of them is root", i.name, i.id, to)
			continue
		}
		if first, ok := by[i.id]; ok && first.id != to {
			refuse("%s shares %d with %s in the image, but not here: whose the files are cannot be told", i.name, i.id, first.name)
			continue
		}
		by[i.id] = numbered{i.name, to}
		if to != i.id {
			moved[i.id] = to
		}
	}
	return moved, bad
}

// to is what becomes of a number.
func to(moved map[uint32]uint32, id uint32) uint32 {
	if n, ok := moved[id]; ok {
		return n
	}
	return id
}

func mergeUsers(image, machine *file[user], gids map[uint32]uint32, shadowed bool) []user {
	var all []user
	for _, u := range machine.entries {
		old, ok := image.get(u.name)
		switch {
		case ok && old.uid == 0:
			old.gid = to(gids, old.gid)
			u = old
		case ok:
			u.password = old.password
		default:
			u.password = noPassword(shadowed)
		}
		all = append(all, u)
	}
	for _, u := range image.entries {
		if _, ok := machine.get(u.name); !ok {
			u.gid = to(gids, u.gid)
			all = append(all, u)
		}
	}
	return all
}

func mergeGroups(image, machine *file[group], users *file[user], shadowed bool) []group {
	var all []group
	for _, g := range machine.entries {
		old, ok := image.get(g.name)
		g.password = noPassword(shadowed)
		if ok {
			g.password = old.password
			g.members = union(g.members, slices.DeleteFunc(slices.Clone(old.members), func(name string) bool {
				_, known := users.get(name)
				return known
			}))
		}
		all = append(all, g)
	}
	for _, g := range image.entries {
		if _, ok := machine.get(g.name); !ok {
			all = append(all, g)
		}
	}
	return all
}

// union is a and what only b has.
func union(a, b []string) []string {
	have := make(map[string]bool, len(a))
	for _, s := range a {
		have[s] = true
	}
	all := slices.Clone(a)
	for _, s := range b {
		if !have[s] {
			all = append(all, s)
		}
	}
	return all
}

// noPassword is the second field of an account without one: no password fits.
func noPassword(shadowed bool) string {
	if shadowed {
		return "x" // see the other file
	}
	return "*"
}

func lines[T fmt.Stringer](entries []T, last []string) []byte {
	var b strings.Builder
	for _, e := range entries {
		b.WriteString(e.String())
		b.WriteByte('\n')
	}
	for _, l := range last {
		b.WriteString(l)
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

// told says what becomes of the users or the groups.
func told(kind string, image, machine []numbered) (all []string) {
	had := make(map[string]uint32)
	for _, i := range image {
		had[i.name] = i.id
	}
	var added, moved []string
	for _, m := range machine {
		if old, ok := had[m.name]; !ok {
			added = append(added, m.name)
		} else if old != m.id {
			moved = append(moved, fmt.Sprintf("%s %d → %d", m.name, old, m.id))
		}
	}
	slices.Sort(added)
	slices.Sort(moved)
	if len(added) > 0 {
		all = append(all, fmt.Sprintf("add %d %ss: %s", len(added), kind, some(added)))
	}
	if len(moved) > 0 {
		all = append(all, fmt.Sprintf("move %d %ss: %s", len(moved), kind, some(moved)))
	}
	return all
}

// some is a list that fits on a line.
func some(list []string) string {
	const most = 8
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

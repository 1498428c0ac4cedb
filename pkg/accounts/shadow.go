package accounts

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// shadow adds what is missing; all that is there stays as it is. No password fits a star, but unlike with an exclamation
// mark sshd lets keys in. Without a day of the last change nothing grows old (shadow(5)).
func shadow(text []byte, users []user) []byte {
	if text == nil {
		return nil
	}
	have := firstFields(text)
	var missing []string
	for _, u := range users {
		if u.password == "x" && !have[u.name] {
			missing = append(missing, u.name+":*::0:99999:7:::")
		}
	}
	return insert(text, missing)
}

// gshadow adds what is missing, and keeps the members of the machine's groups the same in both files.
func gshadow(text []byte, groups []group, machine *file[group]) []byte {
	if text == nil {
		return nil
	}
	have := firstFields(text)
	var missing []string
	members := make(map[string]string)
	for _, g := range groups {
		list := strings.Join(g.members, ",")
		if !have[g.name] {
			missing = append(missing, g.name+":!::"+list)
		} else if _, ok := machine.get(g.name); ok {
			members[g.name] = list
		}
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimRight(line, "\r\n"), ":")
		if list, ok := members[fields[0]]; ok && len(fields) == 4 && fields[3] != list {
			fields[3] = list
			line = strings.Join(fields, ":") + "\n"
		}
		b.WriteString(line)
	}
	return insert([]byte(b.String()), missing)
}

// firstFields are the names in a text.
func firstFields(text []byte) map[string]bool {
	names := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		names[name] = true
	}
	return names
}

// insert adds lines to a text, in front of those for a directory service.
func insert(text []byte, added []string) []byte {
	if len(added) == 0 {
		return text
	}
	var before, after []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if after != nil || strings.HasPrefix(line, "+") || strings.HasPrefix(line, "-") {
			after = append(after, line)
		} else {
			before = append(before, line)
		}
	}
	return []byte(strings.Join(slices.Concat(before, added, after), "\n") + "\n")
}

// span is a row of numbers that a user may give to others.
type span struct{ first, end uint64 }

// subIDs adds the machine's rows of numbers for its users that have none in the image. A row that is somebody's in the image
// already is left out: two users would be each other there.
func subIDs(path string, image, machine []byte, users *file[user]) ([]byte, []Note) {
	if image == nil {
		return nil, nil
	}
	have := firstFields(image)
	var taken []span // in their order
	var notes []Note
	for line := range strings.Lines(string(image)) {
		if _, s, ok := readSpan(line); ok {
			taken = append(taken, s)
		}
	}
	slices.SortFunc(taken, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	for i := 1; i < len(taken); i++ { // some of an image may hold others of it
		taken[i].end = max(taken[i].end, taken[i-1].end)
	}
	var added []string
	n := 0
	for line := range strings.Lines(string(machine)) {
		n++
		name, s, ok := readSpan(line)
		if _, known := users.get(name); !ok || !known || have[name] || len(notes) == maxNotes {
			continue
		}
		at, _ := slices.BinarySearchFunc(taken, s.first, func(t span, first uint64) int { return cmp.Compare(t.first, first) })
		if at > 0 && taken[at-1].end > s.first || at < len(taken) && taken[at].first < s.end {
			notes = append(notes, Note{"machine", path, n, fmt.Sprintf("the numbers of %s are somebody else's in the image, and are left out", name)})
			continue
		}
		taken = slices.Insert(taken, at, s)
		added = append(added, strings.TrimRight(line, "\r\n"))
	}
	return insert(image, added), notes
}

// readSpan reads a line of subuid(5).
func readSpan(line string) (name string, s span, ok bool) {
	fields := strings.Split(strings.TrimRight(line, "\r\n"), ":")
	if len(fields) != 3 {
		return "", span{}, false
	}
	first, err1 := strconv.ParseUint(fields[1], 10, 32)
	count, err2 := strconv.ParseUint(fields[2], 10, 32)
	if err1 != nil || err2 != nil || count == 0 {
		return "", span{}, false
	}
	return fields[0], span{first, first + count}, true
}

package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// difference is what a change does to one node or profile.
type difference struct {
	name  string
	lines []string // path  before → after
}

// settingsDiff says what becomes of the settings, and of the list of profiles, of one node or profile.
func settingsDiff(name string, profiles []catalog.ProfileName, before catalog.Settings, d decisions, each catalog.Settings) (difference, error) {
	after := before
	if err := after.Patch(d.set, d.unset); err != nil {
		return difference{}, err
	}
	if err := after.Patch(each, nil); err != nil {
		return difference{}, err
	}
	was, is := flat(before), flat(after)
	if was["profiles"] = words(profiles); d.profiles != nil {
		is["profiles"] = words(*d.profiles)
	} else {
		is["profiles"] = was["profiles"]
	}
	out := difference{name: name}
	all := maps.Clone(was)
	maps.Copy(all, is)
	for _, path := range sortedKeys(all) {
		if was[path] != is[path] {
			out.lines = append(out.lines, fmt.Sprintf("%s  %s → %s", path, or(was[path]), or(is[path])))
		}
	}
	return out, nil
}

// words are names on one line.
func words[N ~string](names []N) string {
	var all []string
	for _, n := range names {
		all = append(all, string(n))
	}
	return strings.Join(all, " ")
}

// flat is the decided settings by their path, as text.
func flat(s catalog.Settings) map[string]string {
	out := map[string]string{}
	var tree map[string]any
	b, err := json.Marshal(s)
	if err != nil || json.Unmarshal(b, &tree) != nil {
		return out
	}
	flatten("", tree, out)
	return out
}

func flatten(path string, v any, out map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			flatten(strings.TrimPrefix(path+"."+k, "."), inner, out)
		}
	case []any:
		var words []string
		for _, w := range v {
			words = append(words, fmt.Sprint(w))
		}
		out[path] = "[" + strings.Join(words, " ") + "]"
	default:
		if out[path] = fmt.Sprint(v); out[path] == "" {
			out[path] = `""`
		}
	}
}

// maxGroups is how many kinds of difference are shown; more than a screenful helps nobody decide.
const maxGroups = 12

// grouped says what a change does, once for all that it does the same to. What does not change is left out.
func grouped(what string, all []difference) []string {
	byLines := map[string][]string{}
	var order []string
	for _, d := range all {
		if len(d.lines) == 0 {
			continue
		}
		key := strings.Join(d.lines, "\n")
		if _, ok := byLines[key]; !ok {
			order = append(order, key)
		}
		byLines[key] = append(byLines[key], d.name)
	}
	var out []string
	for i, key := range order {
		if i == maxGroups {
			out = append(out, fmt.Sprintf("… and %d more kinds of change", len(order)-i))
			break
		}
		out = append(out, counted(byLines[key], what)+":")
		for line := range strings.SplitSeq(key, "\n") {
			out = append(out, "  "+line)
		}
	}
	return out
}

// counted names things and says how many they are: 96 nodes r[07-08]n[01-48].
func counted(names []string, what string) string {
	if len(names) == 1 {
		return what + " " + names[0]
	}
	return fmt.Sprintf("%d %ss %s", len(names), what, nodeset.Fold(names))
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

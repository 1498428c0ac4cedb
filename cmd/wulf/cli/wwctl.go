package cli

import "slices"

// otherNames are the names that wwctl has for a verb. Fingers remember them; the manual lists them, help does not. Those of a noun
// alone come with the noun's name.
func otherNames(noun, verb string) []string {
	switch noun + " " + verb {
	case "image import":
		return []string{"pull"}
	case "image shell":
		return []string{"chroot"}
	case "image kernels":
		return []string{"kernel"}
	case "overlay show":
		return []string{"cat"}
	case "overlay import":
		return []string{"cp"}
	case "overlay info":
		return []string{"variables", "vars"}
	}
	switch verb {
	case "list":
		return []string{"ls"}
	case "add", "create":
		return []string{"new", "create", "add"}
	case "set":
		return []string{"modify"}
	case "delete", "remove":
		return []string{"delete", "rm", "remove", "del"}
	case "copy":
		return []string{"cp"}
	case "rename":
		return []string{"mv"}
	}
	return nil
}

// nounNamesOfOld are what wwctl calls a noun.
func nounNamesOfOld(noun string) []string {
	if noun == "image" {
		return []string{"container", "vnfs"}
	}
	return nil
}

// withOtherNames gives the verbs of a noun their other names, unless another verb has one.
func withOtherNames(noun string, verbs []verb) []verb {
	taken := map[string]bool{}
	for _, v := range verbs {
		taken[v.name] = true
		for _, a := range v.aliases {
			taken[a] = true
		}
	}
	out := slices.Clone(verbs)
	for i, v := range out {
		for _, name := range otherNames(noun, v.name) {
			if !taken[name] {
				taken[name] = true
				out[i].aliases = append(slices.Clone(out[i].aliases), name)
			}
		}
	}
	return out
}

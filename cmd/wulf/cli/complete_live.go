package cli

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// namesOf lists what a value of a kind may be, as the arguments of commands are called, where word is being typed.
// Of nodes and groups, of which there may be very many, the controller sends only those that begin so.
func namesOf(cl *client, kind, word string) []string {
	switch kind {
	case "NODE":
		return nodeNames(cl, word)
	case "NODESET":
		return setTerms(cl, word)
	case "PROFILE":
		return listNames(cl, api.PathProfiles, func(v catalog.Profile) string { return string(v.Name) })
	case "NETWORK":
		return listNames(cl, api.PathNetworks, func(v catalog.Network) string { return string(v.Name) })
	case "IMAGE":
		return listNames(cl, api.PathImages, imageName)
	case "OVERLAY":
		return listNames(cl, api.PathOverlays, func(v catalog.Overlay) string { return string(v.Name) })
	case "SITEFILE":
		return listNames(cl, api.PathSiteFiles, func(v catalog.SiteFile) string { return v.Path })
	case "RELAY":
		return listNames(cl, api.PathRelays, relayName)
	case "HARDWARE":
		return listNames(cl, api.PathDiscover, foundName)
	case "RULE":
		return listNames(cl, api.PathRules, ruleName)
	case "SESSION":
		return append(listNames(cl, api.PathBootSessions, sessionNumber), lastSession)
	case "GROUP":
		return groupNames(cl, "group", word)
	case "CONTROLLER":
		return listNames(cl, api.PathControllers, func(v api.ControllerView) string { return string(v.Name) })
	}
	if source, ok := strings.CutPrefix(kind, "GROUP:"); ok {
		return groupNames(cl, source, word)
	}
	return nil
}

func listNames[T any](cl *client, path string, name func(T) string) []string {
	list, err := fetch[T](cl, path)
	if err != nil {
		return nil
	}
	names := make([]string, len(list.Items))
	for i, item := range list.Items {
		names[i] = name(item)
	}
	return names
}

// glance gets JSON with parameters; what the controller knows now is good enough for somebody who types.
func (c *client) glance(path string, out any, query url.Values) error {
	query.Set("consistency", "stale")
	return c.Get(c.ctx, path+"?"+query.Encode(), out)
}

// overlayPaths are the files of an overlay.
func overlayPaths(cl *client, name string) []string {
	cl.stale = "?consistency=stale"
	b, err := cl.bundle(name)
	if err != nil {
		return nil
	}
	paths := make([]string, len(b.Files))
	for i := range b.Files {
		paths[i] = b.Files[i].Path
		if b.Files[i].Template {
			paths[i] += overlay.TemplateSuffix
		}
	}
	return paths
}

// nodeNames are the first nodes whose names begin with a word.
func nodeNames(cl *client, word string) []string {
	query := url.Values{"columns": {"name"}, "limit": {fmt.Sprint(maxCandidates)}}
	if word != "" {
		if !nodeset.IsName(word) {
			return nil
		}
		query.Set("nodes", "~^"+regexp.QuoteMeta(word))
	}
	var t api.NodeTable
	if cl.glance(api.PathNodes, &t, query) != nil {
		return nil
	}
	names := make([]string, 0, len(t.Rows))
	for _, row := range t.Rows {
		if len(row) == 1 {
			names = append(names, row[0])
		}
	}
	return names
}

// setTerms are node sets that go on as a word does: its last term is completed, and what is before it stays.
func setTerms(cl *client, word string) []string {
	head, term := lastTerm(word)
	var terms []string
	switch group, isGroup := strings.CutPrefix(term, "@"); {
	case !isGroup:
		terms = nodeNames(cl, term)
	case strings.Contains(group, ":"):
		source, name, _ := strings.Cut(group, ":")
		for _, g := range groupNames(cl, source, name) {
			terms = append(terms, "@"+source+":"+g)
		}
	default:
		terms = groupTerms(cl, group)
	}
	for i := range terms {
		terms[i] = head + terms[i]
	}
	return terms
}

// groupSources are the sources of groups in node sets; a test holds the controllers to that.
func groupSources() []string {
	return []string{"boot", "cluster", "drift", "group", "image", "network", "profile", "rack", "relay", "role", "state", "tag", "zone"}
}

// groupTerms are what may follow an @: a source of groups, or the name of a group or a profile.
func groupTerms(cl *client, word string) []string {
	var terms []string
	for _, source := range groupSources() {
		terms = append(terms, "@"+source+":")
	}
	for _, source := range []string{"group", "profile"} {
		for _, name := range groupNames(cl, source, word) {
			terms = append(terms, "@"+name)
		}
	}
	return terms
}

// groupNames are the groups of a source that begin with a word.
func groupNames(cl *client, source, word string) []string {
	var list api.List[api.GroupView]
	query := url.Values{"prefix": {word}, "limit": {fmt.Sprint(maxCandidates)}}
	if !slices.Contains(groupSources(), source) || cl.glance(pathOf(api.PathGroups, source), &list, query) != nil {
		return nil
	}
	names := make([]string, len(list.Items))
	for i, g := range list.Items {
		names[i] = g.Name
	}
	return names
}

// lastTerm splits a node set in front of the term that is being typed. Separators in brackets do not count.
func lastTerm(word string) (head, term string) {
	at, depth := 0, 0
	for i := range len(word) {
		switch b := word[i]; {
		case b == '[':
			depth++
		case b == ']' && depth > 0:
			depth--
		case depth == 0 && strings.IndexByte(",!&^ \t\n", b) >= 0:
			at = i + 1
		}
	}
	return word[:at], word[at:]
}

// decidedPaths are the paths of settings that can be taken back from a node or a profile: those that it decides, or
// where none is named, all that there are.
func decidedPaths(cl *client, noun string, args []string) []string {
	if cl != nil && len(args) == 1 {
		switch noun {
		case "node":
			var v api.NodeView
			if nodeset.IsName(args[0]) && cl.get(nodePath(args[0]), &v) == nil {
				return v.Settings.Decided()
			}
		case "profile":
			list, err := fetch[catalog.Profile](cl, api.PathProfiles)
			i := slices.IndexFunc(list.Items, func(p catalog.Profile) bool { return string(p.Name) == args[0] })
			if err == nil && i >= 0 {
				return list.Items[i].Settings.Decided()
			}
		}
	}
	var paths []string
	for _, path := range catalog.Paths() {
		path = strings.Replace(path, "nets.NAME.", "nets."+catalog.DefaultNet+".", 1)
		if before, _, named := strings.Cut(path, "NAME"); named {
			path = before // to be gone on with
		}
		paths = append(paths, path)
	}
	return slices.Compact(paths)
}

// listColumns are the columns of each list, as --columns takes them; a test holds the lists to that.
func listColumns(noun string) []string {
	switch noun {
	case "node":
		return api.NodeColumns()
	case "profile":
		return []string{"name", "profiles", "image", "decides", "comment"}
	case "network":
		return []string{"name", "cidr", "cidr6", "gateway", "vlan", "dns", "ntp", "domain", "mtu", "pool", "dhcp", "probe", "relays", "secrets", "warewulf", "comment"}
	case "image":
		return []string{"name", "latest", "kernel", "arch", "size", "unpacked", "versions", "created", "tags", "source"}
	case "overlay":
		return []string{"name", "files", "from", "size", "changed", "by"}
	case "file":
		return []string{"path", "target", "size", "mode", "changed", "by", "content"}
	case "boot":
		return []string{"session", "state", "started", "took", "nodes", "up", "failed", "silent", "booting", "again", "p50", "p95", "max", "bytes", "image"}
	case "relay":
		return []string{"name", "rack", "zone", "networks", "addresses", "state", "seen", "revision", "chunks", "cache", "budget", "rate", "zonerate", "follows", "fetched", "served", "corrupt", "slots", "waiting", "sent", "version", "problems"}
	case "controller":
		return []string{"name", "address", "role", "state", "joined"}
	case "context":
		return []string{"name", "current", "endpoints", "credentials", "confirm-above", "output"}
	}
	return nil
}

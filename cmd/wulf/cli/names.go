package cli

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// maxSetFile bounds a file of node sets, and what is read from standard input.
const maxSetFile = 16 << 20

// excludeFlag takes names out of a node set.
func excludeFlag() cli.Flag { return text("exclude", "without the nodes of `NODESET`", "x") }

// chosenNodes are the nodes that a command line names, as the controllers know them. A name that no node has is an
// error, never left out silently: whoever mistypes a node must not learn it from the node that stays as it was. With
// no words it is all nodes if orAll, for commands that only look.
func (p *program) chosenNodes(c *cli.Context, cl *client, orAll bool) (api.List[api.NodeView], error) {
	words := c.Args().Slice()
	// One plain name is the usual case, and costs one node instead of the list of all.
	if len(words) == 1 && nodeset.IsName(words[0]) && c.String("exclude") == "" && !orAll {
		var v api.NodeView
		if err := cl.get(nodePath(words[0]), &v); err != nil {
			return api.List[api.NodeView]{}, err
		}
		return api.List[api.NodeView]{Items: []api.NodeView{v}}, nil
	}
	list, err := fetch[api.NodeView](cl, api.PathNodes)
	if err != nil {
		return list, err
	}
	g := groups{nodes: list.Items}
	var chosen nodeset.Set
	if len(words) == 0 && orAll {
		chosen, err = nodeset.Of(g.all()...)
	} else {
		chosen, err = g.parser(p.in).Parse(strings.Join(words, " "))
	}
	if err != nil {
		return list, err
	}
	if x := c.String("exclude"); x != "" {
		without, err := g.parser(p.in).Parse(x)
		if err != nil {
			return list, err
		}
		chosen = chosen.Minus(without)
	}
	byName := make(map[string]api.NodeView, len(list.Items))
	for _, v := range list.Items {
		byName[string(v.Name)] = v
	}
	list.Items = make([]api.NodeView, 0, chosen.Len())
	for name := range chosen.All() {
		v, ok := byName[name]
		if !ok {
			return list, unknownNode(name, g.all())
		}
		list.Items = append(list.Items, v)
	}
	if len(list.Items) == 0 && len(words) > 0 {
		return list, fault.New(fault.NotFound, "no node is in %s", strings.Join(words, " "))
	}
	return list, nil
}

// newNames are names for nodes that do not exist yet: groups and expressions say nothing about them.
func newNames(words []string) ([]string, error) {
	set, err := nodeset.Parse(strings.Join(words, " "))
	if err != nil {
		return nil, err
	}
	return set.Names(), nil
}

func unknownNode(name string, known []string) error {
	err := fault.New(fault.NotFound, "no node is called %q", name)
	if best := closest(name, known); best != "" {
		return err.WithFix("did you mean %q?", best)
	}
	return err.WithFix("see all with: wulf node list")
}

// groups are the nodes that share something: every attribute of a node is a source of groups.
type groups struct{ nodes []api.NodeView }

func (g groups) parser(stdin io.Reader) nodeset.Parser {
	return nodeset.Parser{Groups: g, Match: g.match, Read: func(file string) (string, error) { return readSets(stdin, file) }}
}

func (g groups) all() []string {
	names := make([]string, len(g.nodes))
	for i, v := range g.nodes {
		names[i] = string(v.Name)
	}
	return names
}

// sources say for each source of groups in which of its groups a node is. The source without a name is the profiles.
func sources() map[string]func(api.NodeView) []string {
	return map[string]func(api.NodeView) []string{
		"profile": func(v api.NodeView) []string {
			var all []string
			for _, name := range v.Profiles {
				all = append(all, string(name))
			}
			return all
		},
		"image": func(v api.NodeView) []string {
			image := deref(effective(v).Image)
			name, _ := catalog.SplitImage(image)
			return []string{string(name), image}
		},
		"rack":  func(v api.NodeView) []string { return []string{deref(effective(v).Rack)} },
		"zone":  func(v api.NodeView) []string { return []string{deref(effective(v).Zone)} },
		"state": func(v api.NodeView) []string { return []string{nodeState(v)} },
		"relay": func(v api.NodeView) []string {
			if v.Boot == nil {
				return nil
			}
			return []string{string(v.Boot.Relay)}
		},
		"tag": func(v api.NodeView) []string {
			var all []string
			for k, value := range effective(v).Tags {
				all = append(all, k, k+"="+value)
			}
			return all
		},
	}
}

// Group returns the nodes in a group, as nodeset.Groups.
func (g groups) Group(source, name string) ([]string, error) {
	if source == "" && name == "*" {
		return g.all(), nil
	}
	all := sources()
	of, ok := all[source]
	if source == "" {
		source, of, ok = "profile", all["profile"], true
	}
	if !ok {
		return nil, fault.New(fault.NotFound, "there are no groups by %q", source).
			WithFix("there are groups by %s", strings.Join(sortedKeys(all), ", "))
	}
	var in []string
	seen := make(map[string]bool)
	for _, v := range g.nodes {
		for _, group := range of(v) {
			seen[group] = true
			if group == name || name == "*" && group != "" {
				in = append(in, string(v.Name))
				break
			}
		}
	}
	if len(in) == 0 && name != "*" && (source != "state" || !isState(name)) {
		err := fault.New(fault.NotFound, "no node has the %s %q", source, name)
		if best := closest(name, sortedKeys(seen)); best != "" {
			return nil, err.WithFix("did you mean @%s:%s?", source, best)
		}
		return nil, err
	}
	return in, nil
}

func (g groups) match(re *regexp.Regexp) ([]string, error) {
	return slices.DeleteFunc(g.all(), func(n string) bool { return !re.MatchString(n) }), nil
}

// readSets reads a file of node sets; "-" is standard input.
func readSets(stdin io.Reader, file string) (string, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fault.Wrap(fault.NotFound, err, "reading node sets")
		}
		defer f.Close()
		stdin = f
	}
	b, err := io.ReadAll(io.LimitReader(stdin, maxSetFile+1))
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "reading node sets")
	}
	if len(b) > maxSetFile {
		return "", fault.New(fault.Invalid, "the node sets have more than %d bytes", maxSetFile)
	}
	return string(b), nil
}

func effective(v api.NodeView) catalog.Settings {
	if v.Effective == nil {
		return v.Settings
	}
	return *v.Effective
}

// silence is how long a node that is up may say nothing before it is not counted as up.
const silence = 3 * time.Minute

// The states of a node besides the stages of a boot.
const (
	stateNever  = "never" // seen by nobody yet
	stateSilent = "silent"
)

// nodeState is a node's state in one word: the stage that its last boot reached, or failed, never or silent.
func nodeState(v api.NodeView) string {
	switch {
	case v.Boot == nil:
		return stateNever
	case v.Boot.Stage == boot.StageUp && !v.Boot.Seen.IsZero() && time.Since(v.Boot.Seen) > silence:
		return stateSilent
	}
	return string(v.Boot.Stage)
}

func isState(s string) bool {
	return s == stateNever || s == stateSilent || boot.Stage(s) == boot.StageFailed || boot.Stage(s).Index() >= 0
}

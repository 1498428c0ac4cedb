package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

// shippedNames are the overlays that every cluster has.
func shippedNames() ([]string, error) {
	shipped, err := overlay.Shipped()
	names := make([]string, len(shipped))
	for i, o := range shipped {
		names[i] = o.Name
	}
	return names, err
}

// known are the overlays that are here, or will be when the site's are imported.
func known(inv inventory, here []string) []string {
	return slices.Concat(here, slices.Collect(maps.Keys(inv.site)))
}

func (p *program) migrateImport(c *cli.Context) error {
	if c.Bool("plan") && c.Bool("apply") {
		return fault.New(fault.Invalid, "--plan and --apply exclude one another")
	}
	accepted, err := hazardNames(c, "accept")
	if err != nil {
		return err
	}
	l, err := p.readLegacy(c)
	if err != nil {
		return err
	}
	inv, err := l.inventory(c)
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	m, err := p.migration(c, cl, l, inv)
	if err != nil {
		return err
	}
	if !c.Bool("apply") || c.Bool("dry-run") {
		now, err := cl.everything()
		if err != nil {
			return err
		}
		return m.tell(p, m.declared(now), given(c, "nodes-conf", "warewulf-conf", "overlays", "distribution-overlays", "chroots", "server-root"))
	}
	if err := m.refused(accepted); err != nil {
		return err
	}
	if err := m.files.put(p, c, cl); err != nil { // before anything includes them
		return err
	}
	for _, name := range m.overlays {
		b, err := readBundle(inv.site[name], true)
		if err != nil {
			return fault.Wrap(fault.KindOf(err), err, "overlay %s", name)
		}
		p.say("overlay %s", name)
		if err := p.putBundle(c, cl, name, b, put{}); err != nil {
			return err
		}
	}
	for _, name := range m.images {
		p.say("image %s from %s", name, inv.images[name])
		if err := p.importImage(c, cl, catalog.ImageName(name), inv.images[name], nil); err != nil {
			return err
		}
		cl.again(c)
	}
	now, err := cl.everything()
	if err != nil {
		return err
	}
	change, err := reconcile(now, m.declared(now), false)
	if err != nil {
		return err
	}
	if err := p.performIfAny(c, cl, change, mutation{seen: now.revision}); err != nil {
		return err
	}
	m.adviseRule(p)
	return nil
}

// adviseRule tells what stands in the place of Warewulf's discoverable nodes, which would be whichever machine asks first,
// for ever. That is not brought over unasked.
func (m *migration) adviseRule(p *program) {
	var open []catalog.NodeName
	for _, n := range m.converted.Nodes {
		taken := false
		for _, d := range n.Settings.Nets {
			taken = taken || d.Hardware != nil
		}
		if n.Settings.Discover != nil && *n.Settings.Discover && !taken {
			open = append(open, n.Name)
		}
	}
	if len(open) > 0 {
		p.say("%s discoverable, and without a machine; for the next machines that ask to become these: wulf discover rule add discoverable --nodes '%s'",
			are(len(open), "node"), catalog.NodeSetOf(open...))
	}
}

func are(n int, what string) string {
	if n == 1 {
		return plural(n, what) + " is"
	}
	return plural(n, what) + " are"
}

// migration is what an import would do.
type migration struct {
	converted *warewulf.Converted
	hazards   []warewulf.Hazard
	overlays  []string // of the site, to import
	images    []string // to import
	missing   []string // images that are neither here nor there
	files     *serverFiles
	kept      []string // site files that are here, and are others than the server's
}

func (p *program) migration(c *cli.Context, cl *client, l *legacy, inv inventory) (*migration, error) {
	overlays, err := fetch[catalog.Overlay](cl, api.PathOverlays)
	if err != nil {
		return nil, err
	}
	images, err := fetch[catalog.Image](cl, api.PathImages)
	if err != nil {
		return nil, err
	}
	var here []string
	for _, o := range overlays.Items {
		here = append(here, string(o.Name))
	}
	m := &migration{converted: warewulf.Convert(l.nodes, l.config, known(inv, here), overlay.DefaultSystem())}
	if m.files, err = l.serverFiles(c, inv, m.converted.Overlays); err != nil {
		return nil, err
	}
	m.hazards = slices.Concat(l.check(inv), m.converted.Hazards, m.files.hazards)
	files, err := fetch[catalog.SiteFile](cl, api.PathSiteFiles)
	if err != nil {
		return nil, err
	}
	m.kept = m.files.without(files.Items)
	for _, name := range m.converted.Overlays {
		// A site's copy of an overlay that wulfmesh ships under the same name goes on as it is, in its place.
		untouched := func(o catalog.Overlay) bool { return string(o.Name) == name && o.Content.ID.IsZero() }
		if !slices.Contains(here, name) || inv.site[name] != "" && slices.ContainsFunc(overlays.Items, untouched) {
			m.overlays = append(m.overlays, name)
		}
	}
	for _, name := range m.converted.Images {
		ref, _ := catalog.SplitImage(name)
		switch {
		case slices.ContainsFunc(images.Items, func(i catalog.Image) bool { return i.Name == ref }):
		case inv.images[name] != "" && !c.Bool("no-images"):
			m.images = append(m.images, name)
		default:
			m.missing = append(m.missing, name)
		}
	}
	return m, nil
}

// given are flags as they were given, to be typed again.
func given(c *cli.Context, flags ...string) string {
	out := ""
	for _, f := range flags {
		if c.IsSet(f) {
			out += " --" + f + " " + c.String(f)
		}
	}
	return out
}

// tell prints what would be done to come to what is to be declared.
func (m *migration) tell(p *program, want *declared, flags string) error {
	if len(m.hazards) > 0 {
		t := table{rows: [][]string{{"SEVERITY", "HAZARD", "COUNT", "FOR EXAMPLE"}}, colour: p.colour()}
		for _, s := range slices.Backward(severities) {
			for _, id := range hazardIDs(m.hazards, s) {
				of := slices.DeleteFunc(slices.Clone(m.hazards), func(h warewulf.Hazard) bool { return h.ID != id || h.Severity != s })
				t.rows = append(t.rows, []string{string(s), string(id), thousands(len(of)), plain(of[0].Subject + ": " + of[0].What)})
			}
		}
		if err := t.write(p.out); err != nil {
			return err
		}
	}
	for _, line := range []struct {
		what  string
		names []string
	}{{"put site file", m.files.paths()}, {"keep the other site file", m.kept}, {"import overlay", m.overlays}, {"import image", m.images}, {"missing image", m.missing}} {
		for _, name := range line.names {
			fmt.Fprintf(p.out, "%s %s\n", line.what, name)
		}
	}
	for _, name := range sortedKeys(want.Networks) {
		fmt.Fprintf(p.out, "declare network %s %s\n", name, want.Networks[name].Prefix)
	}
	for _, name := range sortedKeys(want.Profiles) {
		fmt.Fprintf(p.out, "declare profile %s\n", name)
	}
	if nodes := sortedKeys(want.Nodes); len(nodes) > 0 {
		fmt.Fprintf(p.out, "declare %s\n", cut(counted(nodes, "node"), 200))
	}
	if len(m.missing) > 0 {
		p.say("nothing was changed; import the missing images first: wulf image import NAME DIRECTORY")
		return nil
	}
	m.adviseRule(p)
	p.say("nothing was changed; all hazards: wulf migrate scan%s; to do it: wulf migrate import --apply%s", flags, flags)
	return nil
}

func hazardIDs(all []warewulf.Hazard, s warewulf.Severity) []warewulf.HazardID {
	var ids []warewulf.HazardID
	for _, h := range all {
		if h.Severity == s && !slices.Contains(ids, h.ID) {
			ids = append(ids, h.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// refused is an error if something is in the way that nobody accepted.
func (m *migration) refused(accepted []string) error {
	if len(m.missing) > 0 {
		return fault.New(fault.NotFound, "these images are neither here nor among Warewulf's: %s", strings.Join(m.missing, ", ")).
			WithFix("import them first: wulf image import NAME DIRECTORY; or say where they are: --chroots DIRECTORY")
	}
	ids := slices.DeleteFunc(hazardIDs(m.hazards, warewulf.Error), func(id warewulf.HazardID) bool { return slices.Contains(accepted, string(id)) })
	if len(ids) == 0 {
		return nil
	}
	also := ""
	if len(ids) > 1 {
		also = fmt.Sprintf(" (also in the way: %s)", words(ids[1:]))
	}
	h := m.hazards[slices.IndexFunc(m.hazards, func(h warewulf.Hazard) bool { return h.ID == ids[0] && h.Severity == warewulf.Error })]
	return fault.New(fault.Invalid, "hazard %s: %s: %s%s", h.ID, h.Subject, h.What, also).WithFix("%s; or go on in spite of it: --accept %s", h.Fix, h.ID)
}

// declared is what is to be here, in the form that files declare it in. A network that is here already, whatever it is
// called, stays as it is.
func (m *migration) declared(now present) *declared {
	d := &declared{Networks: map[string]networkDoc{}, Profiles: map[string]nodeDoc{}, Nodes: map[string]nodeDoc{}}
	for _, n := range m.converted.Networks {
		taken := false
		for _, have := range now.networks {
			taken = taken || have.Prefix.Overlaps(n.Prefix)
		}
		if !taken {
			d.Networks[string(n.Name)] = networkDoc{n}
		}
	}
	for _, v := range m.converted.Profiles {
		if old, ok := now.profiles[string(v.Name)]; ok && v.Name == catalog.DefaultProfile { // it has what every node needs here
			s := old.Settings
			if err := s.Patch(v.Settings, nil); err == nil {
				v.Settings = s
			}
		}
		d.Profiles[string(v.Name)] = nodeDoc{Profiles: &v.Profiles, Settings: v.Settings}
	}
	for _, v := range m.converted.Nodes {
		d.Nodes[string(v.Name)] = nodeDoc{Profiles: &v.Profiles, Settings: v.Settings}
	}
	return d
}

// exportNodesConf prints what is declared as Warewulf 4.7 reads it.
func (p *program) exportNodesConf(now present) error {
	profiles := slices.SortedFunc(maps.Values(now.profiles), func(a, b catalog.Profile) int { return strings.Compare(string(a.Name), string(b.Name)) })
	nodes := slices.SortedFunc(maps.Values(now.nodes), func(a, b catalog.Node) int { return strings.Compare(string(a.Name), string(b.Name)) })
	back := warewulf.Back(now.networkOf, profiles, nodes)
	b, err := warewulf.Encode(back)
	if err != nil {
		return err
	}
	if _, err := p.out.Write(b); err != nil {
		return err
	}
	for _, id := range hazardIDs(back.Hazards, warewulf.Warning) {
		i := slices.IndexFunc(back.Hazards, func(h warewulf.Hazard) bool { return h.ID == id })
		p.say("%s: %s: %s", id, back.Hazards[i].Subject, back.Hazards[i].What)
	}
	return nil
}

package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/render"
)

// trace is where a file of a node comes from.
type trace struct {
	Node     catalog.NodeName `json:"node"`
	Path     string           `json:"path"`
	Type     overlay.Type     `json:"type"`
	Mode     string           `json:"mode,omitempty"`
	UID      int              `json:"uid"`
	GID      int              `json:"gid"`
	Target   string           `json:"target,omitempty"`
	Size     int64            `json:"size"`
	Digest   chunk.ID         `json:"digest,omitzero"`
	Overlay  string           `json:"overlay"`
	From     string           `json:"from"`  // whose file of the overlay it is: wulfmesh or site
	Lists    []string         `json:"lists"` // of the node that have the overlay
	By       string           `json:"by"`    // who put the overlay into them
	Template string           `json:"template,omitempty"`
	Hides    []tracedOver     `json:"hides,omitempty"`
	Reads    []tracedInput    `json:"reads,omitempty"`
}

// tracedOver is a file in whose place another came.
type tracedOver struct {
	Overlay  string `json:"overlay"`
	Template string `json:"template,omitempty"`
}

// tracedInput is something that a template read.
type tracedInput struct {
	Input string `json:"input"`
	Value string `json:"value,omitempty"`
	By    string `json:"by,omitempty"`
}

func overlayTrace(run func(*cli.Context) error) verb {
	return verb{
		name: "trace", usage: "say where a file of a node comes from: overlay, template, and the settings that it read", args: "FILE", least: 1, most: 1,
		examples: []string{"wulf overlay trace /etc/hosts --node n1"},
		flags:    showFlags(text("node", "of `NODE`")), run: run,
	}
}

func (p *program) overlayTrace(c *cli.Context) error {
	name := c.String("node")
	if name == "" {
		return fault.New(fault.Invalid, "it is not said of which node").WithFix("say --node NODE")
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	now, err := cl.catalog()
	if err != nil {
		return err
	}
	r, err := now.Resolve(catalog.NodeName(name))
	if err != nil {
		return err
	}
	k := newChecker(now, render.New(clientChunks{cl}, 0))
	made, failed, err := k.render(cl.ctx, r)
	if err != nil {
		return err
	}
	for _, err := range failed {
		p.say("warning: %s; until that is mended, the node gets nothing", plain(err.Error()))
	}
	at := overlayPath(c.Args().First())
	f := fileAt(made, at)
	if f == nil {
		return notMade(name, at, made)
	}
	t := &trace{
		Node: r.Node.Name, Path: f.Path, Type: f.Type, UID: f.UID, GID: f.GID, Target: f.Target, Size: int64(len(f.Content)), Overlay: f.Overlay, Template: f.Template,
	}
	if f.Type != overlay.TypeLink {
		t.Mode = fmt.Sprintf("%04o", f.Mode)
	}
	if f.Type == overlay.TypeFile {
		t.Digest = f.ContentID()
	}
	if err := t.origin(cl, now, r); err != nil {
		return err
	}
	for _, h := range made.Hidden {
		if h.Path == f.Path && h.Overlay != f.Overlay {
			t.Hides = append(t.Hides, tracedOver{h.Overlay, h.Template})
		}
	}
	if t.Reads, err = tracedInputs(now, r, f.Inputs); err != nil {
		return err
	}
	return p.show(c, t, func(r *report) { r.trace(t) })
}

// notMade says that no overlay has a file.
func notMade(node, path string, made *overlay.Result) error {
	known := make([]string, len(made.Files))
	for i := range made.Files {
		known[i] = made.Files[i].Path
	}
	err := fault.New(fault.NotFound, "no overlay of node %s makes /%s", node, path)
	if best := closest(path, known); best != "" {
		return err.WithFix("did you mean /%s?", best)
	}
	return err.WithFix("if the node has it, its image or something on the node made it")
}

// origin says whose the file of the overlay is, and who gave the node the overlay.
func (t *trace) origin(cl *client, c *catalog.Catalog, r *catalog.Resolved) error {
	_, own, err := cl.layers(t.Overlay)
	if err != nil {
		return err
	}
	in := strings.TrimSuffix(t.Template, overlay.TemplateSuffix)
	if in == "" {
		in = t.Path
	}
	t.From = "wulfmesh"
	if _, mine := own.File(in); mine {
		t.From = "site"
	}
	_, blame, err := c.Explain(r.Node.Name)
	if err != nil {
		return err
	}
	var by []string
	for _, l := range overlayLists() {
		if slices.Contains(*l.of(&r.Settings), t.Overlay) {
			t.Lists, by = append(t.Lists, l.path), append(by, blame[l.path])
		}
	}
	t.By = strings.Join(slices.Compact(by), "; ")
	return nil
}

// tracedInputs says what a template read, with its value and who decided it.
func tracedInputs(c *catalog.Catalog, r *catalog.Resolved, inputs []overlay.Input) ([]tracedInput, error) {
	_, blame, err := c.Explain(r.Node.Name)
	if err != nil {
		return nil, err
	}
	values := r.Settings.Flat()
	var out []tracedInput
	for _, in := range inputs {
		switch in.Scope {
		case overlay.ScopeNode:
			out = append(out, tracedSettings(r, in, values, blame)...)
		case overlay.ScopeAll:
			out = append(out, tracedInput{in.String(), fmt.Sprintf("of %s", plural(c.NodeCount(), "node")), ""})
		case overlay.ScopeSite:
			v := tracedInput{"site file " + in.Name, "there is none", ""}
			if f, ok := c.SiteFile(in.Name); ok {
				v.Value, v.By = size(f.Content.Size), f.By
			}
			out = append(out, v)
		case overlay.ScopeSecret:
			out = append(out, tracedInput{"a secret", catalog.Hidden, ""})
		default:
			out = append(out, tracedInput{in.String(), "", ""})
		}
	}
	return out, nil
}

// tracedSettings are the settings of which a field of a node in templates is made.
func tracedSettings(r *catalog.Resolved, in overlay.Input, values map[string]string, blame catalog.Blame) []tracedInput {
	path, ok := settingOf[in.Name]
	if !ok {
		return []tracedInput{fromElsewhere(r, in)}
	}
	if in.Key != "" {
		path += "." + in.Key
	}
	var out []tracedInput
	for _, at := range sortedKeys(values) {
		if at == path || strings.HasPrefix(at, path+".") {
			out = append(out, tracedInput{at, values[at], blame[at]})
		}
	}
	if len(out) == 0 {
		out = append(out, tracedInput{path, "-", "nobody"})
	}
	return out
}

// settingOf are the settings of which the fields of overlay.Node are made.
var settingOf = map[string]string{
	"Discoverable": "discoverable", "AssetKey": "asset", "Comment": "comment", "ClusterName": "cluster", "ImageName": "image", "Ipxe": "ipxe",
	"RuntimeOverlay": "overlays.runtime", "SystemOverlay": "overlays.system", "Kernel": "kernel", "Ipmi": "bmc", "Init": "init", "Root": "root",
	"NetDevs": "nets", "PrimaryNetDev": "primary", "Tags": "tags", "Disks": "disks", "FileSystems": "filesystems", "Resources": "resources",
	"Groups": "groups", "Roles": "roles", "Rack": "rack", "Position": "position", "Zone": "zone", "UUID": "uuid", "SshKeys": "ssh_keys",
}

// fromElsewhere is a field that is no setting: the node's name, its profiles, or what its network decides.
func fromElsewhere(r *catalog.Resolved, in overlay.Input) tracedInput {
	v := tracedInput{Input: in.String()}
	if in.Name == "Name" || in.Name == "Fqdn" {
		v.Value = string(r.Node.Name)
	}
	switch in.Name {
	case "Name":
		v.By = "the node itself"
	case "Profiles":
		v.Value, v.By = words(r.Node.Profiles), "node "+string(r.Node.Name)
	case "Fqdn", "Domain", "Dns", "Ntp":
		if r.Primary == nil || r.Primary.Network == nil {
			break
		}
		n := r.Primary.Network
		v.By = "network " + string(n.Name)
		switch in.Name {
		case "Domain":
			v.Value = n.Domain
		case "Dns":
			v.Value = fmt.Sprint(n.DNS)
		case "Ntp":
			v.Value = fmt.Sprint(n.NTP)
		}
	}
	return v
}

func (r *report) trace(t *trace) {
	what := string(t.Type)
	if t.Target != "" {
		what += " -> " + t.Target
	}
	rows := [][]string{
		{"file", "/" + t.Path}, {"is", strings.TrimSpace(fmt.Sprintf("%s %s %d:%d %s", what, t.Mode, t.UID, t.GID, size(t.Size)))},
		{"overlay", fmt.Sprintf("%s (%s), in %s by %s", t.Overlay, t.From, strings.Join(t.Lists, " and "), t.By)},
	}
	if t.Template != "" {
		rows = append(rows, []string{"template", t.Template})
	}
	for _, h := range t.Hides {
		row := []string{"hides", "that of overlay " + h.Overlay}
		if h.Template != "" {
			row[1] += ", template " + h.Template
		}
		rows = append(rows, row)
	}
	r.rows(rows)
	if len(t.Reads) == 0 {
		return
	}
	reads := [][]string{{"READS", "VALUE", "DECIDED BY"}}
	for _, in := range t.Reads {
		reads = append(reads, []string{in.Input, or(in.Value), or(in.By)})
	}
	r.line("")
	r.rows(reads)
}

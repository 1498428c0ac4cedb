package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// imageGC deletes versions that nothing names, and then the chunks that nothing needs.
func (p *program) imageGC(c *cli.Context) error {
	keep, older, grace := c.Int("keep"), c.Duration("older"), c.Duration("grace")
	if keep < 0 || older < 0 || grace < 0 {
		return fault.New(fault.Invalid, "--keep, --older and --grace count from 0 up")
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	images, err := fetch[catalog.Image](cl, api.PathImages)
	if err != nil {
		return err
	}
	list := images.Items
	if c.NArg() > 0 {
		if list, err = find("image", list, c.Args().Slice(), imageName); err != nil {
			return err
		}
	}
	inUse, err := p.versionsInUse(cl)
	if err != nil {
		return err
	}
	var batch catalog.Batch
	m := mutation{}
	for _, i := range list {
		for _, v := range superfluous(i, inUse, keep, time.Now().Add(-older)) {
			batch.Changes = append(batch.Changes, catalog.Step{Change: catalog.DeleteImage{Name: i.Name, Version: v.Manifest.ID}})
			m.diff = append(m.diff, fmt.Sprintf("delete version %s of image %s, of %s", v.Manifest.ID.Short(), i.Name, ago(v.Created)))
		}
	}
	if n := len(batch.Changes); n > 0 {
		m.change, m.count = batch, n
		if n > 1 {
			m.ask = fmt.Sprintf("Delete %d versions?", n)
		}
		if err := p.perform(c, cl, m); err != nil {
			return err
		}
		cl.again(c)
	}
	return p.collect(c, cl, grace)
}

// versionsInUse are the versions that nodes or profiles name by their ID.
func (p *program) versionsInUse(cl *client) (map[string]bool, error) {
	used := map[string]bool{}
	profiles, err := fetch[catalog.Profile](cl, api.PathProfiles)
	if err != nil {
		return nil, err
	}
	for _, x := range profiles.Items {
		if x.Settings.Image != nil {
			used[*x.Settings.Image] = true
		}
	}
	groups, err := fetch[api.GroupView](cl, pathOf(api.PathGroups, "image"))
	if err != nil {
		return nil, err
	}
	for _, g := range groups.Items {
		used[g.Name] = true
	}
	return used, nil
}

// superfluous are the versions of an image without a tag that nothing names, older than a time, and not among the newest.
func superfluous(i catalog.Image, used map[string]bool, keep int, before time.Time) (out []catalog.ImageVersion) {
	for at, v := range i.Versions {
		id := v.Manifest.ID
		tagged := len(tagsOf(i, id)) > 0
		if tagged || used[string(i.Name)+"@"+id.String()] || used[string(i.Name)+":"+id.String()] || at >= len(i.Versions)-keep || v.Created.After(before) {
			continue
		}
		out = append(out, v)
	}
	return out
}

// collect lets every controller delete the chunks that nothing needs.
func (p *program) collect(c *cli.Context, cl *client, grace time.Duration) error {
	var out api.CollectResult
	q := api.CollectRequest{Grace: int64(grace / time.Second), DryRun: c.Bool("dry-run")}
	if err := cl.ask(func() error { return cl.Query(cl.ctx, api.PathCollect, q, &out) }); err != nil {
		return err
	}
	verb := "deleted"
	if q.DryRun {
		verb = "would delete"
	}
	var failed []error
	for _, x := range out.Controllers {
		if x.Error != nil {
			failed = append(failed, fault.New(x.Error.Kind, "controller %s: %s", x.Controller, x.Error.Detail))
			continue
		}
		fmt.Fprintf(p.out, "controller %s %s %s, %s\n", x.Controller, verb, plural(x.Chunks, "chunk"), size(x.Bytes))
	}
	return errors.Join(failed...)
}

// imageVerify holds what every controller has of a version against its manifest.
func (p *program) imageVerify(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	i, v, err := findRef(cl, c.Args().First())
	if err != nil {
		return err
	}
	var out api.VerifyResult
	q := api.VerifyRequest{Manifest: v.Manifest.ID, Deep: !c.Bool("quick")}
	if err := cl.ask(func() error { return cl.Query(cl.ctx, api.PathVerify, q, &out) }); err != nil {
		return err
	}
	whole := 0
	rows := [][]string{{"CONTROLLER", "CHUNKS", "SIZE", "MISSING", "DAMAGED", "REPAIRED", "STATE"}}
	for _, x := range out.Controllers {
		state := "whole"
		switch {
		case x.Error != nil:
			state = x.Error.Detail
		case x.Missing+x.Damaged > x.Repaired:
			state = "incomplete"
		default:
			whole++
		}
		rows = append(rows, []string{string(x.Controller), fmt.Sprint(x.Chunks), size(x.Bytes), fmt.Sprint(x.Missing), fmt.Sprint(x.Damaged), fmt.Sprint(x.Repaired), state})
	}
	label := string(i.Name) + "@" + v.Manifest.ID.Short()
	if err := p.show(c, out, func(r *report) { r.rows(rows) }); err != nil {
		return err
	}
	switch n := len(out.Controllers); {
	case whole == n:
		return nil
	case whole > n/2:
		return fault.New(fault.Unavailable, "image %s is whole on %d of %d controllers", label, whole, n).WithFix("the others fetch what they lack; see wulf controller status")
	default:
		return fault.New(fault.Corrupt, "image %s is whole on only %d of %d controllers", label, whole, n).WithFix("import it again; what is there is used again")
	}
}

// imageDelete deletes an image, or one version.
func (p *program) imageDelete(c *cli.Context) error {
	ref := c.Args().First()
	name, version := splitVersion(ref)
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	i, err := findImage(cl, name)
	if err != nil {
		return err
	}
	if strings.ContainsAny(ref, ":@") {
		id, err := findVersion(i, version)
		if err != nil {
			return err
		}
		return p.perform(c, cl, mutation{change: catalog.DeleteImage{Name: i.Name, Version: id}, diff: []string{fmt.Sprintf("delete version %s of image %s", id.Short(), i.Name)}})
	}
	m := mutation{change: catalog.DeleteImage{Name: i.Name}, diff: []string{fmt.Sprintf("delete image %s with %s", i.Name, plural(len(i.Versions), "version"))}, count: len(i.Versions)}
	if len(i.Versions) > 1 {
		m.ask = fmt.Sprintf("Delete %d versions?", len(i.Versions))
	}
	return p.perform(c, cl, m)
}

package cli

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) imageTag(c *cli.Context) error {
	tag, err := catalog.ParseName[string]("tag", c.Args().Get(1))
	if err != nil {
		return err
	}
	return p.onImage(c, func(cl *client, i catalog.Image) error {
		id, err := findVersion(i, c.Args().Get(2))
		if err != nil {
			return err
		}
		before := "-"
		if old, ok := i.Tags[tag]; ok {
			before = old.Short()
		}
		return p.perform(c, cl, mutation{
			change: catalog.TagImage{Name: i.Name, Tag: tag, Version: id},
			diff:   []string{fmt.Sprintf("image %s: tag %s  %s → %s", i.Name, tag, before, id.Short())},
		})
	})
}

func (p *program) imageUntag(c *cli.Context) error {
	return p.onImage(c, func(cl *client, i catalog.Image) error {
		tag := c.Args().Get(1)
		return p.perform(c, cl, mutation{change: catalog.UntagImage{Name: i.Name, Tag: tag}, diff: []string{fmt.Sprintf("image %s: tag %s  %s → -", i.Name, tag, i.Tags[tag].Short())}})
	})
}

// imageRollback lets the latest version be the one before it.
func (p *program) imageRollback(c *cli.Context) error {
	return p.onImage(c, func(cl *client, i catalog.Image) error {
		now := newest(i)
		to, err := before(i, now)
		if c.NArg() > 1 {
			to, err = findVersion(i, c.Args().Get(1))
		}
		if err != nil {
			return err
		}
		v, _ := i.Version(to.String())
		return p.perform(c, cl, mutation{
			change: catalog.TagImage{Name: i.Name, Tag: catalog.TagLatest, Version: to},
			diff:   []string{fmt.Sprintf("image %s: latest  %s of %s → %s of %s", i.Name, now.Manifest.ID.Short(), ago(now.Created), to.Short(), ago(v.Created))},
		})
	})
}

// before is the version that another was made from, or that was published before it.
func before(i catalog.Image, v catalog.ImageVersion) (chunk.ID, error) {
	if _, ok := i.Version(v.Parent.String()); ok && !v.Parent.IsZero() {
		return v.Parent, nil
	}
	at := slices.IndexFunc(i.Versions, func(o catalog.ImageVersion) bool { return o.Manifest.ID == v.Manifest.ID })
	if at < 1 {
		return chunk.ID{}, fault.New(fault.NotFound, "image %s has no version before %s", i.Name, v.Manifest.ID.Short()).WithFix("see its versions with: wulf image history %s", i.Name)
	}
	return i.Versions[at-1].Manifest.ID, nil
}

func (p *program) imageCopy(c *cli.Context) error {
	to, err := catalog.ParseName[catalog.ImageName]("image", c.Args().Get(1))
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	i, v, err := findRef(cl, c.Args().First())
	if err != nil {
		return err
	}
	return p.perform(c, cl, mutation{
		change: catalog.CopyImage{Name: i.Name, Version: v.Manifest.ID, To: to},
		diff:   []string{fmt.Sprintf("add image %s: version %s of image %s", to, v.Manifest.ID.Short(), i.Name)},
	})
}

func (p *program) imageRename(c *cli.Context) error {
	to, err := catalog.ParseName[catalog.ImageName]("image", c.Args().Get(1))
	if err != nil {
		return err
	}
	return p.onImage(c, func(cl *client, i catalog.Image) error {
		return p.perform(c, cl, mutation{
			change: catalog.RenameImage{Name: i.Name, To: to}, diff: []string{fmt.Sprintf("rename image %s to %s; who names it follows", i.Name, to)},
		})
	})
}

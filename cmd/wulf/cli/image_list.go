package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func imageName(i catalog.Image) string { return string(i.Name) }

func newest(i catalog.Image) catalog.ImageVersion {
	v, _ := i.Version(catalog.TagLatest)
	return v
}

func (p *program) imageList(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := fetch[catalog.Image](cl, api.PathImages)
	if err != nil {
		return err
	}
	return printList(p, c, listing[catalog.Image]{
		list: list,
		name: imageName,
		columns: []column[catalog.Image]{
			{name: "NAME", cell: imageName},
			{name: "LATEST", cell: func(i catalog.Image) string { return newest(i).Manifest.ID.Short() }},
			{name: "KERNEL", cell: func(i catalog.Image) string { return or(kernelText(newest(i))) }},
			{name: "ARCH", wide: true, cell: func(i catalog.Image) string { return or(newest(i).Arch) }},
			{name: "SIZE", cell: func(i catalog.Image) string { return size(newest(i).Size) }},
			{name: "UNPACKED", wide: true, cell: func(i catalog.Image) string { return size(newest(i).Unpacked) }},
			{name: "VERSIONS", cell: func(i catalog.Image) string { return fmt.Sprint(len(i.Versions)) }},
			{name: "CREATED", cell: func(i catalog.Image) string { return ago(newest(i).Created) }},
			{name: "TAGS", wide: true, cell: func(i catalog.Image) string { return strings.Join(sortedKeys(i.Tags), " ") }},
			{name: "SOURCE", wide: true, cell: func(i catalog.Image) string { return newest(i).Source }},
		},
	})
}

// kernelText is the kernel that a version boots where nothing else is decided: the newest.
func kernelText(v catalog.ImageVersion) string {
	if len(v.Kernels) == 0 {
		return ""
	}
	return v.Kernels[0].Version
}

func (p *program) imageShow(c *cli.Context) error {
	return p.onImage(c, func(_ *client, i catalog.Image) error {
		return p.show(c, i, func(r *report) {
			r.line("image %s", i.Name)
			rows := [][]string{{"VERSION", "TAGS", "KERNELS", "SIZE", "UNPACKED", "CREATED", "BY", "SOURCE"}}
			for _, v := range slices.Backward(i.Versions) {
				rows = append(rows, []string{v.Manifest.ID.Short(), or(strings.Join(tagsOf(i, v.Manifest.ID), ",")), or(strings.Join(kernelVersions(v), ",")),
					size(v.Size), size(v.Unpacked), ago(v.Created), or(v.By), v.Source})
			}
			r.rows(rows)
		})
	})
}

// onImage connects, and does something with the image that the first word names.
func (p *program) onImage(c *cli.Context, do func(*client, catalog.Image) error) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	i, err := findImage(cl, c.Args().First())
	if err != nil {
		return err
	}
	return do(cl, i)
}

func findImage(cl *client, name string) (catalog.Image, error) {
	list, err := fetch[catalog.Image](cl, api.PathImages)
	if err != nil {
		return catalog.Image{}, err
	}
	found, err := find("image", list.Items, []string{name}, imageName)
	if err != nil {
		return catalog.Image{}, err
	}
	return found[0], nil
}

// findVersion finds what an image calls by a tag, by an ID, or by the beginning of one.
func findVersion(i catalog.Image, ref string) (chunk.ID, error) {
	if v, ok := i.Version(ref); ok {
		return v.Manifest.ID, nil
	}
	var found []chunk.ID
	for _, v := range i.Versions {
		if len(ref) >= 4 && strings.HasPrefix(v.Manifest.ID.String(), ref) {
			found = append(found, v.Manifest.ID)
		}
	}
	switch len(found) {
	case 0:
		return chunk.ID{}, fault.New(fault.NotFound, "image %s has no version %q", i.Name, ref).WithFix("see its versions with: wulf image show %s", i.Name)
	case 1:
		return found[0], nil
	}
	return chunk.ID{}, fault.New(fault.Invalid, "%d versions of image %s begin with %s", len(found), i.Name, ref).WithFix("give more of the ID")
}

// imageHistory tells how an image came to be what it is.
func (p *program) imageHistory(c *cli.Context) error {
	return p.onImage(c, func(_ *client, i catalog.Image) error {
		versions := slices.Clone(i.Versions)
		slices.Reverse(versions)
		return printList(p, c, listing[catalog.ImageVersion]{
			list: api.List[catalog.ImageVersion]{Items: versions},
			name: func(v catalog.ImageVersion) string { return v.Manifest.ID.Short() },
			columns: []column[catalog.ImageVersion]{
				{name: "VERSION", cell: func(v catalog.ImageVersion) string { return v.Manifest.ID.Short() }},
				{name: "TAGS", cell: func(v catalog.ImageVersion) string { return or(strings.Join(tagsOf(i, v.Manifest.ID), ",")) }},
				{name: "PARENT", cell: func(v catalog.ImageVersion) string {
					if v.Parent.IsZero() {
						return "-"
					}
					return v.Parent.Short()
				}},
				{name: "CREATED", cell: func(v catalog.ImageVersion) string { return ago(v.Created) }},
				{name: "BY", cell: func(v catalog.ImageVersion) string { return or(v.By) }},
				{name: "SIZE", wide: true, cell: func(v catalog.ImageVersion) string { return size(v.Size) }},
				{name: "KERNELS", wide: true, cell: func(v catalog.ImageVersion) string { return or(strings.Join(kernelVersions(v), ",")) }},
				{name: "SOURCE", wide: true, cell: func(v catalog.ImageVersion) string { return or(v.Source) }},
				{name: "MESSAGE", cell: func(v catalog.ImageVersion) string { return or(v.Message) }},
			},
		})
	})
}

// imageKernels lists what a version can boot.
func (p *program) imageKernels(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	_, v, err := findRef(cl, c.Args().First())
	if err != nil {
		return err
	}
	return printList(p, c, listing[chunk.Kernel]{
		list: api.List[chunk.Kernel]{Items: v.Kernels},
		name: func(k chunk.Kernel) string { return k.Version },
		columns: []column[chunk.Kernel]{
			{name: "VERSION", cell: func(k chunk.Kernel) string { return k.Version }},
			{name: "PATH", cell: func(k chunk.Kernel) string { return "/" + k.Path }},
			{name: "KERNEL", cell: func(k chunk.Kernel) string { return size(k.Kernel.Size) }},
			{name: "STAGE ONE", cell: func(k chunk.Kernel) string { return size(k.StageOne.Size) }},
		},
	})
}

func tagsOf(i catalog.Image, id chunk.ID) (tags []string) {
	for _, t := range sortedKeys(i.Tags) {
		if i.Tags[t] == id {
			tags = append(tags, t)
		}
	}
	return tags
}

func kernelVersions(v catalog.ImageVersion) (all []string) {
	for _, k := range v.Kernels {
		all = append(all, k.Version)
	}
	return all
}

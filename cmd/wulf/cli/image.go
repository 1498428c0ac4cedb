package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) image() *cli.Command {
	return noun("image", "root file systems that nodes boot",
		verb{
			name: "import", usage: "publish a new version of an image", args: "IMAGE[:TAG] SOURCE", least: 2, most: 2,
			about: "SOURCE is a directory, a tar archive (plain, gzip or zstd), or - for an archive on standard input. " +
				"The version is there when a majority of the controllers holds all of it; if anything fails before, nothing has changed.",
			examples: []string{"wulf image import debian ./rootfs", "wulf image import rocky:9.4 rocky.tar.zst"},
			flags: []cli.Flag{
				texts("tag", "let tag `NAME`, besides latest, mean the new version"),
				waitFlag(), waitTimeFlag(),
			},
			run: p.imageImport,
		},
		verb{
			name: "list", aliases: []string{"ls"}, usage: "list images",
			examples: []string{"wulf image list"}, flags: listFlags(), run: p.imageList,
		},
		verb{
			name: "show", usage: "show an image's versions, tags and kernels", args: "IMAGE", least: 1, most: 1,
			examples: []string{"wulf image show debian"}, flags: showFlags(), run: p.imageShow,
		},
		verb{
			name: "tag", usage: "let a tag mean a version: a roll-back is that, too", args: "IMAGE TAG VERSION", least: 3, most: 3,
			about:    "VERSION is another tag, or the version's ID or as much of its beginning as is needed.",
			examples: []string{"wulf image tag debian latest 4f1a09c2", "wulf image tag debian stable latest"},
			flags:    changeFlags(), run: p.imageTag,
		},
		verb{
			name: "delete", aliases: []string{"rm"}, usage: "delete an image, or one version: IMAGE@VERSION", args: "IMAGE", least: 1, most: 1,
			examples: []string{"wulf image delete old", "wulf image delete debian@4f1a09c2"},
			flags:    changeFlags(), run: p.imageDelete,
		},
	)
}

func (p *program) imageImport(c *cli.Context) error {
	ref, tag, tagged := strings.Cut(c.Args().First(), ":")
	name, err := catalog.ParseName[catalog.ImageName]("image", ref)
	if err != nil {
		return err
	}
	tags := names(c, "tag")
	if tagged {
		tags = append(tags, tag)
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	return p.importImage(c, cl, name, c.Args().Get(1), tags)
}

// importImage publishes a directory or a tar as a version of an image. It takes as long as it takes.
func (p *program) importImage(c *cli.Context, cl *client, name catalog.ImageName, source string, tags []string) error {
	src, err := newPayload(source, p.in)
	if err != nil {
		return err
	}
	defer src.close()
	if err := cl.reach(); err != nil {
		return err
	}
	bar := &progress{out: p.err, tty: p.tty.err}
	defer bar.end()
	query := url.Values{"source": {src.label}, "tag": tags}
	upload := &upload{bar: bar, total: src.size}
	answer, err := cl.Do(c.Context, api.Request{ // as long as it takes, not the time of a usual question
		Method: http.MethodPost, Path: pathOf(api.PathImage, string(name)) + "?" + query.Encode(), Size: -1, Once: true,
		Header: http.Header{"Content-Type": {"application/x-tar"}},
		Body:   func() (io.ReadCloser, error) { return upload.from(src.open) },
	})
	if err != nil {
		return upload.explain(err)
	}
	defer answer.Body.Close()
	upload.answered.Store(true)
	version, result, err := follow(answer.Body, bar)
	bar.end()
	if err != nil {
		return upload.explain(err)
	}
	fmt.Fprintf(p.out, "%s@%s\n", name, version.Manifest.ID)
	fmt.Fprintf(p.err, "image %s: %s in %d segments, %s unpacked\n", name, size(version.Size), version.Segments, size(version.Unpacked))
	cl.again(c)
	return p.changed(c, cl, result)
}

// upload is a body that says how much of it is sent, and remembers why it could not be read: what the connection says
// about that is less than what happened. The transport may still read it when the answer is there.
type upload struct {
	bar      *progress
	total    int64
	answered atomic.Bool // from now on the controller tells how far it is
	failure  atomic.Pointer[error]

	body io.ReadCloser
	done int64
}

// from begins to send anew.
func (u *upload) from(open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	body, err := open()
	if err != nil {
		return nil, err
	}
	u.body, u.done = body, 0
	return u, nil
}

// Read reads the next bytes to send.
func (u *upload) Read(b []byte) (int, error) {
	n, err := u.body.Read(b)
	if u.done += int64(n); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		u.failure.Store(&err)
	}
	if !u.answered.Load() {
		u.bar.report("sending", u.done, u.total, true)
	}
	return n, err
}

// Close ends the reading.
func (u *upload) Close() error { return u.body.Close() }

// explain is the error of the request, or why the body could not be read, which then caused it.
func (u *upload) explain(err error) error {
	if cause := u.failure.Load(); cause != nil {
		return *cause
	}
	return unreached(err)
}

// follow reads what a controller says about an import until its result.
func follow(r io.Reader, bar *progress) (catalog.ImageVersion, api.ChangeResult, error) {
	in := json.NewDecoder(r)
	for {
		var line api.ImportProgress
		if err := in.Decode(&line); err != nil {
			return catalog.ImageVersion{}, api.ChangeResult{}, fault.Wrap(fault.Unknown, err, "the controller's answer broke off; the image may have been published").
				WithFix("see wulf image list")
		}
		switch {
		case line.Error != nil:
			return catalog.ImageVersion{}, api.ChangeResult{}, &fault.Error{Kind: line.Error.Kind, Message: line.Error.Detail, Fix: line.Error.Fix}
		case line.Result != nil && line.Version != nil:
			return *line.Version, *line.Result, nil
		case line.Warning != "":
			bar.line("warning: %s", line.Warning)
		default:
			bar.report(line.Step, line.Done, line.Total, false)
		}
	}
}

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
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	i, err := findImage(cl, c.Args().First())
	if err != nil {
		return err
	}
	return p.show(c, i, func(r *report) {
		r.line("image %s", i.Name)
		rows := [][]string{{"VERSION", "TAGS", "KERNELS", "SIZE", "UNPACKED", "CREATED", "BY", "SOURCE"}}
		for _, v := range slices.Backward(i.Versions) {
			var tags, kernels []string
			for _, t := range sortedKeys(i.Tags) {
				if i.Tags[t] == v.Manifest.ID {
					tags = append(tags, t)
				}
			}
			for _, k := range v.Kernels {
				kernels = append(kernels, k.Version)
			}
			rows = append(rows, []string{v.Manifest.ID.Short(), or(strings.Join(tags, ",")), or(strings.Join(kernels, ",")),
				size(v.Size), size(v.Unpacked), ago(v.Created), or(v.By), v.Source})
		}
		r.rows(rows)
	})
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

func (p *program) imageTag(c *cli.Context) error {
	tag, err := catalog.ParseName[string]("tag", c.Args().Get(1))
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	i, err := findImage(cl, c.Args().First())
	if err != nil {
		return err
	}
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
}

func (p *program) imageDelete(c *cli.Context) error {
	name, ref, versioned := strings.Cut(strings.Replace(c.Args().First(), ":", "@", 1), "@")
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	i, err := findImage(cl, name)
	if err != nil {
		return err
	}
	if versioned {
		id, err := findVersion(i, ref)
		if err != nil {
			return err
		}
		return p.perform(c, cl, mutation{change: catalog.DeleteImage{Name: i.Name, Version: id}, diff: []string{fmt.Sprintf("delete version %s of image %s", id.Short(), i.Name)}})
	}
	m := mutation{change: catalog.DeleteImage{Name: i.Name}, diff: []string{fmt.Sprintf("delete image %s with %d versions", i.Name, len(i.Versions))}, count: len(i.Versions)}
	if len(i.Versions) > 1 {
		m.ask = fmt.Sprintf("Delete %d versions?", len(i.Versions))
	}
	return p.perform(c, cl, m)
}

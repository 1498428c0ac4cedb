package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
	"github.com/wulfmesh/wulfmesh/pkg/source"
)

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

// importImage publishes what a source holds as a version of an image. It takes as long as it takes.
func (p *program) importImage(c *cli.Context, cl *client, name catalog.ImageName, text string, tags []string) error {
	ref, err := source.Parse(text)
	if err != nil {
		return err
	}
	if err := cl.reach(); err != nil { // before hours of work
		return err
	}
	bar := &progress{out: p.err, tty: p.tty.err}
	defer bar.end()
	ctx := c.Context
	m, err := p.making(ctx, c, cl, name, bar)
	if err != nil {
		return err
	}
	tree, err := p.openSource(ctx, c, ref, bar)
	if err != nil {
		return fmt.Errorf("image %s: %w", name, err)
	}
	defer tree.Close()
	m.draft.Source, m.draft.Tags = tree.Label, tags
	src := tree.Source // itself, which may have more to say than what it is wrapped in
	if c.Bool("update") {
		if src, err = p.over(ctx, cl, name, tree); err != nil {
			return err
		}
	}
	end, err := m.make(ctx, src)
	bar.end()
	p.remember(m)
	if err != nil {
		return err
	}
	return p.made(c, cl, m, end)
}

// openSource opens what is to be imported. Progress of downloads goes to the bar.
func (p *program) openSource(ctx context.Context, c *cli.Context, ref source.Ref, bar *progress) (*source.Tree, error) {
	o := source.Options{
		Platform: c.String("platform"), Insecure: c.Bool("insecure"), Mirrors: c.StringSlice("mirror"), Username: c.String("username"), Stdin: p.in,
		Progress: func(step string, done, total int64) { bar.report(step, done, total, done > 0) },
	}
	if path := c.String("password-file"); path != "" {
		var err error
		if o.Password, err = p.password(path); err != nil {
			return nil, err
		}
	}
	if o.Username == "" && o.Password != "" {
		return nil, fault.New(fault.Invalid, "a password came without --username")
	}
	return source.Open(ctx, ref, o)
}

// password reads the first line of a file, or of standard input: what is on a command line can be read by everybody.
func (p *program) password(path string) (string, error) {
	var in io.Reader = p.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", fault.Wrap(fault.Invalid, err, "reading the password")
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, 64<<10))
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "reading the password")
	}
	line, _, _ := strings.Cut(string(b), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fault.New(fault.Invalid, "the password in %s is empty", path)
	}
	return line, nil
}

// over lays a source over the latest version of the image.
func (p *program) over(ctx context.Context, cl *client, name catalog.ImageName, top segment.Source) (segment.Source, error) {
	base, err := openImage(ctx, cl, string(name))
	if err != nil {
		return nil, err
	}
	return segment.Lay(base, top)
}

// levelOf is the level of compression asked for; 0: the usual.
func levelOf(c *cli.Context) (int, error) {
	level := c.Int("level")
	if level < 0 || level > 19 {
		return 0, fault.New(fault.Invalid, "compression level %d is not between 1 and 19", level)
	}
	return level, nil
}

// imageBuild makes a version of the same files: with the agent of the controllers' present release in its stages one, or
// compressed at another level.
func (p *program) imageBuild(c *cli.Context) error {
	level, err := levelOf(c)
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	v, err := openImage(c.Context, cl, c.Args().First())
	if err != nil {
		return err
	}
	m := makingOf(cl, v, &progress{out: p.err, tty: p.tty.err}, v.version.Source, c.String("message"))
	defer m.bar.end()
	var end api.ImportProgress
	if level == 0 || level == v.manifest.Level {
		d, old := &m.draft, v.manifest
		d.Level, d.Segments, d.Aside, d.Index, d.Extras, d.Files, d.Unpacked = old.Level, old.Segments, old.Aside, old.Index, old.Extras, old.Files, old.Unpacked
		end, err = m.finish(c.Context)
	} else {
		m.draft.Level = level
		end, err = m.make(c.Context, v)
	}
	m.bar.end()
	if err != nil {
		return err
	}
	return p.made(c, cl, m, end)
}

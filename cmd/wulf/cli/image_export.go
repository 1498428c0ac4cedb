package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/source"
)

// imageExport writes a version as a container image or a tar, with what nodes are not given.
func (p *program) imageExport(c *cli.Context) error {
	format := c.String("format")
	if format != "oci" && format != "tar" {
		return fault.New(fault.Invalid, "%q is no format of an export", format).WithFix("write --format oci or --format tar")
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
	bar := &progress{out: p.err, tty: p.tty.err}
	defer bar.end()
	write := func(w io.Writer) error {
		w = &told{w: w, bar: bar}
		if format == "tar" {
			return source.WriteTar(c.Context, w, v)
		}
		_, tag := splitVersion(c.Args().First())
		if len(tag) == 64 || tag == "" {
			tag = catalog.TagLatest
		}
		name := c.String("name")
		if name == "" {
			name = "localhost/" + strings.ToLower(string(v.image.Name)) + ":" + strings.ToLower(tag)
		}
		return source.WriteOCI(c.Context, w, v, source.Meta{
			Name: name, Platform: "linux/" + v.version.Arch, Created: v.manifest.Created, Comment: "wulfmesh " + v.label(), Gzip: c.Bool("gzip"),
			Labels: map[string]string{"org.wulfmesh.image": string(v.image.Name), "org.wulfmesh.version": v.version.Manifest.ID.String()},
		}, "")
	}
	path := c.Args().Get(1)
	if path == "-" {
		if p.tty.out {
			return fault.New(fault.Invalid, "an archive is nothing for a terminal").WithFix("name a file, or a pipe")
		}
		out := bufio.NewWriterSize(p.out, 1<<20)
		return errors.Join(write(out), out.Flush())
	}
	if _, err := os.Stat(path); err == nil && !c.Bool("yes") {
		return fault.New(fault.Conflict, "there is a file %s already", path).WithFix("add --yes to replace it")
	}
	return p.writeFile(path, write)
}

// writeFile writes a file as a whole or not at all.
func (p *program) writeFile(path string, write func(io.Writer) error) error {
	f, err := durable.Create(path, 0o644)
	if err != nil {
		return err
	}
	defer f.Abort() // does nothing after Commit
	out := bufio.NewWriterSize(f, 1<<20)
	if err := write(out); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if err := f.Commit(); err != nil {
		return err
	}
	fmt.Fprintln(p.out, path)
	return nil
}

// told counts what is written for the bar.
type told struct {
	w   io.Writer
	n   int64
	bar *progress
}

func (t *told) Write(b []byte) (int, error) {
	n, err := t.w.Write(b)
	t.n += int64(n)
	t.bar.report("writing", t.n, 0, true)
	return n, err
}

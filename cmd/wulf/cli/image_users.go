package cli

import (
	"cmp"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/accounts"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// imageSyncuser gives an image the users and groups of this machine. Nothing is unpacked: the files of accounts are
// replaced, and owners changed, in the tree as it is published.
func (p *program) imageSyncuser(c *cli.Context) error {
	host, err := accounts.Read(os.DirFS("/"), accounts.MachinePaths)
	if err != nil {
		return err
	}
	for flag, into := range map[string]*[]byte{"passwd": &host.Passwd, "group": &host.Group} {
		if name := c.String(flag); name != "" {
			if *into, err = accountFile(name); err != nil {
				return err
			}
			host.SubUID, host.SubGID = nil, nil // those of another machine's users are not here
		}
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
	image, err := accounts.Read(segment.FS(v), accounts.Paths)
	if err != nil {
		return err
	}
	if image.Passwd == nil || image.Group == nil {
		return fault.New(fault.Invalid, "image %s has no /etc/passwd or no /etc/group", v.label())
	}
	merged, err := accounts.Merge(host, image)
	if err != nil {
		return err
	}
	for _, note := range merged.Notes {
		p.say("note: %s", note)
	}
	changed := merged.Changed(image)
	if len(changed)+len(merged.UIDs)+len(merged.GIDs) == 0 {
		p.say("nothing changes: image %s has the users and groups of this machine", v.label())
		return nil
	}
	for _, line := range merged.Lines() {
		p.say("%s", line)
	}
	tree, err := segment.Rewrite(v.Image, segment.Changes{UIDs: merged.UIDs, GIDs: merged.GIDs, Files: changed})
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		p.say("dry run: nothing was changed")
		return nil
	}
	bar := &progress{out: p.err, tty: p.tty.err}
	m := makingOf(cl, v, bar, "syncuser of "+v.label(), cmp.Or(c.String("message"), "users and groups of the machine"))
	m.known.Learn(v.Image)
	end, err := m.make(c.Context, tree)
	bar.end()
	if err != nil {
		return err
	}
	return p.made(c, cl, m, end)
}

func accountFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "reading accounts")
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, accounts.MaxFile+1)) // Merge refuses what is longer
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "reading accounts")
	}
	return b, nil
}

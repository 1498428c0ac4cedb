package cli

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/accounts"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// maxAccounts bounds a file of accounts.
const maxAccounts = 32 << 20

// imageSyncuser gives an image the users and groups of this machine. Nothing is unpacked: the files of accounts are
// replaced, and owners changed, in the tree as it is published.
func (p *program) imageSyncuser(c *cli.Context) error {
	host := accounts.Files{}
	var err error
	if host.Passwd, err = accountFile(cmp.Or(c.String("passwd"), "/etc/passwd")); err != nil {
		return err
	}
	if host.Group, err = accountFile(cmp.Or(c.String("group"), "/etc/group")); err != nil {
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
	image := accounts.Files{}
	tree := segment.FS(v)
	contents := map[string][]byte{}
	for name, into := range map[string]*[]byte{"etc/passwd": &image.Passwd, "etc/group": &image.Group, "etc/shadow": &image.Shadow, "etc/gshadow": &image.Gshadow} {
		if *into, err = treeFile(tree, name); err != nil {
			return err
		}
	}
	if image.Passwd == nil || image.Group == nil {
		return fault.New(fault.Invalid, "image %s has no /etc/passwd or no /etc/group", v.label())
	}
	merged, err := accounts.Merge(host, image)
	if err != nil {
		return err
	}
	if !merged.Changes(image) {
		p.say("nothing changes: image %s has the users and groups of this machine", v.label())
		return nil
	}
	for _, line := range merged.Lines() {
		p.say("%s", line)
	}
	contents["etc/passwd"], contents["etc/group"] = merged.Passwd, merged.Group
	if merged.Shadow != nil {
		contents["etc/shadow"] = merged.Shadow
	}
	if merged.Gshadow != nil {
		contents["etc/gshadow"] = merged.Gshadow
	}
	if c.Bool("dry-run") {
		p.say("dry run: nothing was changed")
		return nil
	}
	bar := &progress{out: p.err, tty: p.tty.err}
	m := makingOf(cl, v, bar, "syncuser of "+v.label(), cmp.Or(c.String("message"), "users and groups of the machine"))
	m.known.Learn(v.Image)
	end, err := m.make(c.Context, segment.Rewrite(v.Image, segment.Rewriting{UIDs: merged.UIDs, GIDs: merged.GIDs, Contents: contents}))
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
	return limited(f, path)
}

// treeFile reads a file of an image; nil if it is not there. One that is reached through a link is not replaced, for what
// the link is for is not known.
func treeFile(tree fs.FS, name string) ([]byte, error) {
	f, err := tree.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return limited(f, "the image's /"+name)
}

func limited(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxAccounts+1))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "reading %s", name)
	}
	if len(b) > maxAccounts {
		return nil, fault.New(fault.Invalid, "%s has more than %d bytes", name, maxAccounts)
	}
	return b, nil
}

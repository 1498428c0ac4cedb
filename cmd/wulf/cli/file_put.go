package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// newSiteFile is a site file on its way.
type newSiteFile struct {
	path    string
	mode    fs.FileMode // permission bits
	content []byte
	base    chunk.ID // the content that it was made from; zero: whatever is there
	message string
}

// putSiteFile makes a site file, or gives one new content.
func (cl *client) putSiteFile(f newSiteFile) (made api.ChangeResult, err error) {
	query := url.Values{"mode": {strconv.FormatUint(uint64(f.mode), 8)}}
	if f.message != "" {
		query.Set("message", f.message)
	}
	header := http.Header{}
	if !f.base.IsZero() {
		header.Set("If-Match", strconv.Quote(f.base.String()))
	}
	// The same content twice is the same file, so another controller may be asked after one that did not answer.
	a, err := cl.Do(cl.ctx, api.Request{
		Method: http.MethodPut, Path: sitePathOf(f.path) + "?" + query.Encode(), Header: header, Size: int64(len(f.content)),
		Body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(f.content)), nil },
	})
	if err != nil {
		return made, unreached(err)
	}
	defer a.Body.Close()
	return made, decodeJSON(a.Body, &made)
}

func (p *program) filePut(c *cli.Context) error {
	f := newSiteFile{path: catalog.SitePath(c.Args().First()), message: c.String("message")}
	if err := catalog.CheckSitePath(f.path); err != nil {
		return err
	}
	var source string
	var err error
	if f.content, f.mode, source, err = p.newContent(c, f.path); err != nil {
		return err
	}
	if said := c.String("mode"); said != "" {
		mode, err := strconv.ParseUint(said, 8, 9)
		if err != nil {
			return fault.New(fault.Invalid, "%q is not a mode", said).WithFix("use permission bits, such as 644")
		}
		f.mode = fs.FileMode(mode)
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := fetch[catalog.SiteFile](cl, api.PathSiteFiles)
	if err != nil {
		return err
	}
	for _, old := range list.Items {
		if old.Path == f.path && old.Content == chunk.RefOf(f.content) && old.Mode == uint32(f.mode) {
			p.say("nothing changes")
			return p.waitIfTold(c, cl, list.Revision)
		}
	}
	if f.mode&0o004 == 0 {
		p.say("note: not everybody may read %s there; of a site file, operators and relays see the content", source)
	}
	p.say("file %s  %s, mode %04o", f.path, size(int64(len(f.content))), f.mode)
	made, err := cl.putSiteFile(f)
	if err != nil {
		return err
	}
	return p.changed(c, cl, made)
}

// newContent reads what a command names after a path: a file, standard input, or the file of that path on this machine.
func (p *program) newContent(c *cli.Context, path string) (content []byte, mode fs.FileMode, source string, err error) {
	if source = c.Args().Get(1); source == "-" {
		source = "standard input"
		content, err = readSite(p.in, source)
		return content, 0o644, source, err
	}
	source = cmp.Or(source, path)
	content, mode, err = readSiteFile(source)
	return content, mode, source, err
}

// readSiteFile reads a file that is to be a site file, with its permission bits.
func readSiteFile(name string) ([]byte, fs.FileMode, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, fault.Wrap(fault.NotFound, err, "")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fault.Wrap(fault.NotFound, err, "")
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fault.New(fault.Invalid, "%s is not a file with content", name).WithFix("put one file at a time")
	}
	b, err := readSite(f, name)
	return b, info.Mode().Perm(), err
}

func readSite(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, catalog.MaxSiteFile+1))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "reading %s", name)
	}
	if len(b) > catalog.MaxSiteFile {
		return nil, fault.New(fault.Invalid, "%s has more than %s", name, size(catalog.MaxSiteFile)).WithFix("put large files into an image")
	}
	return b, nil
}

// fileEdit lets somebody change a site file in their editor. If somebody else changed it meanwhile, nothing happens, and
// the text is kept.
func (p *program) fileEdit(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	old, err := cl.siteFile(c.Args().First())
	if err != nil {
		return err
	}
	if old.IsLink() {
		return fault.New(fault.Invalid, "%s is a link to %s", old.Path, old.Target).WithFix("edit what it leads to")
	}
	before, err := cl.siteContent(old.Path)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "wulf-file-")
	if err != nil {
		return fault.Wrap(fault.Full, err, "making a file to edit")
	}
	name := filepath.Join(dir, filepath.Base(old.Path)) // by its name editors know what language it is
	content, err := p.edited(c, name, before)
	if err == nil && !bytes.Equal(content, before) {
		cl.again(c) // the time that somebody takes to think is not the command's
		f := newSiteFile{path: old.Path, mode: fs.FileMode(old.Mode), content: content, base: chunk.Of(before), message: c.String("message")}
		var made api.ChangeResult
		if made, err = cl.putSiteFile(f); err != nil {
			return withText(err, name)
		}
		err = p.changed(c, cl, made)
	} else if err == nil {
		p.say("nothing changes")
	}
	os.RemoveAll(dir)
	return err
}

// edited is what somebody makes of a text in their editor.
func (p *program) edited(c *cli.Context, name string, text []byte) ([]byte, error) {
	if err := os.WriteFile(name, text, 0o600); err != nil {
		return nil, fault.Wrap(fault.Full, err, "writing the text to edit")
	}
	if err := p.runEditor(c, name); err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "reading what was edited")
	}
	defer f.Close()
	return readSite(f, fmt.Sprintf("the edited %s", filepath.Base(name)))
}

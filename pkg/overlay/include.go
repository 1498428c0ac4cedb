package overlay

import (
	"errors"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// see looks a site file up and notes that the template did.
func (x *execution) see(path string) (SiteFile, bool) {
	x.reads(Input{ScopeSite, path, ""})
	return x.view.World.siteFile(path)
}

// siteText is the text of a site file, false if there is none.
func (x *execution) siteText(name string) (string, bool, error) {
	f, ok := follow(catalog.SitePath(name), x.see)
	if !ok {
		return "", false, nil
	}
	if f.Content.Size > MaxOutput {
		return "", false, fault.New(fault.Invalid, "site file %s has %d bytes, more than %d", f.Path, f.Content.Size, MaxOutput)
	}
	raw, err := x.view.World.Files.ReadSiteFile(x.ctx, f)
	if err != nil {
		return "", false, fault.Wrap(fault.KindOf(err), err, "site file %s", f.Path)
	}
	return string(raw), true, nil
}

// include gives the text of a site file without its last line end. One that is not there is empty, as Warewulf has it;
// `wulf overlay check` tells of it.
func (x *execution) include(name string) (string, error) {
	text, _, err := x.siteText(name)
	return strings.TrimSuffix(text, "\n"), err
}

// includeBlock gives the lines of a site file up to one that contains a mark, then the mark.
func (x *execution) includeBlock(name, mark string) (string, error) {
	text, _, err := x.siteText(name)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if strings.Contains(line, mark) {
			break
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	b.WriteString(mark)
	return b.String(), nil
}

// includeFrom gives the text of a file of an image, without its last line end.
func (x *execution) includeFrom(image, path string) (string, error) {
	x.reads(Input{ScopeImage, image, ""})
	if _, ok := x.view.World.imageID(image); !ok {
		return "", nil
	}
	raw, err := x.view.World.Files.ReadImageFile(x.ctx, image, path)
	switch {
	case errors.Is(err, fault.NotFound):
		return "", nil
	case err != nil:
		return "", fault.Wrap(fault.KindOf(err), err, "file %s of image %s", path, image)
	case len(raw) > MaxOutput:
		return "", fault.New(fault.Invalid, "file %s of image %s has %d bytes, more than %d", path, image, len(raw), MaxOutput)
	}
	return strings.TrimSuffix(string(raw), "\n"), nil
}

// importLink makes the file that is written now a link to where a site file leads.
func (x *execution) importLink(name string) (string, error) {
	target, err := x.readLink(name)
	if err != nil {
		return "", err
	}
	return x.softlink(target), nil
}

// readLink tells where the links that begin at a site file lead: to a path that need not be one of a site file.
func (x *execution) readLink(name string) (string, error) {
	at, found := catalog.SitePath(name), false
	_, ok := follow(at, func(p string) (SiteFile, bool) {
		f, ok := x.see(p)
		at, found = p, found || ok
		return f, ok
	})
	if !ok && !found {
		return "", fault.New(fault.NotFound, "there is no site file %s", at).WithFix("put it there: wulf file link %s TARGET", at)
	}
	return at, nil
}

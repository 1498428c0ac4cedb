package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/packages"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// imageDifference is what makes one version of another.
type imageDifference struct {
	From     chunk.ID            `json:"from"`
	To       chunk.ID            `json:"to"`
	Packages packages.Difference `json:"packages"`
	Files    []fileDifference    `json:"files"`
	Added    int                 `json:"added"`
	Removed  int                 `json:"removed"`
	Changed  int                 `json:"changed"`
	Bytes    int64               `json:"bytes"` // content of files now less that before
	Fetch    struct {
		Chunks int   `json:"chunks"`
		Bytes  int64 `json:"bytes"`
	} `json:"fetch"` // by a relay that has the one and wants the other
	Size int64 `json:"size"` // of the other, as served
}

// fileDifference is one path.
type fileDifference struct {
	Path string             `json:"path"`
	Kind segment.ChangeKind `json:"kind"`
	What []segment.Aspect   `json:"what,omitempty"`
	Old  int64              `json:"old_size"`
	New  int64              `json:"new_size"`
}

// imageDiff tells what makes one version of another: of two images, of two versions, or of the latest and its parent.
func (p *program) imageDiff(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	second, err := openImage(c.Context, cl, c.Args().Get(c.NArg()-1))
	if err != nil {
		return err
	}
	var first *published
	if c.NArg() > 1 {
		first, err = openImage(c.Context, cl, c.Args().First())
	} else if id, e := before(second.image, second.version); e == nil {
		v, _ := second.image.Version(id.String())
		first, err = openVersion(c.Context, cl, second.image, v)
	} else {
		err = e
	}
	if err != nil {
		return err
	}
	d := imageDifference{From: first.version.Manifest.ID, To: second.version.Manifest.ID, Files: []fileDifference{}, Size: second.version.Size}
	for change, err := range segment.Diff(c.Context, first, second, segment.DiffOptions{}) {
		if err != nil {
			return err
		}
		d.add(&change)
	}
	d.Fetch.Chunks, d.Fetch.Bytes = segment.Fetch(first.manifest, second.manifest)
	a, err := packages.Read(segment.FS(first))
	if err != nil {
		return err
	}
	b, err := packages.Read(segment.FS(second))
	if err != nil {
		return err
	}
	d.Packages = packages.Diff(a, b)
	return p.show(c, d, func(r *report) { d.print(r, first, second, c.Bool("files")) })
}

func (d *imageDifference) add(c *segment.Change) {
	f := fileDifference{Path: "/" + c.Path, Kind: c.Kind, What: c.What}
	if c.Old != nil {
		f.Old = c.Old.Size
	}
	if c.New != nil {
		f.New = c.New.Size
	}
	switch c.Kind {
	case segment.Added:
		d.Added++
	case segment.Removed:
		d.Removed++
	default:
		d.Changed++
	}
	d.Bytes += c.Bytes
	d.Files = append(d.Files, f)
}

// shownFiles is how many paths are shown where not all are asked for: those of the most bytes.
const shownFiles = 12

func (d *imageDifference) print(r *report, a, b *published, all bool) {
	r.line("%s → %s", a.label(), b.label())
	var rows [][]string
	for _, x := range d.Packages.Changed {
		rows = append(rows, []string{"~", x.To.Name, x.From.Version, "→ " + x.To.Version})
	}
	for _, x := range d.Packages.Added {
		rows = append(rows, []string{"+", x.Name, x.Version, ""})
	}
	for _, x := range d.Packages.Removed {
		rows = append(rows, []string{"-", x.Name, x.Version, ""})
	}
	if len(rows) > 0 {
		r.line("packages: %d changed, %d added, %d removed", len(d.Packages.Changed), len(d.Packages.Added), len(d.Packages.Removed))
		r.rows(rows)
	}
	r.line("files: %d changed, %d added, %d removed; %s", d.Changed, d.Added, d.Removed, signed(d.Bytes))
	files := d.Files
	if !all && len(files) > shownFiles {
		files = slices.Clone(files)
		slices.SortStableFunc(files, func(x, y fileDifference) int { return cmp.Compare(max(y.Old, y.New), max(x.Old, x.New)) })
		files = files[:shownFiles]
		slices.SortFunc(files, func(x, y fileDifference) int { return segment.ComparePaths(x.Path[1:], y.Path[1:]) })
	}
	rows = nil
	for _, f := range files {
		var what []string
		for _, w := range f.What {
			what = append(what, string(w))
		}
		sign := map[segment.ChangeKind]string{segment.Added: "+", segment.Removed: "-", segment.Changed: "~"}[f.Kind]
		rows = append(rows, []string{sign, f.Path, size(max(f.Old, f.New)), strings.Join(what, ",")})
	}
	r.rows(rows)
	if n := len(d.Files) - len(files); n > 0 {
		r.line("and %s more: --files", plural(n, "path"))
	}
	share := 0.0
	if d.Size > 0 {
		share = 100 * float64(d.Fetch.Bytes) / float64(d.Size)
	}
	r.line("a relay that has the first fetches %s, %s: %.1f %% of the second", plural(d.Fetch.Chunks, "chunk"), size(d.Fetch.Bytes), share)
}

func signed(n int64) string {
	if n < 0 {
		return "-" + size(-n)
	}
	return fmt.Sprintf("+%s", size(n))
}

package ww4

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf/view"
)

func TestTheEngineMakesOfTemplatesWhatWarewulfMakes(t *testing.T) {
	w := server(t)
	for _, name := range templates(t) {
		text := read(t, "testdata/templates/"+name)
		for _, node := range append(slices.Sorted(maps.Keys(w.Nodes.Nodes)), "nobody") {
			want, err := w.Render(node, "site", "/overlays/site/rootfs/etc/"+name, text)
			got, failed := engine(t, w, node, name, text)
			switch {
			case (err != nil) != (failed != nil):
				t.Errorf("%s for %s: Warewulf says %v, the engine %v", name, node, err, failed)
			case err != nil && !errors.Is(failed, fault.Invalid):
				t.Errorf("%s for %s: %v is not the template's fault", name, node, failed)
			case err == nil && got != want.Show("etc/"+name):
				t.Errorf("%s for %s: the engine makes\n%s\nand Warewulf\n%s", name, node, got, want.Show("etc/"+name))
			}
		}
	}
}

// engine is what the engine makes of a template, as `wwctl overlay show --render` prints it.
func engine(t *testing.T, w *World, node, name string, text []byte) (string, error) {
	t.Helper()
	bundle, err := overlay.NewBundle([]overlay.File{{Path: "etc/" + strings.TrimSuffix(name, ".ww"), Type: overlay.TypeFile, Template: true, Content: text}})
	if err != nil {
		return "", err
	}
	fleet, err := view.NewFleet(w.Nodes)
	if err != nil {
		t.Fatal(err)
	}
	n, ok := fleet.Find(node)
	if !ok {
		n = view.Host(w.Host)
	}
	if n.Kernel.Version == "" {
		own := *n
		own.Kernel.Version = w.kernel(n.ImageName)
		n = &own
	}
	v := overlay.View{World: &overlay.World{Files: tree{w}, Fleet: fleet, Server: &w.Server}, Node: n}
	s, err := overlay.Show(context.Background(), v, overlay.Layer{Name: "site", Bundle: bundle, Changed: w.Now, Dir: "/overlays/site/rootfs", Host: w.Host}, 0)
	if err != nil {
		return "", err
	}
	return s.Text("etc/"+name, false), nil
}

// tree is the server's disk.
type tree struct{ w *World }

func (d tree) SiteFile(name string) (overlay.SiteFile, bool) {
	at := path.Join(d.w.Root, name)
	if target, err := os.Readlink(at); err == nil {
		return overlay.SiteFile{Path: name, Target: target}, true
	}
	b, err := os.ReadFile(at)
	return overlay.SiteFile{Path: name, Content: chunk.RefOf(b)}, err == nil
}

func (d tree) ReadSiteFile(_ context.Context, f overlay.SiteFile) ([]byte, error) {
	return os.ReadFile(path.Join(d.w.Root, f.Path))
}

func (d tree) ImageID(image string) (chunk.ID, bool) {
	_, err := os.Stat(path.Join(d.w.Images, image))
	return chunk.Of([]byte(image)), err == nil && image != ""
}

func (d tree) ReadImageFile(_ context.Context, image, name string) ([]byte, error) {
	b, err := os.ReadFile(path.Join(d.w.Images, image, "rootfs", name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.NotFound, err, "reading it")
	}
	return b, err
}

package cli

import (
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/stageone"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf/view"
)

// offline renders Warewulf's overlays from its own files, as Warewulf would.
type offline struct {
	inv    inventory
	fleet  *view.Fleet
	world  *overlay.World
	memo   *overlay.Memo
	host   string
	now    time.Time
	kernel map[string]string // by image: the version of the kernel that its nodes boot
}

func (l *legacy) offline(inv inventory) (*offline, error) {
	fleet, err := view.NewFleet(l.nodes)
	if err != nil {
		return nil, err
	}
	server := view.Server(l.config)
	host, err := os.Hostname()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "asking for this machine's name")
	}
	o := &offline{
		inv: inv, fleet: fleet, host: host, now: time.Now(), kernel: map[string]string{},
		world: &overlay.World{Files: newServerDisk(l.root, l.sysconf(), inv.images), Fleet: fleet, Server: &server},
	}
	for image, dir := range inv.images {
		o.kernel[image] = imageKernel(dir)
	}
	return o, nil
}

// view is what the templates of a node see. Without a version of its own, a node's kernel is the newest of its image.
func (o *offline) view(n *overlay.Node) overlay.View {
	if n.Kernel.Version == "" && o.kernel[n.ImageName] != "" {
		own := *n
		own.Kernel.Version = o.kernel[n.ImageName]
		n = &own
	}
	return overlay.View{World: o.world, Node: n}
}

// root is the directory of an overlay's files: the site's own hides all of the one that came with Warewulf.
func (o *offline) root(name string) (dir string, site, ok bool) {
	if dir, ok = o.inv.site[name]; ok {
		return dir, true, true
	}
	dir, ok = o.inv.distribution[name]
	return dir, false, ok
}

func (o *offline) layer(name, dir string, b *overlay.Bundle) overlay.Layer {
	return overlay.Layer{Name: name, Bundle: b, Changed: o.now, Dir: dir, Host: o.host}
}

// migrateRender prints what Warewulf's own command for that prints.
func (p *program) migrateRender(c *cli.Context) error {
	l, err := p.readLegacy(c)
	if err != nil {
		return err
	}
	inv, err := l.inventory(c)
	if err != nil {
		return err
	}
	o, err := l.offline(inv)
	if err != nil {
		return err
	}
	node, name, file := c.Args().Get(0), c.Args().Get(1), c.Args().Get(2)
	dir, _, ok := o.root(name)
	if !ok {
		return inv.noOverlay(name)
	}
	at, err := templateIn(dir, name, file)
	if err != nil {
		return err
	}
	text, err := readUpTo(filepath.Join(dir, at), overlay.MaxTemplate+1)
	if err != nil {
		return fault.Wrap(fault.NotFound, err, "reading a template")
	}
	target, named := strings.CutSuffix(at, overlay.TemplateSuffix)
	if !named {
		p.say("%s does not end with %s: in an overlay it is copied, and not rendered", file, overlay.TemplateSuffix)
	}
	b, err := overlay.NewBundle([]overlay.File{{Path: target, Type: overlay.TypeFile, Template: true, Content: text}})
	if err != nil {
		return err
	}
	n, ok := o.fleet.Find(node)
	if !ok {
		n = view.Host(o.host)
		p.say("there is no node %s: this is for the server %s itself", node, o.host)
	}
	s, err := overlay.Show(c.Context, o.view(n), o.layer(name, dir, b), 0)
	if err != nil {
		return err
	}
	_, err = p.out.Write([]byte(s.Text(file, c.Bool("quiet"))))
	return err
}

func (inv inventory) noOverlay(name string) error {
	err := fault.New(fault.NotFound, "Warewulf has no overlay %q", clipped(name))
	if best := closest(name, slices.Concat(slices.Sorted(maps.Keys(inv.site)), slices.Sorted(maps.Keys(inv.distribution)))); best != "" {
		return err.WithFix("did you mean %s?", best)
	}
	return err.WithFix("say where its overlays are: --overlays, --distribution-overlays, or --server-root")
}

// templateIn finds a file of an overlay, under its name or that of what it makes.
func templateIn(dir, name, file string) (string, error) {
	at := strings.TrimPrefix(path.Clean("/"+file), "/")
	for _, at := range []string{at, at + overlay.TemplateSuffix} {
		if info, err := os.Stat(filepath.Join(dir, at)); err == nil && info.Mode().IsRegular() {
			return at, nil
		}
	}
	return "", fault.New(fault.NotFound, "overlay %s has no file %s", name, file).WithFix("its files are in %s", dir)
}

// Where kernels are in images, in the order in which Warewulf looks.
var kernelPlaces = []string{"boot/Image-*", "boot/vmlinuz-linux*", "boot/vmlinuz-*", "lib/modules/*/vmlinuz", "lib/modules/*/vmlinuz.gz"}

// kernelVersion is the version in a kernel's path.
var kernelVersion = regexp.MustCompile(`\d+\.\d+\.\d+(-[\d.]+)?`)

// imageKernel is the version of the kernel that an image's nodes boot in Warewulf, if they do not say: the highest of those
// that are neither for rescue nor for debugging. It is as Warewulf reads it in the kernel's path, without what follows
// the numbers.
func imageKernel(root string) string {
	var best string
	for _, place := range kernelPlaces {
		found, _ := filepath.Glob(filepath.Join(root, place)) // the patterns are right
		for _, at := range found {
			v := strings.TrimSuffix(kernelVersion.FindString(strings.TrimPrefix(at, root)), ".")
			if v != "" && !strings.Contains(at, "+debug") && !strings.Contains(at, "-rescue") && (best == "" || stageone.CompareVersions(v, best) > 0) {
				best = v
			}
		}
	}
	return best
}

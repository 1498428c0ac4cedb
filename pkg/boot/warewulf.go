package boot

import (
	"slices"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Warewulf is what a plan of catalog.MethodWarewulf knows besides: how the image's own wwinit is to be started.
type Warewulf struct {
	Dracut bool   // the image's own initramfs fetches the image, where wwinit is a module of dracut
	Device string // the kernel's name of the device that it boots from; "" if nobody decided it
	Asset  bool   // the node has an asset key, which the machine must show
	Zstd   bool   // the kernel unpacks an image as it is stored
}

// The parameters by which Warewulf's programs know themselves.
const (
	ParamWarewulfID  = "wwid"
	paramWarewulfURI = "wwinit.uri"
)

// assetParam is where a boot loader puts the asset key that it finds in the machine.
const assetParam = "&assetkey=${asset:uristring}"

// menuEntry is the tag by which sites of Warewulf choose between its ways to boot; of its values one is another way here.
const (
	menuEntry  = "IPXEMenuEntry"
	menuDracut = "dracut"
)

// warewulf decides how a node starts the wwinit in its image.
func (p *Plan) warewulf(r *catalog.Resolved) {
	p.Warewulf = Warewulf{
		Dracut: strings.HasPrefix(r.Settings.Tags[menuEntry], menuDracut),
		Asset:  value(r.Settings.Asset) != "",
		Zstd:   unpacksZstd(p.Kernel.Version),
	}
	if i := slices.IndexFunc(r.Nets, func(n catalog.ResolvedNet) bool { return n.Hardware == p.BootHardware }); i >= 0 {
		p.Warewulf.Device = r.Nets[i].Device
	}
}

// unpacksZstd tells whether a kernel knows initial file systems in zstd: Linux does since 5.9, and distributions leave that
// as it is. The kernel of an Enterprise Linux 8 is older.
func unpacksZstd(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor := rest
	if end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		minor = rest[:end]
	}
	a, err := strconv.Atoi(major)
	if err != nil {
		return false
	}
	b, err := strconv.Atoi(minor)
	return err == nil && (a > 5 || a == 5 && b >= 9)
}

// warewulfFiles are the initial file systems. Image and overlays are single archives in Warewulf's order; the image's own
// initramfs fetches them by itself.
func (p *Plan) warewulfFiles(s Session) []file {
	hw := string(p.BootHardware)
	query := "?ticket=" + s.Ticket
	if p.Warewulf.Asset {
		query += assetParam
	}
	if p.Warewulf.Dracut {
		return []file{{"initramfs", "/initramfs/" + hw + query}}
	}
	image := file{"image", "/file/" + p.Manifest.ID.String()}
	if !p.Warewulf.Zstd {
		image.path = "/image/" + hw + query
	}
	return []file{image, {"system", "/system/" + hw + query}, {"runtime", "/runtime/" + hw + query}}
}

// warewulfWords is the command line as Warewulf's programs read it.
func (p *Plan) warewulfWords(s Session, from Relay) []string {
	hw := string(p.BootHardware)
	words := []string{ParamWarewulfID + "=" + hw}
	if p.Warewulf.Dracut {
		words = append(words, "rd.neednet=1")
		if d := p.Warewulf.Device; d != "" {
			words = append(words, "ifname="+d+":"+hw, "ip="+d+":dhcp")
		} else {
			words = append(words, "ip=dhcp", ParamIface+"=01-"+strings.ReplaceAll(hw, ":", "-"))
		}
		// What it fetches it fetches from the relay that it came from: it can be told of one only.
		uri := "http://" + from.Boot() + "/provision/" + hw + "?ticket=" + s.Ticket
		words = append(words, "root=wwinit:tmpfs", paramWarewulfURI+"="+uri, "init=/warewulf/run-init")
	}
	return append(words, p.Args...)
}

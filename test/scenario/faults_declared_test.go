package scenario

import (
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// faultsOfDeclaration are mistakes in what is declared.
func faultsOfDeclaration() []injected {
	return []injected{
		{
			name: "no image", stage: boot.StageScript, cause: []string{"has no image"}, fix: []string{"wulf node set x1 --image"},
			inject: func(f *faulty) {
				f.name = "x1"
				f.m.Change(catalog.AddNodes{Nodes: []catalog.Node{{Name: "x1", Profiles: []catalog.ProfileName{}, Settings: catalog.Settings{
					Nets: map[string]catalog.NetDev{catalog.DefaultNet: {Hardware: new(catalog.HardwareAddr("52:54:00:00:99:01")), Address: new(mesh.Address(f.node).Next().Next().Next().Next())}},
				}}}})
			},
		},
		{
			name: "kernel version missing", stage: boot.StageScript, cause: []string{"image demo has no kernel 9.9"}, fix: []string{"it has 6.1.0-test"},
			inject: func(f *faulty) {
				f.set(catalog.Settings{Kernel: catalog.KernelSettings{Version: new("9.9")}})
				f.on()
			},
		},
		{
			name: "kernel for another architecture", stage: boot.StageKernel, cause: []string{"kernel of image arm is for arm64", "amd64"}, fix: []string{"--image NAME", "amd64"},
			inject: func(f *faulty) {
				f.m.PublishOf("arm", mesh.Contents{Kernel: "arm64"})
				f.set(catalog.Settings{Image: new("arm")})
				f.node.Break(withHang(boot.StageKernel))
				f.on()
			},
		},
		{
			name: "kernel arguments too long", stage: boot.StageScript, cause: []string{"kernel command line of node n001 has"}, fix: []string{"take kernel arguments away"},
			inject: func(f *faulty) {
				var args []string
				for range 30 {
					args = append(args, "module.parameter="+strings.Repeat("x", 60))
				}
				f.set(catalog.Settings{Kernel: catalog.KernelSettings{Args: args}})
				f.on()
			},
		},
		{
			name: "method that the network does not allow", stage: boot.StageScript, cause: []string{"boots by method warewulf, which network rack does not allow"}, fix: []string{"wulf network set rack --warewulf"},
			inject: func(f *faulty) {
				f.set(catalog.Settings{Method: new(catalog.MethodWarewulf)})
				f.on()
			},
		},
		{
			name: "runs an old version", cause: []string{"it runs version", "is declared now"}, fix: []string{"restart it"}, after: 20 * time.Minute,
			inject: func(f *faulty) {
				f.on()
				f.m.WaitUp(5*time.Minute, f.node)
				f.m.Publish(mesh.Image, 99)
			},
		},
		{
			name: "overlay whose template fails", stage: boot.StageOverlay, cause: []string{"motd"}, fix: []string{"overlay"},
			inject: func(f *faulty) {
				putOverlay(f.t, f.m, "broken", overlay.File{Path: "etc/motd", Mode: 0o644, Content: []byte(`{{ fail "no motd today" }}`)})
				f.set(catalog.Settings{Overlays: catalog.OverlaySettings{System: []string{"broken"}}})
				f.on()
			},
		},
		{
			name: "secret that an overlay asks for missing", stage: boot.StageOverlay, cause: []string{"munge"}, fix: []string{"wulf node set n001 --secret"},
			inject: func(f *faulty) {
				putOverlay(f.t, f.m, "munge", overlay.File{Path: "etc/munge/munge.key", Mode: 0o400, Content: []byte(`{{.Secret "munge"}}`)})
				f.set(catalog.Settings{Overlays: catalog.OverlaySettings{Runtime: []string{"munge"}}})
				f.on()
			},
		},
		{
			name: "tag moved back", cause: []string{"is declared now"}, fix: []string{"restart it"},
			inject: func(f *faulty) {
				first := f.m.Version(mesh.Image)
				f.m.Publish(mesh.Image, 98)
				f.m.Settle()
				f.on()
				f.m.WaitUp(5*time.Minute, f.node)
				f.m.Change(catalog.TagImage{Name: mesh.Image, Tag: catalog.TagLatest, Version: first.Manifest.ID})
			},
		},
	}
}

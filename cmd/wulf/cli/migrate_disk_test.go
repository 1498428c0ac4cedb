package cli

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

func TestAServersDiskIsReadAsTheServerReadsIt(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{"usr/lib/real/file": "text", "outside": "no"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"lib": "usr/lib", "usr/lib/link": "real", "abs": "/lib/link/file", "up": "../../../../outside", "usr/lib/real/loop": "loop", "gone": "nowhere",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	d := newServerDisk(root, "/etc/warewulf", map[string]string{"image": root})
	for name, want := range map[string]string{ // where a link on the way leads, with all that follows it
		"/lib/link/file": "/usr/lib/link/file", "/usr/lib/link/file": "/usr/lib/real/file", "/usr/lib/real/file": "", "/abs": "/lib/link/file",
		"/up": "/outside", "/gone": "/nowhere", "/usr/lib": "",
	} {
		if f, ok := d.SiteFile(name); !ok || f.Target != want {
			t.Errorf("%s leads to %q, %v; want %q", name, f.Target, ok, want)
		}
	}
	for _, name := range []string{"/nowhere", "/usr/lib/real/file/below", "/usr/lib/nosuch/file"} {
		if f, ok := d.SiteFile(name); ok {
			t.Errorf("%s is there: %+v", name, f)
		}
	}
	f, _ := d.SiteFile("/usr/lib/real/file")
	if b, err := d.ReadSiteFile(context.Background(), f); err != nil || string(b) != "text" {
		t.Errorf("it reads %q, %v", b, err)
	}
	for name, want := range map[string]string{"/abs": "text", "lib/link/file": "text", "../../up": "no"} {
		if b, err := d.ReadImageFile(context.Background(), "image", name); err != nil || string(b) != want {
			t.Errorf("of the image %s reads %q, %v; want %q", name, b, err, want)
		}
	}
	for _, name := range []string{"/gone", "/usr/lib", "/usr/lib/real/loop"} {
		if _, err := d.ReadImageFile(context.Background(), "image", name); err == nil {
			t.Errorf("of the image %s can be read", name)
		}
	}
	if _, err := d.ReadImageFile(context.Background(), "nosuch", "/abs"); err == nil {
		t.Error("an image that is not there can be read")
	}
}

func TestANodesKernelIsTheHighestOfItsImage(t *testing.T) {
	for want, paths := range map[string][]string{
		"":              {"etc/passwd", "boot/vmlinuz-0-rescue-abc"},
		"5.14.0-503.11": {"boot/vmlinuz-5.14.0-427.el9.x86_64", "boot/vmlinuz-5.14.0-503.11.el9.x86_64", "boot/vmlinuz-6.0.0-1.el9.x86_64+debug"},
		"6.12.0":        {"lib/modules/6.12.0/vmlinuz", "boot/Image-6.4.0-150600"},
		"6.1.0-9":       {"boot/vmlinuz-6.1.0-9-amd64", "boot/vmlinuz-6.1.0-8-amd64"},
	} {
		root := t.TempDir()
		for _, p := range paths {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(root, p)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, p), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := imageKernel(root); got != want {
			t.Errorf("of %v it is %q, want %q", paths, got, want)
		}
	}
}

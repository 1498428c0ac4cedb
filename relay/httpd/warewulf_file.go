package httpd

import (
	"io"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// wwInitramfs sends the initramfs that the image has for the node's kernel.
func (s *Server) wwInitramfs(w http.ResponseWriter, r *http.Request, c *caller) error {
	if c.gzip {
		return fault.New(fault.NotFound, "an initramfs is not kept compressed")
	}
	o, err := s.images.open(r.Context(), c.plan.Manifest.ID)
	if err != nil {
		return err
	}
	name, ok := initramfs(o.tree, c.plan.Kernel.Version)
	if !ok {
		return fault.New(fault.NotFound, "image %s has no initramfs for kernel %s", c.plan.Image, c.plan.Kernel.Version).WithFix("run dracut in it: wulf image shell %s", c.plan.Image)
	}
	return s.imageFile(w, r, c, o, name, wwInitramfs)
}

// initramfs finds the initramfs of a kernel where distributions put it.
func initramfs(tree fs.FS, kernel string) (string, bool) {
	for _, name := range []string{
		"boot/initramfs-" + kernel + ".img", "boot/initramfs-" + kernel, "boot/initrd-" + kernel, "boot/initrd-" + kernel + ".img",
		"boot/initrd.img-" + kernel, "lib/modules/" + kernel + "/initrd", "lib/modules/" + kernel + "/initramfs.img",
	} {
		if i, err := fs.Stat(tree, name); err == nil && i.Mode().IsRegular() {
			return name, true
		}
	}
	return "", false
}

// loaders of EFI are where distributions put them: shims, and what they start.
var (
	shimDirs = []string{"usr/share/efi/*", "usr/lib64/efi", "boot/efi/EFI/*", "usr/lib/shim"}
	grubDirs = []string{"usr/share/efi/*", "usr/share/grub2/*-efi", "usr/lib64/efi", "boot/efi/EFI/*", "usr/lib/grub/*-efi-signed"}
	shims    = []string{"shim.efi", "shim-sles.efi", "shimx64.efi", "shim-susesigned.efi", "shimaa64.efi", "shimx64.efi.signed", "shimaa64.efi.signed"}
	grubs    = []string{"grub-tpm.efi", "grub.efi", "grubx64.efi", "grubia32.efi", "grubaa64.efi", "grubarm.efi", "grubnetx64.efi.signed", "grubnetaa64.efi.signed"}
)

// efiboot sends UEFI firmware the shim and GRUB of the node's image, and GRUB what it is to do.
func (s *Server) efiboot(w http.ResponseWriter, r *http.Request) error {
	a, err := parseAsked("", r.URL.RawQuery)
	if err != nil {
		return err
	}
	c, err := s.caller(r, a)
	if err != nil {
		return err
	}
	if err := c.boots(); err != nil {
		return err
	}
	name := path.Base(r.PathValue("file"))
	if name == "grub.cfg" {
		return s.grub(w, r, c)
	}
	o, err := s.images.open(r.Context(), c.plan.Manifest.ID)
	if err != nil {
		return err
	}
	found, ok := efiFile(o.tree, name)
	if !ok {
		return fault.New(fault.NotFound, "image %s has no %.80q", c.plan.Image, name)
	}
	return s.imageFile(w, r, c, o, found, "")
}

// efiFile finds a boot program in an image: any shim for a shim, any GRUB for a GRUB, else the one that is called so.
func efiFile(tree fs.FS, name string) (string, bool) {
	dirs, names := slices.Concat(shimDirs, grubDirs), []string{name}
	switch {
	case !strings.HasSuffix(name, ".efi") || strings.ContainsAny(name, `*?[\`):
		return "", false
	case strings.HasPrefix(name, "shim"):
		dirs, names = shimDirs, shims
	case strings.HasPrefix(name, "grub"):
		dirs, names = grubDirs, grubs
	}
	for _, n := range names {
		for _, dir := range dirs {
			found, _ := fs.Glob(tree, dir+"/"+n)
			for _, f := range found {
				if i, err := fs.Stat(tree, f); err == nil && i.Mode().IsRegular() {
					return f, true
				}
			}
		}
	}
	return "", false
}

// imageFile sends a file of an image.
func (s *Server) imageFile(w http.ResponseWriter, r *http.Request, c *caller, o *opened, name, stage string) error {
	release, err := s.unpacker(r.Context())
	if err != nil {
		return err
	}
	defer release()
	info, err := fs.Stat(o.tree, name)
	if err != nil {
		return fault.Wrap(fault.NotFound, err, "image %s", c.plan.Image)
	}
	e, _ := info.Sys().(*segment.Entry)
	id, err := o.image.Sum(e.Path)
	if err != nil {
		return err
	}
	whole, err := s.stream(w, r, made{id: id, size: info.Size(), time: s.version(&c.plan).Created, write: func(out *cut) error {
		f, err := o.image.Open(e.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(out, f)
		return err
	}})
	if whole && stage != "" {
		s.sentTo(c, stage, path.Base(name), info.Size())
	}
	return err
}

// grub sends GRUB what it is to do, which begins a boot as a script of iPXE does.
func (s *Server) grub(w http.ResponseWriter, r *http.Request, c *caller) error {
	from := c.plan.Relays[max(c.plan.Rank(s.cfg.Name), 0)] // there is one, or the node would not boot
	return s.begin(w, r, &c.plan, func(out io.Writer, begun boot.Session) error { return c.plan.WriteGrub(out, from, begun) })
}

package firmware

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/storm/ipxe"
)

// started is what iPXE hands to the kernel.
type started struct {
	cmdline  string
	archives []*ipxe.Image // initial file systems, in order
}

// ipxe is the boot program: an address of its own, the script that DHCP names, and what the script says.
func (m *Machine) ipxe(ctx context.Context) (*started, error) {
	ack, err := m.dhcp(ctx, m.loaded())
	if err != nil {
		return nil, err
	}
	file, server := bootFile(ack)
	if !strings.HasPrefix(file, "http://") {
		return nil, fmt.Errorf("iPXE is told to boot %q, which is no script of a relay", file)
	}
	text, err := m.get(ctx, file, connectTime)
	if err != nil {
		return nil, fmt.Errorf("fetching the script %s: %w", file, err)
	}
	if err := m.passes(ctx, boot.StageScript); err != nil {
		return nil, err
	}
	s := &ipxe.Script{Fetch: m.download, Screen: m.note, Settings: map[string]string{
		"net0/mac": string(m.cfg.Hardware), "mac": string(m.cfg.Hardware), "next-server": server, "ip": ack.YourIPAddr.String(),
		"serial": "SN-" + m.cfg.Name, "manufacturer": "wulfmesh", "product": "firmware",
	}}
	if err := s.Run(ctx, file, text); err != ipxe.ErrBoot {
		return nil, err
	}
	if err := m.passes(ctx, boot.StageKernel); err != nil {
		return nil, err
	}
	return m.load(s)
}

// download fetches a file for a script, and checks those that are named by their digest.
func (m *Machine) download(ctx context.Context, raw string, progress time.Duration) ([]byte, error) {
	b, err := m.get(ctx, raw, progress)
	if err != nil {
		return nil, err
	}
	if u, err := url.Parse(raw); err == nil {
		if name, ok := strings.CutPrefix(u.Path, "/chunk/"); ok {
			if id, err := chunk.ParseID(name); err != nil || chunk.Of(b) != id {
				m.wrong(u.Host + u.Path)
			}
		}
	}
	return b, nil
}

// load puts kernel and initial file systems into memory as the firmware's kind of machine does: a BIOS kernel is given
// all files in order, one started through its EFI stub finds only those that its command line names.
func (m *Machine) load(s *ipxe.Script) (*started, error) {
	k := &started{cmdline: s.Selected.Args}
	var named []string
	for _, w := range strings.Fields(s.Selected.Args) {
		if name, ok := strings.CutPrefix(w, "initrd="); ok {
			named = append(named, name)
		}
	}
	for _, i := range s.Images {
		if i != s.Selected && (m.cfg.Firmware == boot.FirmwareBIOS || slices.Contains(named, i.Name)) {
			k.archives = append(k.archives, i)
		}
	}
	for _, name := range named {
		if !slices.ContainsFunc(s.Images, func(i *ipxe.Image) bool { return i.Name == name }) {
			return nil, fmt.Errorf("the kernel looks for the initial file system %q, which nobody fetched", name)
		}
	}
	m.note("starts the kernel with %d initial file systems", len(k.archives))
	return k, nil
}

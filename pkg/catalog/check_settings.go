package catalog

import (
	"cmp"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Bounds of what one node or profile holds.
const (
	maxKeys  = 256     // of a map
	maxWords = 256     // of a list
	maxText  = 4 << 10 // bytes of a text

	maxDevice = 256 // bytes of the path of a disk
)

func oneOf(setting string, value *string, allowed ...string) error {
	if value == nil || slices.Contains(allowed, *value) {
		return nil
	}
	return fault.New(fault.Invalid, "%s cannot be %q", setting, clip(*value)).WithFix("choose %s", strings.Join(allowed, " or "))
}

func checkKeys[V any](what string, m map[string]V) error {
	if len(m) > maxKeys {
		return fault.New(fault.Invalid, "%d %ss are more than %d", len(m), what, maxKeys)
	}
	for _, k := range sortedKeys(m) {
		if _, err := ParseName[string](what, k); err != nil {
			return err
		}
	}
	return nil
}

func checkWords(what string, words []string) error {
	if len(words) > maxWords {
		return fault.New(fault.Invalid, "%d %ss are more than %d", len(words), what, maxWords)
	}
	for _, w := range words {
		if _, err := ParseName[string](what, strings.TrimPrefix(w, "~")); err != nil {
			return err
		}
	}
	return nil
}

// checkLine refuses texts that would break the lines of files, scripts and tables that they end up in.
func checkLine(what string, s *string) error {
	if s == nil {
		return nil
	}
	if len(*s) > maxText || strings.ContainsFunc(*s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return fault.New(fault.Invalid, "%s is not one line of at most %d bytes", what, maxText)
	}
	return nil
}

func checkPlaces(s Settings) error {
	for _, f := range []struct {
		name  string
		value *string
	}{
		{"cluster", s.Cluster}, {"rack", s.Rack}, {"position", s.Position}, {"zone", s.Zone}, {"asset", s.Asset}, {"comment", s.Comment}, {"ipxe", s.IPXE},
		{"init", s.Init}, {"primary", s.Primary}, {"kernel.version", s.Kernel.Version},
	} {
		if err := checkLine(f.name, f.value); err != nil {
			return err
		}
	}
	if s.UUID != nil {
		if u, err := ParseUUID(*s.UUID); err != nil || u != *s.UUID {
			return fault.New(fault.Invalid, "%q is not a UUID", clip(*s.UUID)).WithFix("write it in lower case, as 4c4c4544-0042-3510-8054-b4c04f564433")
		}
	}
	return nil
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// ParseUUID reads a UUID as firmware and people write it, and returns it in lower case.
func ParseUUID(text string) (string, error) {
	u := strings.ToLower(strings.Trim(strings.TrimSpace(text), "{}"))
	if !uuidForm.MatchString(u) {
		return "", fault.New(fault.Invalid, "%q is not a UUID", clip(text)).WithFix("write it as 4c4c4544-0042-3510-8054-b4c04f564433")
	}
	return u, nil
}

// checkSecrets refuses secrets that are not sealed: what is in clear must not get into the log.
func checkSecrets(s Settings) error {
	if err := checkKeys("secret", s.Secrets); err != nil {
		return err
	}
	for _, k := range sortedKeys(s.Secrets) {
		if !s.Secrets[k].Sealed() {
			return fault.New(fault.Invalid, "secret %s is not sealed", k).WithFix("give it to a controller, which seals it: wulf node set NODE --secret %s=…", k)
		}
	}
	if p := s.BMC.Password; p != nil && !p.Sealed() {
		return fault.New(fault.Invalid, "the BMC's password is not sealed").WithFix("give it to a controller, which seals it: --ipmipass")
	}
	return nil
}

// checkWithout refuses paths that are no settings, and those that nobody could be without.
func checkWithout(paths []string) error {
	if len(paths) > maxWords {
		return fault.New(fault.Invalid, "without names %d settings, more than %d", len(paths), maxWords)
	}
	for _, path := range paths {
		var s Settings
		if path == "" || path == "without" || path == "comment" || s.Patch(Settings{}, []string{path}) != nil {
			return noSetting(path)
		}
	}
	return nil
}

func checkBMC(b BMC) error {
	for _, f := range []struct {
		name  string
		value *string
	}{{"template", b.Template}, {"username", b.Username}, {"interface", b.Interface}, {"escapechar", b.Escape}} {
		if err := checkLine("bmc."+f.name, f.value); err != nil {
			return err
		}
	}
	if b.Port != nil && (*b.Port < 1 || *b.Port > 65535) {
		return fault.New(fault.Invalid, "bmc.port %d is not between 1 and 65535", *b.Port)
	}
	for _, f := range []struct {
		name  string
		value *netip.Addr
	}{{"address", b.Address}, {"gateway", b.Gateway}} {
		if f.value != nil && (!f.value.IsValid() || f.value.Is4In6() || f.value.Zone() != "") {
			return fault.New(fault.Invalid, "bmc.%s %s is not an IP address by which the network knows a board", f.name, f.value).WithFix("write it as 10.9.0.1")
		}
	}
	if err := checkMask("bmc.netmask", b.Netmask); err != nil {
		return err
	}
	return checkTags(b.Tags)
}

// checkTags refuses tags that no template could read.
func checkTags(tags map[string]string) error {
	if err := checkKeys("tag", tags); err != nil {
		return err
	}
	for _, k := range sortedKeys(tags) {
		if len(tags[k]) > maxText {
			return fault.New(fault.Invalid, "tag %s has more than %d bytes", k, maxText)
		}
	}
	return nil
}

// checkLines refuses lists that are too long, or have what is not one line in them.
func checkLines(what string, lines []string) error {
	if len(lines) > maxWords {
		return fault.New(fault.Invalid, "%s has %d elements, more than %d", what, len(lines), maxWords)
	}
	for i := range lines {
		if err := checkLine(what, &lines[i]); err != nil {
			return err
		}
	}
	return nil
}

// checkKeyWords refuses keys in which, after a dot, comes the name of a setting: eth0.mtu is the MTU of eth0 in a path,
// and must not be a device, too.
func checkKeyWords[V any](what string, m map[string]V) error {
	for _, key := range sortedKeys(m) {
		_, rest, dotted := strings.Cut(key, ".")
		if !dotted {
			continue
		}
		for name := range fields(reflect.TypeFor[V]()) {
			if slices.Contains(strings.Split(rest, "."), name) {
				return fault.New(fault.Invalid, "%s %q cannot be called so: .%s would be read as a setting", what, clip(key), name).WithFix("choose another name")
			}
		}
	}
	return nil
}

// maxSettings bounds the bytes of what one node or profile decides. What is stored of one must fit into a line of a
// snapshot, whatever JSON makes of each byte (see MaxSnapshotLine).
const maxSettings = 2 << 20

// size is about how many bytes the settings take. Texts of one line are few, and not counted one by one.
func (s *Settings) size() int {
	n := 4<<10 + sizeOf(s.Tags) + sizeOf(s.BMC.Tags) + sizeOf(s.Resources) + sizeOf(s.Secrets)
	for _, list := range [][]string{s.Kernel.Args, s.Overlays.System, s.Overlays.Runtime, s.SSHKeys, s.Roles, s.Groups, s.Without} {
		for _, x := range list {
			n += len(x) + 4
		}
	}
	for name, d := range s.Nets {
		n += len(name) + 512 + sizeOf(d.Tags)
	}
	for dev, d := range s.Disks {
		n += len(dev) + 64
		for label, p := range d.Partitions {
			n += len(label) + 256 + len(deref(p.Type)) + len(deref(p.GUID))
		}
	}
	for dev, f := range s.Filesystems {
		n += len(dev) + 256 + len(deref(f.Format)) + len(deref(f.Path)) + len(deref(f.Label)) + len(deref(f.UUID)) + len(deref(f.Mount))
		for _, x := range f.Options {
			n += len(x) + 4
		}
	}
	return n
}

func sizeOf[V ~string](m map[string]V) (n int) {
	for k, v := range m {
		n += len(k) + len(v) + 8
	}
	return n
}

// checkSizes refuses settings that grew too many or too large, by one change after the other that had few.
func (s *Settings) checkSizes() error {
	for _, m := range []struct {
		what string
		n    int
	}{
		{"tags", len(s.Tags)}, {"resources", len(s.Resources)}, {"secrets", len(s.Secrets)}, {"tags of the BMC", len(s.BMC.Tags)},
		{"network devices", len(s.Nets)}, {"disks", len(s.Disks)}, {"file systems", len(s.Filesystems)},
	} {
		if m.n > maxKeys {
			return fault.New(fault.Invalid, "%d %s are more than %d", m.n, m.what, maxKeys)
		}
	}
	if n := s.size(); n > maxSettings {
		return fault.New(fault.Invalid, "its settings take %d bytes, more than %d", n, maxSettings).WithFix("put large resources into overlays, as files")
	}
	return nil
}

func checkMask(what string, mask *netip.Addr) error {
	if mask == nil {
		return nil
	}
	if _, ok := MaskLength(*mask); !ok {
		return fault.New(fault.Invalid, "%s %s is not an IPv4 netmask", what, mask).WithFix("write it as 255.255.0.0")
	}
	return nil
}

// checkRoot refuses a root that is neither a kind of memory nor one device. The device is a word of the kernel's command
// line.
func checkRoot(s Settings) error {
	dev := s.RootDevice()
	if dev == "" {
		return oneOf("root", s.Root, RootTmpfs, RootRamfs)
	}
	if len(dev) > maxDevice || !strings.HasPrefix(dev, "/dev/") || strings.ContainsFunc(dev, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return fault.New(fault.Invalid, "root %q is not a device", clip(dev)).WithFix("give tmpfs, ramfs, or a device: --root /dev/disk/by-partlabel/root")
	}
	if m := cmp.Or(deref(s.Method), MethodTwoStage); m != MethodTwoStage {
		return fault.New(fault.Invalid, "a root on a device needs the method %s: with %s the kernel unpacks the image into memory", MethodTwoStage, m)
	}
	for _, other := range sortedKeys(s.Filesystems) {
		if deref(s.Filesystems[other].Path) == "/" && other != dev {
			return fault.New(fault.Invalid, "both %s and %s would be the root", dev, other).WithFix("let one file system have the path /, and name no other device as root")
		}
	}
	return nil
}

func checkDisks(s Settings) error {
	if err := checkKeyWords("disk", s.Disks); err != nil {
		return err
	}
	if err := checkKeyWords("file system", s.Filesystems); err != nil {
		return err
	}
	for _, dev := range sortedKeys(s.Disks) {
		d := s.Disks[dev]
		if checkLine("", &dev) != nil || len(dev) > maxDevice || !strings.HasPrefix(dev, "/dev/") {
			return fault.New(fault.Invalid, "disk %q is not a device", clip(dev)).WithFix("write it as /dev/nvme0n1")
		}
		if err := cmp.Or(checkKeys("partition", d.Partitions), checkKeyWords("partition", d.Partitions)); err != nil {
			return within("disk "+dev, err)
		}
		numbers := map[int]string{}
		for _, label := range sortedKeys(d.Partitions) {
			p := d.Partitions[label]
			if p.Number != nil && *p.Number != 0 {
				if other, ok := numbers[*p.Number]; ok {
					return fault.New(fault.Invalid, "disk %s: partitions %s and %s both have number %d", dev, other, label, *p.Number)
				}
				numbers[*p.Number] = label
			}
			if p.Number != nil && *p.Number < 0 || p.Size != nil && *p.Size < 0 || p.Start != nil && *p.Start < 0 {
				return fault.New(fault.Invalid, "disk %s: partition %s has a number, size or start below 0", dev, label)
			}
			for _, text := range []*string{p.Type, p.GUID} {
				if err := checkLine("disk "+dev+", partition "+label, text); err != nil {
					return err
				}
			}
		}
	}
	for _, dev := range sortedKeys(s.Filesystems) {
		f := s.Filesystems[dev]
		if checkLine("", &dev) != nil || len(dev) > maxDevice || !strings.HasPrefix(dev, "/dev/") {
			return fault.New(fault.Invalid, "file system %q is not on a device", clip(dev)).WithFix("write the device as /dev/disk/by-partlabel/scratch")
		}
		if f.Path != nil && !strings.HasPrefix(*f.Path, "/") && *f.Path != "none" && *f.Path != "swap" {
			return fault.New(fault.Invalid, "file system %s: path %q is not absolute", dev, clip(*f.Path))
		}
		for _, text := range []*string{f.Format, f.Path, f.Label, f.UUID, f.Mount} {
			if err := checkLine("file system "+dev, text); err != nil {
				return err
			}
		}
		if err := checkLines("file system "+dev+", options", f.Options); err != nil {
			return err
		}
	}
	return nil
}

func (c *Catalog) checkNetDev(what string, d NetDev) error {
	if d.Network != nil {
		if _, ok := c.Network(NetworkName(*d.Network)); !ok {
			return within(what, c.noNetwork(NetworkName(*d.Network)))
		}
	}
	if d.Hardware != nil {
		if hw, err := ParseHardwareAddr(string(*d.Hardware)); err != nil || hw != *d.Hardware {
			return fault.New(fault.Invalid, "%s: %q is not a hardware address", what, clip(string(*d.Hardware)))
		}
	}
	if err := oneOf("type", d.Type, NetTypes...); err != nil {
		return within(what, err)
	}
	if err := checkMask("netmask", d.Netmask); err != nil {
		return within(what, err)
	}
	if d.Address != nil && !d.Address.Is4() || d.Gateway != nil && !d.Gateway.Is4() {
		return fault.New(fault.Invalid, "%s: address and gateway are IPv4", what).WithFix("IPv6 has --ipaddr6 and --gateway6")
	}
	for _, a := range []*netip.Addr{d.Address6, d.Gateway6} {
		if a != nil && (!a.Is6() || a.Is4In6() || a.Zone() != "") {
			return fault.New(fault.Invalid, "%s: address6 and gateway6 are IPv6, without a zone", what)
		}
	}
	if d.Prefix6 != nil && (*d.Prefix6 < 1 || *d.Prefix6 > 128) {
		return fault.New(fault.Invalid, "%s: prefixlen6 %d is not between 1 and 128", what, *d.Prefix6)
	}
	if err := checkTags(d.Tags); err != nil {
		return within(what, err)
	}
	// 15 bytes: IFNAMSIZ of Linux, less the NUL.
	if d.Device != nil && (*d.Device == "" || len(*d.Device) > 15 || strings.ContainsFunc(*d.Device, func(r rune) bool { return r <= ' ' || r == '/' || r == ':' || r == 0x7f })) {
		return fault.New(fault.Invalid, "%s: %q is not a name that Linux gives a network device", what, clip(*d.Device))
	}
	if d.MTU != nil && (*d.MTU < minMTU || *d.MTU > maxMTU) {
		return fault.New(fault.Invalid, "%s: MTU %d is not between %d and %d", what, *d.MTU, minMTU, maxMTU)
	}
	return nil
}

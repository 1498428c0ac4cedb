package stageone

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// firmware adds those of the files that the image has, as they are: a kernel whose distribution compresses firmware
// decompresses it itself. Distributions link many names to one file, so the same is done here.
func (b *builder) firmware(k Kernel, names map[string]bool) error {
	left := int64(maxFirmware)
	firsts := make(map[string]int) // where the entry of a file of the image is
	var out []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		e, suffix := b.findFirmware(k, name)
		if e == nil {
			continue
		}
		if first, again := firsts[e.Path]; again {
			old := &b.entries[first]
			old.Group = first + 1
			b.add(path.Join(Home, "firmware", name+suffix), 0o644, b.content[old.Path]).Group = first + 1
			b.result.Firmware++
			continue
		}
		body, err := readFile(b.image, e.Path, left)
		if errors.Is(err, fault.Full) {
			out = append(out, name)
			continue
		}
		if err != nil {
			return err
		}
		left -= int64(len(body))
		b.add(path.Join(Home, "firmware", name+suffix), 0o644, body)
		firsts[e.Path] = len(b.entries) - 1
		b.result.Firmware++
	}
	if len(out) > 0 {
		b.warn(fmt.Sprintf("%d firmware files are left out of stage one, which would get larger than %d MiB by them; the first is %s", len(out), maxFirmware>>20, out[0]))
	}
	return nil
}

// findFirmware looks where the kernel would (drivers/base/firmware_loader/main.c), for the form that is there.
func (b *builder) findFirmware(k Kernel, name string) (e *segment.Entry, suffix string) {
	if !fs.ValidPath(name) {
		return nil, ""
	}
	for _, dir := range []string{"lib/firmware/updates/" + k.Version, "lib/firmware/updates", "lib/firmware/" + k.Version, "lib/firmware"} {
		for _, suffix := range []string{"", ".zst", ".xz"} {
			if e := file(b.image, path.Join(dir, name+suffix)); e != nil {
				return e, suffix
			}
		}
	}
	return nil, ""
}

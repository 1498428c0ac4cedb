package image_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/image"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// An image is refused before it fills the machine, and what the refusal asks for is enough.
func TestImageThatDoesNotFitIsRefused(t *testing.T) {
	const mib = 1 << 20
	m := &chunk.Manifest{Unpacked: 300 * mib, Segments: []chunk.Segment{{Files: 1000}, {Files: 9000}}}
	need := image.Need(m)
	if need < m.Unpacked+10000*(2<<10) || need > m.Unpacked+100*mib {
		t.Errorf("an image of %d MiB in 10000 files needs %d MiB", m.Unpacked/mib, need/mib)
	}
	for name, c := range map[string]struct {
		left, limit int64
		fits        bool
	}{
		"as much as it needs":    {need, 1000 * mib, true},
		"a byte less":            {need - 1, 1000 * mib, false},
		"nothing left":           {0, 1000 * mib, false},
		"a root that is limited": {900 * mib, 200 * mib, false},
	} {
		err := image.CheckRoom(m, c.left, 1000*mib, c.limit)
		if (err == nil) != c.fits {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (!errors.Is(err, fault.Full) || !strings.Contains(fault.Fix(err), "MiB more memory")) {
			t.Errorf("%s: %v, fix: %s", name, err, fault.Fix(err))
		}
	}
}

// A meter remembers the most.
func TestMeterKnowsWhatIsInUse(t *testing.T) {
	m := image.NewMeter()
	free, total := image.Free()
	if peak := m.Stop(); peak <= 0 || peak > total || free <= 0 || free > total {
		t.Errorf("at most %d of %d in use, %d free", peak, total, free)
	}
}

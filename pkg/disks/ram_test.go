package disks_test

import (
	"io"
	"math/rand/v2"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/disks"
)

const mib = 1 << 20

// ram is a disk in memory. What was never written is zeros.
type ram struct {
	size   int64
	sector int
	blocks map[int64][]byte // of 4 KiB
}

func newRAM(size int64) *ram { return &ram{size: size, sector: 512, blocks: map[int64][]byte{}} }

func (r *ram) ReadAt(b []byte, at int64) (int, error) {
	n := min(int64(len(b)), r.size-at)
	if n < 0 {
		return 0, io.EOF
	}
	clear(b[:n])
	for done := int64(0); done < n; {
		k, off := (at+done)/4096, (at+done)%4096
		step := min(4096-off, n-done)
		copy(b[done:done+step], r.blocks[k][min(off, int64(len(r.blocks[k]))):])
		done += step
	}
	if n < int64(len(b)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

func (r *ram) write(at int64, b []byte) {
	for len(b) > 0 {
		k, off := at/4096, at%4096
		if r.blocks[k] == nil {
			r.blocks[k] = make([]byte, 4096)
		}
		n := copy(r.blocks[k][off:], b)
		at, b = at+int64(n), b[n:]
	}
}

func (r *ram) clone() *ram {
	c := *r
	c.blocks = map[int64][]byte{}
	for k, b := range r.blocks {
		c.blocks[k] = append([]byte{}, b...)
	}
	return &c
}

// random gives the same bytes in every run.
func random(seed uint64) io.Reader {
	return rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 1})
}

// look reads what the disk holds.
func (r *ram) look(t testing.TB) disks.Present {
	t.Helper()
	p, err := disks.Look(r, r.size, r.sector)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// apply does what a plan says, or the first steps of it.
func (r *ram) apply(p disks.Plan, steps int) {
	for _, c := range p.Clear {
		if steps--; steps < 0 {
			return
		}
		r.write(c.At, make([]byte, c.Size))
	}
	if p.Table == nil {
		return
	}
	for _, w := range p.Table.Writes(p.Fresh) {
		if steps--; steps < 0 {
			return
		}
		r.write(w.At, w.Data)
	}
}

// all is more steps than any plan has.
const all = 1 << 20

// plan makes a plan for what the disk holds now.
func (r *ram) plan(t testing.TB, d catalog.Disk) disks.Plan {
	t.Helper()
	p, err := disks.PlanDisk(d, r.look(t), random(uint64(len(r.blocks))))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// layout makes a disk hold partitions.
func (r *ram) layout(t testing.TB, d catalog.Disk) *ram {
	t.Helper()
	r.apply(r.plan(t, d), all)
	if again := r.plan(t, d); again.Table != nil || len(again.Clear)+len(again.Steps) > 0 {
		t.Fatalf("the same plan again: %v", again.Steps)
	}
	return r
}

func parts(kv map[string]catalog.Partition) catalog.Disk { return catalog.Disk{Partitions: kv} }

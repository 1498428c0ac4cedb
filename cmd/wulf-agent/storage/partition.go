package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/disks"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// rereadTime is how long the kernel may hold a disk whose table it is to read again: it reads new disks itself.
const rereadTime = 10 * time.Second

// partition makes a disk hold the declared partitions, and returns what was done.
func (h *Host) partition(ctx context.Context, d device, declared catalog.Disk) ([]string, error) {
	present, err := h.look(d)
	if err != nil {
		return nil, err
	}
	plan, err := disks.PlanDisk(declared, present, rand.Reader)
	if err != nil || len(plan.Steps) == 0 {
		return nil, err
	}
	f, _, _, err := h.open(d, true)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for _, c := range plan.Clear {
		if err := blank(f, c); err != nil {
			return nil, err
		}
	}
	if plan.Table != nil {
		if err := write(f, plan.Table.Writes(plan.Fresh)); err != nil {
			return nil, err
		}
	}
	return plan.Steps, reread(ctx, f)
}

// blank overwrites a part of a disk with zeros.
func blank(f *os.File, c disks.Range) error {
	b := make([]byte, min(c.Size, 1<<20))
	for done := int64(0); done < c.Size; done += int64(len(b)) {
		if _, err := f.WriteAt(b[:min(int64(len(b)), c.Size-done)], c.At+done); err != nil {
			return fault.Wrap(fault.Unavailable, err, "writing to the disk")
		}
	}
	return flush(f)
}

// write writes pieces of a disk, each of them before the next.
func write(f *os.File, pieces []disks.Write) error {
	for _, w := range pieces {
		if _, err := f.WriteAt(w.Data, w.At); err != nil {
			return fault.Wrap(fault.Unavailable, err, "writing to the disk")
		}
		if err := flush(f); err != nil {
			return err
		}
	}
	return nil
}

// flush waits until the disk has what was written. What it cannot take is told here, and only once.
func flush(f *os.File) error {
	if err := f.Sync(); err != nil {
		return fault.Wrap(fault.Unavailable, err, "writing to the disk")
	}
	return nil
}

// reread has the kernel read the partition table again. The new partitions are there when it returns.
func reread(ctx context.Context, f *os.File) error {
	if i, err := f.Stat(); err == nil && i.Mode().IsRegular() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, rereadTime)
	defer cancel()
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKRRPART, 0)
		if errno == 0 {
			return nil
		}
		if errno == unix.EINVAL || errno == unix.ENOTTY {
			return nil // a disk that has no partitions, by its driver
		}
		if !errors.Is(errno, unix.EBUSY) {
			return fault.Wrap(fault.Unavailable, errno, "the kernel cannot read the new partition table")
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fault.Wrap(fault.Conflict, errno, "the kernel does not take the new partition table: something uses the disk")
		}
	}
}

// making notes in the table of a disk that a file system is being made on a partition, or that it is done: what a power cut
// leaves of one may go, and nobody could tell it from somebody's data. A disk without a whole GPT has no place for it.
func (h *Host) making(d device, all []device, on bool) error {
	e := h.entry(d, all)
	if e == nil || (e.Attributes&disks.Making != 0) == on {
		return nil
	}
	for _, disk := range all {
		if disk.name != d.disk {
			continue
		}
		present, err := h.look(disk)
		if err != nil {
			return err
		}
		present.Table.Entry(d.number).Attributes ^= disks.Making
		f, err := os.OpenFile(disk.path, os.O_RDWR, 0) // its other partitions may be in use
		if err != nil {
			return err
		}
		defer f.Close()
		return write(f, present.Table.Writes(false))
	}
	return nil
}

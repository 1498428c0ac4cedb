package disks_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/disks"
)

// What the programs of the distributions make is known again, with label and UUID, and so are swap spaces made here.
func TestProbeKnowsWhatIsMade(t *testing.T) {
	const id = "0b9eb464-1f05-4dd8-9b3b-5b2a3a6e1d11"
	for _, name := range []string{disks.Ext2, disks.Ext3, disks.Ext4, disks.XFS, disks.Btrfs, disks.VFAT, disks.Swap} {
		t.Run(name, func(t *testing.T) {
			f, err := disks.FormatOf(name)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "device")
			const size = 400 * mib // xfs has no smaller one than 300
			file, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if err := file.Truncate(size); err != nil {
				t.Fatal(err)
			}
			if c, err := disks.Probe(file, size); err != nil || !c.Blank {
				t.Fatalf("a file of zeros holds %v, %v", c, err)
			}
			uuid := id
			if name == disks.VFAT {
				uuid = "1234-abcd"
			}
			fs := catalog.Filesystem{Format: &name, Label: new("SCRATCH")}
			if f.Program == "" {
				b, err := disks.SwapHeader(size, 4096, "SCRATCH", uuid, random(1))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := file.WriteAt(b, 0); err != nil {
					t.Fatal(err)
				}
			} else {
				argv := f.Command(fs, uuid, path)
				cmd := exec.Command(argv[0], argv[1:]...)
				if cmd.Err != nil {
					if cmd = exec.Command("/usr/sbin/"+argv[0], argv[1:]...); cmd.Err != nil {
						t.Skip(cmd.Err)
					}
				}
				if out, err := cmd.CombinedOutput(); err != nil {
					if os.IsNotExist(err) {
						t.Skip(err)
					}
					t.Fatalf("%v: %v\n%s", argv, err, out)
				}
			}
			c, err := disks.Probe(file, size)
			if err != nil || c != (disks.Content{Format: name, Label: "SCRATCH", UUID: uuid}) {
				t.Errorf("got %+v, %v", c, err)
			}
			blkid, err := exec.Command("/usr/sbin/blkid", "-p", path).CombinedOutput()
			if err == nil && !strings.Contains(string(blkid), `LABEL="SCRATCH"`) {
				t.Errorf("blkid sees %s", blkid)
			}
		})
	}
}

// What is not known is somebody's, and what is known to be no file system is named.
func TestProbeTakesWhatIsUnknownForData(t *testing.T) {
	const size = 10 * mib
	for what, tc := range map[string]struct {
		at   int64
		text string
	}{
		"a member of a RAID (md)":              {size - 8192, "\xfc\x4e\x2b\xa9"},
		"a physical volume of LVM":             {512, "LABELONE"},
		"an encrypted volume (LUKS)":           {0, "LUKS\xba\xbe"},
		"a file system ntfs":                   {3, "NTFS    "},
		"a partition table (GPT)":              {512, "EFI PART"},
		"data of unknown kind":                 {1 * mib, "x"},
		"a member of a RAID (of the firmware)": {size - 1024, "Intel Raid ISM Cfg Sig. 1.1.00"},
	} {
		r := newRAM(size)
		r.write(tc.at, []byte(tc.text))
		c, err := disks.Probe(r, size)
		if err != nil || c.Blank || c.Format != "" || c.String() != what {
			t.Errorf("want %s, got %s (%+v), %v", what, c, c, err)
		}
	}
	if _, err := disks.Probe(newRAM(0), 0); err == nil {
		t.Error("a device without size is no empty one")
	}
}

// FuzzLook: no disk makes it fail other than by an error.
func FuzzLook(f *testing.F) {
	r := newRAM(5 * mib)
	d := parts(map[string]catalog.Partition{"a": {}})
	p, err := disks.PlanDisk(d, disks.Present{Size: r.size, Sector: 512, Blank: true}, random(1))
	if err != nil {
		f.Fatal(err)
	}
	r.apply(p, all)
	whole := make([]byte, 40*512)
	r.ReadAt(whole, 0)
	f.Add(whole)
	f.Add([]byte("\xeb\x3c\x90mkfs.fat"))
	f.Fuzz(func(t *testing.T, head []byte) {
		r := newRAM(5 * mib)
		r.write(0, head[:min(len(head), 4*mib)])
		for _, sector := range []int{512, 4096} {
			present, err := disks.Look(r, r.size, sector)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := disks.PlanDisk(catalog.Disk{Partitions: map[string]catalog.Partition{"b": {Size: new(int64(1))}}}, present, random(2))
			if err == nil && present.Table == nil && !present.Blank {
				t.Fatalf("%s goes without permission: %v", present.What, plan.Steps)
			}
		}
	})
}

package relay_test

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// What a node's disks are to hold comes with the session of its boot, and with no later one; a boot of one stage, which has
// none, gets it beside its overlays.
func TestNodeIsToldWhatItsDisksAreToHold(t *testing.T) {
	dir := t.TempDir()
	inWorld(t, func(w *world) {
		w.image("debian")
		w.overlays()
		declared := catalog.Settings{
			Disks:       map[string]catalog.Disk{"/dev/vda": {Wipe: new(true), Partitions: map[string]catalog.Partition{"root": {Exists: new(true)}}}},
			Filesystems: map[string]catalog.Filesystem{"/dev/disk/by-partlabel/root": {Format: new("xfs"), Path: new("/")}},
		}
		two := w.node(1, declared)
		one := declared
		one.Method, one.Filesystems = new(catalog.MethodOneStage), map[string]catalog.Filesystem{"/dev/vdb": {Path: new("/data")}}
		single := w.node(2, one)
		none := w.node(3, catalog.Settings{})
		w.join(1, dir)
		w.run(1, dir)
		time.Sleep(10 * time.Second)

		n1 := w.machine(1)
		_, ticket := n1.script(two)
		s, a := n1.claim(api.SessionRequest{Ticket: ticket, Claim: "c"}, "")
		if want := (&api.Storage{Root: "/dev/disk/by-partlabel/root", Disks: declared.Disks, Filesystems: declared.Filesystems}); !reflect.DeepEqual(s.Storage, want) {
			t.Errorf("got %d, %+v, want %+v", a.status, s.Storage, want)
		}
		if s, a := n1.claim(api.SessionRequest{}, s.Token); s.Token == "" || s.Storage != nil {
			t.Errorf("renewed: %d, %+v", a.status, s.Storage)
		}
		n3 := w.machine(3)
		_, ticket = n3.script(none)
		if s, a := n3.claim(api.SessionRequest{Ticket: ticket, Claim: "c"}, ""); s.Token == "" || s.Storage != nil {
			t.Errorf("a node without: %d, %+v", a.status, s.Storage)
		}
		n2 := w.machine(2)
		_, ticket = n2.script(single)
		a = n2.get("http://10.1.0.1:4480/boot/" + string(single) + "/overlay?ticket=" + ticket)
		var got api.Storage
		for r := segment.NewReader(bytes.NewReader(a.body)); ; {
			e, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(r); e.Path == api.OneStageStorage {
				if err := json.Unmarshal(b, &got); err != nil {
					t.Fatal(err)
				}
			}
		}
		if want := (api.Storage{Disks: one.Disks, Filesystems: one.Filesystems}); !reflect.DeepEqual(got, want) {
			t.Errorf("one stage: %d, %+v, want %+v", a.status, got, want)
		}
	})
}

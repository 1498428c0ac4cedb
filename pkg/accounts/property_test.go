package accounts

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// drawn makes a system with few names and numbers, so that two of them have much to do with each other.
func drawn(t *rapid.T, who string) Files {
	name := rapid.SampledFrom([]string{"root", "a", "b", "c", "d", "e", "f"})
	n := rapid.Uint32Range(1, 9)
	number := func(name, label string) uint32 {
		if name == "root" {
			return 0
		}
		return n.Draw(t, label)
	}
	var f Files
	f.Passwd, f.Group = []byte("root:x:0:0::/root:\n"), []byte("root:x:0:\n")
	for range rapid.IntRange(0, 6).Draw(t, who+" users") {
		u := name.Draw(t, "user")
		f.Passwd = fmt.Appendf(f.Passwd, "%s:x:%d:%d:%s:/:\n", u, number(u, "uid"), rapid.Uint32Range(0, 9).Draw(t, "gid"), who)
	}
	for range rapid.IntRange(0, 6).Draw(t, who+" groups") {
		g := name.Draw(t, "group")
		f.Group = fmt.Appendf(f.Group, "%s:x:%d:%s\n", g, number(g, "gid"), strings.Join(rapid.SliceOfN(name, 0, 3).Draw(t, "members"), ","))
	}
	if rapid.Bool().Draw(t, who+" has shadows") {
		f.Shadow, f.Gshadow = []byte("root:*:::::::\n"), []byte("root:*::\n")
	}
	return f
}

// Each name's files stay that name's, whatever becomes of the numbers.
func TestFilesFollowTheirOwnersName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		image, machine := drawn(t, "image"), drawn(t, "machine")
		m, err := Merge(machine, image)
		if err != nil {
			if !errors.Is(err, fault.Conflict) {
				t.Fatal(err)
			}
			return
		}
		iu, _ := readUsers("image", image.Passwd)
		mu, _ := readUsers("machine", machine.Passwd)
		ru, _ := readUsers("result", m.Files.Passwd)
		ig, _ := readGroups("image", image.Group)
		mg, _ := readGroups("machine", machine.Group)
		rg, _ := readGroups("result", m.Files.Group)
		for _, u := range mu.entries {
			if r, ok := ru.get(u.name); !ok || r.uid != u.uid {
				t.Errorf("%s is %d on the machine and %d then, %v", u.name, u.uid, r.uid, ok)
			}
		}
		for _, g := range mg.entries {
			if r, ok := rg.get(g.name); !ok || r.gid != g.gid {
				t.Errorf("group %s is %d on the machine and %d then, %v", g.name, g.gid, r.gid, ok)
			}
		}
		for _, u := range iu.entries {
			r, ok := ru.get(u.name)
			if !ok || r.uid != to(m.UIDs, u.uid) {
				t.Errorf("the files of %s go from %d to %d, and the name to %d, %v", u.name, u.uid, to(m.UIDs, u.uid), r.uid, ok)
			}
			if _, both := mu.get(u.name); !both && r.gid != to(m.GIDs, u.gid) {
				t.Errorf("%s, of the image only, is in another group than before", u.name)
			}
			// Nobody whom the image did not let share them has these files now.
			for _, other := range ru.entries {
				if old, inImage := iu.get(other.name); other.uid == r.uid && other.name != u.name && (!inImage || old.uid != u.uid) {
					if _, both := mu.get(u.name); !both {
						t.Errorf("%s, of the image only, shares %d with %s", u.name, r.uid, other.name)
					}
				}
			}
		}
		for _, g := range ig.entries {
			if r, ok := rg.get(g.name); !ok || r.gid != to(m.GIDs, g.gid) {
				t.Errorf("group %s goes from %d to %d, and its files to %d", g.name, g.gid, r.gid, to(m.GIDs, g.gid))
			}
		}
		if n, ok := m.UIDs[0]; ok {
			t.Errorf("root becomes %d", n)
		}
		for from, n := range m.UIDs {
			if n == 0 {
				t.Errorf("%d becomes root", from)
			}
		}
		again, err := Merge(machine, m.Files)
		if err != nil || len(again.Changed(m.Files)) != 0 || len(again.UIDs)+len(again.GIDs) != 0 {
			t.Errorf("a second time: %+v, %v", again, err)
		}
	})
}

func FuzzMerge(f *testing.F) {
	f.Add([]byte("root:x:0:0::/:\na:x:1:1::/:\n+::::::\n"), []byte("root:x:0:a,b\n"), []byte("root:*:::::::\n"), []byte("root:x:0:0::/:\nb:x:2:1::/:\n"), []byte("g:x:1:b\n"), []byte("b:1:2\nb:7:9\n"))
	f.Add([]byte("a:\r:1:1::/:\r\n-x\n"), []byte("\x00"), []byte("+\na"), []byte("a:x:4294967295:0::/:"), []byte("::0:"), []byte("a:4294967295:4294967295"))
	f.Fuzz(func(t *testing.T, passwd, group, shadow, mpasswd, mgroup, sub []byte) {
		image := Files{Passwd: passwd, Group: group, Shadow: shadow, Gshadow: shadow, SubUID: sub}
		machine := Files{Passwd: mpasswd, Group: mgroup, SubUID: sub}
		m, err := Merge(machine, image)
		if err != nil {
			return
		}
		again, err := Merge(machine, m.Files)
		if err != nil {
			t.Fatalf("a second time: %v", err)
		}
		if len(again.UIDs)+len(again.GIDs) != 0 {
			t.Fatalf("a second time %v and %v move", again.UIDs, again.GIDs)
		}
		for path, text := range again.Changed(m.Files) {
			t.Fatalf("a second time %s is\n%q after\n%q", path, text, *m.Files.At(path))
		}
		if again, _ := Merge(m.Files, m.Files); len(again.Notes) != 0 && len(sub) == 0 {
			t.Fatalf("what was written is noted: %v", again.Notes)
		}
	})
}

package accounts

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const (
	imagePasswd = "root:x:0:0:root:/root:/bin/bash\nsshd:x:105:65534::/run/sshd:/usr/sbin/nologin\nmunge:x:997:995::/:/sbin/nologin\nonly:x:900:900::/:/bin/sh\n"
	imageGroup  = "root:x:0:\nmunge:x:995:\nonly:x:900:only\nnogroup:x:65534:\n"
	hostPasswd  = "root:x:0:0:root:/root:/bin/bash\nmunge:x:1001:1002::/:/sbin/nologin\nalice:x:5000:5000:Alice:/home/alice:/bin/bash\n+::::::\n"
	hostGroup   = "root:x:0:\nmunge:x:1002:\nalice:x:5000:\nnogroup:x:65534:\n"
)

func TestTheMachinesAccountsWinAndTheImagesOwnStay(t *testing.T) {
	m, err := Merge(Files{Passwd: []byte(hostPasswd), Group: []byte(hostGroup)},
		Files{Passwd: []byte(imagePasswd), Group: []byte(imageGroup), Shadow: []byte("root:*:1::::::\nsshd:!:1::::::"), Gshadow: nil})
	if err != nil {
		t.Fatal(err)
	}
	wantPasswd := "root:x:0:0:root:/root:/bin/bash\nmunge:x:1001:1002::/:/sbin/nologin\nalice:x:5000:5000:Alice:/home/alice:/bin/bash\n" +
		"sshd:x:105:65534::/run/sshd:/usr/sbin/nologin\nonly:x:900:900::/:/bin/sh\n"
	if string(m.Passwd) != wantPasswd {
		t.Errorf("passwd:\n%s", m.Passwd)
	}
	if want := "root:x:0:\nmunge:x:1002:\nalice:x:5000:\nnogroup:x:65534:\nonly:x:900:only\n"; string(m.Group) != want {
		t.Errorf("group:\n%s", m.Group)
	}
	if want := "root:*:1::::::\nsshd:!:1::::::\nmunge:*:::::::\nalice:*:::::::\nonly:*:::::::\n"; string(m.Shadow) != want {
		t.Errorf("shadow:\n%s", m.Shadow)
	}
	if m.Gshadow != nil {
		t.Error("a gshadow came from nowhere")
	}
	if len(m.UIDs) != 1 || m.UIDs[997] != 1001 || len(m.GIDs) != 1 || m.GIDs[995] != 1002 {
		t.Errorf("owners %v, groups %v", m.UIDs, m.GIDs)
	}
	if got := strings.Join(m.Lines(), "; "); got != "add 1 users: alice; move 1 users: munge 997 → 1001; add 1 groups: alice; move 1 groups: munge 995 → 1002" {
		t.Errorf("it says %s", got)
	}
	again, err := Merge(Files{Passwd: []byte(hostPasswd), Group: []byte(hostGroup)}, m.Files)
	if err != nil || again.Changes(m.Files) {
		t.Errorf("a second time it changes %q, %v", again.Lines(), err)
	}
}

func TestANumberNeverComesToMeanSomebodyElse(t *testing.T) {
	_, err := Merge(Files{Passwd: []byte("bob:x:900:0::/:\nslurm:x:105:0::/:\n"), Group: []byte("g:x:1:\n")}, Files{Passwd: []byte(imagePasswd), Group: []byte(imageGroup)})
	if !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "only (900, which is bob here)") || !strings.Contains(err.Error(), "sshd (105, which is slurm here)") {
		t.Errorf("got %v", err)
	}
}

func TestNumbersMayChangePlaces(t *testing.T) {
	m, err := Merge(Files{Passwd: []byte("a:x:2:0::/:\nb:x:1:0::/:\n"), Group: []byte("")}, Files{Passwd: []byte("a:x:1:0::/:\nb:x:2:0::/:\n"), Group: []byte("")})
	if err != nil || m.UIDs[1] != 2 || m.UIDs[2] != 1 {
		t.Errorf("%v, %v", m, err)
	}
}

func TestBadLinesAreNamed(t *testing.T) {
	for file, want := range map[string]string{
		"root:x:0:0::/root:/bin/sh\nbroken\n": "line 2", "a:x:zero:0::/:\n": "line 1", "a:x:1:-1::/:\n": "line 1", ":x:1:1::/:\n": "line 1",
		"a:x:4294967295:1::/:\n": "line 1", "a:x:1:1::/:/bin/sh:more\n": "line 1",
	} {
		if _, err := Parse(Users, []byte(file)); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", file, err)
		}
	}
	if all, err := Parse(Users, []byte("# a comment\n\n+@netgroup::::::\n-bad::::::\na:x:1:1::/:/bin/sh\na:x:2:2::/:/bin/sh")); err != nil || len(all) != 1 || all[0].ID != 1 {
		t.Errorf("%+v, %v", all, err)
	}
}

// Whoever owned a file before a merge owns it afterwards, by name.
func TestFilesKeepTheirOwners(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	list := rapid.Custom(func(t *rapid.T) string {
		var b strings.Builder
		used := map[int]bool{}
		for _, n := range names {
			id := rapid.IntRange(1, 8).Draw(t, "id")
			if rapid.Bool().Draw(t, "there") && !used[id] {
				used[id] = true
				fmt.Fprintf(&b, "%s:x:%d:0::/:\n", n, id)
			}
		}
		return b.String()
	})
	rapid.Check(t, func(t *rapid.T) {
		host, image := list.Draw(t, "host"), list.Draw(t, "image")
		m, err := Merge(Files{Passwd: []byte(host)}, Files{Passwd: []byte(image)})
		if err != nil {
			if !errors.Is(err, fault.Conflict) {
				t.Fatal(err)
			}
			return
		}
		now := map[string]uint32{}
		for _, a := range parsed(Users, m.Passwd) {
			now[a.Name] = a.ID
		}
		for _, a := range parsed(Users, []byte(image)) {
			owner, moved := m.UIDs[a.ID]
			if !moved {
				owner = a.ID
			}
			if now[a.Name] != owner {
				t.Fatalf("%s owned %d, which became %d, and is %d now", a.Name, a.ID, owner, now[a.Name])
			}
		}
	})
}

func FuzzMerge(f *testing.F) {
	f.Add([]byte(hostPasswd), []byte(hostGroup), []byte(imagePasswd), []byte(imageGroup), []byte("root:*::\n"))
	f.Fuzz(func(t *testing.T, hp, hg, ip, ig, shadow []byte) {
		host := Files{Passwd: hp, Group: hg}
		m, err := Merge(host, Files{Passwd: ip, Group: ig, Shadow: shadow})
		if err != nil {
			return
		}
		if _, err := Merge(host, m.Files); err != nil {
			t.Fatalf("what came out does not go in: %v", err)
		}
	})
}

package ipxe

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// interpret runs a script whose fetches are answered by serve, and returns how it ended and what was fetched.
func interpret(text string, serve func(url string) ([]byte, error)) (*Script, []string, error) {
	var fetched []string
	s := &Script{
		Settings: map[string]string{"mac": "52:54:00:00:00:01", "empty": ""},
		Screen:   func(string, ...any) {},
		Fetch: func(_ context.Context, url string, _ time.Duration) ([]byte, error) {
			fetched = append(fetched, url)
			return serve(url)
		},
	}
	err := s.Run(context.Background(), "http://10.0.0.1:4480/boot/x/script", []byte(text))
	return s, fetched, err
}

func nothing(string) ([]byte, error) { return nil, errors.New("not found") }

func TestScriptsRunAsIPXERunsThem(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   string // settings at the end, or what the error says
	}{
		"set and expand":        {"set a b${mac}c\nset d ${a} ${nothing} e", "a=b52:54:00:00:00:01c d=b52:54:00:00:00:01c  e"},
		"types are dropped":     {"set n:int32 0\ninc n\ninc n\nset m ${n:uint8}", "m=2 n=2"},
		"or after failure":      {"iseq a b || set x 1", "x=1"},
		"or after success":      {"iseq a a || set x 1", ""},
		"and after success":     {"iseq a a && set x 1", "x=1"},
		"skipped until or":      {"iseq a b && set x 1 || set y 1", "y=1"},
		"an empty or mends":     {"iseq a b && set x 1 ||\nset y 1", "y=1"},
		"a failed line ends it": {"iseq a b\nset x 1", `script line 2, "iseq a b": they differ`},
		"semicolon":             {"iseq a b ; set x 1", "x=1"},
		"comment":               {"set x 1 # set y 2\n# set z 3", "x=1"},
		"goto":                  {"goto l\nset x 1\n:l\nset y 1", "y=1"},
		"goto ends its line":    {"goto l || set x 1\n:l", ""},
		"goto back":             {"set n 0\n:l\ninc n\niseq ${n} 3 || goto l", "n=3"},
		"goto nowhere":          {"goto l", "there is no label l"},
		"isset":                 {"isset ${empty} || set x 1\nisset ${mac} && set y 1 ||", "x=1 y=1"},
		"unknown command":       {"frob", "frob: command not found"},
		"unknown option":        {"kernel --frob http://r/k", "unknown option --frob"},
		"failed fetch":          {"kernel http://r/k || set x 1", "x=1"},
		"boot without kernel":   {"boot || set x 1", "x=1"},
		"reboot":                {"reboot\nset x 1", ErrReboot.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, err := interpret("#!ipxe\n"+c.script+"\n", nothing)
			if err != ErrExit {
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %s", err, c.want)
				}
				return
			}
			delete(s.Settings, "mac")
			delete(s.Settings, "empty")
			var got []string
			for k, v := range s.Settings {
				got = append(got, k+"="+v)
			}
			slices.Sort(got)
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if _, _, err := interpret("#!/bin/sh\n", nothing); err == nil {
		t.Error("took a shell script for one of iPXE's")
	}
}

func plan() *boot.Plan {
	return &boot.Plan{
		Node: "n1", Revision: 7, Manifest: chunk.RefOf([]byte("m")), Method: catalog.MethodTwoStage, Init: "/sbin/init", Root: "tmpfs",
		Image: "i:latest", BootHardware: "52:54:00:00:00:01", Kernel: chunk.Kernel{Kernel: chunk.RefOf([]byte("k")), StageOne: chunk.RefOf([]byte("s"))},
		Relays: []boot.Relay{
			{Name: "r1", Addr: netip.MustParseAddr("10.0.0.1"), BootPort: 4480, MeshPort: 4481},
			{Name: "r2", Addr: netip.MustParseAddr("10.0.0.2"), BootPort: 4480, MeshPort: 4481},
		},
	}
}

func written(t *testing.T, p *boot.Plan) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.WriteScript(&b, boot.Session{Boot: "b1", Ticket: "t1"}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestABootScriptGoesToTheNextRelay(t *testing.T) {
	for name, c := range map[string]struct {
		fails func(url string, tries int) bool
		want  string // relays asked, k for the kernel and s for stage one, and how it ends
	}{
		"all is well":               {func(string, int) bool { return false }, "1k 1s boots"},
		"the first is dead":         {func(u string, _ int) bool { return strings.Contains(u, "0.0.1:") }, "1k 2k 2s boots"},
		"the first dies in between": {func(u string, n int) bool { return strings.Contains(u, "0.0.1:") && n > 0 }, "1k 1s 2k 2s boots"},
		"all come back later":       {func(_ string, n int) bool { return n < 4 }, "1k 2k 1k 2k 1k 1s boots"},
		"nobody is there":           {func(string, int) bool { return true }, strings.Repeat("1k 2k ", 5) + "restarts"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				s, fetched, err := interpret(written(t, plan()), func(url string) ([]byte, error) {
					tries++
					if c.fails(url, tries-1) {
						return nil, errors.New("connection timed out")
					}
					return []byte("content"), nil
				})
				if got := asked(fetched) + ending(err); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
				if err == ErrBoot && (len(s.Images) != 2 || s.Images[1].Name != "stage-one" || !strings.HasPrefix(s.Selected.Args, "initrd=stage-one wulf.node=n1 ")) {
					t.Errorf("it starts %+v with %q", s.Images, s.Selected.Args)
				}
			})
		})
	}
}

// asked shortens URLs to the number of the relay and the kind of file.
func asked(urls []string) string {
	var b strings.Builder
	for _, u := range urls {
		what := "k"
		if strings.HasSuffix(u, chunk.Of([]byte("s")).String()) {
			what = "s"
		}
		b.WriteString(strings.TrimPrefix(strings.Split(u, ":")[1], "//10.0.0.") + what + " ")
	}
	return b.String()
}

func ending(err error) string {
	switch err {
	case ErrBoot:
		return "boots"
	case ErrReboot:
		return "restarts"
	}
	return err.Error()
}

func TestAProblemScriptAsksAgainUntilItIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := plan()
		bad.Problem = fault.New(fault.NotFound, "node n1 has no image").WithFix("wulf node set n1 --image NAME")
		asked := 0
		start := time.Now()
		_, fetched, err := interpret(written(t, bad), func(url string) ([]byte, error) {
			if asked++; strings.HasSuffix(url, "/script") && asked < 4 {
				return []byte(written(t, bad)), nil
			} else if strings.HasSuffix(url, "/script") {
				return []byte(written(t, plan())), nil
			}
			return []byte("content"), nil
		})
		if err != ErrBoot || len(fetched) != 6 || fetched[0] != "http://10.0.0.1:4480/boot/52:54:00:00:00:01/script" {
			t.Errorf("ended with %v after %q", err, fetched)
		}
		if took, want := time.Since(start), 4*15*time.Second; took != want {
			t.Errorf("took %v, want %v", took, want)
		}
		_, fetched, err = interpret(written(t, bad), nothing)
		if err != ErrReboot || len(fetched) != 1 {
			t.Errorf("without its relay it ended with %v after %q", err, fetched)
		}
	})
}

func TestURLsAreRelativeToTheScript(t *testing.T) {
	_, fetched, err := interpret("#!ipxe\nchain --replace y/script\n", func(url string) ([]byte, error) {
		if strings.HasSuffix(url, "y/script") {
			return []byte("#!ipxe\nkernel ../k\nboot\n"), nil
		}
		return nil, nil
	})
	if want := []string{"http://10.0.0.1:4480/boot/x/y/script", "http://10.0.0.1:4480/boot/x/k"}; !slices.Equal(fetched, want) || err != ErrBoot {
		t.Errorf("fetched %q, %v", fetched, err)
	}
}

func TestAScriptThatNeverEndsIsStopped(t *testing.T) {
	if _, _, err := interpret("#!ipxe\n:l\ngoto l\n", nothing); err == nil || errors.Is(err, ErrExit) {
		t.Errorf("it ended with %v", err)
	}
}

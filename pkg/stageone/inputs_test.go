package stageone_test

import (
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
	"github.com/wulfmesh/wulfmesh/pkg/stageone"
)

// summedSource knows the digests of its files, as an image that is stored does.
type summedSource struct {
	segment.Source
	sums map[string]chunk.ID
}

func (s summedSource) Sum(path string) (chunk.ID, error) {
	id, ok := s.sums[path]
	if !ok {
		return id, fault.New(fault.NotFound, "no file %q", path)
	}
	return id, nil
}

// withSums is a source of files, as image makes them, that knows their digests.
func withSums(t *testing.T, files ...string) segment.Source {
	s := summedSource{image(t, files...), map[string]chunk.ID{}}
	for i := 0; i < len(files); i += 2 {
		s.sums[files[i]] = chunk.Of([]byte(files[i+1]))
	}
	return s
}

func TestEqualInputsAreToldFromOthers(t *testing.T) {
	base := []string{"lib", "->usr/lib", "etc/motd", "hello", "boot/vmlinuz-6.1", bzImage("6.1"), "boot/vmlinuz-6.2", bzImage("6.2"),
		"usr/lib/modules/6.1/modules.dep", "kernel/drivers/net/virtio_net.ko:\n", "usr/lib/modules/6.1/kernel/drivers/net/virtio_net.ko", module("a"),
		"usr/lib/modules/6.1/weak-updates/k.ko", "->/usr/lib/modules/6.0/extra/k.ko", "usr/lib/modules/6.0/extra/k.ko", module("k"),
		"usr/lib/modules/6.2/modules.dep", "", "usr/lib/firmware/a.bin", "a", "usr/lib/firmware/b.bin", "->a.bin", "usr/lib/other", "x",
		"usr/lib/firmware/vendor", "->/opt/vendor", "opt/vendor/v.bin", "v", "opt/vendor/self", "->../vendor", "usr/lib/firmware/up", "->.", "usr/lib/firmware/gone", "->nowhere"}
	with := func(changes ...string) []string {
		files := append([]string(nil), base...)
	change:
		for c := 0; c < len(changes); c += 2 {
			for i := 0; i < len(files); i += 2 {
				if files[i] == changes[c] {
					files[i+1] = changes[c+1]
					continue change
				}
			}
			files = append(files, changes[c], changes[c+1])
		}
		return files
	}
	options := stageone.Options{Agent: []byte("agent"), Trust: []byte("trust"), Modules: []string{"b", "a"}}
	for name, source := range map[string]func(*testing.T, ...string) segment.Source{"with digests": withSums, "without": image} {
		inputs := func(files []string, version string, o stageone.Options) chunk.ID {
			t.Helper()
			src := source(t, files...)
			ks, err := stageone.FindKernels(src)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range ks {
				if k.Version == version {
					id, err := stageone.Inputs(src, k, o)
					if err != nil || id.IsZero() {
						t.Fatalf("%v, %v", id, err)
					}
					return id
				}
			}
			t.Fatalf("no kernel %s", version)
			return chunk.ID{}
		}
		first := inputs(base, "6.1", options)
		for what, tc := range map[string]struct {
			files []string
			o     stageone.Options
			same  bool
		}{
			"nothing":                               {base, options, true},
			"a file elsewhere":                      {with("etc/motd", "good day", "usr/share/new", "z"), options, true},
			"another kernel's file":                 {with("boot/vmlinuz-6.2", bzImage("6.2")+"x"), options, true},
			"the kernel's file":                     {with("boot/vmlinuz-6.1", bzImage("6.1")+"x"), options, false},
			"another kernel's modules":              {with("usr/lib/modules/6.2/modules.dep", "x"), options, true},
			"the order of modules":                  {base, stageone.Options{Agent: []byte("agent"), Trust: []byte("trust"), Modules: []string{"a", "b"}}, true},
			"a module":                              {with("usr/lib/modules/6.1/kernel/drivers/net/virtio_net.ko", module("ab")), options, false},
			"a new module":                          {with("usr/lib/modules/6.1/updates/x.ko", module()), options, false},
			"modules.dep":                           {with("usr/lib/modules/6.1/modules.dep", "x"), options, false},
			"a module behind a link":                {with("usr/lib/modules/6.0/extra/k.ko", module("kk")), options, false},
			"firmware":                              {with("usr/lib/firmware/a.bin", "ab"), options, false},
			"firmware behind a link to a directory": {with("opt/vendor/v.bin", "vv"), options, false},
			"new firmware":                          {with("usr/lib/firmware/c.bin", ""), options, false},
			"where a name of firmware leads to":     {with("usr/lib/firmware/b.bin", "->../other", "usr/lib/other", "xyz"), options, false},
			"the agent":                             {base, stageone.Options{Agent: []byte("newer"), Trust: []byte("trust"), Modules: []string{"b", "a"}}, false},
			"whom to trust":                         {base, stageone.Options{Agent: []byte("agent"), Trust: []byte("others"), Modules: []string{"b", "a"}}, false},
			"modules asked for":                     {base, stageone.Options{Agent: []byte("agent"), Trust: []byte("trust"), Modules: []string{"ba"}}, false},
		} {
			if got := inputs(tc.files, "6.1", tc.o); (got == first) != tc.same {
				t.Errorf("%s: %s changes: equal %v, want %v", name, what, got == first, tc.same)
			}
		}
		if inputs(base, "6.2", options) == first {
			t.Errorf("%s: two kernels have equal inputs", name)
		}
	}
	// Digests see what size and time do not.
	a, b := withSums(t, base...), withSums(t, with("usr/lib/firmware/a.bin", "b")...)
	ks, err := stageone.FindKernels(a)
	if err != nil {
		t.Fatal(err)
	}
	x, _ := stageone.Inputs(a, ks[1], options)
	y, _ := stageone.Inputs(b, ks[1], options)
	if ks[1].Version != "6.1" || x == y {
		t.Error("a file of the same size went unnoticed")
	}
}

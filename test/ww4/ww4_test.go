package ww4

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf/view"
)

var update = flag.Bool("update", false, "write testdata/golden anew")

// server is a Warewulf server of testdata.
func server(t *testing.T) *World {
	t.Helper()
	nodes, err := warewulf.ParseNodes(read(t, "testdata/nodes.conf"))
	if err != nil {
		t.Fatal(err)
	}
	values, err := view.ReadServer(read(t, "testdata/warewulf.conf"))
	if err != nil {
		t.Fatal(err)
	}
	w := &World{Nodes: nodes, Server: values, Root: t.TempDir(), Images: "testdata/images", Host: "head", Now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	if err := os.CopyFS(w.Root, os.DirFS("testdata/root")); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"usr/share/zoneinfo/UTC": "Etc/UTC", "etc/localtime": "../usr/share/zoneinfo/UTC"} {
		if err := os.Symlink(target, filepath.Join(w.Root, name)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// templates are those of testdata, by name.
func templates(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("testdata/templates/*.ww")
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for i := range all {
		all[i] = filepath.Base(all[i])
	}
	return all
}

// shown is what Warewulf shows of each template for each node, or why it does not.
func shown(t *testing.T, w *World, name string) string {
	t.Helper()
	var b strings.Builder
	for _, node := range append(slices.Sorted(maps.Keys(w.Nodes.Nodes)), "nobody") {
		b.WriteString("=== " + node + "\n")
		made, err := w.Render(node, "site", "/overlays/site/rootfs/etc/"+name, read(t, "testdata/templates/"+name))
		if err != nil {
			b.WriteString("ERROR\n")
			continue
		}
		b.WriteString(made.Show("etc/" + name))
	}
	return b.String()
}

func TestTemplatesMakeWhatWasReadOffWarewulfsSource(t *testing.T) {
	w := server(t)
	for _, name := range templates(t) {
		got, golden := shown(t, w, name), "testdata/golden/"+strings.TrimSuffix(name, ".ww")+".txt"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want := string(read(t, golden)); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
}

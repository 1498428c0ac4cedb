package arch

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

// A check that finds nothing proves nothing: each is shown a small repository with faults and without.
func TestTheChecksFindWhatTheyAreFor(t *testing.T) {
	const mod = "module m.org/w\n\ngo 1.26\n\nrequire (\n\tgithub.com/urfave/cli/v2 v2.27.7\n\tgithub.com/x/y v1.0.0 // indirect\n)\n"
	long := func(lines int) string { return "package x\n" + strings.Repeat("\n", lines-1) }
	for name, c := range map[string]struct {
		check func(*tree) []string
		files map[string]string
		want  []string // how each fault begins; none: all is well
	}{
		"imports down": {checkFloors, map[string]string{
			"pkg/boot/a.go":         `package boot; import ("fmt"; "m.org/w/pkg/catalog"; "m.org/w/pkg/fault")`,
			"cmd/wulf-agent/a.go":   `package main; import "m.org/w/cmd/wulf-agent/stageone"`,
			"relay/cache/a_test.go": `package cache; import ("m.org/w/relay/gossip"; "m.org/w/test/memnet"; "m.org/w/pkg/chunkstore/storetest")`,
			"test/mesh/a.go":        `package mesh; import "m.org/w/relay"`,
		}, nil},
		"imports up": {checkFloors, map[string]string{
			"pkg/catalog/a.go":    `package catalog; import "m.org/w/pkg/boot"`,
			"pkg/chunk/a_test.go": `package chunk; import "m.org/w/pkg/catalog"`,
		}, []string{"pkg/catalog/a.go: pkg/catalog on floor 2 imports pkg/boot on floor 3", "pkg/chunk/a_test.go: pkg/chunk on floor 1"}},
		"imports sideways": {checkFloors, map[string]string{
			"relay/feed/a.go": `package feed; import "m.org/w/relay/gossip"`,
		}, []string{"relay/feed/a.go: relay/feed and relay/gossip are both on floor 5"}},
		"no floor": {checkFloors, map[string]string{
			"pkg/util/a.go": `package util`,
			"relay/a.go":    `package relay; import "m.org/w/pkg/util"`,
		}, []string{"pkg/util/a.go: package pkg/util has no floor", "relay/a.go imports pkg/util, which has no floor"}},
		"roles apart": {checkRoles, map[string]string{
			"cmd/wulf/cli/a.go": `package cli; import ("m.org/w/controller"; "m.org/w/relay")`,
			"controller/a.go":   `package controller; import ("m.org/w/replication"; "m.org/w/pkg/api")`,
		}, nil},
		"roles mixed": {checkRoles, map[string]string{
			"controller/state/a.go": `package state; import "m.org/w/relay/feed"`,
			"relay/a.go":            `package relay; import "m.org/w/replication"`,
			"cmd/wulf-agent/a.go":   `package main; import ("m.org/w/relay/cache"; "m.org/w/cmd/wulf/cli")`,
		}, []string{"cmd/wulf-agent/a.go: cmd/wulf-agent belongs to the agent", "cmd/wulf-agent/a.go: the agent imports cmd/wulf/cli",
			"controller/state/a.go: controller/state belongs to the controller", "relay/a.go: relay belongs to the relay"}},
		"owned libraries": {checkOwners, map[string]string{
			"replication/a.go":        `package replication; import ("github.com/hashicorp/raft"; bolt "github.com/hashicorp/raft-boltdb/v2"; "golang.org/x/sync/errgroup")`,
			"cmd/wulf-agent/net/a.go": `package net; import "github.com/vishvananda/netlink"`,
			"pkg/nodeset/a_test.go":   `package nodeset; import "pgregory.net/rapid"`,
			"test/memnet/a_test.go":   `package memnet; import "github.com/hashicorp/raft"`,
		}, nil},
		"stolen libraries": {checkOwners, map[string]string{
			"controller/a.go": `package controller; import "github.com/hashicorp/raft-boltdb/v2"`,
			"relay/a_test.go": `package relay; import "github.com/hashicorp/memberlist"`,
			"pkg/chunk/a.go":  `package chunk; import ("github.com/x/y/z"; "pgregory.net/rapid")`,
		}, []string{"controller/a.go: controller imports github.com/hashicorp/raft-boltdb, which replication owns",
			"pkg/chunk/a.go imports github.com/x/y/z, which has no owner", "pkg/chunk/a.go imports pgregory.net/rapid, which is for tests",
			"relay/a_test.go: relay imports github.com/hashicorp/memberlist, which relay/gossip owns"}},
		"tests import tests": {checkTestOnly, map[string]string{
			"relay/a_test.go":                   `package relay; import ("testing"; "m.org/w/test/memnet")`,
			"test/mesh/a.go":                    `package mesh; import ("testing"; "m.org/w/test/memnet")`,
			"pkg/chunkstore/storetest/suite.go": `package storetest; import "testing"`,
		}, nil},
		"products import tests": {checkTestOnly, map[string]string{
			"relay/a.go":       `package relay; import "m.org/w/test/memnet"`,
			"relay/cache/a.go": `package cache; import ("testing/fstest"; "m.org/w/pkg/chunkstore/storetest")`,
		}, []string{"relay/a.go ships and imports m.org/w/test/memnet", "relay/cache/a.go ships and imports testing/fstest",
			"relay/cache/a.go ships and imports m.org/w/pkg/chunkstore/storetest"}},
		"pure": {checkPure, map[string]string{
			"pkg/catalog/a.go":      `package catalog; import ("net"; "net/netip"; "time"); func F(t time.Time, a netip.Addr) net.HardwareAddr { t.Sub(t); return nil }`,
			"pkg/catalog/a_test.go": `package catalog; import "time"; var now = time.Now()`,
			"pkg/chunkstore/a.go":   `package chunkstore; func f() { go f() }`,
		}, nil},
		"impure": {checkPure, map[string]string{
			"pkg/boot/a.go":  `package boot; import clock "time"; func f() { go f(); clock.Now() }`,
			"pkg/chunk/a.go": `package chunk; import ("net"; "math/rand/v2"; "sync"); func f(wg sync.WaitGroup) { wg.Go(f2); net.Dial("", ""); rand.Int() }; func f2() {}`,
		}, []string{"pkg/boot/a.go:1: the pure package pkg/boot starts a goroutine", "pkg/boot/a.go:1: the pure package pkg/boot uses time.Now",
			"pkg/chunk/a.go:1: the pure package pkg/chunk starts a goroutine with Go", "pkg/chunk/a.go:1: the pure package pkg/chunk uses net.Dial",
			"pkg/chunk/a.go:1: the pure package pkg/chunk uses math/rand/v2.Int"}},
		"quiet start": {checkStart, map[string]string{
			"relay/a.go":      `package relay; import "log/slog"; type T struct{}; func (T) init() {}; func f(l *slog.Logger) { l.Info("") }`,
			"cmd/wulf/a.go":   `package main; import "log/slog"; func main() { slog.SetDefault(nil) }`,
			"relay/a_test.go": `package relay; func init() {}`,
		}, nil},
		"loud start": {checkStart, map[string]string{
			"relay/a.go": `package relay; import "log/slog"; func init() { slog.Info("") }`,
		}, []string{"relay/a.go:1: a package does nothing when it is imported", "relay/a.go:1: slog.Info uses the global logger"}},
		"sleep in a bubble": {checkSleep, map[string]string{
			"relay/a_test.go":    `package relay; import ("testing/synctest"; "time"); func TestX(t *T) { synctest.Test(t, func(t *T) { time.Sleep(1) }) }`,
			"relay/b_test.go":    `package relay; import "time"; func TestY(t *T) { in(t, func() { time.Sleep(1) }) }; func helper() { time.Sleep(1) }`,
			"relay/c_test.go":    `package relay; import "testing/synctest"; func in(t *T, f func()) { synctest.Test(t, func(t *T) { f() }) }`,
			"relay/run.go":       `package relay; import "time"; func f() { time.Sleep(1) }`,
			"test/e2e/a_test.go": `package e2e; import "time"; func TestX(t *T) { time.Sleep(1) }`,
		}, nil},
		"sleep outside": {checkSleep, map[string]string{
			"relay/a_test.go":      `package relay; import ("testing/synctest"; "time"); func TestX(t *T) { synctest.Test(t, func(t *T) {}); time.Sleep(1) }`,
			"controller/a_test.go": `package controller; import "time"; func helper() { time.Sleep(1) }`,
		}, []string{"controller/a_test.go:1: this test sleeps outside", "relay/a_test.go:1: this test sleeps outside"}},
		"commented": {checkComments, map[string]string{
			"relay/a.go":       "// Package relay relays.\npackage relay",
			"relay/b.go":       "//go:build linux\n\npackage relay",
			"cmd/wulf/a.go":    "// Command wulf is it.\npackage main",
			"test/x/a_test.go": "// Package x tests.\npackage x",
		}, nil},
		"uncommented": {checkComments, map[string]string{
			"relay/a.go":      "package relay",
			"relay/a_test.go": "// Package relay relays.\npackage relay",
			"cmd/wulf/a.go":   "// The command.\npackage main",
			"controller/a.go": "// Package controller controls.\npackage controller",
			"controller/b.go": "// Package controller controls.\npackage controller",
		}, []string{"cmd/wulf/a.go: the package comment begins with", "cmd/wulf has no package comment", "controller has a package comment in each of controller/a.go, controller/b.go",
			"relay has no package comment"}},
		"small files": {sizes, map[string]string{"relay/a.go": long(1000)}, nil},
		"large files": {sizes, map[string]string{"relay/a_test.go": long(1001)}, []string{"relay/a_test.go has 1001 lines"}},
		"no paths": {checkPaths, map[string]string{
			"a.md": "in $HOME" + machinePaths[0] + "x and /var" + machinePaths[0] + "x", "b.bin": "\x00 " + machinePaths[0],
			".git/config": machinePaths[0], "bin/x": machinePaths[0],
		}, nil},
		"paths": {checkPaths, map[string]string{
			"docs/a.md": "first\nsee " + machinePaths[0] + "main", "x/testdata/a.txt": "\"" + machinePaths[1] + "pkg\"",
		}, []string{"docs/a.md:2: ", "x/testdata/a.txt:1: "}},
		"explained": {checkDependencies, map[string]string{
			"docs/dependencies.md": "github.com/urfave/cli/v2 sends", "cmd/wulf/cli/a.go": `package cli; import "github.com/urfave/cli/v2"`,
			"tools/go.mod": "module tools", "tools/a.go": `package tools; import "github.com/x/y"`,
		}, nil},
		"unexplained": {checkDependencies, map[string]string{
			"docs/dependencies.md": "", "cmd/wulf/cli/a.go": `package cli; import ("github.com/urfave/cli/v2/altsrc"; "github.com/z/z")`,
		}, []string{"docs/dependencies.md does not name github.com/urfave/cli/v2, which cmd/wulf/cli/a.go imports", "cmd/wulf/cli/a.go imports github.com/z/z, which no module"}},
		"unwritten": {checkDependencies, nil, []string{"docs/dependencies.md is missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := fstest.MapFS{"go.mod": {Data: []byte(mod)}}
			for file, content := range c.files {
				fsys[file] = &fstest.MapFile{Data: []byte(content)}
			}
			tr, err := load(fsys)
			if err != nil {
				t.Fatal(err)
			}
			got := c.check(tr)
			if len(got) != len(c.want) {
				t.Fatalf("found %d faults, want %d:\n%s", len(got), len(c.want), strings.Join(got, "\n"))
			}
			for _, want := range c.want {
				if err := one(got, want); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func one(got []string, want string) error {
	for _, g := range got {
		if strings.HasPrefix(g, want) {
			return nil
		}
	}
	return fmt.Errorf("no fault begins with %q:\n%s", want, strings.Join(got, "\n"))
}

func sizes(tr *tree) []string {
	bad, _ := checkSize(tr)
	return bad
}

// Every package named in a table should be able to exist: a typing error there would be a hole in the rule.
func TestTheTablesNameEachOther(t *testing.T) {
	for lib, who := range owners {
		for _, p := range who {
			if _, ok := floorOf(strings.TrimSuffix(p, "/**")); !ok {
				t.Errorf("%s is owned by %s, which has no floor", lib, p)
			}
		}
	}
	if _, ok := floorOf("cmd/wulf-agent/anything"); !ok {
		t.Error("patterns do not match")
	}
}

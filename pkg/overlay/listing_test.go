package overlay_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

func TestListingHoldsWhatWasRendered(t *testing.T) {
	large := strings.Repeat("x", overlay.MaxInline+1)
	l := overlay.List(overlay.KindRuntime, []overlay.Rendered{
		{Path: "a", Type: overlay.TypeDir, Mode: 0o700}, {Path: "b", Type: overlay.TypeFile, Mode: 0o640, UID: 1, GID: 2, Content: []byte("small"), Overlay: "site"},
		{Path: "c", Type: overlay.TypeFile, Content: []byte(large)}, {Path: "d", Type: overlay.TypeLink, Target: "b"}, {Path: "e", Type: overlay.TypeFile},
	}, []overlay.Hook{{Path: "b", Reload: "x.service"}}, overlay.MaxInline)
	raw, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	got, err := overlay.DecodeListing(raw)
	if err != nil {
		t.Fatal(err)
	}
	if b, c, e := got.Files[1], got.Files[2], got.Files[4]; !b.Inline() || string(b.Content) != "small" || b.Overlay != "site" || c.Inline() || c.Size != int64(len(large)) || !e.Inline() {
		t.Errorf("got %+v", got)
	}
}

func TestListingsThatNoRelayMakesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no json":      `{`,
		"outside":      `{"files":[{"path":"../x","type":"dir"}]}`,
		"twice":        `{"files":[{"path":"x","type":"dir"},{"path":"x","type":"dir"}]}`,
		"type":         `{"files":[{"path":"x","type":"gone"}]}`,
		"mode":         `{"files":[{"path":"x","type":"dir","mode":65535}]}`,
		"link":         `{"files":[{"path":"x","type":"link"}]}`,
		"size":         `{"files":[{"path":"x","type":"file","size":-1}]}`,
		"wrong digest": `{"files":[{"path":"x","type":"file","size":1,"content":"eA==","digest":"` + strings.Repeat("0", 64) + `"}]}`,
		"hook":         `{"hooks":[{"path":"x","reload":"--now"}]}`,
	} {
		if _, err := overlay.DecodeListing([]byte(text)); !errors.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzListing(f *testing.F) {
	f.Add([]byte(`{"kind":"runtime","files":[{"path":"etc/x","type":"file","size":1,"content":"eA==","digest":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}],"hooks":[{"path":"etc/*","restart":"x.service"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := overlay.DecodeListing(raw)
		if err != nil {
			return
		}
		for _, e := range l.Files {
			if overlay.CheckPath(e.Path) != nil {
				t.Errorf("path %q", e.Path)
			}
		}
	})
}

func TestHooksNameOneUnitAtMost(t *testing.T) {
	for hook, good := range map[overlay.Hook]bool{
		{Path: "etc/chrony/*.conf", Reload: "chrony.service"}: true, {Path: "etc/x", Restart: `dev-sda\x2d1.swap`}: true,
		{Path: "etc/x"}: true, {Path: "etc/x", Reload: "a.service", Restart: "b.service"}: false, {Path: "etc/[", Reload: "a.service"}: false,
		{Path: "/etc/x", Reload: "a.service"}: false, {Path: "etc/x", Reload: "a b.service"}: false, {Path: "etc/x", Reload: "-H.x"}: false, {Path: "etc/x", Reload: "chrony"}: false,
	} {
		if _, err := overlay.NewBundle(nil, hook); (err == nil) != good {
			t.Errorf("%+v: %v", hook, err)
		}
	}
	if h := (overlay.Hook{Path: "etc/*.conf"}); !h.Matches("etc/a.conf") || h.Matches("etc/a/b.conf") {
		t.Error("a pattern stays within its directory")
	}
}

func TestSiteFilesAreLaidOverShippedOnes(t *testing.T) {
	bundle := func(hooks []overlay.Hook, files ...overlay.File) *overlay.Bundle {
		b, err := overlay.NewBundle(files, hooks...)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	file := func(path, content string, mode uint32) overlay.File {
		return overlay.File{Path: path, Type: overlay.TypeFile, Mode: mode, Content: []byte(content)}
	}
	base := bundle([]overlay.Hook{{Path: "a", Reload: "a.service"}}, file("a", "shipped", 0o644), file("b", "shipped", 0o644), file("c", "shipped", 0o644))
	own := bundle([]overlay.Hook{{Path: "d", Reload: "d.service"}}, file("b", "site", 0o600), overlay.File{Path: "c", Type: overlay.TypeGone}, file("d", "site", 0o644))
	laid, err := overlay.Lay(base, own)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range laid.Files {
		got = append(got, f.Path+" "+string(f.Content))
	}
	if want := "a shipped|b site|d site"; strings.Join(got, "|") != want || len(laid.Hooks) != 2 || laid.Files[1].Mode != 0o600 {
		t.Errorf("got %v, hooks %v", got, laid.Hooks)
	}
	if none, err := overlay.Lay(nil, nil); err != nil || len(none.Files) != 0 {
		t.Errorf("nothing: %v, %v", none, err)
	}
}

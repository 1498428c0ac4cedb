package catalog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// textOf is a text that fits a setting. A new setting that none of these fits fails the test below.
func textOf(t *testing.T, path string) string {
	for _, text := range []string{"52:54:00:12:34:56", "fd00::1", "1500", "true", "x", `{"a":[1,2]}`, "4c4c4544-0042-3510-8054-b4c04f564433"} {
		if _, err := catalog.ParseSetting(path, text); err == nil {
			return text
		}
	}
	t.Fatalf("%s: no text fits", path)
	return ""
}

func TestEverySettingIsReadShownUnsetComparedAndMerged(t *testing.T) {
	for _, pattern := range catalog.Paths() {
		if pattern == "without" {
			continue
		}
		for _, key := range []string{"eth0", "eth0.12", "/dev/disk/by-id/x.y"} {
			path := strings.Replace(pattern, "NAME", key, 1)
			path = strings.ReplaceAll(path, "NAME", "in.ner")
			text := textOf(t, path)
			s, err := catalog.ParseSetting(path, text)
			if err != nil {
				t.Fatal(err)
			}
			flat := s.Flat()
			if len(flat) != 1 || flat[path] == "" {
				t.Errorf("%s: shown as %v", path, flat)
				continue
			}
			again, err := catalog.ParseSetting(path, strings.Trim(flat[path], "[]"))
			if strings.HasPrefix(path, "secrets.") || path == "bmc.password" {
				if flat[path] != catalog.Hidden {
					t.Errorf("%s is shown as %q", path, flat[path])
				}
			} else if text != `{"a":[1,2]}` && (err != nil || !reflect.DeepEqual(again, s)) {
				t.Errorf("%s: %q is shown as %q, which is read as %v (%v)", path, text, flat[path], again.Flat(), err)
			}
			if v, ok := s.Value(path); !ok || v != flat[path] {
				t.Errorf("%s: by itself it is %q, %v, among all %q", path, v, ok, flat[path])
			}
			if got := s.Decided(); len(got) != 1 || got[0] != path {
				t.Errorf("%s: decided are %v", path, got)
			}
			if !catalog.IsPath(path) {
				t.Errorf("%s is no path", path)
			}
			b, _ := json.Marshal(s)
			var decoded catalog.Settings
			if err := json.Unmarshal(b, &decoded); err != nil || !reflect.DeepEqual(decoded, s) {
				t.Errorf("%s: %s is read as %v (%v)", path, b, decoded.Flat(), err)
			}
			var merged catalog.Settings
			catalog.Merge(&merged, s, "x", catalog.Blame{})
			if !reflect.DeepEqual(merged, s) {
				t.Errorf("%s: merged into nothing it is %v", path, merged.Flat())
			}
			set, unset := catalog.Difference(catalog.Settings{}, s)
			if !reflect.DeepEqual(set, s) || len(unset) != 0 {
				t.Errorf("%s: the difference to nothing is %v, unset %v", path, set.Flat(), unset)
			}
			empty := s
			_, unset = catalog.Difference(s, catalog.Settings{})
			if err := empty.Patch(catalog.Settings{}, unset); err != nil || !reflect.DeepEqual(empty, catalog.Settings{}) {
				t.Errorf("%s: without %v there is left %v (%v)", path, unset, empty.Flat(), err)
			}
			if err := s.Patch(catalog.Settings{}, []string{path}); err != nil || !reflect.DeepEqual(s, catalog.Settings{}) {
				t.Errorf("%s: unset leaves %v (%v)", path, s.Flat(), err)
			}
		}
	}
}

func TestUnsetTakesKeysWithDotsApartByWhatIsThere(t *testing.T) {
	all := []string{"tags.a=1", "tags.a.b=2", "nets.eth0.mtu=1500", "nets.eth0.12.mtu=1600", "nets.eth0.tags.mtu=9", "disks./dev/disk/by-id/x.y.wipe_table=true"}
	for _, tc := range []struct{ unset, gone string }{
		{"tags.a", "tags.a"}, {"tags.a.b", "tags.a.b"}, {"tags.a.c", ""}, {"nets.eth0.12", "nets.eth0.12.mtu"}, {"nets.eth0.mtu", "nets.eth0.mtu"},
		{"nets.eth0.tags.mtu", "nets.eth0.tags.mtu"}, {"nets.eth0.13", ""}, {"nets.eth0.13.mtu", ""}, {"nets.eth1", ""}, {"nets.eth0.gateway", ""},
		{"disks./dev/disk/by-id/x.y", "disks./dev/disk/by-id/x.y.wipe_table"}, {"disks./dev/disk/by-id/x.z", ""},
	} {
		s := settings(t, all...)
		want := s.Flat()
		delete(want, tc.gone)
		if err := s.Patch(catalog.Settings{}, []string{tc.unset}); err != nil || !reflect.DeepEqual(s.Flat(), want) {
			t.Errorf("unset %s: %v, left %v", tc.unset, err, s.Flat())
		}
	}
	for _, path := range []string{"", ".", "imagine", "kernel.", ".kernel", "kernel..args", "nets.", "nets.eth0.", "nets..mtu", "image.x", "kernel.args.0", "nets.eth0.adress", "nets.eth9.adress", "tags."} {
		s := settings(t, all...)
		before := s.Flat()
		if err := s.Patch(catalog.Settings{}, []string{path}); !errors.Is(err, fault.Invalid) || !reflect.DeepEqual(s.Flat(), before) {
			t.Errorf("unset %q: %v, left %v", path, err, s.Flat())
		}
	}
}

func TestSettingsThatCannotBeReadAreRefused(t *testing.T) {
	for _, tc := range []struct{ path, text, fix string }{
		{"imag", "x", "image"}, {"nets.default.adress", "10.1.0.1", "did you mean nets.default.address?"}, {"nets", "x", "wulf help settings"}, {"uuid", "x", "4c4c4544"}, {"nets.default", "x", ""}, {"kernel", "x", "kernel.args"},
		{"nets..mtu", "1", ""}, {"tags.", "x", ""}, {"", "x", ""}, {"without", "image", ""}, {"nets.a.mtu", "many", "digits"}, {"nets.a.address", "10.1", "10.1.0.1"},
		{"nets.a.hardware", "52:54", "52:54:00"}, {"nets.a.onboot", "maybe", "true or false"}, {"uuid.x", "y", ""}, {"tags." + strings.Repeat("x", 600), "y", ""},
	} {
		_, err := catalog.ParseSetting(tc.path, tc.text)
		if !errors.Is(err, fault.Invalid) || !strings.Contains(fault.Fix(err), tc.fix) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s=%s: %v (%s), want a fix with %q", tc.path, tc.text, err, fault.Fix(err), tc.fix)
		}
	}
}

func TestResourcesKeepTheirValues(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.0.1": `"10.1.0.1"`, "1.0": "1.0", "12345678901234567890": "12345678901234567890", "x y": `"x y"`, `{"b":1,"a":"<&>"}`: `{"a":"<&>","b":1}`, "true": "true", "1 2": `"1 2"`, "[1] x": `"[1] x"`, "": `""`,
	} {
		s, err := catalog.ParseSetting("resources.r", text)
		if err != nil || string(s.Resources["r"]) != want {
			t.Errorf("%q is %s, want %s (%v)", text, s.Resources["r"], want, err)
		}
		if r, err := catalog.NewResource(s.Resources["r"].Value()); err != nil || r != s.Resources["r"] {
			t.Errorf("%q: made anew from its value it is %s (%v)", text, r, err)
		}
	}
	var r catalog.Resource
	if err := r.UnmarshalJSON([]byte(strings.Repeat("[", 40) + strings.Repeat("]", 40))); !errors.Is(err, fault.Invalid) {
		t.Errorf("nested 40 deep: %v", err)
	}
	if _, err := catalog.NewResource(strings.Repeat("x", catalog.MaxResource)); !errors.Is(err, fault.Invalid) {
		t.Errorf("larger than allowed: %v", err)
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	const clear = "hunter2"
	s := settings(t, "bmc.password="+clear, "secrets.key="+clear)
	sealed := settings(t, "bmc.password="+catalog.SealedPrefix+clear, "secrets.key="+catalog.SealedPrefix+clear)
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	for _, s := range []catalog.Settings{s, sealed} {
		logger.Info("x", "secret", s.Secrets["key"], "password", s.BMC.Password, "all", s.Secrets, "settings", s)
		for _, v := range []any{s.Secrets["key"], *s.BMC.Password, s.BMC.Password, s.Secrets, []catalog.Secret{s.Secrets["key"]}, struct{ S catalog.Secret }{s.Secrets["key"]}, s.Flat()} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
				if out := fmt.Sprintf(verb, v); strings.Contains(out, clear) || strings.Contains(strings.ToLower(out), "68756e746572") {
					t.Errorf("%s of %T shows %s", verb, v, out)
				}
			}
		}
	}
	if strings.Contains(log.String(), clear) {
		t.Errorf("logged: %s", log.String())
	}
	l := started(t)
	for _, change := range []catalog.Change{
		catalog.SetNodes{Nodes: catalog.NodeSet{"n1"}, Set: settings(t, "bmc.password="+clear)},
		catalog.SetNodes{Nodes: catalog.NodeSet{"n1"}, Each: map[catalog.NodeName]catalog.Settings{"n1": settings(t, "secrets.key="+clear)}},
		catalog.SetNodes{Nodes: catalog.NodeSet{"n1"}, Compute: map[string]string{"secrets.key": clear + "{n1}"}},
		catalog.AddNodes{Names: catalog.NodeSet{"n8"}, Set: settings(t, "secrets.key="+clear)},
		catalog.AddNodes{Nodes: []catalog.Node{{Name: "n8", Settings: settings(t, "secrets.key="+clear)}}},
		catalog.SetProfiles{Names: []catalog.ProfileName{"default"}, Set: settings(t, "secrets.key="+clear)},
		catalog.AddProfile{Profile: catalog.Profile{Name: "p", Settings: settings(t, "bmc.password="+clear)}},
	} {
		err := l.do(change)
		if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "not sealed") || strings.Contains(err.Error()+fault.Fix(err), clear) {
			t.Errorf("%s with a secret in clear: %v (%s)", catalog.KindOf(change), err, fault.Fix(err))
		}
	}
	change := catalog.SetNodes{Nodes: catalog.NodeSet{"n1"}, Set: sealed}
	p, err := l.c.Preview(encode(t, change))
	if err != nil {
		t.Fatal(err)
	}
	l.must(change)
	about := ""
	for r := range l.c.History() {
		about += r.About() + fmt.Sprintf("%+v", r)
	}
	if b, _ := json.Marshal(p); strings.Contains(string(b)+about, clear) {
		t.Errorf("previewed %s, remembered %s", b, about)
	}
}

func TestSealSecretsSealsAllOfAChangeAndLeavesItAlone(t *testing.T) {
	s := settings(t, "bmc.password=p", "secrets.a=a", "tags.x=y")
	each := map[catalog.NodeName]catalog.Settings{"n1": s}
	n := []catalog.Node{{Name: "n1", Settings: s}}
	steps := []catalog.Step{{Change: catalog.SetNodes{Set: s, Each: each}}, {Change: catalog.DeleteNodes{}}}
	for _, change := range []catalog.Change{
		catalog.AddNodes{Nodes: n, Set: s, Each: each}, catalog.SetNodes{Set: s, Each: each}, catalog.AddProfile{Profile: catalog.Profile{Settings: s}},
		catalog.SetProfiles{Set: s}, catalog.Batch{Changes: steps}, catalog.DeleteNodes{Nodes: catalog.NodeSet{"n1"}},
	} {
		before, _ := json.Marshal(change)
		sealed, err := catalog.SealSecrets(change, func(s catalog.Secret) (catalog.Secret, error) { return catalog.SealedPrefix + s, nil })
		if err != nil {
			t.Fatal(err)
		}
		if after, _ := json.Marshal(change); !bytes.Equal(before, after) {
			t.Errorf("%s was altered: %s", catalog.KindOf(change), after)
		}
		want := strings.NewReplacer(`"password":"p"`, `"password":"sealed:1:p"`, `"a":"a"`, `"a":"sealed:1:a"`).Replace(string(before))
		if got, _ := json.Marshal(sealed); string(got) != want {
			t.Errorf("%s: %s\nwant %s", catalog.KindOf(change), got, want)
		}
	}
	broken := errors.New("no key")
	if _, err := catalog.SealSecrets(catalog.Batch{Changes: steps}, func(catalog.Secret) (catalog.Secret, error) { return "", broken }); !errors.Is(err, broken) {
		t.Errorf("sealing fails: %v", err)
	}
	for _, path := range []string{"secrets.a", "bmc.password"} {
		computed := catalog.Batch{Changes: []catalog.Step{{Change: catalog.SetNodes{Compute: map[string]string{path: "x{n1}"}}}}}
		if _, err := catalog.SealSecrets(computed, nil); !errors.Is(err, fault.Invalid) {
			t.Errorf("a formula for %s: %v", path, err)
		}
	}
}

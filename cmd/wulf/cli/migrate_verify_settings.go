package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

// settings compares the effective configuration of a node, in Warewulf's words.
func (v *verifier) settings(m warewulf.Merged, r *catalog.Resolved) error {
	here, _, _, err := v.back.Merged(m.Name)
	if err != nil {
		return err
	}
	all, err := warewulf.Differ(m, here)
	if err != nil {
		return err
	}
	for _, d := range all {
		u := unlike{Kind: "setting", Subject: d.Path, What: fmt.Sprintf("Warewulf has %s, and here it is %s", orNothing(d.Before), orNothing(d.After)), Of: m.Name}
		if why := v.meant(d, m, r); why != "" {
			u.What, u.Of = why, ""
			v.except(m.Name, u)
			continue
		}
		v.differ(m.Name, u)
	}
	return nil
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return clipped(s)
}

// meant says why a setting differs on purpose; "" if it does not.
func (v *verifier) meant(d warewulf.Difference, m warewulf.Merged, r *catalog.Resolved) string {
	switch d.Path {
	case "ipmi.password":
		if d.After == "" && r.Settings.BMC.Password != nil {
			return "it is sealed here, and nobody can compare it"
		}
	case "root":
		if (d.Before == "" || d.Before == "initramfs") && d.After == catalog.RootTmpfs {
			return "what is in memory is a tmpfs here"
		}
	case "ipxe template":
		if d.Before == "default" && d.After == "" {
			return "the relay's own script is the default"
		}
	case "profiles":
		if slices.Equal(v.known(m.Profiles), v.known(r.Node.Profiles)) {
			return "profiles that do not exist are not named here"
		}
	case "system overlay":
		return v.sameOverlays(m.SystemOverlay, r.Settings.Overlays.System)
	case "runtime overlay":
		return v.sameOverlays(m.RuntimeOverlay, r.Settings.Overlays.Runtime)
	}
	if strings.HasSuffix(d.Path, ".type") && d.Before == "" && d.After == "ethernet" {
		return "devices are ethernet where nobody says what they are"
	}
	return ""
}

// known are the profiles that Warewulf has.
func (v *verifier) known(profiles any) []string {
	var all []string
	switch list := profiles.(type) {
	case []string:
		all = list
	case []catalog.ProfileName:
		for _, p := range list {
			all = append(all, string(p))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(p string) bool { return v.nodes.Profiles[strings.TrimPrefix(p, "~")] == nil })
}

// sameOverlays tells that a list differs only in what wulfmesh does by other means: the site's own overlays are in both, in
// one order.
func (v *verifier) sameOverlays(there, here []string) string {
	site := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(name string) bool { _, ok := v.there.inv.site[name]; return !ok })
	}
	if !slices.Equal(site(there), site(here)) {
		return ""
	}
	return "what came with Warewulf is done by wulfmesh's own overlays; the site's are the same"
}

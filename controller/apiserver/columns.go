package apiserver

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// column is what stands in one column of a node's row; "" for nothing. Times are RFC 3339.
type column func(*catalog.Node) string

// column returns the column of a name: one of api.NodeColumns, or the path of a setting.
func (x *selection) column(name string) (column, error) {
	if col, ok := x.columns()[strings.ToLower(name)]; ok {
		return col, nil
	}
	if !catalog.IsPath(name) {
		err := fault.New(fault.Invalid, "there is no column %q", name)
		known := slices.Concat(api.NodeColumns(), catalog.Paths())
		if best := catalog.Nearest(strings.ToLower(name), slices.Values(known), 2); best != "" {
			return nil, err.WithFix("did you mean %s?", best)
		}
		return nil, err.WithFix("there are %s, and the paths of settings, as kernel.args", strings.Join(api.NodeColumns(), ", "))
	}
	return func(n *catalog.Node) string {
		text, _ := x.settings(n).Value(name)
		return text
	}, nil
}

func (x *selection) columns() map[string]column {
	last := func(say func(*api.Boot) string) column {
		return func(n *catalog.Node) string {
			if b := x.boots(n.Name); b != nil {
				return say(b)
			}
			return ""
		}
	}
	scalar := func(field func(*catalog.Settings) *string) column {
		return func(n *catalog.Node) string { return x.c.Scalar(n, field) }
	}
	return map[string]column{
		"name":     func(n *catalog.Node) string { return string(n.Name) },
		"profiles": func(n *catalog.Node) string { return joined(n.Profiles) },
		"image":    scalar(func(s *catalog.Settings) *string { return s.Image }),
		"address":  addresses,
		"hardware": hardwares,
		"rack":     scalar(func(s *catalog.Settings) *string { return s.Rack }),
		"position": scalar(func(s *catalog.Settings) *string { return s.Position }),
		"zone":     scalar(func(s *catalog.Settings) *string { return s.Zone }),
		"cluster":  scalar(func(s *catalog.Settings) *string { return s.Cluster }),
		"roles":    func(n *catalog.Node) string { return strings.Join(x.c.List(n, rolesOf), " ") },
		"groups":   func(n *catalog.Node) string { return strings.Join(x.c.List(n, groupsOf), " ") },
		"asset":    scalar(func(s *catalog.Settings) *string { return s.Asset }),
		"bmc": func(n *catalog.Node) string {
			if a := n.Settings.BMC.Address; a != nil {
				return a.String()
			}
			return ""
		},
		"kernel": func(n *catalog.Node) string {
			if r, err := x.c.Resolve(n.Name); err == nil {
				if version, _, err := r.Kernel(); err == nil {
					return version
				}
			}
			return ""
		},
		"overlays": func(n *catalog.Node) string {
			o := x.settings(n).Overlays
			if len(o.System)+len(o.Runtime) == 0 {
				return ""
			}
			return strings.Join(o.System, ",") + "/" + strings.Join(o.Runtime, ",")
		},
		"state": func(n *catalog.Node) string { return api.StateOf(x.boots(n.Name), x.now) },
		"since": last(func(b *api.Boot) string { return b.Last.UTC().Format(time.RFC3339) }),
		"relay": last(func(b *api.Boot) string { return string(b.Relay) }),
		"boot-revision": last(func(b *api.Boot) string {
			if b.Revision == 0 {
				return ""
			}
			return strconv.FormatUint(uint64(b.Revision), 10)
		}),
		"runtime": x.runtime,
		"runtime-revision": last(func(b *api.Boot) string {
			if b.Runtime == nil {
				return ""
			}
			return strconv.FormatUint(uint64(b.Runtime.Revision), 10)
		}),
		"created": func(n *catalog.Node) string {
			if n.Created.IsZero() {
				return ""
			}
			return n.Created.UTC().Format(time.RFC3339)
		},
		"comment": scalar(func(s *catalog.Settings) *string { return s.Comment }),
	}
}

// addresses and hardwares are a node's own: a profile cannot have any.
func addresses(n *catalog.Node) string {
	return eachNet(n, func(d catalog.NetDev) string {
		if d.Address != nil {
			return d.Address.String()
		}
		return ""
	})
}

func hardwares(n *catalog.Node) string {
	return eachNet(n, func(d catalog.NetDev) string {
		if d.Hardware != nil {
			return string(*d.Hardware)
		}
		return ""
	})
}

// eachNet says something of every network device, in the order of their names.
func eachNet(n *catalog.Node, say func(catalog.NetDev) string) string {
	nets := n.Settings.Nets
	if len(nets) == 1 { // nearly always
		for _, d := range nets {
			return say(d)
		}
	}
	names := make([]string, 0, len(nets))
	for name := range nets {
		names = append(names, name)
	}
	slices.Sort(names)
	var all []string
	for _, name := range names {
		if s := say(nets[name]); s != "" {
			all = append(all, s)
		}
	}
	return strings.Join(all, ",")
}

func joined[N ~string](names []N) string {
	if len(names) == 1 {
		return string(names[0])
	}
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = string(n)
	}
	return strings.Join(all, " ")
}

package cli

import (
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
)

func (p *program) node() *cli.Command {
	return noun("node", "the machines that boot",
		verb{
			name: "list", aliases: []string{"ls"}, usage: "list nodes, how they are decided and how they are", args: "[NODESET]", most: unlimited,
			about: "Columns are " + strings.Join(api.NodeColumns(), ", ") + ", and the paths of settings, such as kernel.args or tags.owner.",
			examples: []string{
				"wulf node list",
				"wulf node list 'r[01-04]n[1-48]' -o wide",
				"wulf node list @state:failed -o nodeset",
				"wulf node list -l rack=r07,image!=rocky9 --columns name,kernel.args,state --sort -since",
			},
			flags: listFlags(append(selectFlags(), watchFlag(), toggle("all", "list all, however many they are"), text("sort", "order by `COLUMN`; -COLUMN the other way round"), number("limit", "list at most `N`"))...), run: p.nodeList,
		},
		verb{
			name: "show", usage: "show a node's settings, and who decided each", args: "NODE", least: 1, most: 1,
			examples: []string{"wulf node show n1", "wulf node show n1 -o yaml", "wulf node show n1 --own"},
			flags: showFlags(
				toggle("own", "only what the node itself decides"),
				toggle("effective", "what holds (the default)"),
				toggle("blame", "and who decided it (the default)"),
				text("columns", "only the columns `A,B,…` of setting, value and source"),
				toggle("no-headers", "leave out the first line of the table"),
			), run: p.nodeShow,
		},
		verb{
			name: "why", usage: "explain nodes' states: the last boot step by step, the cause and the cure", args: "NODESET", least: 0, most: unlimited,
			about:    "Of several nodes, those of which the same is to be said are told together.",
			examples: []string{"wulf node why n1", "wulf node why @state:failed", "wulf node why n1 --render ipxe"},
			flags:    whyFlags(), run: p.nodeWhy,
		},
		verb{
			name: "add", aliases: []string{"new", "create"}, usage: "declare nodes", args: "NODESET", least: 1, most: unlimited,
			examples: []string{
				"wulf node add n1 --image debian --hwaddr 52:54:00:00:00:01 --ipaddr 10.1.0.1",
				"wulf node add 'n[1-48]' -P cpu --hwaddr 52:54:00:00:00:01+ --ipaddr 10.1.0.1+",
				"wulf node add 'r[1-4]n[1-48]' -P cpu --ipaddr '10.1.{n1}.{n2}' --rack 'r{n1}'",
				"wulf node add 'r[07-08]n[01-48]' -P cpu --csv macs.csv --network rack --ipaddr auto",
			},
			flags: changeFlags(append(settingFlags(true), csvFlag())...), run: p.nodeAdd,
		},
		verb{
			name: "set", aliases: []string{"modify"}, usage: "change what is decided about nodes; what is not named stays", args: "NODESET", least: 0, most: unlimited,
			examples: []string{
				"wulf node set n1 --image rocky",
				"wulf node set @rack:r07 -P gpu --wait",
				"wulf node set n1 --unset kernel.args --comment 'memory replaced'",
				"wulf node set n1 --without nets.default.gateway",
			},
			flags: changeFlags(append(append(settingFlags(true), selectFlags()...), unsetFlag(), withoutFlag(), csvFlag())...), run: p.nodeSet,
		},
		verb{
			name: "unset", usage: "take back what nodes decide, so that profiles or defaults decide it", args: "NODESET", least: 0, most: unlimited,
			about: "Each flag takes back what the flag of the same name of wulf node set decides. --inherited also takes away what profiles decide.",
			examples: []string{
				"wulf node unset n1 --image --kernelargs",
				"wulf node unset n1 --netname ib0 --gateway",
				"wulf node unset @rack:r07 --tag owner",
				"wulf node unset n1 --inherited --ipmiwrite",
			},
			flags: changeFlags(append(unsetFlags(), selectFlags()...)...), run: p.nodeUnset,
		},
		verb{
			name: "edit", usage: "change nodes as YAML in $EDITOR", args: "[NODESET]", most: unlimited,
			examples: []string{"wulf node edit n1", "wulf node edit @rack:r07"},
			flags:    changeFlags(selectFlags()...), run: p.nodeEdit,
		},
		overlayOf("node", "NODESET", p.nodeOverlay),
		verb{
			name: "replace", usage: "give a node the hardware address of the machine that takes its place", args: "NODE", least: 1, most: 1,
			examples: []string{"wulf node replace n1 --mac 52:54:00:00:00:07"},
			flags: changeFlags(
				text("mac", "the new machine's hardware `ADDRESS`", "hwaddr", "H"),
				text("netname", "of the network device `NAME` (default: the one that the node boots from)"),
				text("uuid", "the new board's `UUID`"),
			), run: p.nodeReplace,
		},
		verb{
			name: "sync", usage: "have running nodes make the files of their runtime overlays right, now", args: "NODESET", least: 0, most: unlimited,
			about: "Running nodes take a change of what is declared within seconds, by themselves. This has them also look at once for files that " +
				"were changed on the node itself, and try again what failed before.",
			examples: []string{"wulf node sync n1 --wait", "wulf node sync @rack:r07 --wait --wait-timeout 2m"},
			flags:    syncFlags(), run: p.nodeSync,
		},
		verb{
			name: "export", usage: "print nodes so that they can be imported again", args: "[NODESET]", most: unlimited,
			examples: []string{"wulf node export > nodes.yaml", "wulf node export @rack:r07 -o csv --columns name,nets.default.hardware"},
			flags: append(selectFlags(), formatFlag("yaml, json or csv"), text("columns", "of CSV: the columns `A,B,…`"),
				toggle("effective", "with what profiles decide, as wwctl does"), staleFlag()), run: p.nodeExport,
		},
		verb{
			name: "import", usage: "declare and change nodes from a file of YAML, JSON or CSV", args: "FILE", least: 1, most: 1,
			about: "FILE is - for standard input. A node becomes as the file says: what the file does not name of it goes; but CSV only changes what " +
				"its columns name. Nodes that the file does not name stay.",
			examples: []string{"wulf node import nodes.yaml", "wulf node import - --format csv < macs.csv"},
			flags:    changeFlags(text("format", "take it for `FORMAT`: yaml, json or csv; else its name tells")), run: p.nodeImport,
		},
		verb{
			name: "delete", aliases: []string{"rm", "del", "remove"}, usage: "forget nodes", args: "NODESET", least: 0, most: unlimited,
			examples: []string{"wulf node delete n1", "wulf node delete 'n[1-8]' --yes"},
			flags:    changeFlags(selectFlags()...), run: p.nodeDelete,
		},
	)
}

func nodePath(name string) string { return pathOf(api.PathNode, name) }

// pathOf is one of the API's paths with the name of a thing in it.
func pathOf(path, name string) string {
	return strings.Replace(path, "{name}", url.PathEscape(name), 1)
}

package cli

import (
	"bufio"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// knownHosts are the words of the command.
func (p *program) knownHosts() verb {
	return verb{
		name: "known-hosts", usage: "print by what ssh knows the nodes of networks", args: "[NETWORK…]", most: unlimited,
		about: "Prints a line for ssh's known_hosts for each network: the key by which the host keys of its nodes are certified, and their " +
			"names and addresses. With it, nobody is asked whether a node is the right one, however often it boots.",
		examples: []string{"wulf network known-hosts >>/etc/ssh/ssh_known_hosts", "wulf network known-hosts rack --hosts '*.cluster.example,n*'"},
		flags: append([]cli.Flag{texts("hosts", "believe the key for these hosts, by ssh's `PATTERNS`, rather than for the nodes that there are now")},
			formatFlag("table, json or yaml"), staleFlag()),
		run: p.networkKnownHosts,
	}
}

func (p *program) networkKnownHosts(c *cli.Context) error {
	f, err := p.format(c, formatTable, formatJSON, formatYAML)
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := fetch[catalog.SSHAuthority](cl, api.PathAuthorities)
	if err != nil {
		return err
	}
	all := list.Items
	if c.NArg() > 0 {
		if all, err = find("network with an SSH authority", all, c.Args().Slice(), func(a catalog.SSHAuthority) string { return string(a.Network) }); err != nil {
			return err
		}
	}
	if f != formatTable {
		list.Items = all
		return p.printValue(f, list)
	}
	out := bufio.NewWriter(p.out)
	for _, a := range all {
		hosts := a.Hosts
		if c.IsSet("hosts") {
			hosts = names(c, "hosts")
		}
		if len(hosts) > 0 { // else the line would have a hole
			out.WriteString(plain(a.KnownHosts(hosts...)) + "\n")
		}
	}
	return out.Flush()
}

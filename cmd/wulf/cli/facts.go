package cli

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// fact is a row of a table that help, manual pages and documentation share.
type fact struct {
	name, text string
	flag       string // it matters to commands that have this flag; "" to all
}

// environment is every variable that wulf reads; a test holds the sources to that.
func environment() []fact {
	return []fact{
		{"WULF_CONTEXT", "the context to use, as --context", ""},
		{"WULF_CONFIG", "the file of contexts; else config.yaml in $XDG_CONFIG_HOME/wulf or ~/.config/wulf", ""},
		{"WULF_ENDPOINTS", "controllers to ask, HOST:PORT[,…], as --endpoint", ""},
		{"WULF_SOCKET", "the socket of this machine's controller; else " + defaultSocket, ""},
		{"WULF_CREDENTIALS", "the operator's credentials; else ~/.config/wulf/credentials", ""},
		{"WULF_OUTPUT", "the format of lists where none is given, as --output", "output"},
		{"WULF_WORK", "unpack images to work in below that directory; else " + defaultWork, "work-dir"},
		{"WULF_CONFIRM_ABOVE", "ask before changing more nodes than that; else 48", "confirm-above"},
		{"WULF_NO_INPUT", "1: never ask; what would have to be confirmed fails without --yes", "yes"},
		{"WULF_HINTS", "0: do not suggest a next step", ""},
		{"WULF_LOG_LEVEL", "debug, info, warn or error, as --log-level", "log-level"},
		{"WULF_LOG_FORMAT", "text or json, as --log-format", "log-format"},
		{"NO_COLOR, TERM", "anything in NO_COLOR, or TERM=dumb: no colours", ""},
		{"WULF_EDITOR, VISUAL, EDITOR", "the editor, the first that is there; else vi", ""},
	}
}

// files are those that wulf reads and writes.
func files() []fact {
	return []fact{
		{"~/.config/wulf/config.yaml", "contexts; see wulf-config(5)", ""},
		{"~/.config/wulf/credentials", "the operator's key and certificate, for controllers on other machines", ""},
		{defaultSocket, "the socket of this machine's controller, for root", ""},
		{controllerData, "what a controller keeps", "data"},
		{relayData, "what a relay keeps", "data"},
	}
}

// concern picks the facts that matter to a command: those of every command, and those of its flags. nil is the program.
func concern(all []fact, c *cli.Command) []fact {
	var out []fact
	for _, f := range all {
		if c == nil || f.flag == "" || owns(c.Flags, f.flag) {
			out = append(out, f)
		}
	}
	return out
}

// exitMeanings say what each exit code means, in the order of the codes.
func exitMeanings() []string {
	return []string{
		exitOK:          "done",
		exitFailed:      "failed: what was asked for does not exist, is damaged or finds no room, or something broke",
		exitUsage:       "the command line, or a value in it, is wrong; nothing was changed",
		exitPartial:     "some of it was done, and the rest failed; what was done is said",
		exitTimeout:     "the time is over: --timeout, --wait-timeout",
		exitConflict:    "conflict: it exists already, is in use, or the state changed after --if-revision",
		exitUnavailable: "no controller answers, or none leads; or the outcome of a change is not known: look before you repeat it",
		exitDenied:      "not allowed: no credentials, wrong or expired ones, or a join token that does not admit",
	}
}

// flagGroup is a heading and the flags below it.
type flagGroup struct {
	heading string
	flags   []cli.Flag
}

// fewFlags is how many flags are shown without headings.
const fewFlags = 8

// flagGroups puts the flags of a command into groups: first what is decided most, last what all changes have.
func flagGroups(flags []cli.Flag) []flagGroup {
	if len(flags) <= fewFlags {
		return []flagGroup{{"Flags", flags}}
	}
	groups := []flagGroup{{heading: "Flags"}, {heading: "Network devices"}, {heading: "Disks and file systems"},
		{heading: "The board that switches power"}, {heading: "Where it stands and what it is for"}, {heading: "The list"}, {heading: "The change"}}
	for _, f := range flags {
		g := &groups[groupOf(f.Names()[0])]
		g.flags = append(g.flags, f)
	}
	out := groups[:0]
	for _, g := range groups {
		if len(g.flags) > 0 {
			out = append(out, g)
		}
	}
	return out
}

// groupOf is the place of a flag's group in flagGroups. A flag that is not named here is in the first one.
func groupOf(name string) int {
	switch name {
	case "netname", "netdev", "network", "gateway", "mtu", "primarynet", "type", "onboot", "netmask", "ipaddr6", "prefixlen6", "gateway6",
		"nettagadd", "nettagdel", "netdel":
		return 1
	case "rack", "zone", "position", "cluster", "role", "roles", "group", "groups", "asset", "uuid", "discoverable", "comment", "tagadd", "tagdel":
		return 4
	case "output", "columns", "no-headers", "stale", "sort", "limit", "select", "filter":
		return 5
	case "yes", "dry-run", "if-revision", "wait", "wait-timeout", "confirm-above", "message":
		return 6
	}
	switch {
	case strings.HasPrefix(name, "disk"), strings.HasPrefix(name, "part"), strings.HasPrefix(name, "fs"):
		return 2
	case strings.HasPrefix(name, "ipmi"), strings.HasPrefix(name, "bmc"):
		return 3
	}
	return 0
}
